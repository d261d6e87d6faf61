/* err: one constant table made from ERR_LIST. Any thread. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static const struct err_row {
    int status;
    const char *name, *type, *code, *text;
} err_table[ERR_COUNT] = {
#define ERR_ROW(e, http, oai_type, oai_code, says)                                                           \
    [e] = {.status = (http), .name = #e, .type = (oai_type), .code = (oai_code), .text = (says)},
    ERR_LIST(ERR_ROW)
#undef ERR_ROW
};

static const struct err_row *err_row(enum err e)
{
    CHECK((unsigned)e < ERR_COUNT);
    return &err_table[e];
}

int err_status(enum err e) { return err_row(e)->status; }
const char *err_type(enum err e) { return err_row(e)->type; }
const char *err_code(enum err e) { return err_row(e)->code; }
const char *err_text(enum err e) { return err_row(e)->text; }
const char *err_name(enum err e) { return err_row(e)->name; }

/* How many of the n bytes remain when a UTF-8 sequence that the cut left without its tail is dropped. */
static size_t utf8_floor(const char *s, size_t n)
{
    size_t tail = 0;
    while (tail < n && tail < 3 && ((unsigned char)s[n - 1 - tail] & 0xC0) == 0x80) tail++;
    if (tail == n) return n;
    unsigned char lead = (unsigned char)s[n - 1 - tail];
    size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    return need > tail ? n - 1 - tail : n;
}

/* Words of a file or of a setting cannot break the line in which its operator reads what is wrong with it. */
static void keep_one_line(char *p)
{
    for (; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = '?';
}

/* dst holds `size` bytes; src may overlap it. */
static void copy_cut(char *dst, size_t size, const char *src)
{
    size_t n = strlen(src);
    if (n >= size) n = utf8_floor(src, size - 1);
    memmove(dst, src, n);
    dst[n] = '\0';
}

enum err err_set(struct err_note *note, enum err e, const char *param, const char *fmt, ...)
{
    if (!note) return e;

    /* All is read before anything is written: param and the arguments may be the note's own strings. One byte
     * more than the note holds, so that copy_cut sees whether the text was cut. */
    char text[sizeof note->text + 1];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);

    note->code = e;
    copy_cut(note->param, sizeof note->param, param ? param : "");
    if (e == ERR_MODEL_FILE || e == ERR_CONFIG || e == ERR_IO) {
        keep_one_line(note->param);
        keep_one_line(text);
    }
    copy_cut(note->text, sizeof note->text, n >= 0 ? text : err_text(e));
    return e;
}
