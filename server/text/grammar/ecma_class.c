/* ecma: classes and escapes of a pattern. */
#include <utf8proc.h>
#include <stdlib.h>

#include "server/text/grammar/ecma_internal.h"
#include "base/utf8.h"

enum { RANGES_FIRST = 32, RANGES_MOST = 8192 };
#define NO_CHAR UINT32_MAX

struct ranges {
    struct chars_range *v;
    size_t n, cap;
};

static void add(struct ecma_parser *p, struct ranges *r, uint32_t lo, uint32_t hi)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : RANGES_FIRST;
        struct chars_range *v = cap > RANGES_MOST ? NULL : arena_array(p->mem, cap, sizeof *v);
        if (!v) {
            ecma_bad(p, "a class has too many ranges");
            return;
        }
        if (r->n) memcpy(v, r->v, r->n * sizeof *v);
        r->v = v;
        r->cap = cap;
    }
    r->v[r->n++] = (struct chars_range){lo, hi};
}

static int compare_ranges(const void *a, const void *b)
{
    const struct chars_range *p = a, *q = b;
    return (p->lo > q->lo) - (p->lo < q->lo);
}

size_t ecma_normal(struct chars_range *r, size_t n)
{
    size_t w = 0;
    if (n > 1) qsort(r, n, sizeof *r, compare_ranges);
    for (size_t i = 0; i < n; i++) {
        if (w && r[i].lo <= r[w - 1].hi + 1)
            r[w - 1].hi = r[i].hi > r[w - 1].hi ? r[i].hi : r[w - 1].hi;
        else
            r[w++] = r[i];
    }
    return w;
}

static void add_inverse(struct ecma_parser *p, struct ranges *to, struct chars_range *r, size_t n)
{
    uint32_t lo = 0;
    n = ecma_normal(r, n);
    for (size_t i = 0; i < n; i++) {
        if (r[i].lo > lo) add(p, to, lo, r[i].lo - 1);
        lo = r[i].hi + 1;
    }
    if (lo <= CHARS_LAST) add(p, to, lo, CHARS_LAST);
}

uint32_t ecma_char(struct ecma_parser *p)
{
    int n = utf8_step((const uint8_t *)p->p, (size_t)(p->end - p->p));
    if (n <= 0) {
        ecma_bad(p, "not valid UTF-8");
        return 0;
    }
    uint32_t c = (unsigned char)p->p[0];
    if (n > 1) c &= 0x7fu >> n;
    for (int i = 1; i < n; i++) c = c << 6 | ((unsigned char)p->p[i] & 0x3f);
    p->p += n;
    return c;
}

/* --- \d \s \w and \p{...} */

static const struct chars_range digit[] = {{'0', '9'}};
static const struct chars_range word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct chars_range space[] = {
    {9, 13},          {32, 32},         {0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
    {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};

struct named_class {
    char name;
    const struct chars_range *r;
    size_t n;
};
static const struct named_class classes[] = {
    {'d', digit, 1}, {'w', word, 4}, {'s', space, sizeof space / sizeof *space}};

static bool add_named(struct ecma_parser *p, struct ranges *to, char name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        const struct named_class *c = &classes[i];
        struct chars_range copy[sizeof space / sizeof *space];
        memcpy(copy, c->r, c->n * sizeof *copy);
        if (name == c->name)
            for (size_t k = 0; k < c->n; k++) add(p, to, copy[k].lo, copy[k].hi);
        else if (name == c->name - 'a' + 'A')
            add_inverse(p, to, copy, c->n);
        else
            continue;
        return true;
    }
    return false;
}

struct category {
    const char *name, *full;
    uint32_t bits; /* of utf8proc_category_t */
};
#define CAT_BIT(c) (1u << UTF8PROC_CATEGORY_##c)
#define CATS_L     (CAT_BIT(LU) | CAT_BIT(LL) | CAT_BIT(LT) | CAT_BIT(LM) | CAT_BIT(LO))
#define CATS_M     (CAT_BIT(MN) | CAT_BIT(MC) | CAT_BIT(ME))
#define CATS_N     (CAT_BIT(ND) | CAT_BIT(NL) | CAT_BIT(NO))
#define CATS_P                                                                                               \
    (CAT_BIT(PC) | CAT_BIT(PD) | CAT_BIT(PS) | CAT_BIT(PE) | CAT_BIT(PI) | CAT_BIT(PF) | CAT_BIT(PO))
#define CATS_S (CAT_BIT(SM) | CAT_BIT(SC) | CAT_BIT(SK) | CAT_BIT(SO))
#define CATS_Z (CAT_BIT(ZS) | CAT_BIT(ZL) | CAT_BIT(ZP))
static const struct category categories[] = {
    {"L", "Letter", CATS_L},
    {"Lu", "Uppercase_Letter", CAT_BIT(LU)},
    {"Ll", "Lowercase_Letter", CAT_BIT(LL)},
    {"Lt", "Titlecase_Letter", CAT_BIT(LT)},
    {"Lm", "Modifier_Letter", CAT_BIT(LM)},
    {"Lo", "Other_Letter", CAT_BIT(LO)},
    {"M", "Mark", CATS_M},
    {"Mn", "Nonspacing_Mark", CAT_BIT(MN)},
    {"Mc", "Spacing_Mark", CAT_BIT(MC)},
    {"N", "Number", CATS_N},
    {"Nd", "digit", CAT_BIT(ND)},
    {"Nd", "Decimal_Number", CAT_BIT(ND)},
    {"Nl", "Letter_Number", CAT_BIT(NL)},
    {"No", "Other_Number", CAT_BIT(NO)},
    {"P", "Punctuation", CATS_P},
    {"Pd", "Dash_Punctuation", CAT_BIT(PD)},
    {"Po", "Other_Punctuation", CAT_BIT(PO)},
    {"S", "Symbol", CATS_S},
    {"Sc", "Currency_Symbol", CAT_BIT(SC)},
    {"Sm", "Math_Symbol", CAT_BIT(SM)},
    {"Z", "Separator", CATS_Z},
    {"Zs", "Space_Separator", CAT_BIT(ZS)},
    {"Cc", "Control", CAT_BIT(CC)},
};

static void add_category(struct ecma_parser *p, struct ranges *to, uint32_t bits, bool inverse)
{
    uint32_t from = NO_CHAR;
    for (uint32_t c = 0; c <= CHARS_LAST + 1; c++) {
        bool in = c <= CHARS_LAST && (bits >> utf8proc_category((utf8proc_int32_t)c) & 1) != inverse;
        if (in && from == NO_CHAR) from = c;
        if (in || from == NO_CHAR) continue;
        add(p, to, from, c - 1);
        from = NO_CHAR;
    }
}

/* Behind \p or \P. */
static void add_property(struct ecma_parser *p, struct ranges *to, bool inverse)
{
    const char *open = p->p, *close = open < p->end ? memchr(open, '}', (size_t)(p->end - open)) : NULL;
    if (!close || *open != '{') {
        ecma_bad(p, "\\p needs a property in braces");
        return;
    }
    const char *eq = memchr(open, '=', (size_t)(close - open)), *name = eq ? eq + 1 : open + 1;
    size_t n = (size_t)(close - name);
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++) {
        const struct category *c = &categories[i];
        if (!(strlen(c->name) == n && memcmp(c->name, name, n) == 0) &&
            !(strlen(c->full) == n && memcmp(c->full, name, n) == 0))
            continue;
        add_category(p, to, c->bits, inverse);
        p->p = close + 1;
        return;
    }
    ecma_bad(p, "this Unicode property is not supported; general categories are");
}

/* --- escapes */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static uint32_t take_hex(struct ecma_parser *p, int digits)
{
    uint32_t v = 0;
    for (int i = 0; i < digits; i++) {
        int d = p->p < p->end ? hex_value(*p->p) : -1;
        if (d < 0) {
            ecma_bad(p, "an escape needs more hexadecimal digits");
            return 0;
        }
        v = v * 16 + (uint32_t)d;
        p->p++;
    }
    return v;
}

static uint32_t take_unicode(struct ecma_parser *p)
{
    if (p->p < p->end && *p->p == '{') {
        uint32_t v = 0;
        for (p->p++; p->p < p->end && *p->p != '}' && v <= CHARS_LAST;)
            v = v * 16 + take_hex(p, 1), v = p->why ? CHARS_LAST + 1 : v;
        if (p->p >= p->end || v > CHARS_LAST) ecma_bad(p, "this is no code point");
        p->p++;
        return v;
    }
    uint32_t v = take_hex(p, 4);
    if (v >= 0xd800 && v <= 0xdbff && p->end - p->p >= 6 && p->p[0] == '\\' && p->p[1] == 'u') {
        p->p += 2;
        uint32_t low = take_hex(p, 4);
        if (low < 0xdc00 || low > 0xdfff) ecma_bad(p, "half a surrogate pair");
        return 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    }
    return v;
}

/* Behind a backslash: one character, or NO_CHAR when a class was added to `to`. */
static uint32_t take_escape(struct ecma_parser *p, struct ranges *to, bool in_class)
{
    static const char from[] = "tnvfr", into[] = "\t\n\v\f\r";
    if (p->p >= p->end) {
        ecma_bad(p, "ends behind a backslash");
        return 0;
    }
    if ((unsigned char)*p->p >= 0x80) return ecma_char(p);
    char c = *p->p++;
    const char *f = c ? strchr(from, c) : NULL;
    if (f) return (uint32_t)into[f - from];
    if (c == 'p' || c == 'P') {
        add_property(p, to, c == 'P');
        return NO_CHAR;
    }
    if (add_named(p, to, c)) return NO_CHAR;
    if (c == 'x') return take_hex(p, 2);
    if (c == 'u') return take_unicode(p);
    if (c == 'b' && in_class) return 8;
    if (c == 'c' && p->p < p->end) return (uint32_t)(*p->p++ & 31);
    if (c == '0' && (p->p >= p->end || *p->p < '0' || *p->p > '9')) return 0;
    if ((c >= '0' && c <= '9') || c == 'k')
        ecma_bad(p, "back references are not supported");
    else if (c == 'b' || c == 'B')
        ecma_bad(p, "word boundaries are not supported");
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        ecma_bad(p, "this escape is not known");
    return (uint32_t)c;
}

struct ecma_node *ecma_set(struct ecma_parser *p, const struct chars_range *r, size_t n)
{
    struct ecma_node *s = arena_alloc(p->mem, sizeof *s);
    if (!s || !(s->range = arena_array(p->mem, n ? n : 1, sizeof *r)))
        return ecma_bad(p, "takes too much memory");
    s->kind = ECMA_SET;
    if (n) memcpy(s->range, r, n * sizeof *r);
    s->n_range = ecma_normal(s->range, n);
    return s;
}

struct ecma_node *ecma_escape(struct ecma_parser *p)
{
    struct ranges r = {0};
    uint32_t c = take_escape(p, &r, false);
    if (p->why) return NULL;
    if (c != NO_CHAR) add(p, &r, c, c);
    return p->why ? NULL : ecma_set(p, r.v, r.n);
}

static uint32_t class_atom(struct ecma_parser *p, struct ranges *r)
{
    if (*p->p != '\\') return ecma_char(p);
    p->p++;
    return take_escape(p, r, true);
}

struct ecma_node *ecma_class(struct ecma_parser *p)
{
    struct ranges r = {0}, inverse = {0};
    bool not = p->p < p->end && *p->p == '^';
    if (not ) p->p++;
    while (p->p < p->end && *p->p != ']' && !p->why) {
        uint32_t lo = class_atom(p, &r), hi = lo;
        if (p->end - p->p >= 2 && p->p[0] == '-' && p->p[1] != ']') {
            p->p++;
            hi = class_atom(p, &r);
            if (lo == NO_CHAR || hi == NO_CHAR) { /* [\w-.]: the hyphen is itself */
                add(p, &r, '-', '-');
                if (lo != NO_CHAR) add(p, &r, lo, lo);
                lo = hi;
            } else if (lo > hi)
                ecma_bad(p, "a range runs backwards");
        }
        if (lo != NO_CHAR && !p->why) add(p, &r, lo, hi);
    }
    if (p->why) return NULL;
    if (p->p >= p->end) return ecma_bad(p, "a class is not closed");
    p->p++;
    if (not ) {
        add_inverse(p, &inverse, r.v, r.n);
        r = inverse;
    }
    return p->why ? NULL : ecma_set(p, r.v, r.n);
}
