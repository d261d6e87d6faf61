/* out: see out.h. Knows per open container one bit for its kind and one for "a comma is due". */
#include "server/json/out.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/utf8.h"

void json_out_init(struct json_out *o, struct strbuf *buf) { *o = (struct json_out){.buf = buf}; }

/* Comma and key in front of the next value. */
static void lead(struct json_out *o, const char *key)
{
    if (o->depth == 0) {
        CHECK(key == NULL);
        return;
    }
    const uint64_t bit = UINT64_C(1) << (o->depth - 1);
    CHECK((key != NULL) == ((o->is_object & bit) != 0));
    if (o->has_items & bit) {
        strbuf_putc(o->buf, ',');
    }
    o->has_items |= bit;
    if (key != NULL) {
        json_out_quote(o->buf, key, strlen(key));
        strbuf_putc(o->buf, ':');
    }
}

static void open_container(struct json_out *o, const char *key, bool object)
{
    lead(o, key);
    CHECK(o->depth < JSON_OUT_DEPTH_MAX);
    const uint64_t bit = UINT64_C(1) << o->depth++;
    o->is_object = object ? o->is_object | bit : o->is_object & ~bit;
    o->has_items &= ~bit;
    strbuf_putc(o->buf, object ? '{' : '[');
}

void json_out_object(struct json_out *o, const char *key) { open_container(o, key, true); }

void json_out_array(struct json_out *o, const char *key) { open_container(o, key, false); }

void json_out_end(struct json_out *o)
{
    CHECK(o->depth > 0);
    const uint64_t bit = UINT64_C(1) << --o->depth;
    strbuf_putc(o->buf, o->is_object & bit ? '}' : ']');
}

void json_out_string(struct json_out *o, const char *key, const char *s, size_t n)
{
    lead(o, key);
    json_out_quote(o->buf, s, n);
}

void json_out_text(struct json_out *o, const char *key, const char *s)
{
    if (s == NULL) {
        json_out_null(o, key);
    } else {
        json_out_string(o, key, s, strlen(s));
    }
}

void json_out_bool(struct json_out *o, const char *key, bool v)
{
    lead(o, key);
    strbuf_puts(o->buf, v ? "true" : "false");
}

void json_out_null(struct json_out *o, const char *key)
{
    lead(o, key);
    strbuf_puts(o->buf, "null");
}

void json_out_int(struct json_out *o, const char *key, int64_t v)
{
    lead(o, key);
    strbuf_printf(o->buf, "%" PRId64, v);
}

void json_out_uint(struct json_out *o, const char *key, uint64_t v)
{
    lead(o, key);
    strbuf_printf(o->buf, "%" PRIu64, v);
}

void json_out_float(struct json_out *o, const char *key, float v)
{
    CHECK(isfinite(v));
    lead(o, key);
    strbuf_printf(o->buf, "%.9g", (double)v); /* 9 digits tell all floats apart (IEEE 754, 5.12.2) */
}

void json_out_double(struct json_out *o, const char *key, double v)
{
    CHECK(isfinite(v));
    lead(o, key);
    char text[32];
    for (int digits = 15; digits <= 17; digits++) { /* 17 tell all doubles apart */
        snprintf(text, sizeof text, "%.*g", digits, v);
        const double back = strtod(text, NULL);
        if (!(back < v || back > v)) {
            break;
        }
    }
    strbuf_puts(o->buf, text);
}

void json_out_raw(struct json_out *o, const char *key, const char *json, size_t n)
{
    lead(o, key);
    strbuf_put(o->buf, json, n);
}

/* U+0085, U+2028 and U+2029 may stand in JSON, but clients that read streams by lines take them for ends of
 * one. */
static bool ends_line(const uint8_t *p, int step)
{
    return step == 2 ? p[0] == 0xC2 && p[1] == 0x85
                     : step == 3 && p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9);
}

/* Writes what replaces the bytes at p that cannot stand in a string; the number of bytes replaced. */
static size_t quote_special(struct strbuf *buf, const uint8_t *p, size_t n)
{
    static const char from[] = "\b\t\n\f\r\"\\", to[] = "btnfr\"\\";
    const char *at = p[0] != '\0' ? strchr(from, p[0]) : NULL;
    if (at != NULL) {
        const char esc[2] = {'\\', to[at - from]};
        strbuf_put(buf, esc, sizeof esc);
        return 1;
    }
    if (p[0] < 0x20) {
        strbuf_printf(buf, "\\u%04x", p[0]);
        return 1;
    }
    const int step = utf8_step(p, n);
    if (step > 0) { /* ends_line */
        strbuf_printf(buf, "\\u%04x", step == 2 ? 0x85u : 0x2000u | (p[2] & 0x3Fu));
        return (size_t)step;
    }
    strbuf_puts(buf, "\xEF\xBF\xBD"); /* U+FFFD */
    return (size_t)-step;
}

void json_out_escape(struct strbuf *buf, const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t done = 0, i = 0; /* bytes written; bytes looked at */
    while (i < n) {
        const int step = utf8_step(p + i, n - i);
        if (step > 0 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' && !ends_line(p + i, step)) {
            i += (size_t)step;
            continue;
        }
        strbuf_put(buf, p + done, i - done);
        i += quote_special(buf, p + i, n - i);
        done = i;
    }
    if (i > done) {
        strbuf_put(buf, p + done, i - done);
    }
}

void json_out_quote(struct strbuf *buf, const char *s, size_t n)
{
    strbuf_putc(buf, '"');
    json_out_escape(buf, s, n);
    strbuf_putc(buf, '"');
}

void json_out_error(struct strbuf *buf, const struct err_note *note)
{
    struct json_out o;
    json_out_init(&o, buf);
    json_out_object(&o, NULL);
    json_out_object(&o, "error");
    json_out_text(&o, "message", note->text[0] != '\0' ? note->text : err_text(note->code));
    json_out_text(&o, "type", err_type(note->code));
    json_out_text(&o, "param", note->param[0] != '\0' ? note->param : NULL);
    json_out_text(&o, "code", err_code(note->code));
    json_out_end(&o);
    json_out_end(&o);
}
