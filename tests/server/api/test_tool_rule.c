/* tool_rule: whatever a rule lets the model say is read as calls whose arguments hold to their schemas, in
 * every family. Texts are walked by chance, a byte at a time. */
#include <cjson/cJSON.h>

#include "server/api/tool_rule.h"
#include "tests/server/text/tools/collect.h"

static const char body[] =
    "{\"tools\": ["
    "{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"strict\": true, \"parameters\": "
    "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}, \"days\": {\"type\": \"integer\"}, "
    "\"unit\": {\"type\": \"string\", \"enum\": [\"C\", \"F\"]}, \"at\": {\"$ref\": \"#/$defs/place\"}}, "
    "\"required\": [\"city\", \"at\"], \"additionalProperties\": false, \"$defs\": {\"place\": {\"type\": "
    "\"array\", \"items\": {\"type\": [\"number\", \"null\"]}, \"maxItems\": 2}}}}},"
    "{\"type\": \"function\", \"function\": {\"name\": \"search\", \"parameters\": {\"type\": \"object\", "
    "\"properties\": {\"query\": {\"type\": \"string\"}, \"exact\": {\"type\": \"boolean\"}}, "
    "\"additionalProperties\": false}}}"
    "], \"tool_choice\": %s}";

enum { N_SPECIAL = 8, EOS = 256 + N_SPECIAL, N_TOKEN };
static const char *const special[N_SPECIAL] = {
    "\xff<tool_call>",       "\xff</tool_call>", "\xff[TOOL_CALLS]",          "\xff[ARGS]",
    "\xff<|tool_call_end|>", "\xff<|message|>",  "\xff<｜tool▁call▁begin｜>", "\xff<other>"};

static struct grammar_vocab *vocab_open(void)
{
    static char byte[256];
    struct grammar_token token[N_TOKEN] = {0};
    struct grammar_vocab *v;
    const int32_t eos = EOS;
    for (int i = 0; i < 256; i++) {
        byte[i] = (char)i;
        token[i] = (struct grammar_token){&byte[i], i < 0xff}; /* which begins special ones */
    }
    for (int i = 0; i < N_SPECIAL; i++)
        token[256 + i] = (struct grammar_token){special[i], strlen(special[i])};
    assert_int_equal(grammar_vocab_new(&v, token, N_TOKEN, &eos, 1, NULL), OK);
    return v;
}

struct made {
    struct json_in in;
    char text[2048];
    struct chat_tools tools;
    struct arena mem;
    struct grammar *g;
};

static enum err make(struct made *m, const struct tool_format *f, const char *choice, bool parallel,
                     enum tool_strict strict, struct grammar_vocab *v, struct err_note *note)
{
    const struct grammar_part *root;
    struct json_any c = {0};
    *m = (struct made){0};
    snprintf(m->text, sizeof m->text, body, choice);
    if (json_in_open(&m->in, m->text, strlen(m->text), NULL, note)) fail_msg("%s", note->text);
    arena_init(&m->mem, 0);
    c.node = json_in_get(m->in.root, "tool_choice");
    c.kind = cJSON_IsObject(c.node) ? JSON_KIND_OBJECT : JSON_KIND_STRING;
    if (chat_tools_read(&m->tools, &m->in, json_in_get(m->in.root, "tools"), &c, parallel, TOOLS_CHAT))
        fail_msg("%s", note->text);
    enum err e = tool_rule(&root, &m->mem, f, &m->tools, strict, NULL, &m->in);
    if (!e && root) e = grammar_compile_parts(&m->g, v, root, NULL, NULL, note);
    return e;
}

static void unmake(struct made *m)
{
    grammar_give(m->g);
    arena_fini(&m->mem);
    json_in_close(&m->in);
}

static bool allows(const uint32_t *bits, int i) { return bits[i / 32] >> (i % 32) & 1; }

/* What comes next: often what closes something, so that texts end. */
static int choose(const uint32_t *bits)
{
    static const char closing[] = "\"]})<,(";
    int n = 0, pick = -1;
    if (allows(bits, EOS) && rand() % 3 == 0) return EOS;
    for (int i = 0; closing[i] && rand() % 2; i++)
        if (allows(bits, closing[i]) && rand() % 2) return closing[i];
    for (int i = 0; i < N_TOKEN; i++)
        if (allows(bits, i) && rand() % ++n == 0) pick = i;
    return pick;
}

/* Appends a text of the grammar; false: it did not end. Now and then it tries what closes a value and what
 * opens a call, which chance alone would not spell. */
static bool walk(struct grammar *g, const struct tool_format *f, struct strbuf *out)
{
    const char *const word[] = {f->value_close, f->section_open, f->call_open, f->value_close};
    const char *spell = "";
    struct grammar_matcher *m;
    uint32_t bits[(N_TOKEN + 31) / 32];
    bool ended = false;
    assert_int_equal(grammar_matcher_new(&m, g), OK);
    for (int i = 0; i < 3000 && !ended; i++) {
        assert_int_equal(grammar_matcher_mask(m, bits), OK);
        if (!*spell && rand() % 20 == 0) spell = word[rand() % 4];
        if (*spell && !allows(bits, (unsigned char)*spell)) spell = "";
        const int t = *spell ? (unsigned char)*spell++ : choose(bits);
        if (t < 0) fail_msg("nothing may follow: %s", out->data);
        assert_int_equal(grammar_matcher_accept(m, t), OK);
        ended = t == EOS;
        if (t < 256) strbuf_putc(out, (char)t);
        if (t >= 256 && !ended) strbuf_puts(out, special[t - 256] + 1);
    }
    grammar_matcher_free(m);
    return ended;
}

static void check_args(const char *name, const char *args, bool held)
{
    cJSON *j = cJSON_Parse(args);
    if (!j || !cJSON_IsObject(j)) fail_msg("not an object: %s", args);
    const bool weather = !strcmp(name, "get_weather");
    for (const cJSON *c = j->child; held && c; c = c->next) {
        const char *k = c->string;
        const bool fine =
            weather
                ? (!strcmp(k, "city") && cJSON_IsString(c)) || (!strcmp(k, "days") && cJSON_IsNumber(c)) ||
                      (!strcmp(k, "unit") && cJSON_IsString(c) && strchr("CF", *c->valuestring)) ||
                      (!strcmp(k, "at") && cJSON_IsArray(c) && cJSON_GetArraySize(c) <= 2)
                : (!strcmp(k, "query") && cJSON_IsString(c)) || (!strcmp(k, "exact") && cJSON_IsBool(c));
        if (!fine) fail_msg("%s of %s", k, args);
    }
    if (held && weather) assert_true(cJSON_HasObjectItem(j, "city") && cJSON_HasObjectItem(j, "at"));
    cJSON_Delete(j);
}

/* Walks n texts; calls_least in each that ended. */
static void walk_family(struct grammar_vocab *v, const struct tool_format *f, const char *choice,
                        bool parallel, int n, int calls_least)
{
    struct made m;
    struct err_note note = {0};
    int n_ended = 0;
    const enum err e = make(&m, f, choice, parallel, TOOL_STRICT_REQUEST, v, &note);
    if (e) fail_msg("%s: %s %s", f->name, note.param, note.text);
    const struct tool_set *set;
    assert_int_equal(chat_tools_set(&m.tools, &m.mem, &set), OK);
    for (int i = 0; i < n; i++) {
        struct strbuf text;
        struct collected got;
        strbuf_init(&text);
        const bool ended = walk(m.g, f, &text);
        n_ended += ended;
        read_answer(&got, f, set, text.data ? text.data : "", text.len, 0);
        if (ended && (got.n_call < calls_least || (!parallel && got.n_call > 1)))
            fail_msg("%s: %d calls in %s", f->name, got.n_call, text.data);
        for (int k = 0; k < got.n_call && ended; k++) {
            if (!got.ended[k]) fail_msg("%s: a call without end: %s", f->name, text.data);
            check_args(str_of(&got.name[k]), str_of(&got.args[k]),
                       calls_least || !strcmp(str_of(&got.name[k]), "get_weather"));
        }
        if (calls_least && ended && got.text.len)
            fail_msg("%s: text \"%s\" of %s", f->name, got.text.data, text.data);
        collect_close(&got);
        strbuf_fini(&text);
    }
    if (n_ended < n / 2) fail_msg("%s: only %d of %d texts ended", f->name, n_ended, n);
    unmake(&m);
}

static void what_must_be_a_call_is_read_as_calls(void **state)
{
    (void)state;
    struct grammar_vocab *v = vocab_open();
    srand(11);
    for (const struct tool_format *f = tool_formats; f->name; f++) {
        walk_family(v, f, "\"required\"", true, 30, 1);
        walk_family(v, f, "\"required\"", false, 10, 1);
        walk_family(v, f, "{\"type\": \"function\", \"function\": {\"name\": \"search\"}}", true, 10, 1);
    }
    grammar_vocab_give(v);
}

static void what_may_be_a_call_holds_to_a_strict_schema(void **state)
{
    (void)state;
    struct grammar_vocab *v = vocab_open();
    srand(12);
    for (const struct tool_format *f = tool_formats; f->name; f++) walk_family(v, f, "\"auto\"", true, 10, 0);
    grammar_vocab_give(v);
}

/* Which requests are held to a rule at all. */
static void nothing_is_held_that_nobody_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *choice;
        bool parallel;
        enum tool_strict strict;
        bool held;
    } cases[] = {
        {"\"auto\"", true, TOOL_STRICT_REQUEST, true}, /* one of the tools is strict */
        {"\"auto\"", true, TOOL_STRICT_NEVER, false},
        {"\"auto\"", false, TOOL_STRICT_NEVER, true},
        {"\"none\"", true, TOOL_STRICT_ALWAYS, false},
        {"\"required\"", true, TOOL_STRICT_NEVER, true},
        {"{\"type\": \"allowed_tools\", \"mode\": \"auto\", \"tools\": [{\"type\": \"function\", \"name\": \"search\"}]}",
         true, TOOL_STRICT_NEVER, true},
    };
    struct grammar_vocab *v = vocab_open();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct made m;
        struct err_note note = {0};
        assert_int_equal(
            make(&m, tool_formats, cases[i].choice, cases[i].parallel, cases[i].strict, v, &note), OK);
        assert_int_equal(m.g != NULL, cases[i].held);
        unmake(&m);
    }
    grammar_vocab_give(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_must_be_a_call_is_read_as_calls),
        cmocka_unit_test(what_may_be_a_call_holds_to_a_strict_schema),
        cmocka_unit_test(nothing_is_held_that_nobody_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
