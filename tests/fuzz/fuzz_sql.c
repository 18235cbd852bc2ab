/* Bytes as a statement. A comment in front changes nothing, a statement in front takes no flag
 * away, and a scan says the same twice. */
#include "proxy/sql.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct sql_info scan_behind(const char *front, const uint8_t *data, size_t n)
{
    size_t front_n = strlen(front);
    char *text = malloc(front_n + n + 1); /* of its own, so that its end is guarded */
    struct sql_info info;

    memcpy(text, front, front_n);
    if (n > 0)
        memcpy(text + front_n, data, n);
    sql_scan(text, front_n + n, false, &info);
    free(text);
    return info;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char tag[65] = "";
    struct sql_info plain = scan_behind("", data, n);
    struct sql_info commented = scan_behind("/* a /* b */ */ -- c\n", data, n);
    struct sql_info second = scan_behind("SELECT 1;", data, n);

    must(plain.fingerprint == commented.fingerprint);
    must(plain.flags == commented.flags && plain.statements_n == commented.statements_n);
    must(strcmp(plain.name, commented.name) == 0 && strlen(plain.name) <= SQL_NAME_MAX);
    must((plain.flags & SQL_EMPTY) == (plain.statements_n == 0 ? SQL_EMPTY : 0u));
    must(second.statements_n == plain.statements_n + 1);
    must(((plain.flags & ~(unsigned)SQL_EMPTY) & ~second.flags) == 0);
    if (n > 0)
        memcpy(tag, data, n < sizeof(tag) ? n : sizeof(tag) - 1);
    (void)sql_tag_flags(tag);
    return 0;
}
