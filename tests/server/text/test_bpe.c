/* Laws of the merges: long pieces and short ones give what trying every pair gives, and the steps of a piece
 * grow as it does. */
#include "tests/base/cm.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/text/bpe.h"

enum { LETTERS = 4, MERGES_MOST = 60 };

/* A vocabulary by rule: texts of letters a, b, c, d. */
struct vocab {
    struct bpe *bpe;
    char text[LETTERS + MERGES_MOST][64];
    int32_t left[MERGES_MOST], right[MERGES_MOST], to[MERGES_MOST];
    int n_text, n_merge;
};

static uint64_t random_state;
static uint32_t below(uint32_t n)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) % n);
}

static int32_t text_id(struct vocab *v, const char *text)
{
    for (int i = 0; i < v->n_text; i++)
        if (strcmp(v->text[i], text) == 0) return i;
    snprintf(v->text[v->n_text], sizeof v->text[0], "%s", text);
    return v->n_text++;
}

static void vocab_open(struct vocab *v, const struct vocab *from)
{
    *v = *from;
    v->bpe = bpe_new((size_t)v->n_merge);
    assert_non_null(v->bpe);
    for (int i = 0; i < LETTERS; i++) bpe_set_byte(v->bpe, (uint8_t)('a' + i), i);
    for (int r = 0; r < v->n_merge; r++)
        bpe_set_merge(v->bpe, (uint32_t)r, v->left[r], v->right[r], v->to[r]);
}

static void letters(struct vocab *v)
{
    *v = (struct vocab){0};
    for (int i = 0; i < LETTERS; i++) text_id(v, (const char[]){(char)('a' + i), '\0'});
}

static void add(struct vocab *v, int32_t left, int32_t right)
{
    char both[128];
    snprintf(both, sizeof both, "%s%s", v->text[left], v->text[right]);
    if (strlen(both) >= sizeof v->text[0]) return;
    for (int r = 0; r < v->n_merge; r++)
        if (v->left[r] == left && v->right[r] == right) return;
    v->left[v->n_merge] = left;
    v->right[v->n_merge] = right;
    v->to[v->n_merge++] = text_id(v, both);
}

/* Merges in any order: parts of a merge may be made by later ones, and one text in several ways. */
static void draw(struct vocab *v)
{
    struct vocab d;
    letters(&d);
    const uint32_t n = 4 + below(MERGES_MOST - 4);
    for (uint32_t i = 0; i < n; i++)
        add(&d, (int32_t)below((uint32_t)d.n_text), (int32_t)below((uint32_t)d.n_text));
    for (int i = d.n_merge - 1; i > 0 && below(2); i--) { /* a later one may rank first */
        const int k = (int)below((uint32_t)i + 1);
        const int32_t l = d.left[i], r = d.right[i], t = d.to[i];
        d.left[i] = d.left[k], d.right[i] = d.right[k], d.to[i] = d.to[k];
        d.left[k] = l, d.right[k] = r, d.to[k] = t;
    }
    vocab_open(v, &d);
}

/* By the definition: again and again the first of all pairs. */
static size_t merge_plainly(const struct vocab *v, int32_t *id, size_t n)
{
    for (;;) {
        int best = v->n_merge;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int r = 0; r < best; r++)
                if (v->left[r] == id[i] && v->right[r] == id[i + 1]) best = r, at = i;
        if (best == v->n_merge) return n;
        id[at] = v->to[best];
        memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof *id);
        n--;
    }
}

static void expect_plain_merges(const struct vocab *v, struct bpe_scratch *s, const char *text, size_t n)
{
    struct token_vec out = {0};
    int32_t *want = calloc(n, sizeof *want);
    for (size_t i = 0; i < n; i++) want[i] = text[i] - 'a';
    const size_t n_want = merge_plainly(v, want, n);
    assert_true(bpe_encode(v->bpe, s, text, n, &out));
    assert_int_equal(out.n, n_want);
    assert_memory_equal(out.id, want, n_want * sizeof *want);
    token_vec_fini(&out);
    free(want);
}

static void every_length_gives_what_the_definition_gives(void **state)
{
    (void)state;
    for (random_state = 1; random_state < 1 + 60; random_state++) {
        const uint64_t seed = random_state;
        struct vocab v;
        struct bpe_scratch s = {0};
        draw(&v);
        for (int k = 0; k < 8; k++) {
            char text[1400];
            const size_t n = k < 4 ? 2 + below(500) : 513 + below(800);
            const uint32_t unit = 1 + below(12),
                           mess = below(3) ? 40 : 3; /* a unit repeated, now and then disturbed */
            for (size_t i = 0; i < n; i++)
                text[i] =
                    (char)('a' + (i < unit || below(mess) == 0 ? (int)below(LETTERS) : text[i - unit] - 'a'));
            expect_plain_merges(&v, &s, text, n);
        }
        bpe_scratch_fini(&s);
        bpe_free(v.bpe);
        random_state = seed;
    }
}

/* ---- steps ---- */

static uint64_t steps_of(const struct vocab *v, const char *unit, size_t n)
{
    struct bpe_scratch s = {0};
    struct token_vec out = {0};
    char *text = malloc(n);
    const size_t k = strlen(unit);
    for (size_t i = 0; i < n; i++) text[i] = unit[i % k];
    assert_true(bpe_encode(v->bpe, &s, text, n, &out));
    const uint64_t steps = s.queue.steps;
    token_vec_fini(&out);
    bpe_scratch_fini(&s);
    free(text);
    return steps;
}

static void steps_grow_as_the_piece(void **state)
{
    (void)state;
    static const char *const unit[] = {"a",        "ab",   "ba",       "aab",     "abc",
                                       "aaaaaaab", "abcd", "aabbccdd", "abababac"};
    struct vocab d, v[6];
    letters(&d); /* runs that double, as spaces do */
    for (int32_t i = 0, last = 0; i < 5; i++, last = d.to[d.n_merge - 1]) add(&d, last, last);
    vocab_open(&v[0], &d);
    letters(&d); /* runs that grow by one, longest first, so that lower ranks come up all the time */
    for (int32_t i = 0, last = 0; i < 30; i++, last = d.to[d.n_merge - 1]) add(&d, last, 0);
    for (int i = 0; i < d.n_merge / 2; i++) {
        const int k = d.n_merge - 1 - i;
        const int32_t l = d.left[i], r = d.right[i], t = d.to[i];
        d.left[i] = d.left[k], d.right[i] = d.right[k], d.to[i] = d.to[k];
        d.left[k] = l, d.right[k] = r, d.to[k] = t;
    }
    vocab_open(&v[1], &d);
    random_state = 7;
    for (int i = 2; i < 6; i++) draw(&v[i]);
    for (int i = 0; i < 6; i++) {
        for (size_t u = 0; u < sizeof unit / sizeof unit[0]; u++) {
            const double small = (double)steps_of(&v[i], unit[u], 1u << 14) / (1u << 14);
            const double large = (double)steps_of(&v[i], unit[u], 1u << 20) / (1u << 20);
            if (large > 1.05 * small + 0.1)
                fail_msg("vocabulary %d, \"%s\": %.2f steps a byte, then %.2f", i, unit[u], small, large);
            if (large > 8) fail_msg("vocabulary %d, \"%s\": %.2f steps a byte", i, unit[u], large);
        }
        bpe_free(v[i].bpe);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_gives_what_the_definition_gives),
        cmocka_unit_test(steps_grow_as_the_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
