/* tools: an answer says the same however it is cut, is written again as it was read, and loses nothing when
 * it is broken. The answers are tests/goldens/tool_calls.json. */
#include <cjson/cJSON.h>

#include "tests/server/text/tools/collect.h"

static cJSON *golden;

static const char *const text_key[] = {"city", "query", "größe"};
static const struct tool tool[] = {
    {.name = "get_weather", .n_name = 11, .text_key = text_key, .n_text_key = 3},
    {.name = "search", .n_name = 6, .text_key = text_key, .n_text_key = 3},
};
static const struct tool_set tools = {.tool = tool, .n = 2};

static int load(void **state)
{
    (void)state;
    FILE *f = fopen("tests/goldens/tool_calls.json", "rb");
    assert_non_null(f);
    struct strbuf text;
    strbuf_init(&text);
    char buf[65536];
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;) strbuf_put(&text, buf, n);
    fclose(f);
    golden = cJSON_ParseWithLength(text.data, text.len);
    strbuf_fini(&text);
    return golden ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    cJSON_Delete(golden);
    return 0;
}

static const char *word(const cJSON *of, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(of, key));
}

static const struct tool_format *format_of(const cJSON *c)
{
    const struct tool_format *f = format_named(word(c, "format"));
    assert_non_null(f);
    return f;
}

#define EACH_CASE(c)                                                                                         \
    for (const cJSON *c = cJSON_GetObjectItemCaseSensitive(golden, "cases")->child; c; c = c->next)

static void golden_answers_are_read(void **state)
{
    (void)state;
    EACH_CASE(c)
    {
        struct collected got;
        const char *answer = word(c, "answer");
        const cJSON *calls = cJSON_GetObjectItemCaseSensitive(c, "calls");
        read_answer(&got, format_of(c), &tools, answer, strlen(answer), 1000000);
        if (got.n_call != cJSON_GetArraySize(calls)) fail_msg("%s: %s", word(c, "format"), answer);
        assert_string_equal(str_of(&got.text), word(c, "text"));
        const size_t n = strlen(word(c, "thought")); /* a line end in front of the close is the thought's */
        assert_true(got.thought.len >= n && got.thought.len <= n + 1);
        if (n) assert_memory_equal(got.thought.data, word(c, "thought"), n);
        int i = 0;
        for (const cJSON *k = calls->child; k; k = k->next, i++) {
            assert_string_equal(str_of(&got.name[i]), word(k, "name"));
            assert_string_equal(str_of(&got.args[i]), word(k, "args"));
            assert_true(got.ended[i]);
        }
        collect_close(&got);
    }
}

static void every_split_says_the_same(void **state)
{
    (void)state;
    EACH_CASE(c)
    {
        struct collected whole, got;
        const char *answer = word(c, "answer");
        read_answer(&whole, format_of(c), &tools, answer, strlen(answer), 1000000);
        for (size_t part = 0; part < 24; part++) {
            read_answer(&got, format_of(c), &tools, answer, strlen(answer), part < 5 ? part : 0);
            assert_int_equal(got.all.len, whole.all.len);
            assert_memory_equal(str_of(&got.all), str_of(&whole.all), whole.all.len);
            collect_close(&got);
        }
        collect_close(&whole);
    }
}

/* The calls of an answer, written again and read again. */
static void parse_of_render_is_the_identity(void **state)
{
    (void)state;
    EACH_CASE(c)
    {
        struct collected got, again;
        struct strbuf out;
        struct tool_past past[CALLS_MOST];
        const char *answer = word(c, "answer");
        const struct tool_format *f = format_of(c);
        const cJSON *ids = cJSON_GetObjectItemCaseSensitive(c, "ids");
        read_answer(&got, f, &tools, answer, strlen(answer), 1000000);
        if (got.n_call == 0) {
            collect_close(&got);
            continue;
        }
        for (int i = 0; i < got.n_call; i++) {
            const char *id = cJSON_GetStringValue(cJSON_GetArrayItem(ids, i));
            past[i] = (struct tool_past){.name = str_of(&got.name[i]),
                                         .n_name = got.name[i].len,
                                         .args = str_of(&got.args[i]),
                                         .n_args = got.args[i].len,
                                         .id = id,
                                         .n_id = strlen(id)};
        }
        strbuf_init(&out);
        tool_render_calls(f, past, got.n_call, &out);
        /* Mistral's old templates write the id behind the arguments, which a model has no need to, and
         * harmony's first header begins in the prompt; all others write what stands in the answer */
        if (strcmp(f->name, "mistral") && strcmp(f->name, "harmony") && strcmp(f->name, "pythonic"))
            assert_non_null(strstr(answer, out.data));
        read_answer(&again, f, &tools, out.data, out.len, 1000000);
        assert_int_equal(again.n_call, got.n_call);
        for (int i = 0; i < got.n_call; i++) {
            assert_string_equal(str_of(&again.name[i]), str_of(&got.name[i]));
            assert_string_equal(str_of(&again.args[i]), str_of(&got.args[i]));
        }
        assert_int_equal(again.text.len, 0);
        strbuf_fini(&out);
        collect_close(&again);
        collect_close(&got);
    }
}

/* Of an answer cut anywhere: no more calls than the whole has, arguments that are a beginning of the whole's,
 * and what is text of the whole never becomes anything else. */
static void a_cut_answer_is_a_beginning_of_the_whole(void **state)
{
    (void)state;
    EACH_CASE(c)
    {
        struct collected whole, got;
        const char *answer = word(c, "answer");
        const size_t n = strlen(answer);
        read_answer(&whole, format_of(c), &tools, answer, n, 1000000);
        for (size_t cut = 0; cut < n; cut++) {
            read_answer(&got, format_of(c), &tools, answer, cut, 3);
            assert_true(got.n_call <= whole.n_call);
            assert_true(got.thought.len <= whole.thought.len + 16); /* of a tag that closes it */
            for (int i = 0; i < got.n_call; i++) {
                const size_t k = got.args[i].len < whole.args[i].len ? got.args[i].len : whole.args[i].len;
                assert_string_equal(str_of(&got.name[i]), str_of(&whole.name[i]));
                if (format_of(c)->style == TOOL_OBJECT || format_of(c)->style == TOOL_NAMED)
                    assert_memory_equal(str_of(&got.args[i]), str_of(&whole.args[i]), k);
                assert_true(i + 1 == got.n_call || got.ended[i]);
            }
            const size_t k = got.text.len < whole.text.len ? got.text.len : whole.text.len;
            const bool in_tag = whole.thought.len > 0 && got.thought.len == 0; /* which may still be text */
            if (k && !in_tag && cut > 1) assert_memory_equal(str_of(&got.text), str_of(&whole.text), k);
            collect_close(&got);
        }
        collect_close(&whole);
    }
}

/* --- broken ones, by hand */

static void says(const char *format, const char *answer, const char *text, const char *calls)
{
    for (size_t part = 0; part < 5; part++) {
        struct collected got;
        struct strbuf all;
        strbuf_init(&all);
        read_answer(&got, format_named(format), &tools, answer, strlen(answer), part ? part : 1000000);
        for (int i = 0; i < got.n_call; i++)
            strbuf_printf(&all, "%s%s(%s)%s", i ? " " : "", str_of(&got.name[i]), str_of(&got.args[i]),
                          got.ended[i] ? "" : "...");
        if (strcmp(str_of(&all), calls) || strcmp(str_of(&got.text), text))
            fail_msg("%s, parts of %zu: \"%s\" is \"%s\", calls %s", format, part, answer, str_of(&got.text),
                     str_of(&all));
        strbuf_fini(&all);
        collect_close(&got);
    }
}

static void what_does_not_parse_is_text(void **state)
{
    (void)state;
    static const char *const text[] = {"<tool_call>",
                                       "<tool_call>\n{\"name\": 5}",
                                       "<tool_call>{\"arguments\": {}}",
                                       "<tool_call",
                                       "a <b> c <tool_",
                                       "<tool_call>\n{\"name\": \"\", \"arguments\": {}}\n</tool_call>",
                                       "</tool_call>",
                                       "{\"name\": \"search\"}",
                                       "<tool_call>not JSON</tool_call>",
                                       "text \n\n with space  \n",
                                       "\n\nx",
                                       "<tool_call><tool_call><tool_call>",
                                       "<think",
                                       "a<think>b</think>"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) says("hermes", text[i], text[i], "");
    says("llama3_json", "{\"name\": \"Bob\", \"age\": 5}", "{\"name\": \"Bob\", \"age\": 5}", "");
    says("llama3_json", "See {\"name\": \"search\"}", "See {\"name\": \"search\"}", "");
    says("pythonic", "[1, 2, 3]", "[1, 2, 3]", "");
    says("pythonic", "[link](http://x)", "[link](http://x)", "");
    says("glm45", "<tool_call>a word or two</tool_call>", "<tool_call>a word or two</tool_call>", "");
    says("harmony", "plain text", "plain text", "");
}

static void calls_that_run_together_are_two(void **state)
{
    (void)state;
    says(
        "hermes",
        "<tool_call>{\"name\":\"search\",\"arguments\":{}}<tool_call>{\"name\":\"search\",\"arguments\":{\"a\":1}}",
        "", "search({}) search({\"a\":1})");
    says("hermes",
         "<tool_call>{\"name\": \"sea<tool_call>\n{\"name\": \"search\", \"arguments\": {}}\n</tool_call>",
         "<tool_call>{\"name\": \"sea", "search({})");
    says("hermes", "<tool_call>\n<tool_call>\n{\"name\": \"search\"}\n</tool_call> and more",
         "<tool_call> and more", "search({})");
    says("hermes", "<tool_call>{\"name\": \"search\", \"arguments\": {\"a\": [1, </tool_call>rest", "rest",
         "search({\"a\": [1, )");
    says("mistral_args", "[TOOL_CALLS]search[ARGS]{\"a\": 1[TOOL_CALLS]search[ARGS]{}", "",
         "search({\"a\": 1[TOOL_CALLS]search[ARGS]{})...");
    says("qwen3_coder", "<function=search>\n<parameter=query>\nx\n</parameter>\n</function>", "",
         "search({\"query\": \"x\"})");
    says(
        "llama3_json",
        "<|python_tag|>{\"name\": \"search\", \"parameters\": {\"a\": 1}}; {\"name\": \"search\", \"parameters\": {}}",
        "", "search({\"a\": 1}) search({})");
    says("pythonic", "[search(query='it\\'s', k=(1, None), d={'a': True}), search()]", "",
         "search({\"query\": \"it's\", \"k\": [1, null], \"d\": {\"a\": true}}) search({})");
    says("pythonic", "[search(\"x\")]", "\"x\")]", "search({})");
    says("hermes", "<tool_call>{\"name\": \"search\", \"note\": \"hm\", \"arguments\": {}}</tool_call>",
         "\"note\": \"hm\"", "search({})");
    says("hermes", "<tool_call>{\"name\": \"search\", oops</tool_call>", "oops</tool_call>", "search({})");
}

static void a_call_in_a_thought_is_a_thought(void **state)
{
    (void)state;
    says("hermes", "<think>a <tool_call>{\"name\": \"search\"}</tool_call> b</think>\n\nend", "end", "");
    says("hermes", "<think>never closed <tool_call>{\"name\": \"search\"}</tool_call>", "", "");
    says("mistral_args", "[THINK]hm [TOOL_CALLS]search[ARGS]{}[/THINK][TOOL_CALLS]search[ARGS]{}", "",
         "search({})");
}

/* Bytes changed, dropped and doubled by chance: never a failure, and every split says the same. */
static void mutated_answers_say_the_same_in_every_split(void **state)
{
    (void)state;
    srand(7);
    EACH_CASE(c)
    {
        const char *answer = word(c, "answer");
        for (int round = 0; round < 12; round++) {
            struct strbuf text;
            struct collected one, got;
            strbuf_init(&text);
            for (size_t i = 0; answer[i]; i++) {
                const int r = rand() % 64;
                if (r == 0) continue;
                if (r == 1) strbuf_putc(&text, "\"{}[]<>\\,: \n'()"[rand() % 15]);
                if (r == 2 && i > 8) strbuf_put(&text, answer + i - 8, 8);
                strbuf_putc(&text, answer[i]);
            }
            const struct tool_format *f = &tool_formats[round % 4 ? 0 : rand() % 13];
            if (round % 4) f = format_of(c);
            read_answer(&one, f, &tools, text.data, text.len, 1000000);
            read_answer(&got, f, &tools, text.data, text.len, (size_t)round % 5);
            assert_int_equal(got.all.len, one.all.len);
            assert_memory_equal(str_of(&got.all), str_of(&one.all), one.all.len);
            collect_close(&one);
            collect_close(&got);
            strbuf_fini(&text);
        }
    }
}

/* Without tools an answer is its thought and its text, byte for byte. */
static void without_tools_text_is_as_it_stands(void **state)
{
    (void)state;
    static const char *const answer[] = {"  a\n\n", "<tool_call>{\"name\": \"search\"}</tool_call>\n",
                                         "<thin", "\n<think>x</think>"};
    for (size_t i = 0; i < sizeof answer / sizeof *answer; i++) {
        struct collected got;
        read_answer(&got, &tool_formats[0], NULL, answer[i], strlen(answer[i]), i);
        assert_string_equal(str_of(&got.text), answer[i]);
        assert_int_equal(got.n_call, 0);
        collect_close(&got);
    }
}

/* What was held back comes out again when it is more than any opening has. */
static void what_is_held_is_bounded(void **state)
{
    (void)state;
    struct strbuf text;
    struct collected got;
    strbuf_init(&text);
    strbuf_puts(&text, "<tool_call>");
    for (int i = 0; i < 3000; i++) strbuf_putc(&text, i % 3 ? ' ' : '\n');
    strbuf_puts(&text, "{\"name\": \"");
    for (int i = 0; i < 3000; i++) strbuf_putc(&text, 'n');
    read_answer(&got, &tool_formats[0], &tools, text.data, text.len, 5);
    assert_int_equal(got.text.len, text.len);
    assert_memory_equal(got.text.data, text.data, text.len);
    strbuf_fini(&text);
    collect_close(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_answers_are_read),
        cmocka_unit_test(every_split_says_the_same),
        cmocka_unit_test(parse_of_render_is_the_identity),
        cmocka_unit_test(a_cut_answer_is_a_beginning_of_the_whole),
        cmocka_unit_test(what_does_not_parse_is_text),
        cmocka_unit_test(calls_that_run_together_are_two),
        cmocka_unit_test(a_call_in_a_thought_is_a_thought),
        cmocka_unit_test(mutated_answers_say_the_same_in_every_split),
        cmocka_unit_test(without_tools_text_is_as_it_stands),
        cmocka_unit_test(what_is_held_is_bounded),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
