/* custom_input: the text of {"input": TEXT}, the same for every cut; other shapes come as they are. */
#include <string.h>

#include "server/api/custom_input.h"
#include "tests/base/cm.h"

static void read_in_pieces(const char *p, size_t step, struct strbuf *out)
{
    struct custom_input c;
    const size_t n = strlen(p);
    custom_input_init(&c);
    for (size_t i = 0; i < n; i += step) custom_input_feed(&c, p + i, n - i < step ? n - i : step, out);
    custom_input_end(&c, out);
    strbuf_putc(out, '\0');
}

static void the_text_is_the_same_for_every_cut(void **st)
{
    static const char *const pair[][2] = {
        {"{\"input\": \"ls -l\"}", "ls -l"},
        {" \n{ \"input\" :\"a\\nb\\\"c\\\\\\/\\t\"}", "a\nb\"c\\/\t"},
        {"{\"input\":\"\\u00e9\\u20ac\\ud83d\\ude00\\u0041\"} ", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"
                                                                 "A"},
        {"{\"input\":\"\\ud83d\\u0041\\ude00\\ud83d\"}", "\xef\xbf\xbd"
                                                         "A\xef\xbf\xbd\xef\xbf\xbd"},
        {"{\"input\":\"\\ud83dx\\q\\u12g4\"}", "\xef\xbf\xbdx\\q\\u12g4"},
        {"{\"input\":\"\"}", ""},
        {"{\"input\":\"cut", "cut"},
        {"{\"input\":\"cut\\u00", "cut"},
        {"{\"inp", ""},
        {"{\"input\":\"a\",\"more\":\"b\"}", "a"},
        {"{\"text\":\"a\"}", "{\"text\":\"a\"}"},
        {"{\"input\":[\"a\"]}", "{\"input\":[\"a\"]}"},
        {"plain", "plain"},
        {"{}", "{}"},
        {"[\"{\"]", "[\"{\"]"},
    };
    (void)st;
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        for (size_t step = 1; step < 40; step++) {
            struct strbuf out;
            strbuf_init(&out);
            read_in_pieces(pair[i][0], step, &out);
            assert_string_equal(out.data, pair[i][1]);
            strbuf_fini(&out);
        }
}

static void a_head_with_much_space_is_none(void **st)
{
    struct strbuf in, out;
    (void)st;
    strbuf_init(&in);
    strbuf_init(&out);
    strbuf_putc(&in, '{');
    for (int i = 0; i < 100; i++) strbuf_putc(&in, ' ');
    strbuf_puts(&in, "\"input\":\"a\"}");
    strbuf_putc(&in, '\0');
    read_in_pieces(in.data, 7, &out);
    assert_string_equal(out.data, in.data);
    strbuf_fini(&in);
    strbuf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(the_text_is_the_same_for_every_cut),
        cmocka_unit_test(a_head_with_much_space_is_none),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
