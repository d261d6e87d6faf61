/* fuzz_template: mutates chat templates and renders what still compiles; for the sanitizers to watch.
 *
 *     fuzz_template ROUNDS SEED FILE...
 *
 * Every round joins pieces of the files, with bytes and words put in, left out, doubled or swapped. A round
 * that takes longer than ROUND_SECONDS ends the program: nothing may hang. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/server/jinja/template_json.h"

enum { ROUND_SECONDS = 20, MOST_FILES = 256 };

static const char context_json[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\\u00e9\"},{\"role\":\"user\",\"content\":\" hi <|x|> "
    "\\ud83c\\udf0d\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"abcdefghi\",\"function\":{\"name\":\"f\","
    "\"arguments\":"
    "{\"a\":1,\"b\":[true,null,2.5,{\"c\":\"d\"}]}}}]},{\"role\":\"tool\",\"content\":\"42\",\"name\":\"f\"},"
    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"t\"}]}],\"tools\":[{\"type\":\"function\","
    "\"function\":"
    "{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":"
    "\"integer\"}}}}}],"
    "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"n\":3,\"x\":1.5,\"s\":\"abc\"}";

static const char *const words[] = {
    "{%",
    "%}",
    "{{",
    "}}",
    "{#",
    "#}",
    "-%}",
    "{%-",
    "{% if x %}",
    "{% endif %}",
    "{% for m in messages %}",
    "{% endfor %}",
    "{% else %}",
    "{% set x = ",
    "{% macro f(a) %}",
    "{% endmacro %}",
    "{% break %}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "|",
    ".",
    ",",
    ":",
    "~",
    "+",
    "-",
    "*",
    "**",
    "//",
    "%",
    "==",
    "<",
    " in ",
    " is ",
    " not ",
    " if ",
    " else ",
    " and ",
    "|tojson",
    "|join",
    "|trim",
    "|map('",
    "|sort",
    "|list",
    "|length",
    "|batch(",
    "|format(",
    "|indent(",
    "|replace('",
    "[::-1]",
    "[1:",
    "loop.",
    "loop.last",
    "messages",
    "range(",
    "namespace(",
    ".split('",
    ".items()",
    ".format(",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "1e308",
    "100000",
    "none",
    "true",
    "undefined",
    "\\u00e9",
    "\xc3\xa9",
    "\xf0\x9f\x8c\x8d",
    "\xff",
    "caller()",
    "*",
    "%s",
    "{}",
    "{:>9}",
    "%9d",
    "\n",
    " ",
    "f(",
    "ns.x",
    "**{",
    "\\x",
    "|unique",
    "|slice(",
    "|round(",
};

static uint64_t seed;

static uint32_t roll(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static struct strbuf corpus[MOST_FILES];

static void load(struct strbuf *b, const char *path)
{
    char chunk[4096];
    FILE *f = fopen(path, "rb");
    size_t n;
    strbuf_init(b);
    while (f && (n = fread(chunk, 1, sizeof chunk, f)) > 0) strbuf_put(b, chunk, n);
    if (f) fclose(f);
    strbuf_puts(b, " ");
}

/* Replaces n bytes at `at` by what. */
static void splice(struct strbuf *b, size_t at, size_t n, const char *what, size_t n_what)
{
    struct strbuf out;
    strbuf_init(&out);
    strbuf_put(&out, b->data, at);
    strbuf_put(&out, what, n_what);
    strbuf_put(&out, b->data + at + n, b->len - at - n);
    strbuf_fini(b);
    *b = out;
    if (!b->len) strbuf_puts(b, " ");
}

static void mutate(struct strbuf *b, int n_file)
{
    const size_t at = roll((uint32_t)b->len), room = b->len - at,
                 n = roll((uint32_t)(room < 40 ? room : 40) + 1);
    const char *word = words[roll(sizeof words / sizeof words[0])];
    const struct strbuf *other = &corpus[roll((uint32_t)n_file)];
    const size_t from = roll((uint32_t)other->len),
                 span = roll((uint32_t)(other->len - from < 300 ? other->len - from : 300) + 1);
    const char c = (char)roll(256);
    switch (roll(8)) {
    case 0:
        splice(b, at, 0, word, strlen(word));
        break;
    case 1:
        splice(b, at, n, word, strlen(word));
        break;
    case 2:
        splice(b, at, n, "", 0);
        break;
    case 3:
        splice(b, at, 0, other->data + from, span);
        break;
    case 4:
        splice(b, at, n, other->data + from, span);
        break;
    case 5:
        splice(b, at, 1, &c, 1);
        break;
    case 6: {
        char again[41];
        memcpy(again, b->data + at, n);
        splice(b, at, 0, again, n);
        break;
    }
    default:
        splice(b, at, 0, word, strlen(word));
        break;
    }
}

/* Renders; true when it compiled. The spans must be what the header promises. */
static bool run(const struct strbuf *source, const cJSON *context, bool *rendered)
{
    struct tmpl *t;
    struct arena a;
    struct err_note note;
    struct tmpl_rendering out = {.max_bytes = 1 << 20};
    if (tmpl_compile(&t, source->data, source->len, &note) != OK) return false;
    arena_init(&a, TMPL_MAX_ARENA_BYTES);
    strbuf_init(&out.text);
    *rendered = tmpl_render(t, &a, value_from_json(&a, context, 0), &out, &note) == OK;
    for (size_t i = 0; i < out.n_span; i++) {
        const struct tmpl_span s = out.span[i];
        if (s.start >= s.end || s.end > out.text.len || (i && out.span[i - 1].end >= s.start)) abort();
    }
    strbuf_fini(&out.text);
    arena_fini(&a);
    tmpl_free(t);
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc - 3 > MOST_FILES) {
        fprintf(stderr, "usage: fuzz_template ROUNDS SEED FILE...\n");
        return 2;
    }
    const long rounds = atol(argv[1]);
    const int n_file = argc - 3;
    cJSON *context = cJSON_Parse(context_json);
    long n_compiled = 0, n_rendered = 0;
    seed = strtoull(argv[2], NULL, 10);
    for (int i = 0; i < n_file; i++) load(&corpus[i], argv[i + 3]);
    for (long i = 0; i < rounds; i++) {
        struct strbuf b;
        bool rendered = false;
        strbuf_init(&b);
        const struct strbuf *base = &corpus[roll((uint32_t)n_file)];
        const size_t from = roll(6) ? 0 : roll((uint32_t)base->len);
        strbuf_put(&b, base->data + from,
                   roll(6) ? base->len - from : roll((uint32_t)(base->len - from)) + 1);
        for (uint32_t k = roll(3) ? 1 : roll(8) + 1; k > 0; k--) mutate(&b, n_file);
        alarm(ROUND_SECONDS);
        n_compiled += run(&b, context, &rendered);
        n_rendered += rendered;
        strbuf_fini(&b);
    }
    printf("%ld rounds, %ld compiled, %ld rendered\n", rounds, n_compiled, n_rendered);
    for (int i = 0; i < n_file; i++) strbuf_fini(&corpus[i]);
    cJSON_Delete(context);
    return 0;
}
