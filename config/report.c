/* Notes are kept in the order they were found. Errors are bounded lower than warnings, and leave
 * room: twenty errors of a file that is not an ini at all must not hide what else was said. */
#include "config/report.h"

#include <stdarg.h>
#include <stdio.h>

static void note_add(struct config_report *report, bool fatal, struct report_place at,
                     const char *fmt, va_list args)
{
    uint32_t *n = fatal ? &report->errors_n : &report->warnings_n;
    ++*n;
    if (report->notes_n == REPORT_NOTES_MAX || (fatal && *n > REPORT_ERRORS_MAX))
        return;
    /* Warnings stop early enough for every error that may be kept. */
    if (!fatal && *n > REPORT_NOTES_MAX - REPORT_ERRORS_MAX)
        return;
    struct config_note *note = &report->notes[report->notes_n++];
    note->fatal = fatal;
    int n_bytes = 0;
    if (at.file && at.line)
        n_bytes = snprintf(note->text, sizeof note->text, "%.200s:%u: ", at.file, at.line);
    else if (at.file)
        n_bytes = snprintf(note->text, sizeof note->text, "%.200s: ", at.file);
    must(n_bytes >= 0 && (size_t)n_bytes < sizeof note->text);
    vsnprintf(note->text + n_bytes, sizeof note->text - (size_t)n_bytes, fmt, args);
}

bool report_error(struct config_report *report, struct report_place at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    note_add(report, true, at, fmt, args);
    va_end(args);
    return false;
}

void report_warning(struct config_report *report, struct report_place at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    note_add(report, false, at, fmt, args);
    va_end(args);
}

void report_first_error(const struct config_report *report, struct err *err)
{
    for (uint32_t i = 0; i < report->notes_n; i++) {
        if (report->notes[i].fatal) {
            err_set(err, "F0000", "%s", report->notes[i].text);
            return;
        }
    }
}
