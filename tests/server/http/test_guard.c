/* http_guard: the rules for header blocks, byte by byte. What whole requests get is in
 * tests/e2e/test_http.py. */
#include "tests/base/cm.h"

#include "server/http/guard.h"

enum { MAX = 4096 };
static const struct guard_bound bound = {.n_byte = MAX, .n_field = 20};

static enum err judge(const char *p, size_t n, struct guard *g)
{
    struct err_note note;
    *g = (struct guard){.at = 0};
    enum err e = guard_block(g, p, n, &bound, &note);
    return e ? e : guard_verdict(g, 1000, &note);
}

static const char good[] =
    "POST /x?y HTTP/1.1\r\nHost: a\r\nX-Word: caf\xe9 \t \r\nContent-Length: 12\r\nExpect: "
    "100-Continue\r\n\r\n{\"body\":1}";

/* Whole only at the empty line; no beginning of a good block is ever refused. */
static void a_good_block_passes_at_its_end_and_not_before(void **state)
{
    (void)state;
    size_t whole = (size_t)(strstr(good, "\r\n\r\n") - good) + 4;
    struct guard g;
    for (size_t n = 0; n < sizeof good - 1; n++)
        assert_int_equal(judge(good, n, &g), n < whole ? ERR_IO : OK);
    assert_int_equal(g.length, 12);
    assert_false(g.http10);
}

/* A block that is refused as a whole is refused at the same byte, and stays refused, however the bytes are
 * cut. */
static void a_refusal_comes_early_and_stays(void **state)
{
    (void)state;
    static const char bad[] = "GET /x HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n";
    struct guard g;
    bool refused = false;
    for (size_t n = 0; n < sizeof bad; n++) {
        enum err e = judge(bad, n, &g);
        assert_true(e == (refused ? ERR_INVALID_REQUEST : e));
        refused = refused || e == ERR_INVALID_REQUEST;
        assert_true(e != OK);
    }
    assert_true(refused);
}

/* All short beginnings of a few telling bytes, cut at every place. */
static void what_came_in_two_parts_is_judged_as_what_came_at_once(void **state)
{
    (void)state;
    enum { LONGEST = 6 };
    static const char byte[] = "\r\n G/f";
    const int n_byte = (int)sizeof byte - 1;
    struct err_note note;
    for (int n = 2, all = n_byte * n_byte; n <= LONGEST; n++, all *= n_byte)
        for (int k = 0; k < all; k++) {
            char text[LONGEST];
            for (int i = 0, rest = k; i < n; i++, rest /= n_byte) text[i] = byte[rest % n_byte];
            struct guard at_once = {.at = 0};
            const enum err want = guard_block(&at_once, text, (size_t)n, &bound, &note);
            for (int cut = 1; cut < n; cut++) {
                struct guard parts = {.at = 0};
                enum err e = guard_block(&parts, text, (size_t)cut, &bound, &note);
                if (e == ERR_IO) e = guard_block(&parts, text, (size_t)n, &bound, &note);
                assert_int_equal(e, want);
            }
        }
}

static void one_changed_byte_never_reads_as_two_requests(void **state)
{
    (void)state;
    char text[sizeof good];
    size_t whole = (size_t)(strstr(good, "\r\n\r\n") - good) + 4;
    struct guard g;
    for (size_t i = 0; i < whole; i++)
        for (int c = 0; c < 256; c++) {
            memcpy(text, good, sizeof good);
            text[i] = (char)c;
            if (judge(text, sizeof good - 1, &g) != OK) continue;
            assert_true(g.n_length <= 1 && g.n_coding <= 1 && !(g.n_length && g.n_coding) && g.n_host == 1);
            assert_true(c == (unsigned char)good[i] || (c != '\r' && c != '\n' && c != '\0'));
        }
}

static void too_many_bytes_without_an_end_are_refused(void **state)
{
    (void)state;
    static char text[MAX + 2];
    struct guard g;
    memset(text, 'a', sizeof text);
    memcpy(text, "GET /", 5);
    assert_int_equal(judge(text, MAX, &g), ERR_IO);
    assert_int_equal(judge(text, MAX + 1, &g), ERR_HEADER_SIZE);
}

static void escapes_are_decoded_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } row[] = {{"a%2fb", "a/b"}, {"%41%5A", "AZ"}, {"%25%32%35", "%25"}, {"", ""},     {"%", NULL},
               {"%4", NULL},     {"a%zz", NULL},   {"%00", NULL},        {"%0g", NULL}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char out[32];
        bool ok = guard_unescape(out, row[i].in, strlen(row[i].in));
        assert_int_equal(ok, row[i].out != NULL);
        if (ok) assert_string_equal(out, row[i].out);
    }
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(a_good_block_passes_at_its_end_and_not_before),
        cmocka_unit_test(a_refusal_comes_early_and_stays),
        cmocka_unit_test(what_came_in_two_parts_is_judged_as_what_came_at_once),
        cmocka_unit_test(one_changed_byte_never_reads_as_two_requests),
        cmocka_unit_test(too_many_bytes_without_an_end_are_refused),
        cmocka_unit_test(escapes_are_decoded_or_refused),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
