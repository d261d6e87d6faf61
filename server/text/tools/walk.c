/* walk: see walk.h. */
#include "server/text/tools/walk.h"

#include <string.h>

enum {
    VALUE,
    FIRST_ITEM, /* behind [ */
    FIRST_KEY,  /* behind { */
    KEY,        /* behind a comma in an object */
    COLON,
    AFTER, /* behind a value in a container */
    STRING,
    KEY_STRING,
    ESCAPE,
    KEY_ESCAPE,
    HEX,
    KEY_HEX,
    MINUS,
    ZERO,
    DIGITS,
    DOT,
    FRACTION,
    EXPONENT,
    EXPONENT_SIGN,
    EXPONENT_DIGITS,
    WORD,
    DONE,
};

void json_walk_init(struct json_walk *w) { *w = (struct json_walk){.state = VALUE}; }

static bool in_object(const struct json_walk *w)
{
    const int d = w->depth - 1;
    return d >= 0 && (w->is_object[d / 64] >> (d % 64) & 1);
}

static bool push(struct json_walk *w, bool object)
{
    if (w->depth == JSON_WALK_DEPTH) return false;
    uint64_t *bits = &w->is_object[w->depth / 64];
    const uint64_t bit = (uint64_t)1 << (w->depth % 64);
    *bits = object ? *bits | bit : *bits & ~bit;
    w->depth++;
    w->state = object ? FIRST_KEY : FIRST_ITEM;
    return true;
}

static void value_over(struct json_walk *w) { w->state = w->depth ? AFTER : DONE; }

static bool pop(struct json_walk *w, bool object)
{
    if (w->depth == 0 || in_object(w) != object) return false;
    w->depth--;
    value_over(w);
    return true;
}

static bool begin_word(struct json_walk *w, const char *word)
{
    w->word = word + 1;
    w->state = WORD;
    return true;
}

static bool begin_value(struct json_walk *w, char c)
{
    switch (c) {
    case '{':
        return push(w, true);
    case '[':
        return push(w, false);
    case '"':
        w->state = STRING;
        return true;
    case '-':
        w->state = MINUS;
        return true;
    case 't':
        return begin_word(w, "true");
    case 'f':
        return begin_word(w, "false");
    case 'n':
        return begin_word(w, "null");
    default:
        w->state = c == '0' ? ZERO : DIGITS;
        return c >= '0' && c <= '9';
    }
}

static bool take_string(struct json_walk *w, char c)
{
    const bool key = w->state == KEY_STRING;
    if (c == '"' && key)
        w->state = COLON;
    else if (c == '"')
        value_over(w);
    else if (c == '\\')
        w->state = key ? KEY_ESCAPE : ESCAPE;
    else
        return (unsigned char)c >= 0x20;
    return true;
}

static bool take_escape(struct json_walk *w, char c)
{
    const bool key = w->state == KEY_ESCAPE;
    if (c == 'u') {
        w->state = key ? KEY_HEX : HEX;
        w->left = 4;
        return true;
    }
    w->state = key ? KEY_STRING : STRING;
    return c && strchr("\"\\/bfnrt", c);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool take_hex(struct json_walk *w, char c)
{
    if (--w->left == 0) w->state = w->state == KEY_HEX ? KEY_STRING : STRING;
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* A number goes on with c; false: it does not, and may be over (*whole). */
static bool take_number(struct json_walk *w, char c, bool *whole)
{
    const int s = w->state;
    *whole = s == ZERO || s == DIGITS || s == FRACTION || s == EXPONENT_DIGITS;
    if (is_digit(c) && s != ZERO) {
        w->state = s == MINUS      ? (c == '0' ? ZERO : DIGITS)
                   : s == DOT      ? FRACTION
                   : s >= EXPONENT ? EXPONENT_DIGITS
                                   : w->state;
        return true;
    }
    if (c == '.' && (s == ZERO || s == DIGITS))
        w->state = DOT;
    else if ((c == 'e' || c == 'E') && (s == ZERO || s == DIGITS || s == FRACTION))
        w->state = EXPONENT;
    else if ((c == '+' || c == '-') && s == EXPONENT)
        w->state = EXPONENT_SIGN;
    else
        return false;
    return true;
}

static bool take_word(struct json_walk *w, char c)
{
    if (*w->word != c) return false;
    if (!*++w->word) value_over(w);
    return true;
}

static bool take_after(struct json_walk *w, char c)
{
    if (c == ',') {
        w->state = in_object(w) ? KEY : VALUE;
        return true;
    }
    return (c == '}' && pop(w, true)) || (c == ']' && pop(w, false));
}

/* Between values; white space may stand there. */
static bool take_between(struct json_walk *w, char c)
{
    if (json_is_space(c)) return true;
    switch (w->state) {
    case FIRST_ITEM:
        if (c == ']') return pop(w, false);
        return begin_value(w, c);
    case FIRST_KEY:
        if (c == '}') return pop(w, true);
        /* fall through */
    case KEY:
        w->state = KEY_STRING;
        return c == '"';
    case COLON:
        w->state = VALUE;
        return c == ':';
    case AFTER:
        return take_after(w, c);
    default:
        return begin_value(w, c);
    }
}

static bool take(struct json_walk *w, char c)
{
    bool whole;
    switch (w->state) {
    case STRING:
    case KEY_STRING:
        return take_string(w, c);
    case ESCAPE:
    case KEY_ESCAPE:
        return take_escape(w, c);
    case HEX:
    case KEY_HEX:
        return take_hex(w, c);
    case WORD:
        return take_word(w, c);
    case DONE:
        return false;
    default:
        if (w->state < MINUS || w->state > EXPONENT_DIGITS) return take_between(w, c);
        if (take_number(w, c, &whole)) return true;
        if (!whole) return false;
        value_over(w);
        return w->state == AFTER && take_between(w, c);
    }
}

/* By brackets and quotes alone. */
static enum walk_step take_broken(struct json_walk *w, char c)
{
    if (w->quoted) {
        if (!w->escaped && c == '"') w->quoted = false;
        w->escaped = !w->escaped && c == '\\';
        return WALK_TAKEN;
    }
    if (c == '"') {
        w->quoted = true;
    } else if (c == '{' || c == '[') {
        w->depth++;
    } else if (c == '}' || c == ']') {
        w->done = w->depth <= 1;
        if (w->depth == 0) return WALK_OVER;
        w->depth--;
        if (w->done) return WALK_LAST;
    }
    return WALK_TAKEN;
}

enum walk_step json_walk_step(struct json_walk *w, char c)
{
    if (w->done) return WALK_OVER;
    if (w->broken) return take_broken(w, c);
    const struct json_walk before = *w;
    if (take(w, c)) {
        w->done = w->state == DONE;
        return w->done ? WALK_LAST : WALK_TAKEN;
    }
    if (w->state == DONE) { /* a number at the top, ended by what does not belong to it */
        w->done = true;
        return WALK_OVER;
    }
    *w = before;
    w->broken = true;
    w->quoted = json_walk_in_string(&before);
    w->escaped = before.state == ESCAPE || before.state == KEY_ESCAPE;
    return take_broken(w, c);
}

bool json_walk_fits(const struct json_walk *w, char c)
{
    struct json_walk next = *w;
    return !w->broken && !w->done && take(&next, c);
}

bool json_walk_in_string(const struct json_walk *w)
{
    return w->broken ? w->quoted : w->state >= STRING && w->state <= KEY_HEX;
}

bool json_walk_whole(const struct json_walk *w)
{
    if (w->broken) return false;
    return w->done || (w->depth == 0 && (w->state == ZERO || w->state == DIGITS || w->state == FRACTION ||
                                         w->state == EXPONENT_DIGITS));
}

bool json_is_object(const char *p, size_t n)
{
    struct json_walk w;
    size_t i = 0;
    json_walk_init(&w);
    while (i < n && json_is_space(p[i])) i++;
    if (i == n || p[i] != '{') return false;
    while (i < n && json_walk_step(&w, p[i]) == WALK_TAKEN) i++;
    if (!json_walk_whole(&w)) return false;
    for (i++; i < n && json_is_space(p[i]); i++) continue;
    return i >= n;
}

/* One value from at on; the place behind it. */
static size_t value_end(const char *p, size_t n, size_t at)
{
    struct json_walk w;
    json_walk_init(&w);
    for (; at < n; at++) {
        const enum walk_step s = json_walk_step(&w, p[at]);
        if (s == WALK_OVER) return at;
        if (s == WALK_LAST) return at + 1;
    }
    return at;
}

static size_t skip(const char *p, size_t n, size_t at, const char *what)
{
    while (at < n && p[at] && strchr(what, p[at])) at++;
    return at;
}

bool json_member_next(const char *p, size_t n, size_t *at, struct json_member *m)
{
    static const char space[] = " \n\r\t";
    size_t i = skip(p, n, *at, *at == 0 ? " \n\r\t{" : " \n\r\t,");
    if (i >= n || p[i] != '"') return false;
    const size_t key = i, key_end = value_end(p, n, key), value = skip(p, n, key_end, " \n\r\t:"),
                 end = value_end(p, n, value);
    *m = (struct json_member){
        .key = p + key, .n_key = key_end - key, .value = p + value, .n_value = end - value};
    while (m->n_value > 0 && strchr(space, m->value[m->n_value - 1])) m->n_value--;
    *at = end;
    return true;
}
