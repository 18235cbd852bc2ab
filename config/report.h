/* What reading a configuration has to say: every error with its place, and warnings. */
#ifndef CONFIG_REPORT_H
#define CONFIG_REPORT_H

#include "breaker/base.h"

enum {
    REPORT_NOTES_MAX = 100, /* kept of one load; the rest is counted */
    REPORT_ERRORS_MAX = 20, /* after so many the rest is hardly worth reading */
};

struct config_note {
    bool fatal;
    char text[400]; /* "file:line: what; what to do" */
};

/* Large: keep it static or in the heap. Errors mean that there is no snapshot. */
struct config_report {
    uint32_t errors_n, warnings_n; /* all, also those that did not fit */
    uint32_t notes_n;
    struct config_note notes[REPORT_NOTES_MAX];
};

/* Where a note points to. line 0: the file as a whole; file NULL: no file at all. */
struct report_place {
    const char *file;
    unsigned line;
};

/* Returns false, so that `return report_error(...)` reads well. */
bool report_error(struct config_report *report, struct report_place at, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
void report_warning(struct config_report *report, struct report_place at, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* The first error, for those who can show only one. */
void report_first_error(const struct config_report *report, struct err *err);

#endif
