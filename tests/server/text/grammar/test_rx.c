/* Regular expressions: the automata against definitions that are too simple to be wrong, and against PCRE2.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/text/grammar/ecma.h"
#include "server/text/grammar/number.h"
#include "server/text/grammar/rx.h"

static uint64_t seed = 88172645463325252u;
static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 33) % n);
}

struct fix {
    struct pool pool;
    struct rx x;
};

static void begin(struct fix *f)
{
    f->pool = (struct pool){.bytes_max = 64 << 20, .steps_max = UINT64_MAX};
    assert_true(rx_init(&f->x, &f->pool));
}

static void end(struct fix *f) { rx_fini(&f->x); }

/* --- a naive matcher: the set of all places where a match from `at` may end */

enum { LETTERS = 3, LONG = 6 };
enum ast_kind { AST_LETTER, AST_EPS, AST_CAT, AST_ALT, AST_AND, AST_NOT, AST_REP };
struct ast {
    enum ast_kind kind;
    int a, b; /* children; letter; times */
    int min, max;
};
static struct ast ast[64];
static int n_ast;

static int grow(int depth)
{
    int id = n_ast++, kind = depth == 0 ? (int)pick(2) : (int)pick(7);
    ast[id] = (struct ast){.kind = (enum ast_kind)kind};
    if (kind == AST_LETTER) ast[id].a = (int)pick(LETTERS);
    if (kind >= AST_CAT) ast[id].a = grow(depth - 1);
    if (kind == AST_CAT || kind == AST_ALT || kind == AST_AND) ast[id].b = grow(depth - 1);
    if (kind == AST_REP) {
        ast[id].min = (int)pick(3);
        ast[id].max = pick(3) ? ast[id].min + (int)pick(3) : -1;
    }
    return id;
}

static uint32_t ends(int id, const char *s, int n, int at)
{
    const struct ast *t = &ast[id];
    uint32_t out = 0, a, b;
    switch (t->kind) {
    case AST_LETTER:
        return at < n && s[at] == 'a' + t->a ? 1u << (at + 1) : 0;
    case AST_EPS:
        return 1u << at;
    case AST_CAT:
        a = ends(t->a, s, n, at);
        for (int i = at; i <= n; i++)
            if (a >> i & 1) out |= ends(t->b, s, n, i);
        return out;
    case AST_ALT:
        return ends(t->a, s, n, at) | ends(t->b, s, n, at);
    case AST_AND:
        return ends(t->a, s, n, at) & ends(t->b, s, n, at);
    case AST_NOT:
        return ((2u << n) - 1) & ~((1u << at) - 1) & ~ends(t->a, s, n, at);
    default:
        a = 1u << at;
        out = t->min == 0 ? a : 0;
        for (int k = 1; k <= (t->max < 0 ? t->min + n + 1 : t->max); k++) {
            b = 0;
            for (int i = at; i <= n; i++)
                if (a >> i & 1) b |= ends(t->a, s, n, i);
            a = b;
            if (k >= t->min) out |= a;
        }
        return out;
    }
}

static uint32_t build(struct rx *x, int id)
{
    const struct ast *t = &ast[id];
    switch (t->kind) {
    case AST_LETTER:
        return rx_byte(x, (uint8_t)('a' + t->a));
    case AST_EPS:
        return RX_EPS;
    case AST_CAT:
        return rx_cat(x, build(x, t->a), build(x, t->b));
    case AST_ALT:
        return rx_alt(x, build(x, t->a), build(x, t->b));
    case AST_AND:
        return rx_and(x, build(x, t->a), build(x, t->b));
    case AST_NOT:
        return rx_not(x, build(x, t->a));
    default:
        return rx_rep(x, build(x, t->a), (uint32_t)t->min, t->max < 0 ? RX_MORE : (uint32_t)t->max);
    }
}

static void check_against_definition(struct rx *x, int id, uint32_t r)
{
    char s[LONG + 1];
    for (int n = 0; n <= LONG; n++) {
        int all = 1;
        for (int i = 0; i < n; i++) all *= LETTERS;
        for (int k = 0; k < all; k++) {
            for (int i = 0, v = k; i < n; i++, v /= LETTERS) s[i] = (char)('a' + v % LETTERS);
            bool want = ends(id, s, n, 0) >> n & 1;
            assert_int_equal(rx_match(x, r, s, (size_t)n), want);
            uint32_t at = r; /* what is in the language is let through byte by byte */
            for (int i = 0; i < n && want; i++)
                assert_int_not_equal(at = rx_step(x, at, (uint8_t)s[i]), RX_EMPTY);
        }
    }
}

static void automata_agree_with_the_definition(void **state)
{
    (void)state;
    for (int round = 0; round < 1500; round++) {
        struct fix f;
        begin(&f);
        n_ast = 0;
        int id = grow(4);
        uint32_t r = build(&f.x, id);
        check_against_definition(&f.x, id, r);
        end(&f);
    }
}

/* A state that rx_step keeps has a way to the end, however it was made. */
static bool reaches_end(struct rx *x, uint32_t r)
{
    uint32_t *todo = malloc(100000 * sizeof *todo);
    size_t n = 0, i = 0;
    bool found = false;
    todo[n++] = r;
    for (; i < n && !found; i++) {
        found = rx_nullable(x, todo[i]);
        for (unsigned b = 'a'; b < 'a' + LETTERS && n < 99990; b++) {
            const struct rx_state *s = rx_state(x, todo[i]);
            uint32_t to = x->succ[s->next + x->part[s->part]->cls[b]];
            size_t k = 0;
            while (k < n && todo[k] != to) k++;
            if (k == n && to != RX_EMPTY) todo[n++] = to;
        }
        const struct rx_state *s = rx_state(x, todo[i]);
        uint32_t other =
            x->succ[s->next + x->part[s->part]->cls['z']]; /* complements have other letters too */
        if (other != RX_EMPTY && n < 99990) {
            size_t k = 0;
            while (k < n && todo[k] != other) k++;
            if (k == n) todo[n++] = other;
        }
    }
    free(todo);
    return found;
}

static void what_is_kept_can_be_finished_and_what_is_dropped_cannot(void **state)
{
    (void)state;
    for (int round = 0; round < 800; round++) {
        struct fix f;
        begin(&f);
        n_ast = 0;
        uint32_t r = build(&f.x, grow(4));
        assert_int_equal(r != RX_EMPTY && rx_live(&f.x, r), r != RX_EMPTY && reaches_end(&f.x, r));
        for (int i = 0; i < 6 && r != RX_EMPTY; i++) {
            unsigned b = 'a' + pick(LETTERS);
            const struct rx_state *s = rx_state(&f.x, r);
            uint32_t raw = f.x.succ[s->next + f.x.part[s->part]->cls[b]], kept = rx_step(&f.x, r, (uint8_t)b);
            assert_int_equal(kept != RX_EMPTY, raw != RX_EMPTY && reaches_end(&f.x, raw));
            r = kept;
        }
        end(&f);
    }
}

static void many_texts_are_each_text_and_no_other(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        struct fix f;
        char text[40][4];
        struct rx_lit lit[40];
        size_t n = 1 + pick(40);
        begin(&f);
        for (size_t i = 0; i < n; i++) {
            lit[i] = (struct rx_lit){text[i], pick(5)};
            for (size_t k = 0; k < lit[i].n; k++) text[i][k] = (char)('a' + pick(2));
        }
        uint32_t r = rx_lits(&f.x, lit, n);
        for (unsigned v = 0; v < 1u << 5; v++)
            for (size_t len = 0; len <= 5; len++) {
                char s[5];
                bool in = false;
                for (size_t k = 0; k < len; k++) s[k] = (char)('a' + (v >> k & 1));
                for (size_t i = 0; i < n; i++) in = in || (lit[i].n == len && memcmp(lit[i].p, s, len) == 0);
                assert_int_equal(rx_match(&f.x, r, s, len), in);
            }
        end(&f);
    }
}

/* --- patterns */

static const char *const patterns[] = {
    "a",
    "^a",
    "a$",
    "^a$",
    "^(a|b)*c$",
    "a.c",
    "^[^ab]+$",
    "\\d+",
    "^\\d{2,4}$",
    "^\\w+@\\w+\\.com$",
    "^(ab|cd)?$",
    "^$",
    "",
    "(^a|b)c",
    "a(b$|c)",
    "^a{0,3}b{2,}$",
    "^(?:x(?:y|z))+$",
    "[\\d\\-a]",
    "[a-c-e]",
    "\\u0061\\x62",
    "^\\S+\\s\\S+$",
    "^(?!ab)[a-c]+$",
    "^(?=.*a)(?=.*b)[a-c]+$",
    "^(?!.*bb).*$",
    "a|^b$|c",
    "[]",
    "[^]",
    "\\p{L}",
    "^\\p{Lu}\\p{Ll}*$",
    "é",
    "^[à-ü]+$",
    "^.$",
    "^.{2}$",
    "\\^",
    "a{,2}",
    "x{",
    "^(a*)*$",
    "^(|a)+b$",
    "^[A-Z]{2}\\d{3}$",
    "\\.",
    "[.]",
    "^[\\w.+-]+$",
    "\\t",
    "\"",
    "\\\\",
    "^(a|ab)(c|bcd)$",
    "^((a)|(b))+$",
    "^-?(0|[1-9]\\d*)(\\.\\d+)?$",
};
static const char *const pieces[] = {"a",    "b", "c",  "ab", "0",  "42", ".",  "-", "@",
                                     ".com", " ", "\n", "\t", "\"", "\\", "é",  "Ü", "€",
                                     "😀",    "x", "y",  "z",  "AB", "^",  "cd", "{", "_"};

static int pcre_matches(const char *pattern, const char *s, size_t n)
{
    int err;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_ALT_BSUX | PCRE2_ALLOW_EMPTY_CLASS |
                                       PCRE2_MATCH_UNSET_BACKREF | PCRE2_DOLLAR_ENDONLY,
                                   &err, &at, NULL);
    assert_non_null(re);
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(re, NULL);
    int rc = pcre2_match(re, (PCRE2_SPTR)s, n, 0, 0, md, NULL);
    pcre2_match_data_free(md);
    pcre2_code_free(re);
    return rc >= 0;
}

static void patterns_find_what_pcre_finds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct fix f;
        uint32_t raw, json;
        const char *why;
        size_t at;
        begin(&f);
        assert_true(
            ecma_compile(&f.x, CHARS_RAW, ECMA_SEARCH, patterns[i], strlen(patterns[i]), &raw, &why, &at));
        assert_true(
            ecma_compile(&f.x, CHARS_JSON, ECMA_SEARCH, patterns[i], strlen(patterns[i]), &json, &why, &at));
        for (int round = 0; round < 200; round++) {
            char s[128] = "", spelled[6 * sizeof s];
            size_t n = pick(6);
            for (size_t k = 0; k < n; k++) strcat(s, pieces[pick(sizeof pieces / sizeof *pieces)]);
            n = strlen(s);
            int want = pcre_matches(patterns[i], s, n);
            if (rx_match(&f.x, raw, s, n) != want)
                fail_msg("pattern %s text %s: not as pcre2 has it (%d)", patterns[i], s, want);
            size_t m = chars_spell(s, n, spelled);
            assert_int_equal(rx_match(&f.x, json, spelled, m), want);
        }
        assert_int_equal(f.pool.fail, OK);
        end(&f);
    }
}

static void what_a_pattern_cannot_mean_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"(",        ")",     "a)",      "[a",     "\\",          "(?<=a)b",
                                      "(?<!a)b",  "\\1",   "(a)\\1",  "\\bfoo", "a**b\\k<n>",  "*a",
                                      "a|*",      "[b-a]", "a{3,2}",  "\\q",    "\\u{110000}", "\\p{Klingon}",
                                      "(a^b|c)d", "(a$)b", "a(?=b)*", "(?i)a",  "\\xg0",       "(x(?!y)z)w"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fix f;
        uint32_t r;
        const char *why = NULL;
        size_t at;
        begin(&f);
        if (ecma_compile(&f.x, CHARS_RAW, ECMA_SEARCH, bad[i], strlen(bad[i]), &r, &why, &at))
            fail_msg("%s was taken", bad[i]);
        assert_non_null(why);
        assert_true(at <= strlen(bad[i]));
        end(&f);
    }
}

static void hostile_patterns_end_at_a_limit(void **state)
{
    (void)state;
    static const char *const unit[] = {"(",      "(a",        "a{1000}", "(a?){50}",
                                       "[^a]*a", "(a|b|ab)*", "(?=a)",   "a|"};
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        struct fix f;
        char *text = malloc(40001);
        uint32_t r;
        const char *why;
        size_t at, n = 0;
        begin(&f);
        f.pool.steps_max = 2000000;
        while (n + strlen(unit[i]) < 40000) n += (size_t)sprintf(text + n, "%s", unit[i]);
        if (ecma_compile(&f.x, CHARS_JSON, ECMA_SEARCH, text, n, &r, &why, &at) && f.pool.fail == OK)
            for (int k = 0; k < 300 && r != RX_EMPTY; k++) r = rx_step(&f.x, r, (uint8_t)('a' + pick(2)));
        assert_true(f.pool.fail == OK || f.pool.fail == ERR_UNSUPPORTED);
        assert_true(f.pool.bytes <= f.pool.bytes_max);
        free(text);
        end(&f);
    }
}

/* --- numbers: sets of thousandths, decided by whole numbers */

static int spell_number(long v, char *out) /* v thousandths, as short as it can be or with .0 */
{
    unsigned long m = (unsigned long)(v < 0 ? -v : v);
    int n = sprintf(out, "%s%lu.%03lu", v < 0 ? "-" : "", m / 1000, m % 1000), zeros = (int)pick(2);
    while (out[n - 1] == '0' && out[n - 2] != '.') n--;
    if (out[n - 1] == '0' && zeros) n -= 2;
    out[n] = '\0';
    return n;
}

static bool is_in(struct rx *x, struct number_set s, const char *p, int n)
{
    bool in = rx_match(x, s.in, p, (size_t)n), out = rx_match(x, s.out, p, (size_t)n);
    assert_true(in != out); /* every plain number is decided */
    return in;
}

static void number_sets_hold_the_numbers_they_name(void **state)
{
    (void)state;
    for (int round = 0; round < 1500; round++) {
        struct fix f;
        char b[32], t[32];
        struct decimal d;
        long bound = (long)pick(1u << pick(20)) * (pick(2) ? 1 : -1), step = 1 + (long)pick(1u << pick(14));
        begin(&f);
        assert_true(decimal_read(&d, b, (size_t)spell_number(bound, b)));
        struct number_set above = number_above(&f.x, &d, false), from = number_above(&f.x, &d, true),
                          equal = number_equal(&f.x, &d), whole = number_integer(&f.x), multiple;
        int n = spell_number(step, b);
        assert_true(decimal_read(&d, b, (size_t)n));
        assert_true(number_multiple(&f.x, &d, &multiple));
        for (int k = 0; k < 20; k++) {
            long v = pick(3) == 0   ? bound + (long)pick(5) - 2
                     : pick(3) == 0 ? step * ((long)pick(9) - 4)
                                    : (long)pick(1u << pick(21)) * (pick(2) ? 1 : -1);
            n = spell_number(v, t);
            assert_int_equal(is_in(&f.x, above, t, n), v > bound);
            assert_int_equal(is_in(&f.x, from, t, n), v >= bound);
            assert_int_equal(is_in(&f.x, equal, t, n), v == bound);
            assert_int_equal(is_in(&f.x, whole, t, n), v % 1000 == 0);
            assert_int_equal(is_in(&f.x, multiple, t, n), v % step == 0);
        }
        end(&f);
    }
}

/* Who writes an integer may not lose the way in zeros behind it. */
static void no_set_but_that_of_all_numbers_has_zeros_at_the_end(void **state)
{
    (void)state;
    struct fix f;
    struct decimal d;
    static const char *const text[] = {"3", "3.5", "-12", "0", "0.25"};
    begin(&f);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        char longer[16];
        assert_true(decimal_read(&d, text[i], strlen(text[i])));
        const struct number_set equal = number_equal(&f.x, &d), whole = number_integer(&f.x);
        int n = sprintf(longer, "%s%s", text[i], strchr(text[i], '.') ? "0" : ".00");
        assert_false(rx_match(&f.x, equal.in, longer, (size_t)n));
        assert_false(rx_match(&f.x, whole.in, longer, (size_t)n));
        assert_true(rx_match(&f.x, number_any(&f.x).in, longer, (size_t)n));
    }
    end(&f);
}

static void numbers_far_from_one_compare_by_their_value(void **state)
{
    (void)state;
    for (int round = 0; round < 1500; round++) {
        struct fix f;
        struct decimal d;
        char b[40], t[40];
        begin(&f);
        double bound =
            ((double)pick(9000) + 1000) / 1000 * pow(10, (double)pick(80) - 40) * (pick(2) ? 1 : -1);
        sprintf(b, "%.17g", bound);
        bound = strtod(b, NULL);
        assert_true(decimal_read(&d, b, strlen(b)));
        struct number_set above = number_above(&f.x, &d, false), equal = number_equal(&f.x, &d);
        for (int k = 0; k < 20; k++) {
            int e = pick(2) ? 16 + (int)pick(40) : -5 - (int)pick(40);
            double v = pick(4) == 0 && (fabs(bound) >= 1e16 || fabs(bound) < 9e-6)
                           ? bound
                           : strtod((sprintf(t, "%u.%03ue%+03d", 1 + pick(9), pick(1000), e), t), NULL) *
                                 (pick(2) ? 1 : -1);
            int n = sprintf(t, "%.16e", v);
            if (strtod(t, NULL) != v) continue;
            /* the bound's digits are those of its shortest text, so equal doubles have equal texts of 17
             * digits only when printed alike */
            char same[40];
            sprintf(same, "%.16e", bound);
            if (v == bound && strtod(b, NULL) == bound && strcmp(same, t) == 0) {
                struct decimal full;
                assert_true(decimal_read(&full, t, (size_t)n));
                if (full.n != d.n || memcmp(full.digit, d.digit, (size_t)d.n) != 0) continue;
            }
            assert_int_equal(is_in(&f.x, above, t, n), v > bound);
            assert_int_equal(is_in(&f.x, equal, t, n), v == bound);
        }
        end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(automata_agree_with_the_definition),
        cmocka_unit_test(what_is_kept_can_be_finished_and_what_is_dropped_cannot),
        cmocka_unit_test(many_texts_are_each_text_and_no_other),
        cmocka_unit_test(patterns_find_what_pcre_finds),
        cmocka_unit_test(what_a_pattern_cannot_mean_is_refused),
        cmocka_unit_test(hostile_patterns_end_at_a_limit),
        cmocka_unit_test(number_sets_hold_the_numbers_they_name),
        cmocka_unit_test(no_set_but_that_of_all_numbers_has_zeros_at_the_end),
        cmocka_unit_test(numbers_far_from_one_compare_by_their_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
