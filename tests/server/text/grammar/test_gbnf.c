/* GBNF, regular expressions and choices: random grammars against a recogniser by fixed point, and the faults
 * of each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "server/text/grammar/grammar.h"
#include "tests/base/cm.h"

static uint64_t seed = 88172645463325252u;
static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 33) % n);
}

/* A vocabulary of all bytes, and an end. */
static struct grammar_vocab *vocab;
static int make_vocab(void **state)
{
    (void)state;
    static char text[256];
    struct grammar_token token[257] = {{0}};
    int32_t eos = 256;
    for (int i = 0; i < 256; i++) {
        text[i] = (char)i;
        token[i] = (struct grammar_token){&text[i], 1};
    }
    return grammar_vocab_new(&vocab, token, 257, &eos, 1, NULL) == OK ? 0 : -1;
}

static int drop_vocab(void **state)
{
    (void)state;
    grammar_vocab_give(vocab);
    return 0;
}

static bool matches(struct grammar *g, const char *p, size_t n)
{
    struct grammar_matcher *m;
    bool ok = true;
    assert_int_equal(grammar_matcher_new(&m, g), OK);
    for (size_t i = 0; i < n && ok; i++) {
        enum err e = grammar_matcher_accept(m, (unsigned char)p[i]);
        assert_true(e == OK || e == ERR_INVALID_VALUE);
        ok = e == OK;
    }
    ok = ok && grammar_matcher_done(m);
    grammar_matcher_free(m);
    return ok;
}

static struct grammar *compile(enum grammar_kind kind, const char *text)
{
    struct grammar *g;
    struct err_note note = {0};
    enum err e = grammar_compile(&g, vocab, kind, text, strlen(text), NULL, NULL, &note);
    if (e != OK) fail_msg("%s: %s", text, note.text);
    return g;
}

/* --- random grammars */

enum { RULES = 4, NODES = 80, LETTERS = 2, LONG = 5 };
enum kind { LETTER, NAME, CAT, ALT, REP, EMPTY };
struct node {
    enum kind kind;
    int a, b, min, max;
};
static struct node node[NODES];
static int n_node, rule[RULES];

static int grow(int depth)
{
    int id = n_node++;
    node[id] = (struct node){.kind = depth == 0 || n_node > NODES - 12 ? (pick(8) ? LETTER : EMPTY)
                                                                       : (enum kind)pick(6)};
    struct node *t = &node[id];
    if (t->kind == LETTER) t->a = (int)pick(LETTERS);
    if (t->kind == NAME) t->a = (int)pick(RULES);
    if (t->kind == CAT || t->kind == ALT || t->kind == REP) {
        int a = grow(depth - 1);
        node[id].a = a;
    }
    if (node[id].kind == CAT || node[id].kind == ALT) {
        int b = grow(depth - 1);
        node[id].b = b;
    }
    node[id].min = (int)pick(3);
    node[id].max = pick(2) ? -1 : node[id].min + (int)pick(3);
    return id;
}

static void print(struct strbuf *out, int id)
{
    static const char *const name[] = {"root", "one", "two-b", "three"};
    const struct node *t = &node[id];
    switch (t->kind) {
    case LETTER:
        strbuf_printf(out, pick(2) ? "\"%c\"" : "[%c]", 'a' + t->a);
        return;
    case NAME:
        strbuf_puts(out, name[t->a]);
        return;
    case EMPTY:
        strbuf_puts(out, "\"\"");
        return;
    default:
        break;
    }
    strbuf_putc(out, '(');
    print(out, t->a);
    if (t->kind == REP) {
        strbuf_putc(out, ')');
        if (t->max < 0 && t->min < 2)
            strbuf_putc(out, t->min ? '+' : '*');
        else if (t->max < 0)
            strbuf_printf(out, "{%d,}", t->min);
        else
            strbuf_printf(out, "{%d,%d}", t->min, t->max);
        return;
    }
    strbuf_puts(out, t->kind == ALT ? " | " : " ");
    print(out, t->b);
    strbuf_putc(out, ')');
}

static uint32_t table[NODES][LONG + 1]; /* places where a match of the node from a place may end */

static uint32_t after(int id, uint32_t places)
{
    uint32_t out = 0;
    for (int i = 0; i <= LONG; i++)
        if (places >> i & 1) out |= table[id][i];
    return out;
}

static uint32_t once_more(const struct node *t, const char *s, int n, int at)
{
    uint32_t out = 0, places = 1u << at;
    switch (t->kind) {
    case LETTER:
        return at < n && s[at] == 'a' + t->a ? 2u << at : 0;
    case NAME:
        return table[rule[t->a]][at];
    case CAT:
        return after(t->b, table[t->a][at]);
    case ALT:
        return table[t->a][at] | table[t->b][at];
    case EMPTY:
        return places;
    default:
        for (int k = 0; k <= (t->max < 0 ? t->min + n + 1 : t->max); k++) {
            if (k >= t->min) out |= places;
            places = after(t->a, places);
        }
        return out;
    }
}

static bool derives(const char *s, int n)
{
    memset(table, 0, sizeof table);
    for (bool more = true; more;) {
        more = false;
        for (int id = n_node - 1; id >= 0; id--)
            for (int at = 0; at <= n; at++) {
                uint32_t now = table[id][at] | once_more(&node[id], s, n, at);
                more = more || now != table[id][at];
                table[id][at] = now;
            }
    }
    return table[rule[0]][0] >> n & 1;
}

static void grammars_accept_what_they_derive(void **state)
{
    (void)state;
    static const char *const name[] = {"root", "one", "two-b", "three"};
    for (int round = 0; round < 1500; round++) {
        struct strbuf out;
        struct grammar *g;
        strbuf_init(&out);
        n_node = 0;
        for (int i = 0; i < RULES; i++) rule[i] = grow(3);
        for (int i = 0; i < RULES; i++) {
            strbuf_printf(&out, "%s ::= ", name[i]);
            print(&out, rule[i]);
            strbuf_puts(&out, pick(2) ? " # end\n" : "\n\n");
        }
        enum err e = grammar_compile(&g, vocab, GRAMMAR_GBNF, out.data, out.len, NULL, NULL, NULL);
        bool any = false;
        for (int n = 0; n <= LONG; n++)
            for (int v = 0; v < 1 << n; v++) {
                char s[LONG];
                for (int i = 0; i < n; i++) s[i] = (char)('a' + (v >> i & 1));
                bool want = derives(s, n);
                any = any || want;
                if (e == OK && matches(g, s, (size_t)n) != want)
                    fail_msg("%.*s is %s by\n%s", n, s, want ? "derived" : "not derived", out.data);
            }
        if (e != OK) assert_false(any); /* only a grammar without texts is refused */
        if (e == OK) grammar_give(g);
        strbuf_fini(&out);
    }
}

static void grammars_as_people_write_them(void **state)
{
    (void)state;
    static const char json[] =
        "# JSON\nroot ::= object\nvalue ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n\n"
        "object ::=\n  \"{\" ws (\n            string \":\" ws value\n    (\",\" ws string \":\" ws value)*\n  )? \"}\" ws\n\n"
        "array  ::=\n  \"[\" ws (\n            value\n    (\",\" ws value)*\n  )? \"]\" ws\n\n"
        "string ::=\n  \"\\\"\" (\n    [^\"\\\\\\x7F\\x00-\\x1F] |\n    \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4})\n  )* \"\\\"\" ws\n\n"
        "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n\n"
        "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";
    struct grammar *g = compile(GRAMMAR_GBNF, json);
    static const char *const in[] = {"{}", "{\"a\": [1, -2.5e3, {\"b\": null}], \"c\":\"\\u00e9\\n\"}",
                                     "{\"é\": true}\n    "},
                             *const out[] = {"", "[]", "{\"a\"}", "{\"a\": 1,}", "{\"a\": tru}"};
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) assert_true(matches(g, in[i], strlen(in[i])));
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) assert_false(matches(g, out[i], strlen(out[i])));
    grammar_give(g);
    g = compile(
        GRAMMAR_GBNF,
        "root ::= (expr \"=\" term \"\\n\")+\nexpr ::= expr [-+*/] term | term\nterm ::= \"(\" expr \")\" | [0-9]+ | [α-ω_]");
    assert_true(matches(g, "1+(2-ω)*3=6\n((7))=7\n", strlen("1+(2-ω)*3=6\n((7))=7\n")));
    assert_false(matches(g, "1+=2\n", 5));
    grammar_give(g);
}

static void faults_of_a_grammar_name_line_and_column(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where;
    } bad[] = {
        {"", "1:1"},
        {"one ::= \"a\"", "1:12"},
        {"root ::= \"a", "1:10"},
        {"root ::= \"a\"\nroot ::= \"b\"", "2:1"},
        {"root ::= x", "1:10"},
        {"root := \"a\"", "1:6"},
        {"root ::= [a", "1:10"},
        {"root ::= [b-a]", "1:11"},
        {"root ::= (\"a\"", "1:10"},
        {"root ::= \"a\")", "1:13"},
        {"root ::= \"\\q\"", "1:11"},
        {"root ::= \"é\" x y\nx ::= \"b\"", "1:16"},
        {"root ::= \"a\"{2,1}", "1:13"},
        {"root ::= \"a\"{x}", "1:14"},
        {"root ::= \"\\xg0\"", "1:13"},
        {"root ::= <think>", "1:10"},
        {"root ::= \"a\"\n  ?", "2:3"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct grammar *g;
        struct err_note note = {0};
        assert_int_equal(
            grammar_compile(&g, vocab, GRAMMAR_GBNF, bad[i].text, strlen(bad[i].text), NULL, NULL, &note),
            ERR_INVALID_VALUE);
        if (strcmp(note.param, bad[i].where) != 0)
            fail_msg("%s: at %s (%s), not %s", bad[i].text, note.param, note.text, bad[i].where);
    }
}

static void regular_expressions_match_the_whole_text(void **state)
{
    (void)state;
    struct grammar *g = compile(GRAMMAR_REGEX, "(yes|no)( [a-zé]{2,5})?");
    assert_true(matches(g, "yes", 3));
    assert_true(matches(g, "no abé", 7));
    assert_false(matches(g, "yes ", 4));
    assert_false(matches(g, "maybe", 5));
    assert_false(matches(g, "no abcdef", 9));
    grammar_give(g);
    struct err_note note = {0};
    assert_int_equal(grammar_compile(&g, vocab, GRAMMAR_REGEX, "ab(", 3, NULL, NULL, &note), ERR_UNSUPPORTED);
    assert_int_equal(grammar_compile(&g, vocab, GRAMMAR_REGEX, "[]", 2, NULL, NULL, &note),
                     ERR_INVALID_VALUE);
}

static void a_choice_is_one_of_its_texts(void **state)
{
    (void)state;
    struct grammar *g = compile(GRAMMAR_CHOICE, "[\"positive\", \"negative\", \"pos\", \"\\u00e9\\n\"]");
    assert_true(matches(g, "positive", 8));
    assert_true(matches(g, "pos", 3));
    assert_true(matches(g, "é\n", 3));
    assert_false(matches(g, "posi", 4));
    assert_false(matches(g, "", 0));
    grammar_give(g);
    static const char *const bad[] = {"[]", "{}", "[1]", "\"a\"", "[\"a\", null]", "[", "[\"a\"] x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err_note note = {0};
        enum err e = grammar_compile(&g, vocab, GRAMMAR_CHOICE, bad[i], strlen(bad[i]), NULL, NULL, &note);
        assert_true(e == ERR_INVALID_VALUE || e == ERR_INVALID_JSON);
        assert_string_not_equal(note.text, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammars_accept_what_they_derive),
        cmocka_unit_test(grammars_as_people_write_them),
        cmocka_unit_test(faults_of_a_grammar_name_line_and_column),
        cmocka_unit_test(regular_expressions_match_the_whole_text),
        cmocka_unit_test(a_choice_is_one_of_its_texts),
    };
    return cmocka_run_group_tests(tests, make_vocab, drop_vocab);
}
