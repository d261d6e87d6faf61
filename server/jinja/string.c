/* string: Python's str methods on texts. What they cut out or copy keeps its marks of origin. */
#include <utf8proc.h>

#include "server/jinja/internal.h"

bool tmpl_is_space(uint32_t cp)
{
    return cp == ' ' || (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1F) || cp == 0x85 ||
           cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool tmpl_is_line_end(uint32_t cp)
{
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool tmpl_is_printable(uint32_t cp)
{
    if (cp == ' ') return true;
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c != UTF8PROC_CATEGORY_CN && (c < UTF8PROC_CATEGORY_ZS || c > UTF8PROC_CATEGORY_CO);
}

static bool is_lower(uint32_t cp) { return utf8proc_islower((utf8proc_int32_t)cp) != 0; }
static bool is_upper(uint32_t cp) { return utf8proc_isupper((utf8proc_int32_t)cp) != 0; }
static bool is_cased(uint32_t cp)
{
    return is_lower(cp) || is_upper(cp) || utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LT;
}

static bool is_letter(uint32_t cp)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_numeric(uint32_t cp)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool tmpl_string_is(const struct text *t, enum text_class what)
{
    const char *p = t->p, *end = t->p + t->n;
    bool seen = what == CLASS_ASCII || what == CLASS_PRINTABLE; /* the others are false for "" */
    while (p < end) {
        uint32_t cp;
        p += utf8_get(p, end, &cp);
        bool ok = false;
        switch (what) {
        case CLASS_ALPHA:
            ok = is_letter(cp);
            break;
        case CLASS_ALNUM:
            ok = is_letter(cp) || is_numeric(cp);
            break;
        case CLASS_DIGIT:
            ok = utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND;
            break;
        case CLASS_SPACE:
            ok = tmpl_is_space(cp);
            break;
        case CLASS_ASCII:
            ok = cp < 0x80;
            break;
        case CLASS_PRINTABLE:
            ok = tmpl_is_printable(cp);
            break;
        case CLASS_LOWER:
        case CLASS_UPPER: /* every cased character, and at least one */
            if (!is_cased(cp)) continue;
            ok = what == CLASS_LOWER ? is_lower(cp) : is_upper(cp);
            break;
        }
        if (!ok) return false;
        seen = true;
    }
    return seen;
}

/* --- case --- */

/* Is the sigma that ends at `at` the last letter of its word? */
static bool is_final_sigma(const struct text *t, size_t before, size_t at)
{
    uint32_t cp;
    if (at < t->n) {
        utf8_get(t->p + at, t->p + t->n, &cp);
        if (is_letter(cp)) return false;
    }
    if (before == 0) return false;
    size_t q = before - 1;
    while (q > 0 && ((uint8_t)t->p[q] & 0xC0) == 0x80) q--;
    utf8_get(t->p + q, t->p + t->n, &cp);
    return is_letter(cp);
}

static int put_lower(const struct text *t, size_t before, size_t at, uint32_t cp, char out[8])
{
    if (cp == 0x130) {
        memcpy(out, "i\xCC\x87", 3);
        return 3;
    }
    if (cp == 0x3A3 && is_final_sigma(t, before, at)) return utf8_put(out, 0x3C2);
    return utf8_put(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
}

static int put_upper(uint32_t cp, bool title, char out[8])
{
    const char *wide = cp < 0x80 ? NULL : tmpl_wide_case(cp, title);
    if (wide) {
        const size_t n = strlen(wide);
        memcpy(out, wide, n);
        return (int)n;
    }
    const utf8proc_int32_t c = (utf8proc_int32_t)cp;
    return utf8_put(out, (uint32_t)(title ? utf8proc_totitle(c) : utf8proc_toupper(c)));
}

/* What the title filter of the reference takes for the start of a word: [-\s({\[<]+ */
static bool is_word_break(uint32_t cp)
{
    return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || tmpl_is_space(cp);
}

struct text *tmpl_string_case(struct run *r, struct text *t, enum text_case how)
{
    struct text_buf b = {0};
    if (!tmpl_buf_reserve(r, &b, t->n)) return NULL;
    bool start = true; /* the next letter begins a word */
    for (size_t at = 0; at < t->n;) {
        const size_t before = at;
        uint32_t cp;
        at += (size_t)utf8_get(t->p + at, t->p + t->n, &cp);
        if (at - before == 1 && cp >= 0x80) { /* not UTF-8 */
            if (!tmpl_buf_put_sub(r, &b, t, before, 1)) return NULL;
            continue;
        }
        char out[8];
        bool up = how == CASE_UPPER || (how == CASE_SWAP && is_lower(cp)), title = false;
        if (how == CASE_TITLE || how == CASE_CAPITALIZE) up = title = start;
        if (how == CASE_JINJA_TITLE) up = start;
        const bool keep = how == CASE_SWAP && !is_cased(cp);
        const int n = keep ? utf8_put(out, cp)
                      : up ? put_upper(cp, title, out)
                           : put_lower(t, before, at, cp, out);
        if (!tmpl_buf_put(r, &b, out, (size_t)n, text_outside_at(t, before))) return NULL;
        start = how == CASE_TITLE ? !is_cased(cp) : how == CASE_JINJA_TITLE && is_word_break(cp);
    }
    return tmpl_buf_text(r, &b);
}

/* --- cutting --- */

static bool is_stripped(const struct text *chars, const char *p, size_t n, uint32_t cp)
{
    return chars ? memmem(chars->p, chars->n, p, n) != NULL : tmpl_is_space(cp);
}

struct text *tmpl_string_strip(struct run *r, struct text *t, const struct text *chars, enum text_side side)
{
    size_t from = 0, to = t->n;
    while ((side & SIDE_LEFT) && from < to) {
        uint32_t cp;
        const int n = utf8_get(t->p + from, t->p + to, &cp);
        if (!is_stripped(chars, t->p + from, (size_t)n, cp)) break;
        from += (size_t)n;
    }
    while ((side & SIDE_RIGHT) && from < to) {
        size_t q = to - 1;
        while (q > from && ((uint8_t)t->p[q] & 0xC0) == 0x80) q--;
        uint32_t cp;
        utf8_get(t->p + q, t->p + to, &cp);
        if (!is_stripped(chars, t->p + q, to - q, cp)) break;
        to = q;
    }
    if (!tmpl_scan_cost(r, (t->n - (to - from)) * (chars ? chars->n : 1))) return NULL;
    return tmpl_text_sub(r, t, from, to - from);
}

bool tmpl_string_find(struct run *r, const struct text *t, const struct text *sub, size_t from, size_t *at)
{
    if (from > t->n) return false;
    const char *hit = sub->n ? memmem(t->p + from, t->n - from, sub->p, sub->n) : t->p + from;
    (void)tmpl_scan_cost(r, hit ? (size_t)(hit - t->p) - from : t->n - from);
    if (hit) *at = (size_t)(hit - t->p);
    return hit != NULL;
}

/* The bytes of t backwards, to search from the right in linear time. */
static const char *backwards(struct run *r, const struct text *t)
{
    char *p = tmpl_alloc(r, t->n + 1);
    for (size_t i = 0; p && i < t->n; i++) p[i] = t->p[t->n - 1 - i];
    return p;
}

bool tmpl_string_rfind(struct run *r, const struct text *t, const struct text *sub, size_t end, size_t *at)
{
    if (end > t->n) end = t->n;
    if (sub->n > end) return false;
    if (sub->n <= 8) {
        for (size_t i = end - sub->n + 1; i-- > 0;) {
            if (memcmp(t->p + i, sub->p, sub->n) != 0) continue;
            *at = i;
            return tmpl_scan_cost(r, end - i);
        }
        (void)tmpl_scan_cost(r, end);
        return false;
    }
    const struct text head = {.p = t->p, .n = end};
    const char *hay = backwards(r, &head), *needle = hay ? backwards(r, sub) : NULL;
    const char *hit = needle ? memmem(hay, end, needle, sub->n) : NULL;
    (void)tmpl_scan_cost(r, end);
    if (hit) *at = end - (size_t)(hit - hay) - sub->n;
    return hit != NULL;
}

int64_t tmpl_string_count(struct run *r, struct text *t, const struct text *sub)
{
    if (sub->n == 0) return (int64_t)tmpl_text_len(r, t) + 1;
    int64_t n = 0;
    for (size_t at = 0; tmpl_string_find(r, t, sub, at, &at); at += sub->n) n++;
    return n;
}

struct text *tmpl_string_replace(struct run *r, struct text *t, const struct text *old,
                                 const struct text *with, int64_t most)
{
    struct text_buf b = {0};
    size_t from = 0, at = 0;
    if (most < 0) most = INT64_MAX;
    while (most > 0 && tmpl_string_find(r, t, old, at, &at)) {
        if (!tmpl_buf_put_sub(r, &b, t, from, at - from) || !tmpl_buf_put_text(r, &b, with)) return NULL;
        most--;
        from = at;
        if (old->n) {
            from = at += old->n;
        } else if (at == t->n) {
            break;
        } else { /* "" matches before every character */
            uint32_t cp;
            at += (size_t)utf8_get(t->p + at, t->p + t->n, &cp);
        }
        if (!tmpl_step(r, 1)) return NULL;
    }
    if (r->err) return NULL;
    if (from == 0 && b.n == 0) return t;
    if (!tmpl_buf_put_sub(r, &b, t, from, t->n - from)) return NULL;
    return tmpl_buf_text(r, &b);
}

struct text *tmpl_string_escape(struct run *r, struct text *t)
{
    static const char from[] = "&<>'\"", *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct text_buf b = {0};
    size_t start = 0;
    for (size_t i = 0; i < t->n; i++) {
        const char *hit = t->p[i] ? strchr(from, t->p[i]) : NULL;
        if (!hit) continue;
        const char *s = to[hit - from];
        if (!tmpl_buf_put_sub(r, &b, t, start, i - start)) return NULL;
        if (!tmpl_buf_put(r, &b, s, strlen(s), text_outside_at(t, i))) return NULL;
        start = i + 1;
    }
    if (!tmpl_buf_put_sub(r, &b, t, start, t->n - start)) return NULL;
    return tmpl_buf_text(r, &b);
}

/* --- splitting --- */

static bool push_piece(struct run *r, struct text *t, size_t from, size_t to, struct items *out)
{
    struct tmpl_value v;
    return tmpl_step(r, 1) && val_from_text(tmpl_text_sub(r, t, from, to - from), &v) &&
           tmpl_items_push(r, out, v);
}

static bool split_space_left(struct run *r, struct text *t, int64_t most, struct items *out)
{
    for (size_t at = 0; at < t->n;) {
        uint32_t cp;
        int n = utf8_get(t->p + at, t->p + t->n, &cp);
        if (tmpl_is_space(cp)) {
            at += (size_t)n;
            continue;
        }
        const size_t from = at;
        if (most == 0) return push_piece(r, t, from, t->n, out);
        for (; at < t->n; at += (size_t)n) {
            n = utf8_get(t->p + at, t->p + t->n, &cp);
            if (tmpl_is_space(cp)) break;
        }
        if (!push_piece(r, t, from, at, out)) return false;
        if (most > 0) most--;
    }
    return tmpl_scan_cost(r, t->n);
}

/* The start of the last character before `end`. */
static size_t char_before(const struct text *t, size_t end, uint32_t *cp)
{
    size_t q = end - 1;
    while (q > 0 && ((uint8_t)t->p[q] & 0xC0) == 0x80) q--;
    utf8_get(t->p + q, t->p + end, cp);
    return q;
}

static bool split_space_right(struct run *r, struct text *t, int64_t most, struct items *out)
{
    for (size_t end = t->n; end > 0;) {
        uint32_t cp;
        size_t q = char_before(t, end, &cp);
        if (tmpl_is_space(cp)) {
            end = q;
            continue;
        }
        if (most == 0) return push_piece(r, t, 0, end, out);
        const size_t to = end;
        while (end > 0 && (q = char_before(t, end, &cp), !tmpl_is_space(cp))) end = q;
        if (!push_piece(r, t, end, to, out)) return false;
        if (most > 0) most--;
    }
    return tmpl_scan_cost(r, t->n);
}

static bool split_left(struct run *r, struct text *t, const struct text *sep, int64_t most, struct items *out)
{
    size_t from = 0, at;
    while (most != 0 && tmpl_string_find(r, t, sep, from, &at)) {
        if (!push_piece(r, t, from, at, out)) return false;
        from = at + sep->n;
        if (most > 0) most--;
    }
    return push_piece(r, t, from, t->n, out);
}

static bool split_right(struct run *r, struct text *t, const struct text *sep, int64_t most,
                        struct items *out)
{
    struct text hay = {.p = backwards(r, t), .n = t->n}, needle = {.p = backwards(r, sep), .n = sep->n};
    size_t from = 0, at;
    if (!hay.p || !needle.p) return false;
    while (most != 0 && tmpl_string_find(r, &hay, &needle, from, &at)) {
        if (!push_piece(r, t, t->n - at, t->n - from, out)) return false;
        from = at + sep->n;
        if (most > 0) most--;
    }
    return push_piece(r, t, 0, t->n - from, out);
}

bool tmpl_string_split(struct run *r, struct text *t, const struct text *sep, int64_t most,
                       enum text_side from, struct items *out)
{
    if (sep && sep->n == 0) return tmpl_fail(r, "empty separator");
    const bool left = from == SIDE_LEFT;
    bool ok = sep ? (left ? split_left : split_right)(r, t, sep, most, out)
                  : (left ? split_space_left : split_space_right)(r, t, most, out);
    for (size_t i = 0; ok && !left && i < out->n / 2; i++) { /* found from the right, listed from the left */
        const struct tmpl_value v = out->v[i];
        out->v[i] = out->v[out->n - 1 - i];
        out->v[out->n - 1 - i] = v;
    }
    return ok;
}

bool tmpl_string_lines(struct run *r, struct text *t, bool keep_ends, struct items *out)
{
    size_t from = 0;
    for (size_t at = 0; at < t->n;) {
        const size_t end = at;
        uint32_t cp;
        at += (size_t)utf8_get(t->p + at, t->p + t->n, &cp);
        if (!tmpl_is_line_end(cp)) continue;
        if (cp == '\r' && at < t->n && t->p[at] == '\n') at++;
        if (!push_piece(r, t, from, keep_ends ? at : end, out)) return false;
        from = at;
    }
    if (from < t->n && !push_piece(r, t, from, t->n, out)) return false;
    return tmpl_scan_cost(r, t->n);
}
