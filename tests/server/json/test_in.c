#include "tests/base/cm.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "base/strbuf.h"
#include "server/json/in.h"
#include "server/json/value.h"

/* One field of every type, as an endpoint would write its table. */
struct all {
    bool flag;
    int64_t seed;
    int32_t n;
    float top_p;
    double temperature;
    struct json_str name;
    int word;
    struct json_strs stop;
    struct json_ints ids;
    struct json_pairs bias;
    struct json_prompts prompt;
    const cJSON *object, *array;
    struct json_any any, text_any;
};
static const char *const words[] = {"text", "json_object", NULL};
static const struct json_row all_row[] = {
    {.name = "flag", .type = JSON_BOOL, JSON_AT(struct all, flag)},
    {.name = "seed", .type = JSON_INT, JSON_AT(struct all, seed), .min = INT64_MIN, .max = INT64_MAX},
    {.name = "n", .type = JSON_INT32, JSON_AT(struct all, n), .min = 1, .max = 128},
    {.name = "top_p",
     .type = JSON_FLOAT,
     JSON_AT(struct all, top_p),
     .flags = JSON_ABOVE_MIN,
     .fmin = 0,
     .fmax = 1},
    {.name = "temperature", .type = JSON_DOUBLE, JSON_AT(struct all, temperature), .fmin = 0, .fmax = 2},
    {.name = "name", .type = JSON_STRING, JSON_AT(struct all, name), .min = 1, .max = 8},
    {.name = "word", .type = JSON_WORD, JSON_AT(struct all, word), .words = words},
    {.name = "stop",
     .type = JSON_STRINGS,
     JSON_AT(struct all, stop),
     .min = 1,
     .max = 256,
     .min_items = 1,
     .max_items = 4},
    {.name = "ids",
     .type = JSON_INTS,
     JSON_AT(struct all, ids),
     .min = 0,
     .max = INT32_MAX,
     .max_items = 1000000},
    {.name = "bias",
     .type = JSON_PAIRS,
     JSON_AT(struct all, bias),
     .min = 0,
     .max = 49151,
     .fmin = -100,
     .fmax = 100,
     .max_items = 1024},
    {.name = "prompt",
     .type = JSON_PROMPTS,
     JSON_AT(struct all, prompt),
     .min = 0,
     .max = INT32_MAX,
     .min_items = 1,
     .max_items = 1000},
    {.name = "object", .type = JSON_OBJECT, JSON_AT(struct all, object), .max_items = 3},
    {.name = "array", .type = JSON_ARRAY, JSON_AT(struct all, array), .min_items = 1, .max_items = 3},
    {.name = "any", .type = JSON_ANY, JSON_AT(struct all, any), .min = 0, .max = 1, .max_items = 4},
    {.name = "text_any", .type = JSON_ANY, JSON_AT(struct all, text_any)},
    {.name = "checked", .type = JSON_STRING, .flags = JSON_NO_TARGET, .max = 4},
    {.name = "must", .type = JSON_BOOL, .flags = JSON_NO_TARGET | JSON_NOT_NULL},
    {.name = "user", .type = JSON_IGNORE},
    {.name = "suffix", .type = JSON_REJECT},
    {.name = "best_of", .type = JSON_REJECT, .neutral = 1},
    {.name = "echo_depth", .type = JSON_REJECT, .neutral = NAN},
    {.name = "modalities", .type = JSON_REJECT, .words = words},
    {.name = NULL},
};

struct ask {
    struct json_in in;
    struct err_note note;
    struct all got;
    char *body;
};

static enum err ask(struct ask *a, const char *body)
{
    memset(a, 0, sizeof *a);
    size_t n = strlen(body);
    a->body = malloc(n); /* exactly: the sanitizer sees a read past it */
    memcpy(a->body, body, n);
    enum err e = json_in_open(&a->in, a->body, n, NULL, &a->note);
    if (e == OK) e = json_in_read(&a->in, a->in.root, all_row, &a->got);
    if (e != a->note.code) fail_msg("%s: returned %s, noted %s", body, err_name(e), err_name(a->note.code));
    return e;
}

static void ask_end(struct ask *a)
{
    json_in_close(&a->in);
    free(a->body);
}

static void expect_fail(const char *body, enum err e, const char *param)
{
    struct ask a;
    if (ask(&a, body) != e || strcmp(a.note.param, param) != 0) {
        fail_msg("%s: %s '%s' (%s)", body, err_name(a.note.code), a.note.param, a.note.text);
    }
    ask_end(&a);
}

static void expect_ok(const char *body)
{
    struct ask a;
    if (ask(&a, body) != OK) fail_msg("%s: %s", body, a.note.text);
    ask_end(&a);
}

/* ---- types (B16) ---- */

static void every_type_takes_its_own_and_nothing_else(void **state)
{
    (void)state;
    static const char *const value[] = {"null", "true",  "0",   "-1",      "1.5",   "\"\"",     "[]",
                                        "{}",   "\"x\"", "[1]", "[\"x\"]", "[[1]]", "{\"1\":1}"};
    enum { Y = OK, T = ERR_INVALID_TYPE, V = ERR_INVALID_VALUE, U = ERR_UNSUPPORTED };
    static const struct {
        const char *name;
        int e[sizeof value / sizeof value[0]];
        const char *list_param; /* of [1], ["x"], [[1]], where the element is at fault */
    } t[] = {
        /*                null true 0  -1 1.5 "" [] {} "x" [1] ["x"] [[1]] {"1":1} */
        {"flag", {Y, Y, T, T, T, T, T, T, T, T, T, T, T}, "flag"},
        {"seed", {Y, T, Y, Y, T, T, T, T, T, T, T, T, T}, "seed"},
        {"n", {Y, T, V, V, T, T, T, T, T, T, T, T, T}, "n"},
        {"top_p", {Y, T, V, V, V, T, T, T, T, T, T, T, T}, "top_p"},
        {"temperature", {Y, T, Y, V, Y, T, T, T, T, T, T, T, T}, "temperature"},
        {"name", {Y, T, T, T, T, V, T, T, Y, T, T, T, T}, "name"},
        {"word", {Y, T, T, T, T, V, T, T, V, T, T, T, T}, "word"},
        {"stop", {Y, T, T, T, T, V, V, T, Y, T, Y, T, T}, "stop[0]"},
        {"ids", {Y, T, T, T, T, T, Y, T, T, Y, T, T, T}, "ids[0]"},
        {"bias", {Y, T, T, T, T, T, T, Y, T, T, T, T, Y}, "bias"},
        {"prompt", {Y, T, T, T, T, Y, V, T, Y, Y, Y, Y, T}, "prompt"},
        {"object", {Y, T, T, T, T, T, T, Y, T, T, T, T, Y}, "object"},
        {"array", {Y, T, T, T, T, T, V, T, T, Y, Y, Y, T}, "array"},
        {"any", {Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, T, Y}, "any[0]"},
        {"text_any", {Y, Y, Y, Y, Y, Y, Y, Y, Y, T, Y, T, Y}, "text_any"},
        {"checked", {Y, T, T, T, T, Y, T, T, Y, T, T, T, T}, "checked"},
        {"must", {T, Y, T, T, T, T, T, T, T, T, T, T, T}, "must"},
        {"user", {Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y}, "user"},
        {"unknown", {Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y, Y}, "unknown"},
        {"suffix", {Y, U, Y, U, U, Y, Y, Y, U, U, U, U, U}, "suffix"},
        {"best_of", {Y, U, U, U, U, Y, Y, Y, U, U, U, U, U}, "best_of"},
        {"echo_depth", {Y, U, U, U, U, Y, Y, Y, U, U, U, U, U}, "echo_depth"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        for (size_t k = 0; k < sizeof value / sizeof value[0]; k++) {
            char body[64];
            struct ask a;
            snprintf(body, sizeof body, "{\"%s\":%s}", t[i].name, value[k]);
            enum err e = ask(&a, body);
            const char *param = e == OK                                      ? ""
                                : value[k][0] == '[' && strlen(value[k]) > 2 ? t[i].list_param
                                                                             : t[i].name;
            if ((int)e != t[i].e[k] || strcmp(a.note.param, param) != 0) {
                fail_msg("%s: %s '%s' (%s)", body, err_name(e), a.note.param, a.note.text);
            }
            ask_end(&a);
        }
    }
}

static void the_body_is_an_object(void **state)
{
    (void)state;
    static const char *const body[] = {"null", "true", "1", "\"x\"", "[]", "[{}]"};
    for (size_t i = 0; i < sizeof body / sizeof body[0]; i++) expect_fail(body[i], ERR_INVALID_TYPE, "");
    expect_fail("{}xyz", ERR_INVALID_JSON, "");
    expect_fail("{\"n\":1,\"n\":1}", ERR_DUPLICATE_KEY, "n");
    expect_ok("{}");
}

static void absent_and_null_leave_the_target_alone(void **state)
{
    (void)state;
    static const char *const body[] = {
        "{}",
        "{\"flag\":null,\"seed\":null,\"n\":null,\"name\":null,\"stop\":null,\"any\":null,\"prompt\":null}",
        "{\"Flag\":false,\"SEED\":1,\"N\":2}"};
    for (size_t i = 0; i < sizeof body / sizeof body[0]; i++) {
        struct json_in in;
        struct all got = {.flag = true, .seed = 7, .n = 8, .name = {.p = "kept", .n = 4}};
        assert_int_equal(json_in_open(&in, body[i], strlen(body[i]), NULL, NULL), OK);
        assert_int_equal(json_in_read(&in, in.root, all_row, &got), OK);
        assert_true(got.flag);
        assert_int_equal(got.seed, 7);
        assert_int_equal(got.n, 8);
        assert_string_equal(got.name.p, "kept");
        assert_null(got.stop.v);
        json_in_close(&in);
    }
}

static void required_is_neither_absent_nor_null(void **state)
{
    (void)state;
    static const struct json_row row[] = {
        {.name = "messages", .type = JSON_ARRAY, .flags = JSON_REQUIRED | JSON_NO_TARGET, .min_items = 1},
        {.name = NULL}};
    static const struct {
        const char *body;
        enum err e;
    } t[] = {{"{}", ERR_MISSING_FIELD},
             {"{\"Messages\":[1]}", ERR_MISSING_FIELD},
             {"{\"messages\":null}", ERR_INVALID_TYPE},
             {"{\"messages\":{}}", ERR_INVALID_TYPE},
             {"{\"messages\":[]}", ERR_INVALID_VALUE},
             {"{\"messages\":[{}]}", OK}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct json_in in;
        struct err_note note = {.code = OK};
        assert_int_equal(json_in_open(&in, t[i].body, strlen(t[i].body), NULL, &note), OK);
        assert_int_equal(json_in_read(&in, in.root, row, NULL), t[i].e);
        assert_string_equal(note.param, t[i].e == OK ? "" : "messages");
        json_in_close(&in);
    }
}

/* ---- single values ---- */

static void integers_are_exact_in_64_bits(void **state)
{
    (void)state;
    static const struct {
        const char *s;
        int64_t v;
    } yes[] = {{"0", 0},
               {"-0", 0},
               {"9007199254740993", 9007199254740993},
               {"-9007199254740993", -9007199254740993},
               {"9223372036854775807", INT64_MAX},
               {"-9223372036854775808", INT64_MIN},
               {"9223372036854775806", INT64_MAX - 1},
               {"16.0", 16},
               {"1e2", 100},
               {"-2.50e1", -25},
               {"0.0", 0},
               {"1e-999", 0},
               {"9007199254740991.0", 9007199254740991}};
    static const struct {
        const char *s;
        enum err e;
    } no[] = {{"9223372036854775808", ERR_INVALID_VALUE},
              {"-9223372036854775809", ERR_INVALID_VALUE},
              {"18446744073709551616", ERR_INVALID_VALUE},
              {"99999999999999999999999999999999999999", ERR_INVALID_VALUE},
              {"9007199254740992.0", ERR_INVALID_VALUE},
              {"9007199254740993e0", ERR_INVALID_VALUE},
              {"1e300", ERR_INVALID_VALUE},
              {"1.5", ERR_INVALID_TYPE},
              {"1e-1", ERR_INVALID_TYPE},
              {"-0.5", ERR_INVALID_TYPE},
              {"99999999999999999999999.5", ERR_INVALID_VALUE}};
    char body[128];
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        struct ask a;
        snprintf(body, sizeof body, "{\"seed\": %s }", yes[i].s);
        assert_int_equal(ask(&a, body), OK);
        if (a.got.seed != yes[i].v) fail_msg("%s reads as %lld", yes[i].s, (long long)a.got.seed);
        ask_end(&a);
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        snprintf(body, sizeof body, "{\"seed\":%s}", no[i].s);
        expect_fail(body, no[i].e, "seed");
    }
}

static void bounds_are_kept_and_told(void **state)
{
    (void)state;
    static const char *const yes[] = {"{\"n\":1}",
                                      "{\"n\":128}",
                                      "{\"top_p\":1}",
                                      "{\"top_p\":1e-30}",
                                      "{\"temperature\":0}",
                                      "{\"temperature\":-0}",
                                      "{\"temperature\":2}",
                                      "{\"temperature\":4e-324}",
                                      "{\"name\":\"12345678\"}",
                                      "{\"name\":\"\xe2\x82\xac\xe2\x82\xac\"}"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) expect_ok(yes[i]);
    static const struct {
        const char *body, *param, *says;
    } no[] = {
        {"{\"n\":0}", "n", "n must be between 1 and 128"},
        {"{\"n\":129}", "n", "n must be between 1 and 128"},
        {"{\"n\":4294967297}", "n", "between"},
        {"{\"top_p\":0}", "top_p", "top_p must be above 0 and at most 1"},
        {"{\"top_p\":1.0000001}", "top_p", "at most 1"},
        {"{\"temperature\":-1e-30}", "temperature", "temperature must be at least 0 and at most 2"},
        {"{\"temperature\":2.0000001}", "temperature", "at most 2"},
        {"{\"name\":\"123456789\"}", "name", "at most 8 bytes, not 9"},
        {"{\"name\":\"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\"}", "name", "not 9"},
        {"{\"checked\":\"12345\"}", "checked", "at most 4"},
        {"{\"word\":\"json\"}", "word", "word must be one of \"text\", \"json_object\""},
        {"{\"word\":\"Text\"}", "word", "one of"},
        {"{\"object\":{\"a\":1,\"b\":1,\"c\":1,\"d\":1}}", "object", "at most 3"},
        {"{\"array\":[1,2,3,4]}", "array", "at most 3 elements, not 4"},
        {"{\"array\":[1,2,3,\"4\"]}", "array", "at most 3 elements, not 4"},
    };
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        struct ask a;
        assert_int_equal(ask(&a, no[i].body), ERR_INVALID_VALUE);
        assert_string_equal(a.note.param, no[i].param);
        if (!strstr(a.note.text, no[i].says)) fail_msg("%s: %s", no[i].body, a.note.text);
        ask_end(&a);
    }
}

static void values_arrive_in_their_targets(void **state)
{
    (void)state;
    struct ask a;
    assert_int_equal(
        ask(&a,
            "{\"flag\":true,\"n\":3,\"top_p\":0.25,\"temperature\":0.1,\"name\":\"\\ud83d\\ude39\\n\",\"word\":\"json_object\","
            "\"object\":{\"k\":[5]},\"array\":[{\"z\":1}],\"text_any\":{\"q\":1}}"),
        OK);
    assert_true(a.got.flag);
    assert_int_equal(a.got.n, 3);
    assert_true(a.got.top_p == 0.25f && a.got.temperature == 0.1);
    assert_string_equal(a.got.name.p, "\xf0\x9f\x98\xb9\n");
    assert_int_equal(a.got.name.n, 5);
    assert_int_equal(a.got.word, 1);
    assert_ptr_equal(a.got.object, json_in_get(a.in.root, "object"));
    assert_string_equal(a.got.array->child->child->string, "z");
    assert_int_equal(a.got.text_any.kind, JSON_KIND_OBJECT);
    assert_string_equal(a.got.text_any.node->child->string, "q");
    assert_null(json_in_get(a.in.root, "Object"));
    ask_end(&a);
}

/* ---- lists ---- */

static void one_string_is_a_list_of_one(void **state)
{
    (void)state;
    struct ask a;
    assert_int_equal(ask(&a, "{\"stop\":\"\\n\\n\"}"), OK);
    assert_int_equal(a.got.stop.n, 1);
    assert_string_equal(a.got.stop.v[0].p, "\n\n");
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"stop\":[\"a\",\"bc\",\"\xc3\xa9\",\"d\"],\"after\":\"x\"}"), OK);
    assert_int_equal(a.got.stop.n, 4);
    assert_string_equal(a.got.stop.v[1].p, "bc");
    assert_int_equal(a.got.stop.v[2].n, 2);
    ask_end(&a);
    /* C22 */
    expect_fail("{\"stop\":[]}", ERR_INVALID_VALUE, "stop");
    expect_fail("{\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", ERR_INVALID_VALUE, "stop");
    expect_fail("{\"stop\":[\"a\",\"\"]}", ERR_INVALID_VALUE, "stop[1]");
    expect_fail("{\"stop\":\"\"}", ERR_INVALID_VALUE, "stop");
    expect_fail("{\"stop\":[\"a\",null]}", ERR_INVALID_TYPE, "stop[1]");
    expect_fail("{\"stop\":[1,2,3,4,5]}", ERR_INVALID_TYPE, "stop[0]");
    char *big = malloc((1 << 20) + 64);
    int n = sprintf(big, "{\"stop\":[\"x\",\"");
    memset(big + n, 'y', 1 << 20);
    strcpy(big + n + (1 << 20), "\"]}");
    expect_fail(big, ERR_INVALID_VALUE, "stop[1]");
    free(big);
}

static void ids_are_read_from_the_raw_text(void **state)
{
    (void)state;
    struct ask a;
    assert_int_equal(ask(&a, "{\"ids\":[ 0,\n2147483647 ,\t5.0, 1e3 ],\"n\":2}"), OK);
    assert_int_equal(a.got.ids.n, 4);
    assert_int_equal(a.got.ids.v[0], 0);
    assert_int_equal(a.got.ids.v[1], INT32_MAX);
    assert_int_equal(a.got.ids.v[2], 5);
    assert_int_equal(a.got.ids.v[3], 1000);
    assert_int_equal(a.got.n, 2);
    assert_int_equal(cJSON_GetArraySize(json_in_get(a.in.root, "ids")),
                     1); /* only its shape stands in the tree */
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"ids\":[]}"), OK);
    assert_int_equal(a.got.ids.n, 0);
    ask_end(&a);
    expect_fail("{\"ids\":[1,2,-1]}", ERR_INVALID_VALUE, "ids[2]");
    expect_fail("{\"ids\":[2147483648]}", ERR_INVALID_VALUE, "ids[0]");
    expect_fail("{\"ids\":[1,99999999999999999999]}", ERR_INVALID_VALUE, "ids[1]");
    expect_fail("{\"ids\":[1,1.5]}", ERR_INVALID_TYPE, "ids[1]");
    expect_fail("{\"ids\":[1,null]}", ERR_INVALID_TYPE, "ids[1]");
    expect_fail("{\"ids\":[1,\"2\"]}", ERR_INVALID_TYPE, "ids[1]");
    expect_fail("{\"ids\":[1,2,[3]]}", ERR_INVALID_TYPE, "ids[2]");
    expect_fail("{\"ids\":[-1,\"2\"]}", ERR_INVALID_VALUE, "ids[0]");
}

static size_t n_nodes(const cJSON *c)
{
    size_t n = 0;
    for (; c; c = c->next) n += 1 + n_nodes(c->child);
    return n;
}

static void a_million_ids_cost_no_tree(void **state)
{
    (void)state;
    enum { N = 999990 };
    struct strbuf b;
    struct ask a;
    strbuf_init(&b);
    strbuf_puts(&b, "{\"n\":2,\"prompt\":[");
    for (int i = 0; i < N; i++) strbuf_printf(&b, i ? ", %d" : "%d", i);
    strbuf_puts(&b, "],\"seed\":3}");
    assert_int_equal(ask(&a, b.data), OK);
    assert_int_equal(a.got.prompt.n, 1);
    assert_int_equal(a.got.prompt.v[0].ids.n, N);
    for (int i = 0; i < N; i++) {
        if (a.got.prompt.v[0].ids.v[i] != i) fail_msg("id %d", i);
    }
    assert_int_equal(a.got.seed, 3);
    assert_int_equal(n_nodes(a.in.root), 5);
    assert_true(a.in.mem.used < 4 * N + 1024);
    ask_end(&a);
    strbuf_fini(&b);
}

static void a_prompt_has_four_forms(void **state)
{
    (void)state;
    struct ask a;
    assert_int_equal(ask(&a, "{\"prompt\":\"one\",\"x\":\"two\"}"), OK);
    assert_int_equal(a.got.prompt.n, 1);
    assert_string_equal(a.got.prompt.v[0].text.p, "one");
    assert_int_equal(a.got.prompt.v[0].text.n, 3);
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"prompt\":[\"one\",\"\",\"three\"]}"), OK);
    assert_int_equal(a.got.prompt.n, 3);
    assert_string_equal(a.got.prompt.v[1].text.p, "");
    assert_string_equal(a.got.prompt.v[2].text.p, "three");
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"prompt\":[7,8]}"), OK);
    assert_int_equal(a.got.prompt.n, 1);
    assert_null(a.got.prompt.v[0].text.p);
    assert_int_equal(a.got.prompt.v[0].ids.n, 2);
    assert_int_equal(a.got.prompt.v[0].ids.v[1], 8);
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"prompt\":[[1,2],[ ] , [3]]}"), OK);
    assert_int_equal(a.got.prompt.n, 3);
    assert_int_equal(a.got.prompt.v[0].ids.n, 2);
    assert_int_equal(a.got.prompt.v[1].ids.n, 0);
    assert_null(a.got.prompt.v[1].text.p);
    assert_int_equal(a.got.prompt.v[2].ids.n, 1);
    assert_int_equal(a.got.prompt.v[2].ids.v[0], 3);
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"prompt\":[[]]}"), OK);
    assert_int_equal(a.got.prompt.n, 1);
    assert_int_equal(a.got.prompt.v[0].ids.n, 0);
    ask_end(&a);

    expect_fail("{\"prompt\":[]}", ERR_INVALID_VALUE, "prompt");
    expect_fail("{\"prompt\":[\"a\",1]}", ERR_INVALID_TYPE, "prompt[1]");
    expect_fail("{\"prompt\":[1,\"a\"]}", ERR_INVALID_TYPE, "prompt[1]");
    expect_fail("{\"prompt\":[\"a\",null]}", ERR_INVALID_TYPE, "prompt[1]");
    expect_fail("{\"prompt\":[null]}", ERR_INVALID_TYPE, "prompt[0]");
    expect_fail("{\"prompt\":[{}]}", ERR_INVALID_TYPE, "prompt[0]");
    expect_fail("{\"prompt\":[[1],[2,\"a\"]]}", ERR_INVALID_TYPE, "prompt[1][1]");
    expect_fail("{\"prompt\":[[1],2]}", ERR_INVALID_TYPE, "prompt[1]");
    expect_fail("{\"prompt\":[[1],[[2]]]}", ERR_INVALID_TYPE, "prompt[1][0]");
    expect_fail("{\"prompt\":[[1],[2,-3]]}", ERR_INVALID_VALUE, "prompt[1][1]");
    expect_fail("{\"prompt\":[[1],[2,3.5]]}", ERR_INVALID_TYPE, "prompt[1][1]");
    expect_fail("{\"prompt\":[1,2,4294967296]}", ERR_INVALID_VALUE, "prompt[2]");
}

static void too_many_prompts_are_refused_before_memory_is_spent(void **state)
{
    (void)state;
    struct strbuf b;
    struct ask a;
    strbuf_init(&b);
    strbuf_puts(&b, "{\"prompt\":[[]");
    for (int i = 0; i < 900000; i++) strbuf_puts(&b, ",[]");
    strbuf_puts(&b, "]}");
    assert_int_equal(ask(&a, b.data), ERR_INVALID_VALUE);
    assert_string_equal(a.note.param, "prompt");
    assert_int_equal(a.in.mem.used, 0);
    ask_end(&a);
    strbuf_fini(&b);
}

static void pairs_have_integer_keys_and_bounded_values(void **state)
{
    (void)state;
    struct ask a;
    assert_int_equal(ask(&a, "{\"bias\":{\"0\":-100,\"49151\":0.5,\"7\":1e2}}"), OK);
    assert_int_equal(a.got.bias.n, 3);
    assert_int_equal(a.got.bias.v[1].key, 49151);
    assert_true(a.got.bias.v[1].value == 0.5f && a.got.bias.v[0].value == -100.0f);
    ask_end(&a);
    expect_ok("{\"bias\":{}}");
    /* C18 */
    static const char *const wrong[] = {"\"-1\":0",         "\"49152\":0", "\"AI\":0",
                                        "\"1e9\":0",        "\"\":0",      "\"-\":0",
                                        "\"-0\":0",         "\"01\":0",    "\"+1\":0",
                                        "\" 1\":0",         "\"1.0\":0",   "\"99999999999999999999\":0",
                                        "\"4294967297\":0", "\"1\":101",   "\"1\":-100.1"};
    char body[64];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(body, sizeof body, "{\"bias\":{%s}}", wrong[i]);
        expect_fail(body, ERR_INVALID_VALUE, "bias");
    }
    expect_fail("{\"bias\":{\"1\":1e999}}", ERR_INVALID_VALUE, "bias");
    expect_fail("{\"bias\":{\"1\":\"1\"}}", ERR_INVALID_TYPE, "bias");
    expect_fail("{\"bias\":{\"1\":null}}", ERR_INVALID_TYPE, "bias");
    expect_fail("{\"bias\":{\"1\":1,\"1\":1}}", ERR_DUPLICATE_KEY, "bias");
    struct strbuf b;
    strbuf_init(&b);
    static const int entries[] = {1024, 1025, 100000, 300000};
    for (size_t k = 0; k < sizeof entries / sizeof entries[0]; k++) {
        strbuf_clear(&b);
        for (int i = 0; i < entries[k]; i++) strbuf_printf(&b, "%s\"%d\":1", i ? "," : "{\"bias\":{", i);
        strbuf_puts(&b, "}}");
        if (k == 0)
            expect_ok(b.data);
        else
            expect_fail(b.data, ERR_INVALID_VALUE, "bias");
    }
    strbuf_fini(&b);
}

static void any_hands_out_arrays_of_integers_apart(void **state)
{
    (void)state;
    struct ask a;
    assert_int_equal(ask(&a, "{\"any\":[0,1,1]}"), OK);
    assert_int_equal(a.got.any.kind, JSON_KIND_ARRAY);
    assert_null(a.got.any.node);
    assert_int_equal(a.got.any.ints.n, 3);
    assert_int_equal(a.got.any.ints.v[2], 1);
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"any\":{\"min_full_layers\":3}}"), OK);
    assert_int_equal(a.got.any.kind, JSON_KIND_OBJECT);
    assert_true(a.got.any.node->child->valuedouble == 3);
    ask_end(&a);
    assert_int_equal(ask(&a, "{\"any\":\"0101\"}"), OK);
    assert_int_equal(a.got.any.kind, JSON_KIND_STRING);
    ask_end(&a);
    expect_fail("{\"any\":[0,2]}", ERR_INVALID_VALUE, "any[1]");
    expect_fail("{\"any\":[0,0,0,0,0]}", ERR_INVALID_VALUE, "any");
    expect_fail("{\"any\":[0,0.5]}", ERR_INVALID_TYPE, "any[1]");
    expect_fail("{\"text_any\":[1]}", ERR_INVALID_TYPE, "text_any");
}

/* ---- refused and ignored ---- */

static void rejected_fields_may_ask_for_nothing(void **state)
{
    (void)state;
    static const char *const yes[] = {"{\"suffix\":false}",
                                      "{\"suffix\":0.0}",
                                      "{\"best_of\":1}",
                                      "{\"best_of\":1.0}",
                                      "{\"modalities\":[\"text\"]}",
                                      "{\"modalities\":[\"text\",\"json_object\"]}",
                                      "{\"modalities\":\"text\"}",
                                      "{\"unknown\":{\"a\":[1,{}]}}",
                                      "{\"user\":\"x\",\"Suffix\":\"y\"}"};
    static const char *const no[] = {
        "{\"suffix\":\" \"}",      "{\"best_of\":2}",        "{\"best_of\":0}",
        "{\"echo_depth\":0}",      "{\"echo_depth\":1}",     "{\"modalities\":[\"text\",\"audio\"]}",
        "{\"modalities\":[null]}", "{\"suffix\":{\"a\":1}}", "{\"suffix\":true}"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) expect_ok(yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        struct ask a;
        if (ask(&a, no[i]) != ERR_UNSUPPORTED) fail_msg("%s: %s", no[i], a.note.text);
        ask_end(&a);
    }
}

static void a_field_that_is_never_served_is_told_without_its_value(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        bool other; /* another value would do */
    } t[] = {{"{\"echo_depth\":\"x\"}", false}, {"{\"echo_depth\":{\"a\":1}}", false},
             {"{\"echo_depth\":7}", false},     {"{\"suffix\":7}", true}, /* 0 asks for nothing */
             {"{\"best_of\":2}", true},         {"{\"modalities\":[\"audio\"]}", true}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ask a;
        assert_int_equal(ask(&a, t[i].body), ERR_UNSUPPORTED);
        assert_int_equal(strstr(a.note.text, "with this value") != NULL, t[i].other);
        ask_end(&a);
    }
}

/* ---- below the top level ---- */

struct message {
    struct json_str role, content;
    int64_t number;
    struct json_ints ids;
};
static const struct json_row message_row[] = {
    {.name = "role", .type = JSON_STRING, JSON_AT(struct message, role), .flags = JSON_REQUIRED},
    {.name = "content", .type = JSON_STRING, JSON_AT(struct message, content)},
    {.name = "number", .type = JSON_INT, JSON_AT(struct message, number), .min = INT64_MIN, .max = INT64_MAX},
    {.name = "ids", .type = JSON_INTS, JSON_AT(struct message, ids), .min = 0, .max = 9, .max_items = 3},
    {.name = NULL},
};

static enum err read_messages(const char *body, struct err_note *note, struct message *m)
{
    struct json_in in;
    enum err e = json_in_open(&in, body, strlen(body), NULL, note);
    int i = 0;
    for (const cJSON *c = e == OK ? in.root->child->child : NULL; c && e == OK; c = c->next, i++) {
        size_t mark = json_in_enter(&in, "messages[%d]", i);
        memset(m, 0, sizeof *m);
        e = json_in_read(&in, c, message_row, m);
        if (e == OK && strcmp(m->role.p, "user") != 0) {
            size_t deeper = json_in_enter(&in, "%s", "inner");
            e = json_in_fail(&in, ERR_INVALID_VALUE, "role", "is %d", 5);
            json_in_leave(&in, deeper);
        }
        json_in_leave(&in, mark);
        assert_string_equal(in.path, "");
    }
    json_in_close(&in);
    return e;
}

static void nested_fields_are_told_by_their_path(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum err e;
        const char *param, *text;
    } t[] = {
        {"{\"messages\":[{\"role\":\"user\"},{\"role\":\"user\",\"content\":5}]}", ERR_INVALID_TYPE,
         "messages[1].content", "messages[1].content must be a string, not a number"},
        {"{\"messages\":[{\"content\":\"x\"}]}", ERR_MISSING_FIELD, "messages[0].role",
         "messages[0].role is required"},
        {"{\"messages\":[{\"role\":null}]}", ERR_INVALID_TYPE, "messages[0].role",
         "messages[0].role must not be null"},
        {"{\"messages\":[{\"role\":\"user\"},7]}", ERR_INVALID_TYPE, "messages[1]",
         "messages[1] must be an object, not a number"},
        {"{\"messages\":[1,2,3]}", ERR_INVALID_TYPE, "messages[0]",
         "messages[0] must be an object, not a number"},
        {"{\"messages\":[[1,2]]}", ERR_INVALID_TYPE, "messages[0]",
         "messages[0] must be an object, not an array"},
        {"{\"messages\":[{\"role\":\"king\"}]}", ERR_INVALID_VALUE, "messages[0].inner.role",
         "messages[0].inner.role is 5"},
        {"{\"messages\":[{\"role\":\"user\",\"ids\":[1,10]}]}", ERR_INVALID_VALUE, "messages[0].ids[1]",
         "messages[0].ids[1] must be between 0 and 9"},
        {"{\"messages\":[{\"role\":\"user\",\"ids\":[1,2,3,4]}]}", ERR_INVALID_VALUE, "messages[0].ids",
         NULL},
        {"{\"messages\":[{\"role\":\"user\",\"number\":9007199254740993}]}", ERR_INVALID_VALUE,
         "messages[0].number", NULL},
        {"{\"messages\":[{\"role\":\"user\",\"number\":0.5}]}", ERR_INVALID_TYPE, "messages[0].number", NULL},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct err_note note;
        struct message m;
        assert_int_equal(read_messages(t[i].body, &note, &m), t[i].e);
        assert_string_equal(note.param, t[i].param);
        if (t[i].text) assert_string_equal(note.text, t[i].text);
    }
    struct message m;
    /* names of the top level mean nothing here, nor the other way round */
    assert_int_equal(
        read_messages(
            "{\"messages\":[{\"role\":\"user\",\"number\":-3,\"ids\":[9,0]}],\"number\":\"x\",\"ids\":[77]}",
            NULL, &m),
        OK);
    assert_int_equal(m.number, -3);
}

static void long_paths_are_cut_not_overrun(void **state)
{
    (void)state;
    struct json_in in;
    struct err_note note;
    assert_int_equal(json_in_open(&in, "{}", 2, NULL, &note), OK);
    for (int i = 0; i < 50; i++) json_in_enter(&in, "a_rather_long_name[%d]", i);
    assert_int_equal(json_in_fail(&in, ERR_INVALID_VALUE, "end", "is wrong"), ERR_INVALID_VALUE);
    assert_int_equal(strlen(note.param), sizeof note.param - 1);
    json_in_leave(&in, 0);
    json_in_fail(&in, ERR_INVALID_VALUE, "end", "is wrong");
    assert_string_equal(note.param, "end");
    json_in_fail(&in, ERR_INVALID_VALUE, NULL, "is wrong");
    assert_string_equal(note.text, "the body is wrong");
    json_in_close(&in);
}

/* ---- memory ---- */

static int allocations_left;
static void *failing_malloc(size_t n) { return allocations_left-- > 0 ? malloc(n) : NULL; }

static void a_tree_without_memory_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    static const char body[] = "{\"a\":[1,2],\"b\":{\"c\":\"x\",\"d\":[null,true,{}]},\"e\":1.5}";
    cJSON_Hooks hooks = {.malloc_fn = failing_malloc, .free_fn = free};
    int k = 0;
    for (;; k++) {
        struct json_in in;
        struct err_note note;
        allocations_left = k;
        cJSON_InitHooks(&hooks);
        enum err e = json_in_open(&in, body, sizeof body - 1, NULL, &note);
        if (e == OK) {
            json_in_close(&in);
            break;
        }
        assert_int_equal(e, ERR_NOMEM);
        assert_int_equal(note.code, ERR_NOMEM);
        assert_null(in.root);
        json_in_close(&in); /* harmless */
    }
    cJSON_InitHooks(NULL);
    assert_in_range(k, 10, 40);
}

/* ---- tables that are wrong ---- */

static void read_with(const struct json_row *row)
{
    struct json_in in;
    struct all got;
    if (json_in_open(&in, "{\"x\":1}", 7, NULL, NULL) == OK) json_in_read(&in, in.root, row, &got);
}
static void wrong_size(void)
{
    read_with((const struct json_row[]){
        {.name = "x", .type = JSON_DOUBLE, JSON_AT(struct all, top_p), .fmin = 0, .fmax = 1},
        {.name = NULL}});
}
static void no_bounds(void)
{
    read_with((const struct json_row[]){{.name = "x", .type = JSON_INT, JSON_AT(struct all, seed)},
                                        {.name = NULL}});
}
static void wide_bounds(void)
{
    read_with((const struct json_row[]){
        {.name = "x", .type = JSON_INT32, JSON_AT(struct all, n), .min = 0, .max = INT64_MAX},
        {.name = NULL}});
}
static void no_words(void)
{
    read_with((const struct json_row[]){{.name = "x", .type = JSON_WORD, JSON_AT(struct all, word)},
                                        {.name = NULL}});
}

static void a_wrong_row_is_a_bug(void **state)
{
    (void)state;
    assert_check_fails(wrong_size, "size");
    assert_check_fails(no_bounds, "min");
    assert_check_fails(wide_bounds, "INT32_MAX");
    assert_check_fails(no_words, "words");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_takes_its_own_and_nothing_else),
        cmocka_unit_test(the_body_is_an_object),
        cmocka_unit_test(absent_and_null_leave_the_target_alone),
        cmocka_unit_test(required_is_neither_absent_nor_null),
        cmocka_unit_test(integers_are_exact_in_64_bits),
        cmocka_unit_test(bounds_are_kept_and_told),
        cmocka_unit_test(values_arrive_in_their_targets),
        cmocka_unit_test(one_string_is_a_list_of_one),
        cmocka_unit_test(ids_are_read_from_the_raw_text),
        cmocka_unit_test(a_million_ids_cost_no_tree),
        cmocka_unit_test(a_prompt_has_four_forms),
        cmocka_unit_test(too_many_prompts_are_refused_before_memory_is_spent),
        cmocka_unit_test(pairs_have_integer_keys_and_bounded_values),
        cmocka_unit_test(any_hands_out_arrays_of_integers_apart),
        cmocka_unit_test(rejected_fields_may_ask_for_nothing),
        cmocka_unit_test(a_field_that_is_never_served_is_told_without_its_value),
        cmocka_unit_test(nested_fields_are_told_by_their_path),
        cmocka_unit_test(long_paths_are_cut_not_overrun),
        cmocka_unit_test(a_tree_without_memory_is_told_and_leaves_nothing),
        cmocka_unit_test(a_wrong_row_is_a_bug),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
