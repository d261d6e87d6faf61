/* scan: see scan.h. Its one idea: a loop over steps with a bit per open container (object or array) instead
 * of recursion, and every byte is looked at once. */
#include "server/json/scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/json/keys.h"
#include "server/json/string.h"
#include "base/utf8.h"

const struct json_limits json_limits_default = {
    .bytes = JSON_BYTES_MAX,
    .bytes_with_ids = JSON_BYTES_WITH_IDS_MAX,
    .depth = JSON_DEPTH_MAX,
    .nodes = JSON_NODES_MAX,
};

enum {
    KEY_SHOWN_BYTES = 64, /* of a key that a note quotes */
    PARAM_BYTES = 96,     /* as err_note.param */
};

enum expect {
    EXPECT_VALUE,
    EXPECT_KEY,
    EXPECT_FIRST /* key, value, or the end of the container */,
    EXPECT_MORE /* comma or end */
};

struct scan {
    const uint8_t *s;
    size_t n, i; /* bytes; the next one */
    const struct json_limits *lim;
    struct json_scan *out;
    struct err_note *note;
    enum expect expect;
    int depth;     /* containers open */
    bool in_field; /* inside the value of the newest top-level field */
    uint64_t is_object[JSON_DEPTH_CAP / 64];
    size_t mark[JSON_DEPTH_CAP]; /* keys.n when the container opened */
    struct json_keys keys;
    struct strbuf unescaped; /* the newest key that had escapes */
    size_t ids_bytes;        /* bytes of the top-level arrays of numbers so far */
};

/* ---- saying what is wrong ---- */

static struct json_field *newest_field(const struct scan *sc)
{
    return sc->in_field ? &sc->out->field[sc->out->n_field - 1] : NULL;
}

__attribute__((format(printf, 4, 5))) static enum err fail_at(struct scan *sc, enum err e, size_t at,
                                                              const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    const struct json_field *f = newest_field(sc);
    return err_set(sc->note, e, f != NULL ? json_field_name(sc->out, f) : NULL, "JSON body: %s (at byte %zu)",
                   what, at);
}

static enum err fail_nomem(struct scan *sc)
{
    return err_set(sc->note, ERR_NOMEM, NULL, "out of memory for a JSON body");
}

/* Something other than `wanted` stands at sc->i. */
static enum err fail_unexpected(struct scan *sc, const char *wanted)
{
    static const char bom[] = "\xEF\xBB\xBF";
    if (sc->i >= sc->n) {
        return fail_at(sc, ERR_INVALID_JSON, sc->i, "the JSON ends where %s should stand", wanted);
    }
    const uint8_t c = sc->s[sc->i];
    if (utf8_step(sc->s + sc->i, sc->n - sc->i) < 0) {
        return fail_at(sc, ERR_INVALID_UTF8, sc->i, "byte 0x%02x is not valid UTF-8", c);
    }
    if (sc->i == 0 && sc->n >= 3 && memcmp(sc->s, bom, 3) == 0) {
        return fail_at(sc, ERR_INVALID_JSON, 0, "the JSON starts with a byte order mark");
    }
    if (c > 0x20 && c < 0x7F) {
        return fail_at(sc, ERR_INVALID_JSON, sc->i, "'%c' stands where %s should", c, wanted);
    }
    return fail_at(sc, ERR_INVALID_JSON, sc->i, "byte 0x%02x stands where %s should", c, wanted);
}

/* ---- numbers ---- */

static size_t skip_digits(struct scan *sc)
{
    const size_t from = sc->i;
    while (sc->i < sc->n && sc->s[sc->i] >= '0' && sc->s[sc->i] <= '9') {
        sc->i++;
    }
    return sc->i - from;
}

static bool skip_any_of(struct scan *sc, const char *set)
{
    const bool is = sc->i < sc->n && sc->s[sc->i] != '\0' && strchr(set, sc->s[sc->i]) != NULL;
    sc->i += is;
    return is;
}

/* Whether a number (its grammar is known to hold) rounds to a finite double. Decides on the text, because
 * strtod costs more than the whole rest of the scan: the value is 0.ddd * 10^power with a first digit that is
 * not 0. */
static bool is_finite(const uint8_t *p, size_t n)
{
    /* 2^1024 - 2^970, from which on doubles round to infinity, is 0.17976... * 10^309; its digits go on past
     * these */
    static const char edge[] = "1797693134862315807937289714053034150799341327100378269361737789";
    char digit[JSON_NUMBER_CHARS_MAX];
    size_t n_digit = 0, i = p[0] == '-';
    int power = 0, exponent = 0;
    bool fraction = false;
    for (; i < n && (p[i] | 0x20) != 'e'; i++) {
        if (p[i] == '.') {
            fraction = true;
            continue;
        }
        if (n_digit > 0 || p[i] != '0') {
            digit[n_digit++] = (char)p[i];
            power += !fraction;
        } else {
            power -= fraction;
        }
    }
    if (n_digit == 0 || i == n || p[i + 1] == '-') { /* zero, or too short to be large */
        return true;
    }
    for (i += p[i + 1] == '+' ? 2 : 1; i < n; i++) {
        exponent = exponent > 9999 ? exponent : exponent * 10 + (p[i] - '0');
    }
    power += exponent;
    return power < 309 || (power == 309 && memcmp(digit, edge, n_digit) <= 0);
}

static enum err scan_number(struct scan *sc)
{
    const size_t from = sc->i;
    skip_any_of(sc, "-");
    const bool zero = sc->i < sc->n && sc->s[sc->i] == '0';
    const size_t n_int = skip_digits(sc);
    if (n_int == 0) {
        return fail_unexpected(sc, "a digit");
    }
    if (zero && n_int > 1) {
        return fail_at(sc, ERR_INVALID_JSON, from, "a number with leading zeros");
    }
    if (skip_any_of(sc, ".") && skip_digits(sc) == 0) {
        return fail_unexpected(sc, "a digit");
    }
    const bool has_exponent = skip_any_of(sc, "eE");
    if (has_exponent) {
        skip_any_of(sc, "+-");
        if (skip_digits(sc) == 0) {
            return fail_unexpected(sc, "a digit");
        }
    }
    const size_t n = sc->i - from;
    if (n > JSON_NUMBER_CHARS_MAX) {
        return fail_at(sc, ERR_INVALID_VALUE, from, "a number of %zu characters, more than %d", n,
                       JSON_NUMBER_CHARS_MAX);
    }
    if (has_exponent && !is_finite(sc->s + from, n)) { /* without one, so few digits cannot be too large */
        return fail_at(sc, ERR_INVALID_VALUE, from, "the number %.*s is too large", (int)n,
                       (const char *)sc->s + from);
    }
    return OK;
}

/* ---- values ---- */

static enum err scan_string(struct scan *sc, bool *has_escapes)
{
    const char *why;
    const enum err e = json_string_skip(sc->s, sc->n, &sc->i, has_escapes, &why);
    return e == OK ? OK : fail_at(sc, e, sc->i, "%s", why);
}

static bool top_is_object(const struct scan *sc)
{
    const int d = sc->depth - 1;
    return sc->is_object[d / 64] >> (d % 64) & 1;
}

/* A value of this kind starts: what the field it belongs to learns from that. */
static void note_shape(const struct scan *sc, enum json_kind kind)
{
    struct json_field *f = newest_field(sc);
    if (f == NULL) {
        return;
    }
    if (sc->depth == 1) { /* the field's value itself */
        f->value.begin = sc->i;
        f->kind = kind;
        return;
    }
    if (f->kind != JSON_KIND_ARRAY || (f->shape == JSON_SHAPE_OTHER && f->n_item > 0)) {
        return;
    }
    enum json_shape fits = JSON_SHAPE_OTHER;
    if (sc->depth == 2) {
        fits = kind == JSON_KIND_NUMBER  ? JSON_SHAPE_NUMBERS
               : kind == JSON_KIND_ARRAY ? JSON_SHAPE_NUMBER_LISTS
                                         : JSON_SHAPE_OTHER;
        f->shape = f->n_item == 0 ? fits : f->shape; /* the first element says what the others must be */
        f->n_item++;
    } else if (sc->depth == 3 && kind == JSON_KIND_NUMBER) {
        fits = JSON_SHAPE_NUMBER_LISTS;
    }
    f->n_number += kind == JSON_KIND_NUMBER;
    if (f->shape != fits) {
        f->shape = JSON_SHAPE_OTHER;
    }
}

/* The value that ended before sc->i is whole. */
static void value_done(struct scan *sc)
{
    sc->expect = EXPECT_MORE;
    struct json_field *f = newest_field(sc);
    if (f != NULL && sc->depth == 1) {
        f->value.end = sc->i;
        if (f->shape != JSON_SHAPE_OTHER) {
            sc->ids_bytes += f->value.end - f->value.begin;
        }
        sc->in_field = false;
    }
}

static enum err open_container(struct scan *sc, bool object)
{
    if (sc->depth >= sc->lim->depth) {
        return fail_at(sc, ERR_INVALID_VALUE, sc->i, "more than %d levels of nesting", sc->lim->depth);
    }
    const uint64_t bit = UINT64_C(1) << (sc->depth % 64);
    uint64_t *word = &sc->is_object[sc->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    sc->mark[sc->depth++] = sc->keys.n;
    sc->i++;
    sc->expect = EXPECT_FIRST;
    return OK;
}

static void close_container(struct scan *sc)
{
    sc->depth--;
    json_keys_close(&sc->keys, sc->mark[sc->depth]);
    sc->i++;
    value_done(sc);
}

static enum err scan_word(struct scan *sc, const char *word)
{
    for (const char *w = word; *w != '\0'; w++, sc->i++) {
        if (sc->i >= sc->n || sc->s[sc->i] != (uint8_t)*w) {
            char wanted[32];
            snprintf(wanted, sizeof wanted, "the rest of \"%s\"", word);
            return fail_unexpected(sc, wanted);
        }
    }
    return OK;
}

static bool kind_of(uint8_t c, enum json_kind *out)
{
    switch (c) {
    case '{':
        *out = JSON_KIND_OBJECT;
        return true;
    case '[':
        *out = JSON_KIND_ARRAY;
        return true;
    case '"':
        *out = JSON_KIND_STRING;
        return true;
    case 't':
    case 'f':
        *out = JSON_KIND_BOOL;
        return true;
    case 'n':
        *out = JSON_KIND_NULL;
        return true;
    default:
        *out = JSON_KIND_NUMBER;
        return c == '-' || (c >= '0' && c <= '9');
    }
}

static enum err scan_value(struct scan *sc)
{
    enum json_kind kind;
    bool has_escapes;
    if (sc->i >= sc->n || !kind_of(sc->s[sc->i], &kind)) {
        return fail_unexpected(sc, "a value");
    }
    if (sc->out->n_node >= sc->lim->nodes) {
        return fail_at(sc, ERR_INVALID_VALUE, sc->i, "more than %zu values", sc->lim->nodes);
    }
    if (sc->out->n_node++ == 0) {
        sc->out->kind = kind;
    }
    note_shape(sc, kind);
    enum err e = OK;
    switch (kind) {
    case JSON_KIND_OBJECT:
    case JSON_KIND_ARRAY:
        return open_container(sc, kind == JSON_KIND_OBJECT);
    case JSON_KIND_STRING:
        e = scan_string(sc, &has_escapes);
        break;
    case JSON_KIND_NUMBER:
        e = scan_number(sc);
        break;
    case JSON_KIND_BOOL:
        e = scan_word(sc, sc->s[sc->i] == 't' ? "true" : "false");
        break;
    case JSON_KIND_NULL:
        e = scan_word(sc, "null");
        break;
    }
    if (e == OK) {
        value_done(sc);
    }
    return e;
}

/* ---- keys ---- */

static enum err add_field(struct scan *sc, const char *name, size_t n)
{
    struct json_scan *out = sc->out;
    if (out->n_field >= JSON_FIELDS_MAX) {
        return fail_at(sc, ERR_INVALID_VALUE, sc->i, "more than %d fields", JSON_FIELDS_MAX);
    }
    if (out->n_field == out->cap_field) {
        const size_t cap = out->cap_field == 0 ? 32 : 2 * out->cap_field;
        struct json_field *f = realloc(out->field, cap * sizeof *f);
        if (f == NULL) {
            return fail_nomem(sc);
        }
        out->field = f;
        out->cap_field = cap;
    }
    out->field[out->n_field] = (struct json_field){.name_at = out->names.len};
    strbuf_put(&out->names, name, n);
    strbuf_putc(&out->names, '\0');
    if (strbuf_failed(&out->names)) {
        return fail_nomem(sc);
    }
    out->n_field++;
    sc->in_field = true;
    return OK;
}

static enum err fail_duplicate(struct scan *sc, size_t at, const char *name, size_t n)
{
    char param[PARAM_BYTES];
    size_t shown = n < KEY_SHOWN_BYTES ? n : KEY_SHOWN_BYTES;
    while (shown < n && ((uint8_t)name[shown] & 0xC0) == 0x80) { /* whole characters */
        shown--;
    }
    const struct json_field *f = newest_field(sc);
    snprintf(param, sizeof param, "%.*s", f == NULL && sc->depth == 1 ? (int)shown : 0, name);
    return err_set(sc->note, ERR_DUPLICATE_KEY, f != NULL ? json_field_name(sc->out, f) : param,
                   "JSON body: duplicate key \"%.*s\" in one object (at byte %zu)", (int)shown, name, at);
}

/* A key and its colon. */
static enum err scan_key(struct scan *sc)
{
    const size_t at = sc->i;
    bool has_escapes;
    if (sc->i >= sc->n || sc->s[sc->i] != '"') {
        return fail_unexpected(sc, "a key");
    }
    enum err e = scan_string(sc, &has_escapes);
    if (e != OK) {
        return e;
    }
    const char *name = (const char *)sc->s + at + 1;
    size_t n = sc->i - at - 2; /* without the quotes */
    if (has_escapes) {
        strbuf_clear(&sc->unescaped);
        json_string_unescape(&sc->unescaped, sc->s + at + 1, n);
        if (strbuf_failed(&sc->unescaped)) {
            return fail_nomem(sc);
        }
        name = sc->unescaped.data;
        n = sc->unescaped.len;
    }
    e = json_keys_put(&sc->keys, sc->depth, name, n);
    switch (e) {
    case OK:
        break;
    case ERR_DUPLICATE_KEY:
        return fail_duplicate(sc, at, name, n);
    case ERR_INVALID_VALUE:
        return fail_at(sc, e, at, "more than %d keys in the open objects", JSON_KEYS_MAX);
    default:
        return fail_nomem(sc);
    }
    if (sc->depth == 1) {
        e = add_field(sc, name, n);
        if (e != OK) {
            return e;
        }
    }
    while (skip_any_of(sc, " \t\n\r")) {
    }
    sc->expect = EXPECT_VALUE;
    return skip_any_of(sc, ":") ? OK : fail_unexpected(sc, "':'");
}

/* ---- the document ---- */

static enum err scan_step(struct scan *sc)
{
    const uint8_t c = sc->i < sc->n ? sc->s[sc->i] : '\0';
    const bool object = sc->depth > 0 && top_is_object(sc);
    const bool closes = c == (object ? '}' : ']');
    switch (sc->expect) {
    case EXPECT_VALUE:
        return scan_value(sc);
    case EXPECT_KEY:
        return scan_key(sc);
    case EXPECT_FIRST:
        if (closes) {
            close_container(sc);
            return OK;
        }
        return object ? scan_key(sc) : scan_value(sc);
    case EXPECT_MORE:
        break;
    }
    if (closes) {
        close_container(sc);
        return OK;
    }
    if (c != ',') {
        return fail_unexpected(sc, object ? "',' or '}'" : "',' or ']'");
    }
    sc->i++;
    sc->expect = object ? EXPECT_KEY : EXPECT_VALUE;
    return OK;
}

static void skip_space(struct scan *sc)
{
    while (sc->i < sc->n) {
        const uint8_t c = sc->s[sc->i];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            break;
        }
        sc->i++;
    }
}

static enum err scan_document(struct scan *sc)
{
    skip_space(sc);
    if (sc->i == sc->n) {
        return fail_at(sc, ERR_INVALID_JSON, sc->n, "the body is empty");
    }
    do {
        const enum err e = scan_step(sc);
        if (e != OK) {
            return e;
        }
        skip_space(sc);
    } while (sc->depth > 0 || sc->expect != EXPECT_MORE);
    if (sc->i < sc->n) {
        return fail_unexpected(sc, "the end");
    }
    if (sc->n - sc->ids_bytes > sc->lim->bytes) {
        return err_set(sc->note, ERR_TOO_LARGE, NULL,
                       "the body has %zu bytes besides its arrays of numbers, more than %zu",
                       sc->n - sc->ids_bytes, sc->lim->bytes);
    }
    return OK;
}

enum err json_scan(struct json_scan *out, const char *body, size_t n, const struct json_limits *lim,
                   struct err_note *note)
{
    memset(out, 0, sizeof *out);
    strbuf_init(&out->names);
    if (lim == NULL) {
        lim = &json_limits_default;
    }
    CHECK(lim->depth >= 1 && lim->depth <= JSON_DEPTH_CAP);
    if (n > lim->bytes_with_ids) {
        return err_set(note, ERR_TOO_LARGE, NULL, "the body has %zu bytes, more than %zu", n,
                       lim->bytes_with_ids);
    }
    struct scan sc = {.s = (const uint8_t *)body, .n = n, .lim = lim, .out = out, .note = note};
    json_keys_init(&sc.keys);
    strbuf_init(&sc.unescaped);
    const enum err e = scan_document(&sc);
    json_keys_fini(&sc.keys);
    strbuf_fini(&sc.unescaped);
    if (e != OK) {
        json_scan_fini(out);
    }
    return e;
}

void json_scan_fini(struct json_scan *s)
{
    free(s->field);
    strbuf_fini(&s->names);
    memset(s, 0, sizeof *s);
}

const struct json_field *json_scan_find(const struct json_scan *s, const char *name)
{
    for (size_t i = 0; i < s->n_field; i++) {
        if (strcmp(json_field_name(s, &s->field[i]), name) == 0) {
            return &s->field[i];
        }
    }
    return NULL;
}
