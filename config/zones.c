/* A file of the zoneinfo database ends with a line that holds its rule as POSIX writes it in TZ,
 * for all times after those it lists one by one (RFC 8536, section 3.3): the only part we need. */
#include "config/zones.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { FOOTER_BYTES_MAX = 128 };

static bool is_name(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_+-/", *p))
            return false; /* also no "..": the name becomes a path */
    return *name != '/';
}

static bool read_footer(FILE *file, char footer[FOOTER_BYTES_MAX])
{
    char end[FOOTER_BYTES_MAX];
    if (fseek(file, -(long)sizeof end, SEEK_END) != 0)
        rewind(file);
    size_t n = fread(end, 1, sizeof end, file);
    if (n < 2 || end[--n] != '\n')
        return false;
    size_t from = n;
    while (from > 0 && end[from - 1] != '\n')
        from--;
    if (from == 0)
        return false;
    memcpy(footer, end + from, n - from);
    footer[n - from] = '\0';
    return true;
}

bool zones_load(struct zone *zone, const char *name, struct err *err)
{
    char path[64 + SCHEDULE_ZONE_BYTES] = "/etc/localtime", footer[FOOTER_BYTES_MAX];
    if (!is_name(name))
        return err_set(err, "22023", "\"%.60s\" is no name of a time zone", name);
    if (*name)
        snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
    FILE *file = fopen(path, "re");
    bool found = file && read_footer(file, footer) && zone_parse(zone, footer);
    bool there = file != NULL;
    if (file)
        fclose(file);
    if (!*name && !there)
        return zone_parse(zone, "UTC0"); /* a machine that was told nothing */
    return found || err_set(err, "22023", "there is no time zone \"%.60s\" (%s)", name, path);
}
