/* What the tests of config/ share: a folder of their own, files written into it, and what loading
 * them said. */
#ifndef TESTS_CONFIG_FILES_H
#define TESTS_CONFIG_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "pool/class.h"

static struct config_report report;
static char shipped_ini[4096], example_list[4096];

static inline void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static inline struct config *load_over(const char *text, const struct config *old)
{
    static const char *const files[] = {"main.ini"};
    struct config *cfg;
    write_file(files[0], text);
    bool ok = config_load(files, 1, old, &cfg, &report);
    assert_int_equal(ok, cfg != NULL);
    assert_int_equal(ok, report.errors_n == 0);
    return cfg;
}

static inline struct config *load(const char *text)
{
    return load_over(text, NULL);
}

static inline struct config *load_good(const char *text)
{
    struct config *cfg = load(text);
    if (!cfg)
        fail_msg("%s\nis refused: %s", text, report.notes[0].text);
    return cfg;
}

static inline void drop(const struct config *cfg)
{
    config_unref(&cfg);
    assert_null(cfg);
}

/* Whether a note of this kind begins so. */
static inline bool told(bool fatal, const char *begins)
{
    for (uint32_t i = 0; i < report.notes_n; i++) {
        if (report.notes[i].fatal == fatal &&
            strncmp(report.notes[i].text, begins, strlen(begins)) == 0)
            return true;
    }
    return false;
}

static inline const char *first_error(void)
{
    static struct err err;
    err.text[0] = '\0';
    report_first_error(&report, &err);
    return err.text;
}

static inline const char *value_of(const struct config *cfg, const char *key)
{
    static struct config_row row;
    for (size_t i = 0; i < config_rows_n(); i++) {
        config_row(cfg, i, &row);
        if (strcmp(row.key, key) == 0)
            return row.value;
    }
    fail_msg("SHOW CONFIG has no %s", key);
    return NULL;
}

/* The first error of one line in [pgbouncer], without its place; NULL when it is fine. */
static inline const char *refusal(const char *key, const char *value)
{
    char text[512];
    snprintf(text, sizeof text, "[pgbouncer]\n%s = %s\n", key, value);
    struct config *cfg = load(text);
    if (cfg) {
        drop(cfg);
        return NULL;
    }
    assert_int_equal(strncmp(report.notes[0].text, "main.ini:2: ", 12), 0);
    return report.notes[0].text + 12;
}

static inline int folder_open(void **state)
{
    static char folder[] = "/tmp/t_config.XXXXXX";
    *state = folder;
    return !(realpath("config/pgweir.ini", shipped_ini) &&
             realpath("config/userlist.example.txt", example_list) && mkdtemp(folder) &&
             chdir(folder) == 0);
}

static inline int folder_close(void **state)
{
    static const char *const files[] = {"main.ini", "list.txt", "one.ini", "two.ini"};
    for (size_t i = 0; i < COUNT_OF(files); i++)
        unlink(files[i]);
    return chdir("/") || rmdir(*state);
}

#endif
