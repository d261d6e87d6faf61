/* key_file: see the header. A line is a key, or "name: key [running=N] [tokens-per-minute=N]" with a blank
 * behind the colon. Blanks around it, empty lines and lines that begin with # do not count. */
#include "server/key_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MOST = 10000, FILE_BYTES_MOST = 4 << 20 };

struct reader {
    struct key_list *list;
    const char *path;
    int line;
    struct err_note *note;
};

__attribute__((format(printf, 2, 3))) static enum err fault(const struct reader *r, const char *fmt, ...)
{
    char why[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return err_set(r->note, ERR_CONFIG, "--api-key-file", "%.100s, line %d: %s", r->path, r->line, why);
}

static enum err no_memory(struct err_note *note)
{
    return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

static bool is_key(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] <= ' ' || (unsigned char)p[i] >= 0x7f) return false;
    return n > 0;
}

/* --- parts of a line */

static const char blank[] = " \t\r";

/* The next word of the n bytes at *p; its length, 0 at their end. */
static size_t next_word(const char **p, size_t *n, const char **word)
{
    while (*n > 0 && strchr(blank, **p)) (*p)++, (*n)--;
    *word = *p;
    while (*n > 0 && !strchr(blank, **p)) (*p)++, (*n)--;
    return (size_t)(*p - *word);
}

static bool take_name(char out[ACCOUNT_NAME_BYTES], const char *p, size_t n)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-";
    if (n == 0 || n >= ACCOUNT_NAME_BYTES) return false;
    memcpy(out, p, n);
    out[n] = '\0';
    return strspn(out, plain) == n;
}

static enum err take_option(const struct reader *r, struct key_row *row, const char *p, size_t n)
{
    static const struct {
        const char *name;
        size_t at;
        int64_t most;
    } option[] = {{"running=", offsetof(struct key_row, running_most), 1000000},
                  {"tokens-per-minute=", offsetof(struct key_row, tok_per_minute), INT64_C(1000000000000)}};
    for (size_t i = 0; i < sizeof option / sizeof *option; i++) {
        const size_t len = strlen(option[i].name);
        if (n < len || memcmp(p, option[i].name, len) != 0) continue;
        char digits[20] = "";
        int64_t *to = (int64_t *)(void *)((char *)row + option[i].at);
        if (*to) return fault(r, "%s stands there twice", option[i].name);
        if (n - len < sizeof digits - 1) memcpy(digits, p + len, n - len);
        *to = digits[0] && strspn(digits, "0123456789") == n - len ? strtoll(digits, NULL, 10) : 0;
        if (*to >= 1 && *to <= option[i].most) return OK;
        return fault(r, "%s needs a number in 1..%lld", option[i].name, (long long)option[i].most);
    }
    return fault(r, "\"%.*s\" is neither running=N nor tokens-per-minute=N", n < 40 ? (int)n : 40, p);
}

/* --- lines */

static enum err check_others(const struct reader *r, const struct key_row *row)
{
    for (int i = 0; i < r->list->n; i++) {
        const struct key_row *o = &r->list->row[i];
        const bool same_name = !strcmp(o->name, row->name);
        if (!strcmp(o->key, row->key) && !(same_name && !row->name[0]))
            return fault(r, "this key stands there twice");
        if (row->name[0] && same_name &&
            (o->running_most != row->running_most || o->tok_per_minute != row->tok_per_minute))
            return fault(r, "%s has other limits in a line before", row->name);
    }
    if (r->list->n == KEYS_MOST) return fault(r, "more than %d API keys", KEYS_MOST);
    return OK;
}

/* Takes row's key over, or frees it. */
static enum err add_row(const struct reader *r, struct key_row *row)
{
    enum err e = check_others(r, row);
    struct key_row *grown = e ? NULL : realloc(r->list->row, (size_t)(r->list->n + 1) * sizeof *grown);
    if (grown) {
        r->list->row = grown;
        grown[r->list->n++] = *row;
        return OK;
    }
    free(row->key);
    return e ? e : no_memory(r->note);
}

static enum err add_line(const struct reader *r, const char *p, size_t n)
{
    struct key_row row = {.key = NULL};
    const char *word;
    size_t len = next_word(&p, &n, &word);
    if (len == 0 || *word == '#') return OK;
    const bool named = word[len - 1] == ':' && len > 1;
    if (named) {
        if (!take_name(row.name, word, len - 1))
            return fault(r, "a name has 1 to %d letters, digits or ._@-", ACCOUNT_NAME_BYTES - 1);
        len = next_word(&p, &n, &word);
        if (len == 0) return fault(r, "%s has no key", row.name);
    }
    if (!is_key(word, len)) return fault(r, "a key holds characters that are not printable ASCII");
    const char *key = word;
    const size_t n_key = len;
    while ((len = next_word(&p, &n, &word)) > 0) {
        if (!named) return fault(r, "no key can hold blanks; limits need \"name: key\"");
        const enum err e = take_option(r, &row, word, len);
        if (e) return e;
    }
    row.key = strndup(key, n_key);
    return row.key ? add_row(r, &row) : no_memory(r->note);
}

static enum err read_whole(char **out, const char *path, struct err_note *note)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(note, ERR_CONFIG, "--api-key-file", "cannot open %.150s: %s", path, strerror(errno));
    char *text = calloc(1, FILE_BYTES_MOST + 2);
    const size_t n = text ? fread(text, 1, FILE_BYTES_MOST + 1, f) : 0;
    const bool bad = text && (ferror(f) || n > FILE_BYTES_MOST || memchr(text, '\0', n));
    fclose(f);
    if (text && !bad) {
        *out = text;
        return OK;
    }
    free(text);
    return bad ? err_set(note, ERR_CONFIG, "--api-key-file", "%.150s is not a text file of at most %d bytes",
                         path, FILE_BYTES_MOST)
               : no_memory(note);
}

static enum err add_file(struct reader *r)
{
    char *text = NULL;
    enum err e = read_whole(&text, r->path, r->note);
    for (const char *p = text; !e && *p;) {
        const size_t n = strcspn(p, "\n");
        r->line++;
        e = add_line(r, p, n);
        p += n + (p[n] == '\n');
    }
    free(text);
    if (!e && r->list->n == 0)
        e = err_set(r->note, ERR_CONFIG, "--api-key-file", "%.150s holds no key", r->path);
    return e;
}

static enum err add_variable(struct reader *r, const char *key)
{
    struct key_row row = {.key = NULL};
    if (!*key) return err_set(r->note, ERR_CONFIG, "FLUXD_API_KEY", "is set but empty");
    if (!is_key(key, strlen(key)))
        return err_set(r->note, ERR_CONFIG, "FLUXD_API_KEY",
                       "an API key holds a character that no header can carry");
    for (int i = 0; i < r->list->n; i++)
        if (!strcmp(r->list->row[i].key, key)) return OK; /* the file says whose it is */
    row.key = strdup(key);
    return row.key ? add_row(r, &row) : no_memory(r->note);
}

enum err key_file_read(struct key_list *out, const char *path, const char *variable, struct err_note *note)
{
    *out = (struct key_list){.n = 0};
    struct reader r = {.list = out, .path = path, .note = note};
    enum err e = *path ? add_file(&r) : OK;
    if (!e && variable) e = add_variable(&r, variable);
    if (e) key_list_free(out);
    return e;
}

void key_list_free(struct key_list *l)
{
    for (int i = 0; i < l->n; i++) {
        explicit_bzero(l->row[i].key, strlen(l->row[i].key));
        free(l->row[i].key);
    }
    free(l->row);
    *l = (struct key_list){.n = 0};
}
