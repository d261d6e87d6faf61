/* text: strings as bytes with marks of origin, and code points counted in them. Bytes are shared: a substring
 * is a view, and appending to a text that ends where its buffer ends writes in place, so that building a long
 * text piece by piece is linear. */
#include "server/jinja/internal.h"

/* Characters are told apart by their lead bytes, which is right for valid UTF-8 and safe for anything else.
 */
static bool is_lead(char c) { return ((uint8_t)c & 0xC0) != 0x80; }

static uint32_t count_chars(const char *p, size_t n)
{
    uint32_t k = 0;
    for (size_t i = 0; i < n; i++) k += is_lead(p[i]);
    return k;
}

/* --- texts --- */

struct text *tmpl_text_new(struct run *r, const char *p, size_t n, bool outside)
{
    if (n > TEXT_MAX_BYTES) {
        tmpl_fail_bound(r, "a string grew too long");
        return NULL;
    }
    struct text *t = tmpl_alloc(r, sizeof *t);
    if (t) *t = (struct text){.p = p, .n = n, .n_char = TEXT_UNCOUNTED, .outside = outside};
    return t;
}

struct text *tmpl_text_sub(struct run *r, struct text *t, size_t at, size_t n)
{
    if (at == 0 && n == t->n) return t;
    struct text *s = tmpl_alloc(r, sizeof *s);
    if (!s) return NULL;
    *s = (struct text){.p = t->p + at,
                       .n = n,
                       .mark = t->mark ? t->mark + at : NULL,
                       .buf = t->buf,
                       .n_char = t->n_char == t->n ? (uint32_t)n : TEXT_UNCOUNTED,
                       .outside = t->outside};
    return s;
}

struct text *tmpl_text_char(struct run *r, struct text *t, size_t at, size_t n)
{
    const uint8_t c = (uint8_t)t->p[at];
    if (n != 1 || c >= 0x80) return tmpl_text_sub(r, t, at, n);
    const bool outside = text_outside_at(t, at);
    struct text **known = &r->byte_text[outside][c];
    if (!*known) {
        *known = tmpl_text_new(r, t->p + at, 1, outside);
        if (*known) (*known)->n_char = 1;
    }
    return *known;
}

size_t tmpl_text_len(struct run *r, struct text *t)
{
    if (t->n_char == TEXT_UNCOUNTED) {
        t->n_char = count_chars(t->p, t->n);
        if (r) (void)tmpl_scan_cost(r, t->n);
    }
    return t->n_char;
}

/* Makes the table of every TEXT_SKIP-th code point's offset. */
static bool make_skip(struct arena *a, struct text *t)
{
    const size_t n_entry = tmpl_text_len(NULL, t) / TEXT_SKIP + 1;
    uint32_t *skip = arena_array(a, n_entry, sizeof *skip);
    if (!skip) return false;
    size_t k = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (!is_lead(t->p[i])) continue;
        if (k % TEXT_SKIP == 0) skip[k / TEXT_SKIP] = (uint32_t)i;
        k++;
    }
    if (k % TEXT_SKIP == 0) skip[k / TEXT_SKIP] = (uint32_t)t->n;
    t->skip = skip;
    return true;
}

size_t tmpl_text_offset(struct run *r, struct text *t, size_t i_char)
{
    const size_t len = tmpl_text_len(r, t);
    if (len == t->n) return i_char < len ? i_char : t->n;
    if (i_char >= len) return t->n;
    size_t at = 0, k = 0;
    if (t->n > 2 * TEXT_SKIP) {
        if (!t->skip && !make_skip(r->arena, t)) {
            tmpl_fail_memory(r, t->n); /* about */
            return t->n;
        }
        at = t->skip[i_char / TEXT_SKIP];
        k = i_char - i_char % TEXT_SKIP;
    } else {
        while (at < t->n && !is_lead(t->p[at])) at++;
    }
    for (; k < i_char; k++) {
        do at++;
        while (at < t->n && !is_lead(t->p[at]));
    }
    return at;
}

size_t tmpl_text_chars_before(struct run *r, struct text *t, size_t at)
{
    if (tmpl_text_len(r, t) == t->n) return at;
    if (t->n <= 2 * TEXT_SKIP || (!t->skip && !make_skip(r->arena, t))) return count_chars(t->p, at);
    size_t lo = 0, hi = t->n_char / TEXT_SKIP; /* to the last entry at or before `at` */
    while (lo < hi) {
        const size_t mid = (lo + hi + 1) / 2;
        if (t->skip[mid] <= at) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return t->skip[lo] > at ? 0 : lo * TEXT_SKIP + count_chars(t->p + t->skip[lo], at - t->skip[lo]);
}

bool tmpl_text_seal(struct arena *a, struct text *t)
{
    return tmpl_text_len(NULL, t) == t->n || t->n <= 2 * TEXT_SKIP || make_skip(a, t);
}

int tmpl_text_cmp(const struct text *a, const struct text *b)
{
    const size_t n = a->n < b->n ? a->n : b->n;
    const int c = n ? memcmp(a->p, b->p, n) : 0;
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

/* --- buffers --- */

bool tmpl_buf_reserve(struct run *r, struct text_buf *b, size_t more)
{
    if (b->cap - b->n >= more) return true;
    if (more > TEXT_MAX_BYTES - b->n) return tmpl_fail_bound(r, "a string grew too long");
    const size_t need = b->n + more, cap = need + need / 2 + 32;
    char *p = tmpl_alloc(r, cap);
    uint8_t *mark = p && b->mark ? tmpl_alloc(r, cap) : NULL;
    if (!p || (b->mark && !mark) || !tmpl_scan_cost(r, b->n)) return false;
    if (b->n) memcpy(p, b->p, b->n);
    if (b->n && mark) memcpy(mark, b->mark, b->n);
    b->p = p;
    b->mark = mark;
    b->cap = cap;
    return true;
}

/* From here on b has one mark per byte. */
static bool split_marks(struct run *r, struct text_buf *b)
{
    if (b->mark) return true;
    b->mark = tmpl_alloc(r, b->cap);
    if (b->mark && b->n) memset(b->mark, b->outside, b->n);
    return b->mark != NULL;
}

bool tmpl_buf_put(struct run *r, struct text_buf *b, const char *p, size_t n, bool outside)
{
    if (n == 0) return true;
    if (!tmpl_buf_reserve(r, b, n)) return false;
    if (b->n == 0 && !b->mark) b->outside = outside;
    if (b->outside != outside && !split_marks(r, b)) return false;
    memcpy(b->p + b->n, p, n);
    if (b->mark) memset(b->mark + b->n, outside, n);
    b->n += n;
    return tmpl_scan_cost(r, n);
}

bool tmpl_buf_puts(struct run *r, struct text_buf *b, const char *s)
{
    return tmpl_buf_put(r, b, s, strlen(s), false);
}

bool tmpl_buf_put_sub(struct run *r, struct text_buf *b, const struct text *t, size_t at, size_t n)
{
    if (!t->mark) return tmpl_buf_put(r, b, t->p + at, n, t->outside);
    if (n == 0) return true;
    if (!tmpl_buf_reserve(r, b, n) || !split_marks(r, b)) return false;
    memcpy(b->p + b->n, t->p + at, n);
    memcpy(b->mark + b->n, t->mark + at, n);
    b->n += n;
    return tmpl_scan_cost(r, n);
}

bool tmpl_buf_put_text(struct run *r, struct text_buf *b, const struct text *t)
{
    return tmpl_buf_put_sub(r, b, t, 0, t->n);
}

struct text *tmpl_buf_text(struct run *r, const struct text_buf *b)
{
    struct text *t = tmpl_text_new(r, b->n ? b->p : "", b->n, b->outside);
    struct text_buf *own = t && b->n ? tmpl_alloc(r, sizeof *own) : NULL;
    if (!t || (b->n && !own)) return NULL;
    if (own) {
        *own = *b;
        t->buf = own;
        t->mark = b->mark;
    }
    return t;
}

bool tmpl_buf_value(struct run *r, const struct text_buf *b, struct tmpl_value *out)
{
    return val_from_text(tmpl_buf_text(r, b), out);
}

/* --- joining --- */

struct text *tmpl_text_concat(struct run *r, struct text *a, struct text *b)
{
    if (a->n == 0) return b;
    if (b->n == 0) return a;
    struct text_buf *buf = a->buf;
    if (!buf || a->p + a->n != buf->p + buf->n || buf->cap - buf->n < b->n) {
        buf = tmpl_alloc(r, sizeof *buf);
        if (!buf || !tmpl_buf_reserve(r, buf, a->n + b->n) || !tmpl_buf_put_text(r, buf, a)) return NULL;
    }
    const size_t at = buf->n - a->n;
    if (!tmpl_buf_put_text(r, buf, b)) return NULL;
    struct text *t = tmpl_text_new(r, buf->p + at, a->n + b->n, buf->outside);
    if (!t) return NULL;
    t->buf = buf;
    t->mark = buf->mark ? buf->mark + at : NULL;
    if (a->n_char != TEXT_UNCOUNTED && b->n_char != TEXT_UNCOUNTED) t->n_char = a->n_char + b->n_char;
    return t;
}

struct text *tmpl_text_repeat(struct run *r, struct text *t, int64_t times)
{
    struct text_buf b = {0};
    if (times > 0 && t->n > 0) {
        size_t all;
        if (__builtin_mul_overflow(t->n, (uint64_t)times, &all)) all = SIZE_MAX;
        if (all > TEXT_MAX_BYTES) {
            tmpl_fail_bound(r, "a string grew too long");
            return NULL;
        }
        if (!tmpl_step(r, (uint64_t)times / 16) || !tmpl_buf_reserve(r, &b, all)) return NULL;
        for (int64_t i = 0; i < times; i++) {
            if (!tmpl_buf_put_text(r, &b, t)) return NULL;
        }
    }
    return tmpl_buf_text(r, &b);
}
