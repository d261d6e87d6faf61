/* stopper: nothing lost, nothing leaked, whatever the cuts between the parts. */
#include <stdio.h>
#include <string.h>

#include "server/text/stopper.h"
#include "tests/base/cm.h"

struct run {
    struct arena mem;
    struct stop_set set;
    struct stopper s;
    struct strbuf out;
};

static void run_open(struct run *r, const char *const *stop, size_t n, bool keep)
{
    struct json_str str[STOP_MOST];
    for (size_t i = 0; i < n; i++) str[i] = (struct json_str){.p = stop[i], .n = strlen(stop[i])};
    arena_init(&r->mem, 0);
    strbuf_init(&r->out);
    assert_true(stop_set_init(&r->set, &r->mem, &(struct json_strs){.v = str, .n = n}));
    stopper_init(&r->s, &r->set, keep);
}

static void run_close(struct run *r)
{
    strbuf_fini(&r->out);
    arena_fini(&r->mem);
}

/* Feeds text in parts of `part` bytes; true: stopped. */
static bool feed(struct run *r, const char *text, size_t part)
{
    for (size_t i = 0, n = strlen(text); i < n; i += part)
        if (stopper_feed(&r->s, text + i, n - i < part ? n - i : part, &r->out)) return true;
    stopper_end(&r->s, &r->out);
    return false;
}

static void same(const struct run *r, const char *want)
{
    assert_int_equal(r->out.len, strlen(want));
    assert_memory_equal(r->out.len ? r->out.data : "", want, r->out.len);
}

static const struct {
    const char *stop[STOP_MOST], *text, *want, *want_kept;
    bool stops;
} cases[] = {
    {.stop = {"END"}, .text = "abENDcd", .want = "ab", .want_kept = "abEND", .stops = true},
    {.stop = {"END"}, .text = "END", .want = "", .want_kept = "END", .stops = true},
    {.stop = {"END"}, .text = "abEN", .want = "abEN", .want_kept = "abEN"},
    {.stop = {"END"}, .text = "aEENEND", .want = "aEEN", .want_kept = "aEENEND", .stops = true},
    {.stop = {"aab"}, .text = "aaaab!", .want = "aa", .want_kept = "aaaab", .stops = true},
    {.stop = {"abac", "ba"},
     .text = "xaba",
     .want = "xa",
     .want_kept = "xaba",
     .stops = true}, /* ends first */
    {.stop = {"c", "abc"},
     .text = "xabc",
     .want = "x",
     .want_kept = "xabc",
     .stops = true}, /* longest of equal ends */
    {.stop = {"abcd", "bc"}, .text = "abcx", .want = "a", .want_kept = "abc", .stops = true},
    {.stop = {"abcd", "q"}, .text = "abcabcq", .want = "abcabc", .want_kept = "abcabcq", .stops = true},
    {.stop = {"\n\n"}, .text = "a\nb\n", .want = "a\nb\n", .want_kept = "a\nb\n"},
    {.stop = {"ünd"}, .text = "grünes ünd", .want = "grünes ", .want_kept = "grünes ünd", .stops = true},
    {.stop = {"aaa", "aa"}, .text = "baaa", .want = "b", .want_kept = "baa", .stops = true},
    {.text = "no stops at all", .want = "no stops at all", .want_kept = "no stops at all"},
};

static void any_cut_gives_the_same_text(void **st)
{
    (void)st;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (size_t part = 1; part < 9; part++)
            for (int keep = 0; keep < 2; keep++) {
                size_t n = 0;
                struct run r;
                while (n < STOP_MOST && cases[c].stop[n]) n++;
                run_open(&r, cases[c].stop, n, keep);
                assert_int_equal(feed(&r, cases[c].text, part), cases[c].stops);
                same(&r, keep ? cases[c].want_kept : cases[c].want);
                run_close(&r);
            }
}

/* What it should be, by trying every end and every string. */
static bool naive(const char *const *stop, size_t n, const char *text, char *want)
{
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t best = 0;
        for (size_t i = 0; i < n; i++) {
            size_t len = strlen(stop[i]);
            if (len <= end && !memcmp(text + end - len, stop[i], len) && len > best) best = len;
        }
        if (best) {
            snprintf(want, 64, "%.*s", (int)(end - best), text);
            return true;
        }
    }
    snprintf(want, 64, "%s", text);
    return false;
}

static void random_texts_agree_with_the_definition(void **st)
{
    (void)st;
    uint32_t x = 7;
    for (int round = 0; round < 20000; round++) {
        char text[32], s[STOP_MOST][6], want[64];
        const char *stop[STOP_MOST];
        x = x * 1664525u + 1013904223u;
        size_t n_stop = 1 + (x >> 20) % STOP_MOST, n_text = (x >> 24) % 30;
        for (size_t i = 0; i < n_text; i++)
            text[i] = (char)('a' + ((x = x * 1664525u + 1013904223u) >> 24) % 3);
        text[n_text] = '\0';
        for (size_t k = 0; k < n_stop; k++) {
            size_t len = 1 + ((x = x * 1664525u + 1013904223u) >> 24) % 5;
            for (size_t i = 0; i < len; i++)
                s[k][i] = (char)('a' + ((x = x * 1664525u + 1013904223u) >> 24) % 3);
            s[k][len] = '\0';
            stop[k] = s[k];
        }
        struct run r;
        run_open(&r, stop, n_stop, false);
        bool stops = naive(stop, n_stop, text, want);
        assert_int_equal(feed(&r, text, 1 + (x >> 28) % 4), stops);
        same(&r, want);
        run_close(&r);
    }
}

static void only_a_possible_stop_is_held_back(void **st)
{
    (void)st;
    struct run r;
    run_open(&r, (const char *const[]){"<end>"}, 1, false);
    assert_false(stopper_feed(&r.s, "plain", 5, &r.out));
    same(&r, "plain");
    assert_false(stopper_feed(&r.s, " <en", 4, &r.out));
    same(&r, "plain ");
    assert_false(stopper_feed(&r.s, "t", 1, &r.out));
    same(&r, "plain <ent");
    run_close(&r);
}

static void the_longest_strings_fit(void **st)
{
    (void)st;
    char long_stop[STOP_BYTES_MOST + 1];
    memset(long_stop, 'a', STOP_BYTES_MOST);
    long_stop[STOP_BYTES_MOST - 1] = 'b';
    long_stop[STOP_BYTES_MOST] = '\0';
    struct run r;
    run_open(&r, (const char *const[]){long_stop}, 1, false);
    for (int i = 0; i < 1000; i++) assert_false(stopper_feed(&r.s, "a", 1, &r.out));
    assert_int_equal(r.out.len, 1000 - (STOP_BYTES_MOST - 1));
    assert_true(stopper_feed(&r.s, "b", 1, &r.out));
    assert_int_equal(r.out.len, 1000 - (STOP_BYTES_MOST - 1));
    run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_gives_the_same_text),
        cmocka_unit_test(random_texts_agree_with_the_definition),
        cmocka_unit_test(only_a_possible_stop_is_held_back),
        cmocka_unit_test(the_longest_strings_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
