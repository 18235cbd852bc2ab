/* Matching clients to classes.
 *
 * Three voices, in the order of their weight:
 *   1. the operator's rules that do not ask for application_name: they decide who somebody is;
 *   2. the operator's rules that do: they decide what a tool is, but the client chose that name, so
 *      the outcome may only be of lower rank than what (1) said;
 *   3. the built-in names of tools that are bulk by nature. They speak only where the operator has
 *      no rule for that name, and only take a client out of a protected class: whoever the operator
 *      put below the protected ones stays where he put him. So "user = app is interactive" does not
 *      open a way for a pg_dump run by that user; a rule with application_name = pg_dump does.
 *
 * Built-in names. A backup reads everything once and is needed later: it may be slow, never
 * starved, never cancelled. Bulk is what moves or scans tables for others. Not listed are tools
 * whose name says nothing about the statement (psql, dashboards with a human in front of them,
 * ORMs): what they do is seen when they do it (COPY TO, a cursor, a long transaction), and only for
 * its duration.
 */
#include "pool/class.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char backup_names[] = "pg_dump,pg_dumpall,pg_basebackup,pg_receivewal,pg_restore,"
                                   "pgbackrest*,barman*,wal-g*,wal-e*,pg_probackup*,pgcopydb*";
static const char bulk_names[] =
    "vacuumdb,reindexdb,clusterdb,pg_amcheck,pg_repack*,pg_squeeze*,pg_upgrade,airbyte*,fivetran*,"
    "debezium*,stitch*,singer*,meltano*,sqoop*,dbt*,embulk*,pgloader*,nifi*,talend*,hevo*";

/* ---- globs ----------------------------------------------------------------------------------- */

static bool glob_match(const char *pattern, size_t pattern_n, const char *text)
{
    size_t at = 0, star_at = SIZE_MAX;
    const char *star_text = NULL;

    /* The one place to go back to is the last star: linear for what people write, and never worse
     * than pattern times text. */
    while (*text != '\0') {
        if (at < pattern_n && pattern[at] == '*') {
            star_at = at++;
            star_text = text;
        } else if (at < pattern_n && (pattern[at] == '?' || tolower((unsigned char)pattern[at]) ==
                                                                tolower((unsigned char)*text))) {
            at++;
            text++;
        } else if (star_text != NULL) {
            at = star_at + 1;
            text = ++star_text;
        } else {
            return false;
        }
    }
    while (at < pattern_n && pattern[at] == '*')
        at++;
    return at == pattern_n;
}

static bool list_match(const char *list, const char *text)
{
    if (text == NULL)
        text = "";
    for (;;) {
        list += strspn(list, ", \t");
        if (*list == '\0')
            return false;
        size_t n = strcspn(list, ",");
        size_t trimmed = n;
        while (trimmed > 0 && isspace((unsigned char)list[trimmed - 1]))
            trimmed--;
        if (glob_match(list, trimmed, text))
            return true;
        list += n;
    }
}

/* ---- addresses ------------------------------------------------------------------------------- */

static bool bits_equal(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
    uint32_t whole = bits / 8, rest = bits % 8;

    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool net_holds(const struct class_net *net, const uint8_t *address, uint32_t bytes_n)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (bytes_n == 16 && net->bytes_n == 4 && memcmp(address, mapped, sizeof(mapped)) == 0) {
        address += sizeof(mapped);
        bytes_n = 4;
    }
    return bytes_n == net->bytes_n && bits_equal(net->bytes, address, net->prefix_bits);
}

bool class_net_parse(struct class_net *net, const char *text, struct err *err)
{
    char address[64];
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char *end;

    memset(net, 0, sizeof(*net));
    if (n == 0 || n >= sizeof(address))
        return err_set(err, "F0000", "\"%s\" is no address range", text);
    memcpy(address, text, n);
    address[n] = '\0';
    if (inet_pton(AF_INET, address, net->bytes) == 1)
        net->bytes_n = 4;
    else if (inet_pton(AF_INET6, address, net->bytes) == 1)
        net->bytes_n = 16;
    else
        return err_set(err, "F0000", "\"%s\" is neither an IPv4 nor an IPv6 address", address);

    long bits = net->bytes_n * 8;
    if (slash != NULL) {
        bits = strtol(slash + 1, &end, 10);
        if (end == slash + 1 || *end != '\0' || bits < 0 || bits > net->bytes_n * 8)
            return err_set(err, "F0000", "\"%s\": the prefix must be 0 to %d bits", text,
                           net->bytes_n * 8);
    }
    net->prefix_bits = (uint8_t)bits;
    return true;
}

/* ---- the table ------------------------------------------------------------------------------- */

bool class_share_parse(struct class_share *share, const char *text, struct err *err)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    while (isspace((unsigned char)*end))
        end++;
    bool percent = *end == '%';
    if (percent)
        end++;
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || n > (percent ? 100 : 1000000))
        return err_set(err, "F0000", "\"%s\" is neither a number of connections nor 0%% to 100%%",
                       text);
    *share = (struct class_share){.n = (uint32_t)n, .percent = percent};
    return true;
}

uint32_t class_share_of(struct class_share share, uint32_t whole)
{
    if (!share.percent)
        return share.n;
    if (whole == 0)
        return share.n == 0 ? 0 : UINT32_MAX;
    uint64_t n = ((uint64_t)whole * share.n + 99) / 100;
    must(n <= whole);
    return (uint32_t)n;
}

static struct class_opts class_defaults(const char *name)
{
    struct class_opts c = {
        .priority = 5,
        .weight = 20,
        .reserved = {.n = 1},
        .max = {.n = 30, .percent = true},
        .queue_limit_n = 200,
        .queue_deadline_us = 60ull * US_PER_S,
        .min_rate = 1 << 20,
        .login_rate = 20, /* tools come with a dozen connections, a storm with hundreds */
        .breaker = CLASS_BREAKER_ENFORCE,
        .protect = CLASS_PROTECT_BALANCED,
        .on_overload = CLASS_HOLD | CLASS_PACE | CLASS_CANCEL,
        .on_lock_inversion = CLASS_INVERSION_CANCEL,
        .max_lag_us = 30ull * US_PER_S,
    };

    snprintf(c.name, sizeof(c.name), "%s", name);
    return c;
}

static void add_builtin_rule(struct class_table *t, uint8_t class_i, const char *names)
{
    struct class_rule *r = &t->rules[t->rule_n++];

    *r = (struct class_rule){.class_i = class_i, .builtin = true};
    must(strlen(names) < sizeof(r->application_name));
    memcpy(r->application_name, names, strlen(names) + 1);
}

void class_table_init(struct class_table *t)
{
    *t = (struct class_table){.class_n = 3, .interactive_i = 0, .bulk_i = 1, .backup_i = 2};
    for (uint32_t i = 0; i < t->class_n; i++)
        t->at[i] = class_defaults(i == 0 ? "interactive" : i == 1 ? "bulk" : "backup");

    struct class_opts *interactive = &t->at[t->interactive_i];
    interactive->priority = 0;
    interactive->weight = 100;
    interactive->reserved = (struct class_share){.n = 60, .percent = true};
    /* All of it: without a class that wants a part, a pool works as it always did. */
    interactive->max = (struct class_share){.n = 100, .percent = true};
    interactive->queue_limit_n = 10000;
    interactive->queue_deadline_us = 0; /* query_wait_timeout is what its users know */
    interactive->breaker = CLASS_BREAKER_OFF;
    interactive->min_rate = 0;
    interactive->login_rate = 0;
    interactive->on_overload = 0;
    interactive->on_lock_inversion = CLASS_INVERSION_ALERT;
    /* A runaway is demoted, not killed. Ten minutes: batch jobs of applications take minutes, no
     * user waits so long for a page. A GiB: a result no interactive client reads. */
    interactive->demote_after_us = 600ull * US_PER_S;
    interactive->demote_after_bytes = 1ull << 30;
    interactive->demote_after_rows = 10000000; /* narrow ones; nobody looks at so many */
    interactive->demote_copy_out = true;
    interactive->demote_cursor = true;
    interactive->demote_to_i = t->bulk_i;

    struct class_opts *bulk = &t->at[t->bulk_i];
    bulk->demote_to_i = t->bulk_i;

    struct class_opts *backup = &t->at[t->backup_i];
    backup->priority = 9;
    backup->weight = 10;
    backup->min_rate = 4 << 20;
    backup->queue_deadline_us = 300ull * US_PER_S; /* a refused worker loses the whole dump */
    backup->on_overload = CLASS_HOLD | CLASS_PACE;
    backup->on_lock_inversion = CLASS_INVERSION_UNPACE;
    backup->demote_to_i = t->backup_i;

    for (uint32_t i = 0; i < t->class_n; i++)
        t->at[i].builtin = true;
    add_builtin_rule(t, t->backup_i, backup_names);
    add_builtin_rule(t, t->bulk_i, bulk_names);
    /* Physical replication and BASE_BACKUP; a stream of changes is not a backup, but it holds its
     * connection for ever and must not sit in the places of users. */
    add_builtin_rule(t, t->backup_i, "");
    t->rules[t->rule_n - 1].replication = CLASS_YES;
}

int class_find(const struct class_table *t, const char *name)
{
    for (uint32_t i = 0; i < t->class_n; i++)
        if (strcasecmp(t->at[i].name, name) == 0)
            return (int)i;
    return -1;
}

static bool name_ok(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n >= CLASS_NAME_BYTES)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && strchr("_-.", name[i]) == NULL)
            return false;
    return true;
}

struct class_opts *class_add(struct class_table *t, const char *name, struct err *err)
{
    int found = class_find(t, name);

    if (found >= 0)
        return &t->at[found];
    if (!name_ok(name)) {
        (void)err_set(err, "F0000", "\"%s\" is no name for a class: 1 to %d letters, digits, _ - .",
                      name, CLASS_NAME_BYTES - 1);
        return NULL;
    }
    if (t->class_n == CLASSES_MAX) {
        (void)err_set(err, "F0000", "more than %d classes", CLASSES_MAX);
        return NULL;
    }
    struct class_opts *c = &t->at[t->class_n];
    *c = class_defaults(name);
    c->demote_to_i = (uint8_t)t->class_n++;
    return c;
}

struct class_rule *class_rule_add(struct class_table *t, uint8_t class_i, struct err *err)
{
    uint32_t at = 0;

    must(class_i < t->class_n);
    if (t->rule_n == CLASS_RULES_MAX) {
        (void)err_set(err, "F0000", "more than %d rules for classes", CLASS_RULES_MAX);
        return NULL;
    }
    while (at < t->rule_n && !t->rules[at].builtin)
        at++;
    memmove(&t->rules[at + 1], &t->rules[at], (t->rule_n - at) * sizeof(t->rules[0]));
    t->rule_n++;
    t->rules[at] = (struct class_rule){.class_i = class_i};
    return &t->rules[at];
}

static bool check_class(const struct class_table *t, uint32_t i, struct err *err)
{
    const struct class_opts *c = &t->at[i];

    if (c->priority > CLASS_PRIORITY_MAX)
        return err_set(err, "F0000", "class %s: priority must be 0 to %d", c->name,
                       CLASS_PRIORITY_MAX);
    if (c->weight == 0 || c->weight > 1000)
        return err_set(err, "F0000", "class %s: weight must be 1 to 1000", c->name);
    if (c->max.n == 0)
        return err_set(err, "F0000", "class %s: max must leave it at least one connection",
                       c->name);
    if (c->queue_limit_n == 0)
        return err_set(err, "F0000", "class %s: queue_limit must be at least 1", c->name);
    if (c->max.percent == c->reserved.percent && c->reserved.n > c->max.n)
        return err_set(err, "F0000", "class %s: reserved is more than max", c->name);
    if (c->priority == 0 && c->schedule.windows_n > 0)
        return err_set(err, "F0000", "class %s: a protected class (priority 0) has no schedule",
                       c->name);
    if (c->demote_to_i >= t->class_n || t->at[c->demote_to_i].retired)
        return err_set(err, "F0000", "class %s: demoted to a class that does not exist", c->name);
    if (t->at[c->demote_to_i].priority < c->priority)
        return err_set(err, "F0000", "class %s: demoted to %s, which is of higher rank", c->name,
                       t->at[c->demote_to_i].name);
    return true;
}

bool class_table_check(const struct class_table *t, struct err *err)
{
    uint32_t reserved_percent = 0;
    bool protected_one = false;

    must(t->class_n <= CLASSES_MAX && t->rule_n <= CLASS_RULES_MAX);
    for (uint32_t i = 0; i < t->class_n; i++) {
        if (t->at[i].retired)
            continue;
        if (!check_class(t, i, err))
            return false;
        protected_one |= t->at[i].priority == 0;
        if (t->at[i].reserved.percent)
            reserved_percent += t->at[i].reserved.n;
    }
    if (!protected_one)
        return err_set(err, "F0000", "no class has priority 0: nobody would be protected");
    if (reserved_percent > 100)
        return err_set(err, "F0000", "classes reserve %u%% of the connections together",
                       reserved_percent);
    for (uint32_t i = 0; i < t->rule_n; i++)
        if (t->rules[i].class_i >= t->class_n || t->rules[i].nets_n > CLASS_NETS_MAX)
            return err_set(err, "F0000", "a rule leads to a class that does not exist");
    return true;
}

bool class_table_align(struct class_table *next, const struct class_table *prev, struct err *err)
{
    uint8_t moved[CLASSES_MAX]; /* index in next -> index afterwards */
    struct class_opts at[CLASSES_MAX];
    uint32_t n = prev->class_n;

    /* Everybody of prev keeps his place, as a retired class until next fills it. */
    for (uint32_t i = 0; i < n; i++) {
        at[i] = prev->at[i];
        at[i].retired = true;
        at[i].demote_to_i = (uint8_t)i;
    }
    for (uint32_t i = 0; i < next->class_n; i++) {
        int found = class_find(prev, next->at[i].name);
        if (found < 0 && n == CLASSES_MAX)
            return err_set(err, "F0000",
                           "more than %d classes, those of earlier configurations included: restart"
                           " to forget them",
                           CLASSES_MAX);
        moved[i] = found >= 0 ? (uint8_t)found : (uint8_t)n++;
        at[moved[i]] = next->at[i];
    }
    for (uint32_t i = 0; i < next->class_n; i++) {
        struct class_opts *c = &at[moved[i]];
        if (!c->retired)
            c->demote_to_i = moved[c->demote_to_i];
    }
    for (uint32_t i = 0; i < next->rule_n; i++)
        next->rules[i].class_i = moved[next->rules[i].class_i];
    next->interactive_i = moved[next->interactive_i];
    next->bulk_i = moved[next->bulk_i];
    next->backup_i = moved[next->backup_i];
    memcpy(next->at, at, sizeof(at[0]) * n);
    next->class_n = n;
    return true;
}

/* ---- whose class ----------------------------------------------------------------------------- */

static bool yes_no_holds(enum class_yes_no wanted, bool is)
{
    return wanted == CLASS_ANY || (wanted == CLASS_YES) == is;
}

static bool rule_holds(const struct class_rule *r, const struct class_facts *f)
{
    if (r->application_name[0] != '\0' && !list_match(r->application_name, f->application_name))
        return false;
    if (r->user[0] != '\0' && !list_match(r->user, f->user))
        return false;
    if (r->database[0] != '\0' && !list_match(r->database, f->database))
        return false;
    if (!yes_no_holds(r->unix_socket, f->is_unix) || !yes_no_holds(r->replication, f->replication))
        return false;
    if (r->peer_uid_set && (!f->is_unix || f->peer_uid != r->peer_uid))
        return false;
    for (uint32_t i = 0; i < r->nets_n; i++)
        if (f->address_bytes > 0 && net_holds(&r->nets[i], f->address, f->address_bytes))
            return true;
    return r->nets_n == 0;
}

/* Tools that need several connections at once. Two runs of one tool by one user on one machine are
 * taken for one job: then it is larger, which costs nothing. */
static const char *const parallel_tools[] = {"pg_dump*", "pg_restore*", "pg_basebackup*",
                                             "pgcopydb*"};

static uint64_t mix(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < n; i++)
        h = (h ^ at[i]) * 1099511628211ull; /* FNV-1a */
    return (h ^ 0xff) * 1099511628211ull;
}

uint64_t class_group_of(const struct class_facts *f)
{
    uint64_t h = 14695981039346656037ull;
    uint32_t tool_i = 0;

    while (tool_i < COUNT_OF(parallel_tools) &&
           !list_match(parallel_tools[tool_i], f->application_name))
        tool_i++;
    if (tool_i == COUNT_OF(parallel_tools))
        return 0;
    h = mix(h, &tool_i, sizeof(tool_i));
    h = mix(h, f->user, f->user == NULL ? 0 : strlen(f->user));
    h = mix(h, f->database, f->database == NULL ? 0 : strlen(f->database));
    h = mix(h, f->address, f->address_bytes);
    return h == 0 ? 1 : h;
}

enum voice { VOICE_PERSON, VOICE_TOOL, VOICE_BUILTIN };

static const struct class_rule *first_rule(const struct class_table *t, enum voice voice,
                                           const struct class_facts *f)
{
    for (uint32_t i = 0; i < t->rule_n; i++) {
        const struct class_rule *r = &t->rules[i];
        enum voice of = r->builtin                       ? VOICE_BUILTIN
                        : r->application_name[0] != '\0' ? VOICE_TOOL
                                                         : VOICE_PERSON;
        if (of == voice && rule_holds(r, f))
            return r;
    }
    return NULL;
}

uint8_t class_of(const struct class_table *t, const struct class_facts *f)
{
    const struct class_rule *person = first_rule(t, VOICE_PERSON, f);
    const struct class_rule *tool = first_rule(t, VOICE_TOOL, f);
    uint8_t class_i = person != NULL ? person->class_i : t->interactive_i;

    must(class_i < t->class_n);
    if (tool != NULL) {
        uint32_t said = t->at[tool->class_i].priority, decided = t->at[class_i].priority;
        return said > decided || (said == decided && person == NULL) ? tool->class_i : class_i;
    }
    const struct class_rule *builtin = first_rule(t, VOICE_BUILTIN, f);
    if (builtin != NULL && t->at[class_i].priority == 0 && !t->at[builtin->class_i].retired)
        return builtin->class_i;
    return class_i;
}

uint8_t class_demoted(const struct class_table *t, uint8_t class_i, enum class_why why)
{
    must(class_i < t->class_n);
    const struct class_opts *c = &t->at[class_i];
    bool demotes = false;

    switch (why) {
    case CLASS_WHY_COPY_OUT:
        demotes = c->demote_copy_out;
        break;
    case CLASS_WHY_CURSOR:
        demotes = c->demote_cursor;
        break;
    case CLASS_WHY_TIME:
        demotes = c->demote_after_us > 0;
        break;
    case CLASS_WHY_BYTES:
        demotes = c->demote_after_bytes > 0;
        break;
    case CLASS_WHY_ROWS:
        demotes = c->demote_after_rows > 0;
        break;
    }
    return demotes ? c->demote_to_i : class_i;
}

const char *class_why_name(enum class_why why)
{
    switch (why) {
    case CLASS_WHY_COPY_OUT:
        return "COPY TO STDOUT";
    case CLASS_WHY_CURSOR:
        return "DECLARE CURSOR";
    case CLASS_WHY_TIME:
        return "a long transaction";
    case CLASS_WHY_BYTES:
        return "a large result";
    case CLASS_WHY_ROWS:
        return "a result of many rows";
    }
    must(!"a reason of enum class_why");
    return "";
}
