/* PgBouncer's dialect, quirk by quirk, as it comes out of libinih: what each text means, or that it
 * is an error and on which line. */
#include "config/ini.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A file system of a few texts. */
struct text_file {
    const char *path, *text;
};
struct disk {
    const struct text_file *files;
    uint32_t opened_n;
};

static FILE *disk_open(void *arg, const char *path)
{
    struct disk *disk = arg;
    for (const struct text_file *file = disk->files; file->path; file++) {
        if (strcmp(file->path, path) != 0)
            continue;
        FILE *stream = tmpfile();
        assert_non_null(stream);
        assert_true(fputs(file->text, stream) >= 0);
        rewind(stream);
        disk->opened_n++;
        return stream;
    }
    errno = ENOENT;
    return NULL;
}

static struct config_report report;
static struct arena arena;
static struct ini_list list;

static bool read_disk(struct disk *disk)
{
    struct ini_source source = {.open = disk_open, .arg = disk};
    arena_drop(&arena);
    ini_list_init(&list);
    report = (struct config_report){0};
    return ini_read(disk->files[0].path, &source, &list, &arena, &report);
}

static bool read_text(const char *text)
{
    struct text_file files[] = {{"main.ini", text}, {0}};
    struct disk disk = {.files = files};
    return read_disk(&disk);
}

static int teardown(void **state)
{
    (void)state;
    arena_drop(&arena);
    return 0;
}

/* All statements as one text: [section] for a header, section/key=<value> for the others. */
static const char *flat(void)
{
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (const struct ini_statement *s = list.first; s; s = s->next) {
        const char *section = s->section ? s->section : "-";
        if (s->key)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s/%s=<%s> ", section,
                                     s->key, s->value);
        else
            used += (size_t)snprintf(text + used, sizeof text - used, "[%s] ", section);
        assert_true(used < sizeof text);
    }
    return text;
}

static const struct {
    const char *what, *text, *means;
} good[] = {
    {"empty", "", ""},
    {"plain", "[a]\nk = v\n", "[a] a/k=<v> "},
    {"no newline at the end", "[a]\nk=v", "[a] a/k=<v> "},
    {"carriage returns", "[a]\r\nk = v\r\n", "[a] a/k=<v> "},
    {"a byte order mark", "\xEF\xBB\xBF[a]\nk=v\n", "[a] a/k=<v> "},
    {"indented lines are no continuation", "  [a]\n\tk = v\n  l = w\n", "[a] a/k=<v> a/l=<w> "},
    {"blanks around", "[a]\nk \t=\t v w \t\n", "[a] a/k=<v w> "},
    {"blank lines", "\n\n[a]\n \t \nk=v\n\n", "[a] a/k=<v> "},
    {"empty value", "[a]\nk =\nl = x\n", "[a] a/k=<> a/l=<x> "},
    {"comments", ";c\n#c\n  ; c\n\t# c\n[a]\nk=v\n", "[a] a/k=<v> "},
    {"; inside a value", "[a]\nk = DISCARD ALL; SELECT 1 ; x\n",
     "[a] a/k=<DISCARD ALL; SELECT 1 ; x> "},
    {"; and # first in a value", "[a]\nk = ;x\nl = #y\n", "[a] a/k=<;x> a/l=<#y> "},
    {"% in a value", "[a]\nk = %3B %% %\n", "[a] a/k=<%3B %% %> "},
    {": does not separate", "[a]\nk = a:b : c\n", "[a] a/k=<a:b : c> "},
    {"= in a value", "[a]\nk = host=x port=1\n", "[a] a/k=<host=x port=1> "},
    {"quotes in a value are the value's", "[a]\nk = 'v' \"w\"\n", "[a] a/k=<'v' \"w\"> "},
    {"brackets in a value", "[a]\nk = [x]\nl = ]\n", "[a] a/k=<[x]> a/l=<]> "},
    {"blanks inside a value", "[a]\nk = a  \t b\n", "[a] a/k=<a  \t b> "},
    {"control bytes", "[a]\nk = a\001\033b\177c\n", "[a] a/k=<a\001\033b\177c> "},
    {"UTF-8", "[a]\nk = \xc3\xa4\xc3\xb6 \xe2\x82\xac\n",
     "[a] a/k=<\xc3\xa4\xc3\xb6 \xe2\x82\xac> "},
    {"bytes of names", "[a]\n_A9.z-* = v\n* = w\n", "[a] a/_A9.z-*=<v> a/*=<w> "},
    {"name in single quotes", "[a]\n'a b:=;' = v\n", "[a] a/a b:=;=<v> "},
    {"name in double quotes", "[a]\n \"a b\"=v\n", "[a] a/a b=<v> "},
    {"doubled quotes", "[a]\n'it''s' = v\n\"a\"\"b\" = w\n", "[a] a/it's=<v> a/a\"b=<w> "},
    {"quoted % alone", "[a]\n'%' = v\n", "[a] a/%=<v> "},
    {"quoted comment sign", "[a]\n';k' = v\n", "[a] a/;k=<v> "},
    {"a name twice", "[a]\nk=1\nk=2\n", "[a] a/k=<1> a/k=<2> "},
    {"a section twice", "[a]\nk=1\n[b]\n[a]\nk=2\n", "[a] a/k=<1> [b] [a] a/k=<2> "},
    {"sections with blanks", "[class bulk]\nk=v\n", "[class bulk] class bulk/k=<v> "},
    {"text behind a section", "[a] ; comment\n[b] k = v\n[c] [d]\n", "[a] [b] b/k=<v> [c] [d] "},
    {"before any section", "k = v\n", "-/k=<v> "},
};

static void each_text_means_what_it_means_to_pgbouncer(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        if (!read_text(good[i].text))
            fail_msg("%s: %s", good[i].what, report.notes[0].text);
        if (strcmp(flat(), good[i].means) != 0)
            fail_msg("%s: is %s, not %s", good[i].what, flat(), good[i].means);
        assert_int_equal(report.notes_n, 0);
    }
}

static const struct {
    const char *text, *note; /* how the first error begins */
    const char *rest;        /* what is understood nevertheless */
} bad[] = {
    {"[a]\nk\n", "main.ini:2: expected name = value", "[a] "},
    {"[a]\nk:v\nl = w\n", "main.ini:2: expected name = value", "[a] a/l=<w> "},
    {"[a]\nk x = v\n", "main.ini:2: expected name = value", "[a] "},
    {"[a]\n= v\n", "main.ini:2: a value without a name", "[a] "},
    {"[a]\n'' = v\n", "main.ini:2: a value without a name", "[a] "},
    {"[a]\n'k = v\nl=w\n", "main.ini:2: a quoted name without its closing quote", "[a] a/l=<w> "},
    {"[a]\n'k'l = v\n", "main.ini:2: expected name = value", "[a] "},
    {"[a]\n\n[b\nk=v\n", "main.ini:3: a section without its closing ]", "[a] a/k=<v> "},
    {"[]\n", "main.ini:1: a section without name", ""},
    {"[a;b]\n", "main.ini:1: a section's name has", ""},
    {"%includex\n", "main.ini:1: expected name = value", ""},
    {"%include\n", "main.ini:1: expected name = value", ""},
    {"[a]\n%include  none.ini \nk=v\n", "main.ini:2: cannot open \"none.ini\": No such file",
     "[a] a/k=<v> "},
};

static void each_error_has_its_line_and_the_rest_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(read_text(bad[i].text));
        assert_int_equal(report.errors_n, 1);
        if (strncmp(report.notes[0].text, bad[i].note, strlen(bad[i].note)) != 0)
            fail_msg("%s: \"%s\", not \"%s\"", bad[i].text, report.notes[0].text, bad[i].note);
        assert_string_equal(flat(), bad[i].rest);
    }
}

static void a_nul_byte_is_an_error(void **state)
{
    (void)state;
    static const char text[] = "[a]\nk = v\0w\n";
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, sizeof text - 1, file), sizeof text - 1);
    rewind(file);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(file));
    ini_list_init(&list);
    report = (struct config_report){0};
    assert_false(ini_read(path, &(struct ini_source){0}, &list, &arena, &report));
    assert_non_null(strstr(report.notes[0].text, ":2: a NUL byte"));
    fclose(file);
}

static void a_folder_is_no_file(void **state)
{
    (void)state;
    ini_list_init(&list);
    report = (struct config_report){0};
    assert_false(ini_read("/", &(struct ini_source){0}, &list, &arena, &report));
    assert_int_equal(report.errors_n, 1);
}

/* ---- %include ---------------------------------------------------------------------------------
 */

static void includes_stand_where_they_are_named(void **state)
{
    (void)state;
    static const struct text_file files[] = {
        {"main.ini", "[a]\nk=1\n  %include\tsub dir/b.ini\nl=2\n%include b2.ini\nm=3\n"},
        {"sub dir/b.ini", "x=1\n[b]\ny=2"},
        {"b2.ini", "; nothing\n"},
        {0},
    };
    struct disk disk = {.files = files};
    assert_true(read_disk(&disk));
    assert_string_equal(flat(), "[a] a/k=<1> a/x=<1> [b] b/y=<2> b/l=<2> b/m=<3> ");
    const struct ini_statement *s = list.first->next;
    assert_string_equal(s->at.file, "main.ini");
    assert_int_equal(s->at.line, 2);
    s = s->next;
    assert_string_equal(s->at.file, "sub dir/b.ini");
    assert_int_equal(s->at.line, 1);
    while (s->next)
        s = s->next;
    assert_string_equal(s->at.file, "main.ini");
    assert_int_equal(s->at.line, 6);
}

static void ten_levels_and_no_more(void **state)
{
    (void)state;
    char names[13][16], texts[13][64];
    struct text_file files[14] = {0};
    for (int i = 0; i < 13; i++) {
        snprintf(names[i], sizeof names[i], "%d", i);
        snprintf(texts[i], sizeof texts[i], "[a]\nk=%d\n%%include %d\n", i, i + 1);
        files[i] = (struct text_file){names[i], texts[i]};
    }
    struct disk disk = {.files = files};
    snprintf(texts[10], sizeof texts[10], "[a]\nk=10\n");
    assert_true(read_disk(&disk));
    assert_int_equal(disk.opened_n, 11);
    snprintf(texts[10], sizeof texts[10], "%%include 11\n");
    snprintf(texts[11], sizeof texts[11], "[a]\n");
    disk.opened_n = 0;
    assert_false(read_disk(&disk));
    assert_int_equal(disk.opened_n, 11);
    assert_non_null(strstr(report.notes[0].text, "10:1: more than 10 levels"));
}

static void a_circle_of_includes_ends(void **state)
{
    (void)state;
    static const struct text_file files[] = {
        {"main.ini", "[a]\n%include main.ini\n%include main.ini\n%include main.ini\n"}, {0}};
    struct disk disk = {.files = files};
    assert_false(read_disk(&disk));
    assert_int_equal(report.errors_n, 1);
    assert_int_equal(disk.opened_n, 11);
}

/* ---- lengths: every chunk border, with every byte that inih would act upon ------------------- */

static void values_of_any_length_and_content_survive(void **state)
{
    (void)state;
    static const char bytes[] = "; #%=:[]'\"\t ax\\\001\x80,";
    static char value[700], text[800];
    for (size_t n = 0; n < sizeof value - 2; n += n < 200 ? 1 : 37) {
        for (size_t shift = 0; shift < sizeof bytes - 1; shift++) {
            for (size_t i = 0; i < n; i++)
                value[i] = bytes[(i + shift) % (sizeof bytes - 1)];
            if (n > 0) /* blanks at the edges are not the value's */
                value[0] = value[n - 1] = 'x';
            value[n] = '\0';
            snprintf(text, sizeof text, "[a]\nk = %s\nl = 1\n", value);
            assert_true(read_text(text));
            assert_int_equal(list.n, 3);
            assert_string_equal(list.first->next->value, value);
            assert_string_equal(list.first->next->next->value, "1");
        }
    }
}

static void a_megabyte_on_one_line(void **state)
{
    (void)state;
    size_t n = 1 << 20;
    char *text = malloc(n + 16);
    assert_non_null(text);
    memcpy(text, "[a]\nk=", 6);
    memset(text + 6, ';', n);
    memcpy(text + 6 + n, "\nl=1\n", 6);
    assert_true(read_text(text));
    assert_int_equal(strlen(list.first->next->value), n);
    assert_string_equal(list.first->next->next->key, "l");
    free(text);
}

static void names_have_a_limit(void **state)
{
    (void)state;
    char text[512];
    for (int n = 120; n < 200; n++) {
        for (int quoted = 0; quoted < 2; quoted++) {
            snprintf(text, sizeof text, "[a]\n%s%0*d%s = %0*d\n", quoted ? "'" : "", n, 7,
                     quoted ? "'" : "", n, 1);
            assert_int_equal(read_text(text), n <= INI_NAME_MAX);
            if (n <= INI_NAME_MAX)
                assert_int_equal(strlen(list.first->next->key), n);
        }
    }
    for (int n = 40; n < 60; n++) {
        snprintf(text, sizeof text, "[%0*d]\nk = v\n", n, 1);
        assert_int_equal(read_text(text), n <= INI_SECTION_MAX);
        if (n <= INI_SECTION_MAX)
            assert_int_equal(strlen(list.first->next->section), n);
    }
}

static void every_cut_of_a_file_is_read_or_refused(void **state)
{
    (void)state;
    static const char whole[] =
        "\xEF\xBB\xBF; c\n[a] k = v ; x\n  'q''r' = \"w\"\n%include o\n[b c]\n"
        "long = 0123456789 0123456789 0123456789 0123456789 ;\n";
    char cut[sizeof whole];
    for (size_t n = 0; n < sizeof whole; n++) {
        memcpy(cut, whole, n);
        cut[n] = '\0';
        static struct text_file files[] = {{"main.ini", NULL}, {"o", "p = 1\n"}, {0}};
        files[0].text = cut;
        struct disk disk = {.files = files};
        bool ok = read_disk(&disk);
        assert_int_equal(ok, report.errors_n == 0);
        assert_true(report.errors_n <= 1);
    }
    assert_string_equal(flat(), "[a] a/k=<v ; x> a/q'r=<\"w\"> a/p=<1> [b c] b c/long=<0123456789 "
                                "0123456789 0123456789 0123456789 ;> ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_text_means_what_it_means_to_pgbouncer),
        cmocka_unit_test(each_error_has_its_line_and_the_rest_is_read),
        cmocka_unit_test(a_nul_byte_is_an_error),
        cmocka_unit_test(a_folder_is_no_file),
        cmocka_unit_test(includes_stand_where_they_are_named),
        cmocka_unit_test(ten_levels_and_no_more),
        cmocka_unit_test(a_circle_of_includes_ends),
        cmocka_unit_test(values_of_any_length_and_content_survive),
        cmocka_unit_test(a_megabyte_on_one_line),
        cmocka_unit_test(names_have_a_limit),
        cmocka_unit_test(every_cut_of_a_file_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
