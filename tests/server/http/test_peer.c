/* peer and trace: what clients and proxies say of themselves is taken where it is right and trusted. */
#include "tests/base/cm.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "server/http/peer.h"
#include "server/http/trace.h"

/* --- who is at the other end */

static struct peer peer_at(const char *text)
{
    struct sockaddr_storage a = {.ss_family = AF_UNIX};
    struct peer p;
    if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&a)->sin_addr) == 1) a.ss_family = AF_INET;
    if (a.ss_family == AF_UNIX && inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&a)->sin6_addr) == 1)
        a.ss_family = AF_INET6;
    peer_of_socket(&p, &a);
    return p;
}

/* Who it is that asks from `from` with these lines of X-Forwarded-For, '|' between them. */
static const char *behind(const char *trusted, const char *from, const char *lines)
{
    static char text[PEER_TEXT_BYTES];
    struct peer_nets nets;
    struct peer_told told = {.n = 0};
    struct peer p = peer_at(from);
    assert_int_equal(peer_nets_read(&nets, trusted, NULL), OK);
    for (const char *l = lines; l;) {
        const size_t n = strcspn(l, "|");
        peer_header(&told, "x-forwarded-for", 15, l, n);
        l = l[n] ? l + n + 1 : NULL;
    }
    peer_behind(&p, &nets, &told);
    return peer_text(&p, text);
}

static void only_a_trusted_proxy_is_believed(void **st)
{
    (void)st;
    static const struct {
        const char *trusted, *from, *lines, *client;
    } row[] = {
        {"", "10.0.0.1", "1.2.3.4", "10.0.0.1"},
        {"10.0.0.0/8", "10.0.0.1", "1.2.3.4", "1.2.3.4"},
        {"10.0.0.0/8", "11.0.0.1", "1.2.3.4", "11.0.0.1"},
        {"10.0.0.0/8", "10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"}, /* the first is the client's own word */
        {"10.0.0.0/8", "10.0.0.1", "9.9.9.9, 1.2.3.4, 10.9.9.9", "1.2.3.4"},
        {"10.0.0.0/8", "10.0.0.1", "9.9.9.9|1.2.3.4|10.9.9.9", "1.2.3.4"},
        {"10.0.0.0/8", "10.0.0.1", "10.1.1.1,10.2.2.2", "10.1.1.1"},
        {"10.0.0.0/8", "10.0.0.1", "unknown", "10.0.0.1"},
        {"10.0.0.0/8", "10.0.0.1", "1.2.3.4, junk, 10.5.5.5", "10.5.5.5"},
        {"10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"},
        {"10.0.0.0/8", "10.0.0.1", "1.2.3.4,", "10.0.0.1"},
        {"10.0.0.1", "10.0.0.1", " 1.2.3.4:5678 ", "1.2.3.4"},
        {"10.0.0.1", "10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"},
        {"10.0.0.1", "10.0.0.1", "2001:db8::1", "2001:db8::1"},
        {"10.0.0.1", "10.0.0.1", "1.2.3.4.5", "10.0.0.1"},
        {"10.0.0.1", "::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"},
        {"::ffff:10.0.0.1", "10.0.0.1", "::ffff:1.2.3.4", "1.2.3.4"},
        {"fd00::/8, 2001:db8::/33", "fd12::1", "2001:db8:7fff::1, 2001:db8:0:1::", "2001:db8:7fff::1"},
        {"2001:db8::/33", "2001:db8:8000::1", "1.1.1.1", "2001:db8:8000::1"},
        {"unix", "a socket", "1.2.3.4", "1.2.3.4"},
        {"10.0.0.0/8", "a socket", "1.2.3.4", "unix"},
        {"0.0.0.0/0", "5.5.5.5", "1.2.3.4", "1.2.3.4"},
        {"0.0.0.0/0", "::1", "1.2.3.4", "::1"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (strcmp(behind(row[i].trusted, row[i].from, row[i].lines), row[i].client) != 0)
            fail_msg("row %d: %s", (int)i, behind(row[i].trusted, row[i].from, row[i].lines));
}

static void more_lines_than_anybody_sends_count_as_none(void **st)
{
    (void)st;
    char lines[512] = "1.1.1.1";
    for (int i = 1; i < PEER_LINES_MOST; i++) strcat(lines, "|10.0.0.2");
    assert_string_equal(behind("10.0.0.0/8", "10.0.0.1", lines), "1.1.1.1");
    strcat(lines, "|10.0.0.2");
    assert_string_equal(behind("10.0.0.0/8", "10.0.0.1", lines), "10.0.0.1");
}

static void a_network_that_is_none_is_named(void **st)
{
    (void)st;
    static const char *const bad[] = {"10.0.0.0/33", "10.0.0.1/8", "a.b",    "10.0.0.0/",
                                      "10.0.0.0/8x", "fd00::1/64", "::/129", "1.2.3",
                                      "*",           "10.0.0.1,x", "/8",     "10.0.0.0/-1"};
    char many[1200] = "";
    struct peer_nets nets;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err_note note;
        if (peer_nets_read(&nets, bad[i], &note) != ERR_CONFIG) fail_msg("%s is taken", bad[i]);
        assert_string_equal(note.param, "--trusted-proxies");
    }
    for (int i = 0; i < PEER_NETS_MOST; i++) strcat(many, "10.0.0.1,");
    assert_int_equal(peer_nets_read(&nets, many, NULL), OK);
    strcat(many, "10.0.0.1");
    assert_int_equal(peer_nets_read(&nets, many, NULL), ERR_CONFIG);
    assert_int_equal(peer_nets_read(&nets, " unix , ::1,", NULL), OK);
    assert_true(nets.unix_sockets && nets.n == 1);
}

/* --- names of requests */

#define TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static struct trace with(const char *name, const char *value)
{
    struct trace t = {.n_id = 0};
    trace_header(&t, name, strlen(name), value, strlen(value));
    return t;
}

static void a_name_is_taken_where_it_is_plain(void **st)
{
    (void)st;
    char longest[TRACE_ID_BYTES + 1];
    memset(longest, 'a', sizeof longest);
    longest[TRACE_ID_BYTES] = '\0';
    assert_string_equal(with("X-Request-Id", longest).id, "");
    longest[TRACE_ID_BYTES - 1] = '\0';
    assert_string_equal(with("x-request-id", longest).id, longest);
    assert_string_equal(with("X-Request-Id", "aZ0-._:/+=@~  ").id, "aZ0-._:/+=@~");
    char one[4] = "a?b";
    for (int c = 1; c < 256; c++) {
        one[1] = (char)c;
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           strchr("-._:/+=@~", c);
        assert_int_equal(with("X-Request-Id", one).id[0] != '\0', plain);
    }
    assert_string_equal(with("X-Request-Id", "").id, "");
    struct trace twice = with("X-Request-Id", "a");
    trace_header(&twice, "X-Request-Id", 12, "b", 1);
    assert_string_equal(twice.id, "");
}

static void a_traceparent_is_taken_as_the_standard_has_it(void **st)
{
    (void)st;
    assert_string_equal(with("traceparent", TRACE).parent, TRACE);
    assert_string_equal(with("TraceParent", "cc" TRACE).parent, "");
    static const char *const right[] = {"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-ever",
                                        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(strlen(with("traceparent", right[i]).parent), 55);
        assert_memory_equal(with("traceparent", right[i]).parent, right[i], 55);
    }
    static const char *const wrong[] = {
        "",
        "00",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        TRACE "-more",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (with("traceparent", wrong[i]).parent[0]) fail_msg("%s is taken", wrong[i]);
}

/* What counts as one client where clients share. */
static void an_address_or_a_network_of_ipv6_is_one_client(void **st)
{
    (void)st;
    static const struct {
        const char *a, *b;
        bool one;
    } row[] = {{"10.0.0.1", "10.0.0.1", true},
               {"10.0.0.1", "10.0.0.2", false},
               {"::ffff:10.0.0.1", "10.0.0.1", true},
               {"2001:db8::1", "2001:db8::2:3:4:5", true},
               {"2001:db8::1", "2001:db8:0:1::1", false},
               {"a00:1::", "10.0.0.1", false}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const struct peer a = peer_at(row[i].a), b = peer_at(row[i].b);
        const struct peer_who x = peer_who(&a), y = peer_who(&b);
        assert_int_equal(x.hi == y.hi && x.lo == y.lo, row[i].one);
    }
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(only_a_trusted_proxy_is_believed),
        cmocka_unit_test(an_address_or_a_network_of_ipv6_is_one_client),
        cmocka_unit_test(more_lines_than_anybody_sends_count_as_none),
        cmocka_unit_test(a_network_that_is_none_is_named),
        cmocka_unit_test(a_name_is_taken_where_it_is_plain),
        cmocka_unit_test(a_traceparent_is_taken_as_the_standard_has_it),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
