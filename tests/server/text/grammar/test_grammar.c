/* The constraint engine as its users see it: schemas with texts of tests/goldens/schemas.json, over a
 * vocabulary whose tokens cut characters, strings and numbers anywhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/files/jdoc.h"
#include "base/strbuf.h"
#include "server/text/grammar/grammar.h"
#include "server/text/grammar/matcher.h"
#include "tests/base/cm.h"

static uint64_t seed = 88172645463325252u;
static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 33) % n);
}

/* --- a vocabulary: all bytes, pieces of JSON, long plain texts, an end, one without text */

enum { N_TOKEN = 900, BITS = (N_TOKEN + 31) / 32, EOS = 256, SILENT = 257 };
static char text[N_TOKEN][48];
static struct grammar_token token[N_TOKEN];
static struct grammar_vocab *vocab;

static int make_vocab(void **state)
{
    (void)state;
    static const char *const piece[] = {
        "{\"",    "\": ", ", \"", "\", \"", "\"}",   "}}",   "[[", "]]",       "[]",       "{}",
        "\\u00",  "\\n",  "null", "true",   "false", "name", "a",  "b",        "1",        "10",
        "0.",     ".0",   "-1",   "e+",     "\xc3",  "\xa9", "é",  "\xf0\x9f", "\x98\x80", "kind",
        "\": \"", "ab",   "x_",   "v",      "kids",  "19",   "20", "-0"};
    enum { N_PIECE = sizeof piece / sizeof *piece };
    for (int i = 0; i < N_TOKEN; i++) {
        size_t n = 0;
        if (i < 256)
            text[i][n++] = (char)i;
        else if (i < 300 + N_PIECE && i >= 300)
            n = (size_t)sprintf(text[i], "%s", piece[i - 300]);
        else if (i >= 300)
            for (unsigned k = 1 + pick(4); k > 0; k--)
                n += (size_t)sprintf(text[i] + n, "%s", piece[pick(N_PIECE)]);
        if (i >= 860) /* plain texts of 1 to 40 characters, for the slices */
            for (n = 0; n < (size_t)(i - 859);) text[i][n++] = (char)('a' + pick(26));
        token[i] = (struct grammar_token){text[i], n};
    }
    int32_t eos = EOS;
    return grammar_vocab_new(&vocab, token, N_TOKEN, &eos, 1, NULL) == OK ? 0 : -1;
}

static int drop_vocab(void **state)
{
    (void)state;
    grammar_vocab_give(vocab);
    return 0;
}

static bool has(const uint32_t *bits, int i) { return bits[i >> 5] >> (i & 31) & 1; }

/* A token with which p goes on; mostly a long one. */
static int32_t next_token(const char *p, size_t n)
{
    int32_t best = -1;
    size_t tries = 1 + pick(3);
    for (int32_t k = 0, i = (int32_t)pick(N_TOKEN); k < N_TOKEN; k++, i = (i + 1) % N_TOKEN) {
        if (token[i].n == 0 || token[i].n > n || memcmp(token[i].p, p, token[i].n) != 0) continue;
        if (best < 0 || token[i].n > token[best].n) best = i;
        if (--tries == 0) break;
    }
    return best;
}

/* The mask says of every token what accepting it says. */
static void check_mask(struct grammar_matcher *m)
{
    uint32_t bits[BITS];
    assert_int_equal(grammar_matcher_mask(m, bits), OK);
    size_t n = grammar_matcher_tokens(m);
    for (int32_t i = 0; i < N_TOKEN; i++) {
        bool in = grammar_matcher_accept(m, i) == OK;
        if (in != has(bits, i))
            fail_msg("token %d (%s): mask %d, accept %d", i, token[i].p, has(bits, i), in);
        if (in) grammar_matcher_rollback(m, 1);
        assert_int_equal(grammar_matcher_tokens(m), n);
    }
    assert_int_equal(has(bits, EOS), grammar_matcher_done(m));
    assert_false(has(bits, SILENT));
}

static bool feed(struct grammar *g, const char *p, size_t n, bool masks)
{
    struct grammar_matcher *m;
    assert_int_equal(grammar_matcher_new(&m, g), OK);
    bool ok = true;
    for (size_t i = 0; i < n && ok;) {
        if (masks && pick(4) == 0) check_mask(m);
        int32_t t = next_token(p + i, n - i);
        ok = grammar_matcher_accept(m, t) == OK;
        i += token[t].n;
        if (ok && pick(5) == 0) { /* there and back again */
            size_t back = 1 + pick((uint32_t)grammar_matcher_tokens(m));
            int32_t again[64];
            if (back > 64) continue;
            size_t from = m->n - back;
            memcpy(again, m->token + from, back * sizeof *again);
            grammar_matcher_rollback(m, back);
            if (pick(2)) check_mask(m);
            for (size_t k = 0; k < back; k++) assert_int_equal(grammar_matcher_accept(m, again[k]), OK);
        }
    }
    ok = ok && grammar_matcher_done(m);
    if (ok) {
        uint32_t bits[BITS];
        assert_int_equal(grammar_matcher_accept(m, EOS), OK);
        assert_int_equal(grammar_matcher_mask(m, bits), OK);
        for (int i = 0; i < BITS; i++) assert_int_equal(bits[i], 0);
        assert_int_equal(grammar_matcher_accept(m, EOS), ERR_INVALID_VALUE);
    }
    grammar_matcher_free(m);
    return ok;
}

/* --- the cases */

static void each_case(const char *list,
                      void (*run)(struct jval c, struct grammar_opts opts, struct arena *mem))
{
    struct jdoc d;
    struct err_note note;
    assert_int_equal(jdoc_open(&d, "tests/goldens/schemas.json", 1 << 22, &note), OK);
    int n = 0;
    for (struct jiter it = jval_iter(jval_get(d.root, list)); jiter_next(&it); n++) {
        struct arena mem;
        struct grammar_opts opts = {0};
        arena_init(&mem, 0);
        if (jval_is(jval_get(it.value, "space"), "compact")) opts.space = GRAMMAR_COMPACT;
        if (jval_is(jval_get(it.value, "space"), "any")) opts.space = GRAMMAR_ANY;
        run(it.value, opts, &mem);
        arena_fini(&mem);
    }
    assert_true(n > 10);
    jdoc_close(&d);
}

static void run_case(struct jval c, struct grammar_opts opts, struct arena *mem)
{
    static const char *const what[] = {"invalid", "valid"};
    struct jval schema = jval_get(c, "schema");
    struct grammar *g;
    struct err_note note = {0};
    if (grammar_compile(&g, vocab, GRAMMAR_SCHEMA, schema.p, schema.n, &opts, NULL, &note) != OK)
        fail_msg("%.*s: %s", (int)schema.n, schema.p, note.text);
    for (int valid = 0; valid < 2; valid++)
        for (struct jiter it = jval_iter(jval_get(c, what[valid])); jiter_next(&it);) {
            const char *p;
            size_t n;
            assert_true(jval_string(it.value, mem, &p, &n));
            for (int round = 0; round < 8; round++)
                if (feed(g, p, n, round == 0) != (valid == 1))
                    fail_msg("%s is %s for %.*s", p, what[valid], (int)schema.n, schema.p);
        }
    grammar_give(g);
}

static void texts_are_let_through_when_they_satisfy_the_schema_however_they_are_cut(void **state)
{
    (void)state;
    each_case("cases", run_case);
}

static void run_refused(struct jval c, struct grammar_opts opts, struct arena *mem)
{
    struct jval schema = jval_get(c, "schema");
    struct grammar *g = NULL;
    struct err_note note = {0};
    const char *p;
    size_t n;
    (void)mem;
    enum err e = grammar_compile(&g, vocab, GRAMMAR_SCHEMA, schema.p, schema.n, &opts, NULL, &note);
    if (e != ERR_UNSUPPORTED && e != ERR_INVALID_VALUE)
        fail_msg("%.*s: %s", (int)schema.n, schema.p, err_name(e));
    assert_null(g);
    assert_true(jval_string(jval_get(c, "refused"), mem, &p, &n));
    assert_string_equal(note.param, p);
    assert_non_null(strstr(note.text, p));
}

static void what_cannot_be_held_is_refused_by_its_pointer(void **state)
{
    (void)state;
    each_case("refused", run_refused);
}

/* --- any walk through the masks ends in a text that is let through whole */

static void run_walks(struct jval c, struct grammar_opts opts, struct arena *mem)
{
    struct jval schema = jval_get(c, "schema");
    struct grammar *g;
    (void)mem;
    assert_int_equal(grammar_compile(&g, vocab, GRAMMAR_SCHEMA, schema.p, schema.n, &opts, NULL, NULL), OK);
    for (int round = 0; round < 6; round++) {
        struct grammar_matcher *m;
        assert_int_equal(grammar_matcher_new(&m, g), OK);
        for (int k = 0; k < 60; k++) {
            uint32_t bits[BITS];
            int32_t on[N_TOKEN], n = 0;
            assert_int_equal(grammar_matcher_mask(m, bits), OK);
            for (int32_t i = 0; i < N_TOKEN; i++)
                if (has(bits, i)) on[n++] = i;
            assert_true(n > 0); /* no dead ends: every byte is a token */
            int32_t t = on[pick((uint32_t)n)];
            char forced[8];
            size_t f = grammar_matcher_forced(m, forced, sizeof forced);
            for (size_t j = 0; j < f && j < token[t].n; j++) assert_int_equal(token[t].p[j], forced[j]);
            assert_int_equal(grammar_matcher_accept(m, t), OK);
            if (t == EOS) break;
        }
        grammar_matcher_free(m);
    }
    grammar_give(g);
}

static void no_walk_through_the_masks_meets_a_dead_end(void **state)
{
    (void)state;
    each_case("cases", run_walks);
}

/* --- bounded memory, forks */

static const char nested[] =
    "{\"$defs\": {\"n\": {\"type\": \"array\", \"items\": {\"anyOf\": [{\"$ref\": \"#/$defs/n\"}, {\"type\": \"string\"}]}}}, \"$ref\": \"#/$defs/n\"}";

static void what_was_learnt_is_dropped_when_memory_is_full_and_nothing_changes(void **state)
{
    (void)state;
    struct grammar *small, *large;
    struct grammar_matcher *a, *b;
    struct grammar_limits lim = {.run_bytes = 96 << 10, .mask_bytes = 4096};
    assert_int_equal(grammar_compile(&small, vocab, GRAMMAR_SCHEMA, nested, strlen(nested), NULL, &lim, NULL),
                     OK);
    assert_int_equal(grammar_compile(&large, vocab, GRAMMAR_SCHEMA, nested, strlen(nested), NULL, NULL, NULL),
                     OK);
    size_t most = small->pool.bytes_max;
    for (int round = 0; round < 20; round++) {
        assert_int_equal(grammar_matcher_new(&a, small), OK);
        assert_int_equal(grammar_matcher_new(&b, large), OK);
        for (int k = 0; k < 40; k++) {
            uint32_t p[BITS], q[BITS];
            int32_t on[N_TOKEN], n = 0;
            assert_int_equal(grammar_matcher_mask(a, p), OK);
            assert_int_equal(grammar_matcher_mask(b, q), OK);
            assert_memory_equal(p, q, sizeof p);
            assert_true(small->pool.bytes <= most);
            for (int32_t i = 0; i < N_TOKEN; i++)
                if (has(p, i)) on[n++] = i;
            int32_t t = on[pick((uint32_t)n)];
            assert_int_equal(grammar_matcher_accept(a, t), OK);
            assert_int_equal(grammar_matcher_accept(b, t), OK);
            if (t == EOS) break;
        }
        grammar_matcher_free(a);
        grammar_matcher_free(b);
    }
    grammar_give(small);
    grammar_give(large);
}

static void a_fork_goes_its_own_way(void **state)
{
    (void)state;
    struct grammar *g;
    struct grammar_matcher *a, *b;
    uint32_t p[BITS], q[BITS];
    assert_int_equal(grammar_compile(&g, vocab, GRAMMAR_SCHEMA, nested, strlen(nested), NULL, NULL, NULL),
                     OK);
    assert_int_equal(grammar_matcher_new(&a, g), OK);
    grammar_give(g);
    assert_int_equal(grammar_matcher_accept(a, '['), OK);
    assert_int_equal(grammar_matcher_fork(&b, a), OK);
    assert_int_equal(grammar_matcher_accept(b, ']'), OK);
    assert_true(grammar_matcher_done(b));
    assert_false(grammar_matcher_done(a));
    grammar_matcher_rollback(b, 1);
    assert_int_equal(grammar_matcher_mask(a, p), OK);
    assert_int_equal(grammar_matcher_mask(b, q), OK);
    assert_memory_equal(p, q, sizeof p);
    grammar_matcher_free(a);
    assert_int_equal(grammar_matcher_accept(b, '"'), OK);
    grammar_matcher_free(b);
}

static void forced_bytes_are_the_only_way(void **state)
{
    (void)state;
    static const char schema[] =
        "{\"type\": \"object\", \"properties\": {\"answer\": {\"enum\": [\"yes\", \"no\"]}}, \"required\": [\"answer\"], \"additionalProperties\": false}";
    struct grammar *g;
    struct grammar_matcher *m;
    char out[64];
    assert_int_equal(grammar_compile(&g, vocab, GRAMMAR_SCHEMA, schema, strlen(schema), NULL, NULL, NULL),
                     OK);
    assert_int_equal(grammar_matcher_new(&m, g), OK);
    size_t n = grammar_matcher_forced(m, out, sizeof out);
    assert_int_equal(n, strlen("{\"answer\": \""));
    assert_memory_equal(out, "{\"answer\": \"", n);
    for (size_t i = 0; i < n; i++) assert_int_equal(grammar_matcher_accept(m, (unsigned char)out[i]), OK);
    assert_int_equal(grammar_matcher_forced(m, out, sizeof out), 0);
    assert_int_equal(grammar_matcher_accept(m, 'y'), OK);
    n = grammar_matcher_forced(m, out, sizeof out);
    assert_int_equal(n, strlen("es\"}"));
    assert_int_equal(grammar_matcher_forced(m, out, 2), 2);
    grammar_matcher_free(m);
    grammar_give(g);
}

/* --- hostile schemas: refused by the name of a limit, or compiled within the limits; masks too */

/* `unit` n times between head and tail, with %d its number. */
static void repeat(struct strbuf *out, const char *head, const char *unit, int n, const char *tail)
{
    strbuf_clear(out);
    strbuf_puts(out, head);
    for (int i = 0; i < n; i++) {
        const char *at = unit;
        for (const char *p; (p = strstr(at, "%d")); at = p + 2) {
            strbuf_put(out, at, (size_t)(p - at));
            strbuf_printf(out, "%d", i);
        }
        strbuf_puts(out, at);
    }
    strbuf_puts(out, tail);
}

static void survive(const struct strbuf *schema)
{
    struct grammar *g = NULL;
    struct grammar_matcher *m;
    struct err_note note = {0};
    uint32_t bits[BITS];
    enum err e = grammar_compile(&g, vocab, GRAMMAR_SCHEMA, schema->data, schema->len, NULL, NULL, &note);
    if (e != OK) {
        assert_null(g);
        assert_true(e == ERR_UNSUPPORTED || e == ERR_INVALID_VALUE || e == ERR_INVALID_JSON);
        assert_string_not_equal(note.text, "");
        return;
    }
    assert_true(g->pool.bytes <= g->pool.bytes_max);
    assert_int_equal(grammar_matcher_new(&m, g), OK);
    for (int k = 0; k < 12; k++) {
        int32_t on[N_TOKEN], n = 0;
        e = grammar_matcher_mask(m, bits);
        assert_true(e == OK || (e == ERR_UNSUPPORTED && grammar_limit(g)));
        if (e != OK) break;
        for (int32_t i = 0; i < N_TOKEN; i++)
            if (has(bits, i)) on[n++] = i;
        if (n == 0) break;
        int32_t t = on[pick((uint32_t)n)];
        assert_int_equal(grammar_matcher_accept(m, t), OK);
        if (t == EOS) break;
    }
    grammar_matcher_free(m);
    grammar_give(g);
}

static void hostile_schemas_end_at_a_limit(void **state)
{
    (void)state;
    static const struct {
        const char *head, *unit, *tail;
        int n;
    } list[] = {
        {"", "{\"items\":", "{}", 10000},
        {"", "{\"not\":", "1", 60},
        {"{\"enum\":[0", ",%d%d", "]}", 100000},
        {"{\"enum\":[0", ",\"v%d\"", "]}", 100000},
        {"{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"e\":{}", ",\"d%d\":{\"allOf\":[{\"$ref\":\"#/$defs/e\"}]}",
         "}}", 5000},
        {"{\"allOf\":[true", ",{\"anyOf\":[{\"required\":[\"a%d\"]},{\"required\":[\"b%d\"]}]}", "]}", 25},
        {"{\"allOf\":[true", ",{\"if\":{\"required\":[\"a%d\"]},\"then\":{\"required\":[\"b%d\"]}}", "]}",
         25},
        {"{\"unevaluatedProperties\":false,\"anyOf\":[true", ",{\"properties\":{\"a%d\":{}}}", "]}", 25},
        {"{\"oneOf\":[true", ",{\"properties\":{\"a%d\":{\"type\":\"string\"}}}", "]}", 40},
        {"{\"type\":\"string\",\"allOf\":[true", ",{\"pattern\":\"a.{%d}b\"}", "]}", 40},
        {"{\"type\":\"string\",\"allOf\":[true", ",{\"not\":{\"pattern\":\"a.{%d}b\"}}", "]}", 40},
        {"{\"type\":\"string\",\"pattern\":\"x", "(a{1,100}|b%d){1,100}", "\"}", 40},
        {"{\"type\":\"object\",\"patternProperties\":{\"z\":true", ",\"a.*%d\":{\"minimum\":%d}", "}}", 40},
        {"{\"type\":\"object\",\"maxProperties\":900,\"properties\":{\"z\":true", ",\"a%d\":{\"minimum\":%d}",
         "}}", 2000},
        {"{\"type\":\"object\",\"properties\":{\"z\":true", ",\"a%d\":{\"minimum\":%d}", "}}", 5000},
        {"{\"type\":\"object\",\"required\":[\"z\"", ",\"a%d\"", "]}", 5000},
        {"{\"type\":\"array\",\"minItems\":5,\"allOf\":[true",
         ",{\"contains\":{\"const\":%d},\"minContains\":90}", "]}", 4},
        {"{\"type\":\"integer\",\"allOf\":[true", ",{\"multipleOf\":9%d7}", "]}", 40},
    };
    struct strbuf schema;
    strbuf_init(&schema);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        repeat(&schema, list[i].head, list[i].unit, list[i].n, list[i].tail);
        survive(&schema);
        strbuf_puts(&schema, list[i].tail); /* and cut or too long */
        survive(&schema);
    }
    strbuf_fini(&schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_let_through_when_they_satisfy_the_schema_however_they_are_cut),
        cmocka_unit_test(what_cannot_be_held_is_refused_by_its_pointer),
        cmocka_unit_test(no_walk_through_the_masks_meets_a_dead_end),
        cmocka_unit_test(what_was_learnt_is_dropped_when_memory_is_full_and_nothing_changes),
        cmocka_unit_test(a_fork_goes_its_own_way),
        cmocka_unit_test(forced_bytes_are_the_only_way),
        cmocka_unit_test(hostile_schemas_end_at_a_limit),
    };
    return cmocka_run_group_tests(tests, make_vocab, drop_vocab);
}
