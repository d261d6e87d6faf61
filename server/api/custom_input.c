/* custom_input: see custom_input.h. */
#include "server/api/custom_input.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

enum { HEAD, TEXT, OVER, AS_IT_IS };

static const char head[] = "{\"input\":\"";

void custom_input_init(struct custom_input *c) { *c = (struct custom_input){.mode = HEAD}; }

static bool is_space(char ch) { return ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t'; }

/* White space may stand before a token of the head. */
static bool may_have_space(int at) { return at == 0 || at == 1 || at == 8 || at == 9; }

static void feed_head(struct custom_input *c, char ch, struct strbuf *out)
{
    const bool fits = ch == head[c->at], space = is_space(ch) && may_have_space(c->at);
    if ((!fits && !space) || c->n_held == CUSTOM_INPUT_HELD) {
        strbuf_put(out, c->held, (size_t)c->n_held);
        strbuf_putc(out, ch);
        c->mode = AS_IT_IS;
        return;
    }
    c->held[c->n_held++] = ch;
    c->at += fits;
    if (head[c->at]) return;
    c->mode = TEXT;
    c->n_held = 0;
}

/* --- the text */

static void put_char(struct strbuf *out, unsigned u)
{
    char b[4];
    strbuf_put(out, b, (size_t)utf8_put(b, u));
}

/* Half a surrogate pair is none. */
static void put_high(struct custom_input *c, struct strbuf *out)
{
    if (c->high) put_char(out, 0xFFFD);
    c->high = 0;
}

static void put_unit(struct custom_input *c, unsigned u, struct strbuf *out)
{
    if (u >= 0xDC00 && u < 0xE000 && c->high) {
        put_char(out, 0x10000 + ((c->high - 0xD800) << 10) + (u - 0xDC00));
        c->high = 0;
        return;
    }
    put_high(c, out);
    if (u >= 0xD800 && u < 0xDC00)
        c->high = u;
    else
        put_char(out, u >= 0xDC00 && u < 0xE000 ? 0xFFFD : u);
}

static int hex(char ch)
{
    if (ch >= '0' && ch <= '9') return ch - '0';
    if (ch >= 'a' && ch <= 'f') return ch - 'a' + 10;
    return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

/* What does not continue the escape: its bytes stand as they are. */
static void no_escape(struct custom_input *c, struct strbuf *out)
{
    put_high(c, out);
    strbuf_put(out, c->held, (size_t)c->n_held);
    c->n_held = 0;
}

static void feed_escape(struct custom_input *c, char ch, struct strbuf *out)
{
    static const char letter[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    c->held[c->n_held++] = ch;
    if (c->n_held == 2 && ch == 'u') return;
    if (c->n_held == 2) {
        const char *at = strchr(letter, ch);
        if (!at || !ch) {
            no_escape(c, out);
            return;
        }
        put_high(c, out);
        strbuf_putc(out, meant[at - letter]);
        c->n_held = 0;
        return;
    }
    if (hex(ch) < 0) {
        no_escape(c, out);
        return;
    }
    if (c->n_held < 6) return;
    unsigned u = 0;
    for (int i = 2; i < 6; i++) u = u << 4 | (unsigned)hex(c->held[i]);
    c->n_held = 0;
    put_unit(c, u, out);
}

static void feed_text(struct custom_input *c, char ch, struct strbuf *out)
{
    if (c->n_held) {
        feed_escape(c, ch, out);
    } else if (ch == '\\') {
        c->held[c->n_held++] = ch;
    } else {
        put_high(c, out);
        if (ch == '"')
            c->mode = OVER;
        else
            strbuf_putc(out, ch);
    }
}

void custom_input_feed(struct custom_input *c, const char *p, size_t n, struct strbuf *out)
{
    for (size_t i = 0; i < n; i++) {
        if (c->mode == HEAD)
            feed_head(c, p[i], out);
        else if (c->mode == TEXT)
            feed_text(c, p[i], out);
        else if (c->mode == AS_IT_IS)
            strbuf_putc(out, p[i]);
    }
}

void custom_input_end(struct custom_input *c, struct strbuf *out)
{
    if (c->mode == TEXT) put_high(c, out);
    c->mode = OVER;
}
