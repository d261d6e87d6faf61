/* whole_args: what is cut or wrong becomes an object of what is whole; what is whole stays as it is. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/whole_args.h"
#include "tests/base/cm.h"

static const char sample[] =
    " {\"a\": 12.5e3, \"b\": [true, null, {\"c\": \"x\\\"]}\", \"d\": [[], {}, -1]}, \"z\"], \"\": {\"k\": 0}, \"e\": false} ";

static char *of(const char *p, size_t n)
{
    struct strbuf out;
    strbuf_init(&out);
    whole_args(p, n, &out);
    return strbuf_take(&out);
}

static void known_cuts(void **st)
{
    static const char *const pair[][2] = {
        {"", "{}"},
        {"  ", "{}"},
        {"{", "{}"},
        {"{\"a", "{}"},
        {"{\"a\":", "{}"},
        {"{\"a\": 12", "{}"},
        {"{\"a\": 12,", "{\"a\": 12}"},
        {"{\"a\": 12 ", "{\"a\": 12 }"},
        {"{\"a\": tru", "{}"},
        {"{\"a\": true", "{\"a\": true}"},
        {"{\"a\": \"x", "{}"},
        {"{\"a\": \"x\"", "{\"a\": \"x\"}"},
        {"{\"a\": [1, 2", "{\"a\": [1]}"},
        {"{\"a\": [1, {\"b\": ", "{\"a\": [1, {}]}"},
        {"{\"a\": 1} and more", "{\"a\": 1}"},
        {"{\"a\": 1, \"b\": oh}", "{\"a\": 1}"},
        {"[1]", "{}"},
        {"text", "{}"},
        {"\"{\"", "{}"},
    };
    (void)st;
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char *got = of(pair[i][0], strlen(pair[i][0]));
        assert_string_equal(got, pair[i][1]);
        free(got);
    }
}

/* Whatever stands in both is the same, and more bytes never take something away. */
static bool is_part(const cJSON *a, const cJSON *b)
{
    if (a->type != b->type) return false;
    if (!cJSON_IsObject(a) && !cJSON_IsArray(a)) return cJSON_Compare(a, b, true);
    const cJSON *d = b->child;
    for (const cJSON *c = a->child; c; c = c->next, d = d->next)
        if (!d || (c->string && strcmp(c->string, d->string) != 0) || !is_part(c, d)) return false;
    return true;
}

static void every_cut_is_a_part_of_the_next(void **st)
{
    cJSON *before = cJSON_CreateObject();
    (void)st;
    for (size_t n = 0; n < sizeof sample; n++) {
        char *text = of(sample, n);
        cJSON *now = cJSON_Parse(text);
        if (!now || !is_part(before, now)) fail_msg("at %zu: %s", n, text);
        free(text);
        cJSON_Delete(before);
        before = now;
    }
    cJSON *whole = cJSON_Parse(sample);
    assert_true(cJSON_Compare(whole, before, true));
    cJSON_Delete(whole);
    cJSON_Delete(before);
}

static void pieces_of_a_stream_give_the_same_object(void **st)
{
    static const char *const text[] = {
        sample,        "{\"a\": 1, \"b\": oh}", "[1]",           "{\"a\": \"x\"} tail",
        " x{}",        "{\"a\": -1.5e+3",       "{\"a\": [1, 0", "{\"a\": true",
        "{\"a\": \"12"};
    (void)st;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        for (size_t step = 1; step < 9; step++) {
            struct args_walk w;
            struct strbuf told;
            const size_t n = strlen(text[i]);
            args_walk_init(&w);
            strbuf_init(&told);
            for (size_t at = 0; at < n; at += step)
                strbuf_put(&told, text[i] + at,
                           args_walk_feed(&w, text[i] + at, n - at < step ? n - at : step));
            if (told.data) told.len -= args_walk_number(&w, told.data, told.len);
            assert_true(told.len == 0 || json_walk_in_string(&w.walk) ||
                        !strchr("0123456789.-", told.data[told.len - 1]));
            char *a = of(told.data ? told.data : "", told.len), *b = of(text[i], n);
            assert_string_equal(a, b);
            free(a);
            free(b);
            strbuf_fini(&told);
        }
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(known_cuts),
        cmocka_unit_test(every_cut_is_a_part_of_the_next),
        cmocka_unit_test(pieces_of_a_stream_give_the_same_object),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
