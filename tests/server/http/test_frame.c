/* http_frame: where requests begin and end. A stream passes as far, and is refused for the same reason,
 * however it is cut; what is held meanwhile is bounded. */
#include "tests/base/cm.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/http/frame.h"

static const struct guard_bound bound = {.n_byte = 200, .n_field = 10};

#define GET           "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(n, body) "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: " n "\r\n\r\n" body
#define CHUNKED       "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct {
    const char *text;
    int n_request;
    enum err e;
    const char *stub;
} stream[] = {
    {GET GET GET, 3, OK, NULL},
    {POST("0", "") POST("5", "hello") GET, 3, OK, NULL},
    {POST("28", GET) GET, 2, OK, NULL},
    {CHUNKED "5\r\nhello\r\n1c;a=b\r\n" GET "\r\n0\r\nX: y\r\n\r\n" GET, 2, OK, NULL},
    {CHUNKED "0\r\n\r\n\r\n" GET, 2, OK, NULL},
    {POST("5", "hello") POST("+5", "hello"), 2, ERR_INVALID_REQUEST, "REFUSED / HTTP/1.1\r\n\r\n"},
    {GET "GET /x HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 2, ERR_INVALID_REQUEST,
     "REFUSED / HTTP/1.1\r\n\r\n"},
    {GET "GET /x HTTP/3.0\r\n\r\n", 2, ERR_HTTP_VERSION, "REFUSED / HTTP/1.1\r\n\r\n"},
    {GET "GET /x?a&b&c&d&e&f&g&h&i&j&k HTTP/1.1\r\nHost: a\r\n\r\n", 2, ERR_HEADER_SIZE,
     "REFUSED / HTTP/1.1\r\n\r\n"},
    {GET POST("99999999999999999999", ""), 2, ERR_TOO_LARGE, "REFUSED / HTTP/1.1\r\n\r\n"},
    {GET CHUNKED "5\r\nhello\r\nx\r\n", 2, ERR_INVALID_REQUEST, "0\r\n\r\n"},
    {GET CHUNKED "5\r\nhello\r\nffffffffffffffffff\r\n", 2, ERR_TOO_LARGE, "0\r\n\r\n"},
    {GET CHUNKED "5\r\nhelloo\r\n0\r\n\r\n", 2, ERR_INVALID_REQUEST, "\r\n0\r\n\r\n"},
    {GET CHUNKED "0\r\nContent-Length: 3\r\n\r\n", 2, ERR_INVALID_REQUEST, "\r\n"},
    {GET CHUNKED "0\r\na:\r\nx-api-key: k\r\n\r\n", 2, ERR_INVALID_REQUEST, "\r\n"},
    {CHUNKED "0\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:\r\nh:\r\n\r\n" GET, 2, OK, NULL},
    {CHUNKED "0\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:\r\nh:\r\ni:\r\n\r\n" GET, 1, ERR_HEADER_SIZE,
     "\r\n"},
    {CHUNKED "0\r\na:\r\nb:\r\n\r\n" CHUNKED "0\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\n\r\n" GET, 3, OK,
     NULL},
};

struct result {
    size_t pass, held_max;
    enum err e;
    struct frame f;
};

/* Gives the bytes in two parts, or one by one (cut < 0), as a socket would: what did not pass comes again. */
static struct result feed(const char *text, size_t n, long cut)
{
    struct result r = {.e = OK};
    struct err_note note;
    for (size_t have = cut < 0 ? 1 : (size_t)cut; have <= n && !r.e; have = cut < 0     ? have + 1
                                                                            : have == n ? n + 1
                                                                                        : n) {
        size_t left = have - r.pass;
        char *copy = malloc(left + 1); /* a sanitizer sees a read behind its end */
        memcpy(copy, text + r.pass, left);
        size_t k = frame_pass(&r.f, copy, left, &bound, &r.e, &note);
        assert_true(k <= left);
        r.pass += k;
        r.held_max = left - k > r.held_max ? left - k : r.held_max;
        free(copy);
    }
    return r;
}

static void a_stream_passes_the_same_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stream / sizeof *stream; i++) {
        size_t n = strlen(stream[i].text);
        struct result whole = feed(stream[i].text, n, (long)n);
        assert_int_equal(whole.f.n_request, stream[i].n_request);
        assert_int_equal(whole.e, stream[i].e);
        assert_true(whole.e || whole.pass == n);
        if (whole.e) assert_string_equal(whole.f.stub, stream[i].stub);
        for (long cut = -1; cut < (long)n; cut++) {
            struct result r = feed(stream[i].text, n, cut);
            assert_int_equal(r.pass, whole.pass);
            assert_int_equal(r.e, whole.e);
            assert_int_equal(r.f.n_request, whole.f.n_request);
            assert_true(r.f.stub == whole.f.stub);
            assert_true(r.e || r.held_max < frame_held_max(&bound));
        }
    }
}

/* Whatever stands there without an end is refused before more than the bound is held. */
static void what_has_no_end_is_refused_at_the_bound(void **state)
{
    (void)state;
    static const char *const open[] = {"GET /", "GET / HTTP/1.1\r\nHost: ", CHUNKED "5;",
                                       CHUNKED "0\r\nX: ", CHUNKED "0\r\nX: y\r\nZ: "};
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
        char text[1024];
        memset(text, 'a', sizeof text);
        memcpy(text, open[i], strlen(open[i]));
        struct result r = feed(text, sizeof text, -1);
        assert_true(r.e == ERR_HEADER_SIZE || r.e == ERR_INVALID_REQUEST);
        assert_true(r.held_max <= frame_held_max(&bound));
    }
}

/* RFC 9110, 6.5.1, and keys: in any case of letters. What merely looks alike passes. */
static void a_trailer_says_nothing_that_belongs_before_the_body(void **state)
{
    (void)state;
    static const char *const name[] = {"Host",
                                       "Content-Length",
                                       "transfer-encoding",
                                       "Authorization",
                                       "X-API-Key",
                                       "api-key",
                                       "Cookie",
                                       "Set-Cookie",
                                       "Content-Type",
                                       "Content-Encoding",
                                       "Content-Range",
                                       "Trailer",
                                       "Expect",
                                       "Cache-Control",
                                       "Range",
                                       "TE",
                                       "If-Match",
                                       "If-None-Match",
                                       "Connection",
                                       "Keep-Alive",
                                       "Upgrade",
                                       "Proxy-Connection",
                                       "Origin",
                                       "Sec-Fetch-Site",
                                       "Max-Forwards",
                                       "Pragma",
                                       "X-Forwarded-For",
                                       "Forwarded",
                                       "Via",
                                       "X-Request-Id",
                                       "Proxy-Authorization"};
    static const char *const fine[] = {"X-T",           "Hos",      "Hostt", "Digest",
                                       "Server-Timing", "X-Apikey", "TEA",   "Iff"};
    char text[200];
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        snprintf(text, sizeof text, CHUNKED "0\r\n%s: x\r\n\r\n", name[i]);
        if (feed(text, strlen(text), -1).e != ERR_INVALID_REQUEST) fail_msg("%s passes", name[i]);
    }
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        snprintf(text, sizeof text, CHUNKED "0\r\n%s: x\r\n\r\n", fine[i]);
        if (feed(text, strlen(text), -1).e) fail_msg("%s is refused", fine[i]);
    }
}

/* After a refusal nothing passes, not even a good request. */
static void nothing_passes_behind_a_refusal(void **state)
{
    (void)state;
    struct frame f = {.at = FRAME_HEAD};
    struct err_note note;
    enum err e;
    assert_int_equal(frame_pass(&f, "\x01", 1, &bound, &e, &note), 0);
    assert_int_equal(e, ERR_INVALID_REQUEST);
    for (int i = 0; i < 3; i++) assert_int_equal(frame_pass(&f, GET, strlen(GET), &bound, &e, &note), 0);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(a_stream_passes_the_same_however_it_is_cut),
        cmocka_unit_test(what_has_no_end_is_refused_at_the_bound),
        cmocka_unit_test(a_trailer_says_nothing_that_belongs_before_the_body),
        cmocka_unit_test(nothing_passes_behind_a_refusal),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
