/* http_origin: whose web pages may call, header by header. */
#include "tests/base/cm.h"

#include <stdio.h>

#include "server/http/origin.h"

static const struct origin_rules local = {.host = true,
                                          .origin = true,
                                          .hosts = "llm.lan, Box.Example.",
                                          .pages = "http://app.lan:3000,https://Web.Lan"};

struct ask {
    const char *host, *origin, *site, *mode;
    bool page;
};

static enum err judge(const struct origin_rules *r, struct ask a)
{
    const char *const name[] = {"hOsT", "ORIGIN", "sec-fetch-site", "Sec-Fetch-Mode"};
    const char *const value[] = {a.host, a.origin, a.site, a.mode};
    struct origin_seen s = {.page = a.page};
    for (int i = 0; i < 4; i++)
        if (value[i]) origin_header(&s, name[i], strlen(name[i]), value[i], strlen(value[i]));
    struct err_note note;
    return origin_verdict(r, &s, &note);
}

static void an_address_or_a_loopback_name_or_a_listed_one_is_a_host(void **state)
{
    (void)state;
    static const char *const good[] = {"127.0.0.1",      "127.0.0.1:8000", "127.0.0.1.",
                                       "10.1.2.3:1",     "0.0.0.0:65535",  "[::1]",
                                       "[::1]:8000",     "[fe80::1]",      "[::ffff:127.0.0.1]:80",
                                       "localhost",      "LOCALHOST:8000", "localhost.",
                                       "localhost.:9",   "localhost:",     "a.localhost:8000",
                                       "A.b.LocalHost.", "llm.lan",        "LLM.LAN.:8000",
                                       "box.example",    "box.example.:1"};
    static const char *const bad[] = {"",
                                      ":8000",
                                      "evil.example",
                                      "evil.example:8000",
                                      "localhost.evil.example",
                                      "evillocalhost",
                                      ".localhost",
                                      "127.0.0.1.evil.example",
                                      "1.2.3",
                                      "1.2.3.4.5",
                                      "256.0.0.1",
                                      "0x7f.1",
                                      "2130706433",
                                      "::1",
                                      "::1:8000",
                                      "[::1",
                                      "[::1]x",
                                      "[::1]:x",
                                      "[evil]",
                                      "[]",
                                      "[127.0.0.1]",
                                      "localhost:x",
                                      "localhost:80:80",
                                      "localhost:65536",
                                      "localhost:123456",
                                      "localhost..",
                                      "localhost a",
                                      "evil.example/.localhost",
                                      "evil.example#.localhost",
                                      "a@localhost",
                                      "x.llm.lan",
                                      "llm.lan.evil",
                                      "llm.la",
                                      "null",
                                      "*",
                                      "\xff.localhost",
                                      "%6cocalhost"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(judge(&local, (struct ask){.host = good[i]}), OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(judge(&local, (struct ask){.host = bad[i]}), ERR_FORBIDDEN);
        assert_int_equal(judge(&local, (struct ask){.host = bad[i], .page = true, .mode = "navigate"}),
                         ERR_FORBIDDEN);
    }
    assert_int_equal(judge(&local, (struct ask){.host = NULL}), OK); /* HTTP/1.0, and so no browser */
    const struct origin_rules open = {.origin = true};
    assert_int_equal(judge(&open, (struct ask){.host = "api:8000"}), OK);
}

static void white_space_behind_a_value_is_no_part_of_it(void **state)
{
    (void)state;
    static const char *const tail[] = {"", " ", "\t", " \t  \t"};
    for (size_t i = 0; i < sizeof tail / sizeof *tail; i++) {
        char host[64], origin[64], other[64], site[64];
        snprintf(host, sizeof host, "localhost:8000%s", tail[i]);
        snprintf(origin, sizeof origin, "http://localhost:8000%s", tail[i]);
        snprintf(other, sizeof other, "http://evil.example%s", tail[i]);
        snprintf(site, sizeof site, "cross-site%s", tail[i]);
        assert_int_equal(judge(&local, (struct ask){.host = host, .origin = origin}), OK);
        assert_int_equal(judge(&local, (struct ask){.host = host, .origin = other}), ERR_FORBIDDEN);
        assert_int_equal(judge(&local, (struct ask){.host = host, .site = site}), ERR_FORBIDDEN);
    }
}

/* Each pair of an origin and a host: ours when the name and the port are the same, a scheme's own port
 * written or not. */
static void only_the_same_name_and_port_is_our_own_page(void **state)
{
    (void)state;
    static const struct {
        const char *origin, *host;
        enum err want;
    } row[] = {
        {"http://127.0.0.1:8000", "127.0.0.1:8000", OK},
        {"HTTP://LocalHost:8000", "localhost:8000", OK},
        {"https://localhost:8000", "localhost:8000", OK},
        {"http://localhost", "localhost", OK},
        {"http://localhost", "localhost:80", OK},
        {"http://localhost:80", "localhost", OK},
        {"https://localhost", "localhost:443", OK},
        {"https://localhost", "localhost", OK},
        {"http://[::1]:8000", "[::1]:8000", OK},
        {"http://localhost.:8000", "localhost.:8000", OK},
        {"https://localhost", "localhost:80", ERR_FORBIDDEN},
        {"http://localhost:3000", "localhost:8000", ERR_FORBIDDEN},
        {"http://localhost", "localhost:8000", ERR_FORBIDDEN},
        {"http://127.0.0.1:8000", "localhost:8000", ERR_FORBIDDEN},
        {"http://[::1]:8000", "127.0.0.1:8000", ERR_FORBIDDEN},
        {"http://evil.example", "localhost:8000", ERR_FORBIDDEN},
        {"http://localhost:8000.evil.example", "localhost:8000", ERR_FORBIDDEN},
        {"http://localhost:8000/", "localhost:8000", ERR_FORBIDDEN},
        {"http://a@localhost:8000", "localhost:8000", ERR_FORBIDDEN},
        {"ftp://localhost:8000", "localhost:8000", ERR_FORBIDDEN},
        {"file://", "localhost:8000", ERR_FORBIDDEN},
        {"localhost:8000", "localhost:8000", ERR_FORBIDDEN},
        {"null", "localhost:8000", ERR_FORBIDDEN},
        {"", "localhost:8000", ERR_FORBIDDEN},
        {"*", "localhost:8000", ERR_FORBIDDEN},
        {"http://localhost:8000", NULL, ERR_FORBIDDEN},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(judge(&local, (struct ask){.host = row[i].host, .origin = row[i].origin}),
                         row[i].want);
}

static void listed_pages_call_and_their_neighbours_do_not(void **state)
{
    (void)state;
    static const char *const good[] = {"http://app.lan:3000", "HTTP://APP.LAN:3000", "https://web.lan",
                                       "https://web.lan:443"};
    static const char *const bad[] = {"https://app.lan:3000",
                                      "http://app.lan",
                                      "http://app.lan:3001",
                                      "http://x.app.lan:3000",
                                      "http://web.lan",
                                      "https://web.lan:80",
                                      "http://app.lan:3000,https://Web.Lan",
                                      "https://web.lan.",
                                      "null"};
    for (int cross = 0; cross < 2; cross++) {
        const char *site = cross ? "cross-site" : "same-site";
        for (size_t i = 0; i < sizeof good / sizeof *good; i++)
            assert_int_equal(
                judge(&local, (struct ask){.host = "localhost", .origin = good[i], .site = site}), OK);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            assert_int_equal(judge(&local, (struct ask){.host = "localhost", .origin = bad[i], .site = site}),
                             ERR_FORBIDDEN);
    }
}

/* All words of Sec-Fetch-Site with and without our own Origin, for the page at / and for the rest. */
static void what_the_browser_says_of_the_site_counts(void **state)
{
    (void)state;
    static const struct {
        const char *site;
        enum err want;
    } row[] = {{NULL, OK},
               {"none", OK},
               {"same-origin", OK},
               {"same-site", ERR_FORBIDDEN},
               {"cross-site", ERR_FORBIDDEN},
               {"Cross-Site", ERR_FORBIDDEN},
               {"", ERR_FORBIDDEN},
               {"else", ERR_FORBIDDEN}};
    static const char *const mode[] = {NULL, "cors", "no-cors", "navigate"};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int own = 0; own < 2; own++)
            for (int m = 0; m < 4; m++)
                for (int page = 0; page < 2; page++) {
                    struct ask a = {"localhost:80", own ? "http://localhost" : NULL, row[i].site, mode[m],
                                    page != 0};
                    assert_int_equal(judge(&local, a), page && m == 3 ? OK : row[i].want);
                }
    const struct origin_rules keyed = {.origin = false};
    assert_int_equal(judge(&keyed, (struct ask){"api", "http://evil.example", "cross-site", "cors", false}),
                     OK);
}

static void a_header_that_stands_twice_is_refused(void **state)
{
    (void)state;
    static const char *const name[] = {"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode"}, *const value[] = {
                                                                                          "http://localhost",
                                                                                          "same-origin",
                                                                                          "cors"};
    struct err_note note;
    for (int i = 0; i < 3; i++) {
        struct origin_seen s = {.page = false};
        origin_header(&s, "Host", 4, "localhost", 9);
        origin_header(&s, name[i], strlen(name[i]), value[i], strlen(value[i]));
        assert_int_equal(origin_verdict(&local, &s, &note), OK);
        origin_header(&s, name[i], strlen(name[i]), value[i], strlen(value[i]));
        assert_int_equal(origin_verdict(&local, &s, &note), ERR_FORBIDDEN);
    }
}

static void lists_that_would_never_match_are_refused_at_the_start(void **state)
{
    (void)state;
    static const char *const good_host[] = {"", " ", "a", "a.b,c", "a , b.", ",a,", "10.0.0.1", "[::1]"};
    static const char *const bad_host[] = {"*", "a:80", "http://a", "a b", "a,,b/c", "[::1]:80", "[x]"};
    static const char *const good_page[] = {"",
                                            "http://a",
                                            "https://a.b:3000, http://c",
                                            "chrome-extension://abcdef",
                                            "tauri://localhost",
                                            "http://[::1]:3000"};
    static const char *const bad_page[] = {"*",          "null",    "a",    "a:3000",     "http://a/",
                                           "http://a:x", "http://", "://a", "http://a b", "http://a,null"};
    struct err_note note;
    for (size_t i = 0; i < sizeof good_host / sizeof *good_host; i++)
        assert_int_equal(origin_check_hosts(good_host[i], &note), OK);
    for (size_t i = 0; i < sizeof bad_host / sizeof *bad_host; i++)
        assert_int_equal(origin_check_hosts(bad_host[i], &note), ERR_CONFIG);
    for (size_t i = 0; i < sizeof good_page / sizeof *good_page; i++)
        assert_int_equal(origin_check_pages(good_page[i], &note), OK);
    for (size_t i = 0; i < sizeof bad_page / sizeof *bad_page; i++)
        assert_int_equal(origin_check_pages(bad_page[i], &note), ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_or_a_loopback_name_or_a_listed_one_is_a_host),
        cmocka_unit_test(white_space_behind_a_value_is_no_part_of_it),
        cmocka_unit_test(only_the_same_name_and_port_is_our_own_page),
        cmocka_unit_test(listed_pages_call_and_their_neighbours_do_not),
        cmocka_unit_test(what_the_browser_says_of_the_site_counts),
        cmocka_unit_test(a_header_that_stands_twice_is_refused),
        cmocka_unit_test(lists_that_would_never_match_are_refused_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
