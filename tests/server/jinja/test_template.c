/* template: the laws beyond what the goldens show: bounds, errors with their lines, origin of the output's
 * bytes. */
#include <pthread.h>
#include <stdio.h>

#include "tests/base/growth.h"
#include "tests/server/jinja/template_json.h"

/* One rendering and what came of it. Every string below the context's top level comes from outside. */
struct shot {
    enum err e;
    struct err_note note;
    struct arena a;
    struct tmpl_rendering out;
};

static void shoot_bounded(struct shot *s, const char *source, size_t n, const char *context,
                          size_t arena_bytes, size_t max_bytes)
{
    struct tmpl *t;
    cJSON *j = cJSON_Parse(context);
    *s = (struct shot){.out.max_bytes = max_bytes};
    assert_non_null(j);
    arena_init(&s->a, arena_bytes);
    strbuf_init(&s->out.text);
    s->e = tmpl_compile(&t, source, n, &s->note);
    if (s->e == OK) s->e = tmpl_render(t, &s->a, value_from_json(&s->a, j, 0), &s->out, &s->note);
    tmpl_free(t);
    cJSON_Delete(j);
}

static void shoot(struct shot *s, const char *source, const char *context)
{
    shoot_bounded(s, source, strlen(source), context, TMPL_MAX_ARENA_BYTES, TMPL_MAX_OUTPUT_BYTES);
}

static void done(struct shot *s)
{
    strbuf_fini(&s->out.text);
    arena_fini(&s->a);
}

static void expect_text(const char *source, const char *context, const char *text)
{
    struct shot s;
    shoot(&s, source, context);
    if (s.e != OK) fail_msg("%s: %s", source, s.note.text);
    assert_string_equal(s.out.text.len ? s.out.text.data : "", text);
    done(&s);
}

static void expect_error(const char *source, enum err e, const char *text)
{
    struct shot s;
    shoot(&s, source, "{\"l\":[1,2,3],\"d\":{\"k\":1},\"s\":\"abc\"}");
    assert_int_equal(s.e, e);
    if (!strstr(s.note.text, text)) fail_msg("%s: got \"%s\", not \"%s\"", source, s.note.text, text);
    done(&s);
}

/* The output with its bytes from outside in guillemets. */
static void expect_origin(const char *source, const char *context, const char *marked)
{
    struct shot s;
    struct strbuf b;
    size_t at = 0;
    shoot(&s, source, context);
    if (s.e != OK) fail_msg("%s: %s", source, s.note.text);
    strbuf_init(&b);
    strbuf_puts(&b, "");
    for (size_t i = 0; i < s.out.n_span; i++) {
        const struct tmpl_span p = s.out.span[i];
        assert_true(p.start < p.end && p.end <= s.out.text.len &&
                    (i == 0 || s.out.span[i - 1].end < p.start));
        strbuf_put(&b, s.out.text.data + at, p.start - at);
        strbuf_puts(&b, "«");
        strbuf_put(&b, s.out.text.data + p.start, p.end - p.start);
        strbuf_puts(&b, "»");
        at = p.end;
    }
    if (s.out.text.len > at) strbuf_put(&b, s.out.text.data + at, s.out.text.len - at);
    assert_string_equal(b.len ? b.data : "", marked);
    strbuf_fini(&b);
    done(&s);
}

/* --- errors --- */

static void syntax_errors_name_their_line(void **state)
{
    (void)state;
    expect_error("a\nb\n{{ 1 | nope }}", ERR_MODEL_FILE, "line 3: No filter named 'nope'.");
    expect_error("\n{{ 1 is nope }}", ERR_MODEL_FILE, "line 2: No test named 'nope'.");
    expect_error("\n\n{% nope %}", ERR_MODEL_FILE, "line 3: Encountered unknown tag 'nope'.");
    expect_error("{{ 'a\nb' }}\n{{ 'x\n }}", ERR_MODEL_FILE, "line 3: ");
    expect_error("x\n{% if l %}\ny", ERR_MODEL_FILE, "Looking for 'elif' of the block from line 2");
    expect_error("x\n{# never closed", ERR_MODEL_FILE, "line 2: Missing end of comment tag");
    expect_error("{% raw %}\n", ERR_MODEL_FILE, "line 1: Missing end of raw directive");
    expect_error("{{ 1 ", ERR_MODEL_FILE, "line 1: unexpected end of template");
    expect_error("{% for x in l %}{% endif %}", ERR_MODEL_FILE, "unknown tag 'endif'");
    expect_error("{{ 1 | urlize }}", ERR_MODEL_FILE, "the filter 'urlize' is not supported");
    expect_error("\n{% include 'x' %}", ERR_MODEL_FILE, "line 2: this statement is not supported");
}

static void runtime_errors_name_their_line(void **state)
{
    (void)state;
    expect_error("\n{% for x in l %}\n{{ x.y.z }}{% endfor %}", ERR_TEMPLATE,
                 "line 3: 'int object' has no attribute 'y'");
    expect_error("{{ nothing.x }}", ERR_TEMPLATE, "line 1: 'nothing' is undefined");
    expect_error("{% macro f() %}\n{{ 1 + 'a' }}{% endmacro %}\n\n{{ f() }}", ERR_TEMPLATE,
                 "line 2: unsupported operand");
    expect_error("{{ l.append(4) }}", ERR_TEMPLATE,
                 "access to attribute 'append' of 'list' object is unsafe");
}

static void what_the_template_raises_stands_for_itself(void **state)
{
    struct shot s;
    (void)state;
    shoot(&s, "\n{{ raise_exception('Only ' ~ n ~ ' roles, \"user\" first') }}", "{\"n\":2}");
    assert_int_equal(s.e, ERR_TEMPLATE);
    assert_string_equal(s.note.text, "Only 2 roles, \"user\" first");
    done(&s);
}

static void unknown_filters_inside_an_if_fail_only_when_reached(void **state)
{
    (void)state;
    expect_text("{% if nothing %}{{ 1 | nope }}{% endif %}{{ (1 | nope) if nothing else 'ok' }}", "{}", "ok");
    expect_error("{% if l %}\n{{ 1 | nope }}{% endif %}", ERR_TEMPLATE,
                 "line 2: No filter named 'nope' found.");
    expect_error("{% if nothing %}{% for x in l %}{{ 1 | nope }}{% endfor %}{% endif %}", ERR_MODEL_FILE,
                 "No filter named 'nope'.");
}

/* --- bounds --- */

/* n times `open`, then core, then n times `close`. */
static char *nested(int n, const char *open, const char *core, const char *close)
{
    struct strbuf b;
    strbuf_init(&b);
    for (int i = 0; i < n; i++) strbuf_puts(&b, open);
    strbuf_puts(&b, core);
    for (int i = 0; i < n; i++) strbuf_puts(&b, close);
    return strbuf_take(&b);
}

static void nesting_is_bounded_in_every_form(void **state)
{
    static const struct {
        const char *open, *core, *close;
    } forms[] = {
        {"(", "1", ")"},         {"[", "1", "]"},           {"{1:", "1", "}"}, {"-", "1", ""},
        {"not ", "1", ""},       {"1 if 1 else ", "1", ""}, {"l[", "0", "]"},  {"dict(a=", "1", ")"},
        {"1 is in [", "1", "]"}, {"1|default(", "1", ")"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        for (int n = 1000; n <= 10000; n *= 10) {
            char *core = nested(n, forms[i].open, forms[i].core, forms[i].close),
                 *all = nested(1, "{{ ", core, " }}");
            expect_error(all, ERR_MODEL_FILE, "line 1: ");
            free(core);
            free(all);
        }
    }
    char *ok = nested(60, "(", "7", ")"), *all = nested(1, "{{ ", ok, " }}");
    expect_text(all, "{}", "7");
    free(ok);
    free(all);
    all = nested(65, "{% if l %}", "x", "{% endif %}");
    expect_error(all, ERR_MODEL_FILE, "nested more than 64 levels deep");
    free(all);
    all = nested(40, "{% for x in l %}", "{% break %}", "{% endfor %}");
    expect_text(all, "{\"l\":[1]}", "");
    free(all);
}

static void long_chains_of_operators_run_or_fail_cleanly(void **state)
{
    static const char *const links[] = {" + 1", " and 1", " or 0", " ~ 1", "|string",
                                        ".x",   "[0]",    " == 1", "()",   " is defined"};
    struct shot s;
    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        char *chain = nested(20000, links[i], "", ""), *all = nested(1, "{{ 1", chain, " }}");
        shoot(&s, all, "{}");
        assert_true(s.e == OK || s.e == ERR_MODEL_FILE || s.e == ERR_TEMPLATE);
        done(&s);
        free(chain);
        free(all);
    }
    char *chain = nested(200, " + 1", "", ""), *all = nested(1, "{{ 1", chain, " }}");
    expect_text(all, "{}", "201");
    free(chain);
    free(all);
}

static void calls_of_macros_are_bounded(void **state)
{
    (void)state;
    expect_error("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", ERR_TEMPLATE,
                 "macros call each other more than 64");
    expect_text(
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{{ n }}.{% endmacro %}{{ f(50) | length }}", "{}",
        "143");
}

static void work_is_bounded(void **state)
{
    (void)state;
    expect_error("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                 ERR_TEMPLATE, "steps");
    expect_error(
        "{% set ns = namespace(a=[1]) %}{% for i in range(70) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ "
        "ns.a == [] }}"
        "{{ ns.a == namespace(b=ns.a).b }}{{ ns.a | string }}",
        ERR_TEMPLATE, "");
    expect_error("{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(70) %}{% set ns.a = [ns.a, ns.a] %}"
                 "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
                 ERR_TEMPLATE, "steps");
    expect_error(
        "{% set ns = namespace(a=(1,)) %}{% for i in range(70) %}{% set ns.a = (ns.a, ns.a) %}{% endfor %}{{ "
        "{ns.a: 1} }}",
        ERR_TEMPLATE, "steps");
    expect_error("{% set x = 'ab' * 1000000 %}{% for i in range(100000) %}{{ 'c' in x }}{% endfor %}",
                 ERR_TEMPLATE, "steps");
    expect_error("{{ range(100001) }}", ERR_TEMPLATE, "Range too big");
    expect_error("{{ range(-9223372036854775807, 9223372036854775807) }}", ERR_TEMPLATE, "Range too big");
}

static void memory_is_bounded(void **state)
{
    (void)state;
    expect_error("{{ 'x' * 70000000 }}", ERR_TEMPLATE, "bytes");
    expect_error("{{ 'x' * 9223372036854775807 }}", ERR_TEMPLATE, "too long");
    expect_error("{{ 'x'.center(1000000000000) }}", ERR_TEMPLATE, "too long");
    expect_error("{{ [0] * 1000000000 }}", ERR_TEMPLATE, "");
    expect_error(
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        ERR_TEMPLATE, "bytes");
    expect_error("{{ '%1000000000d' % 1 }}", ERR_TEMPLATE, "out of bounds");
    expect_error("{{ '{:1000000000}'.format(1) }}", ERR_TEMPLATE, "out of bounds");
    expect_error("{{ s | indent(10000000000) }}", ERR_TEMPLATE, "too long");
    expect_error("{{ l | batch(100000000, 'x') | list }}", ERR_TEMPLATE, "");
}

static void an_arena_of_any_size_gives_a_text_or_an_error(void **state)
{
    static const char source[] =
        "{% macro f(a) %}{{ a | tojson(indent=2) }}{% endmacro %}{% for m in l %}{{ f(m) ~ m }}{% endfor %}";
    (void)state;
    for (size_t bytes = 64; bytes < 40000; bytes += 64) {
        struct shot s;
        shoot_bounded(&s, source, strlen(source), "{\"l\":[{\"role\":\"user\"},[1,2],\"x\"]}", bytes, 1000);
        assert_true(s.e == OK || s.e == ERR_TEMPLATE || s.e == ERR_NOMEM);
        if (bytes > 32000) assert_int_equal(s.e, OK);
        if (bytes < 512) assert_int_not_equal(s.e, OK);
        done(&s);
    }
}

static void output_is_bounded_by_the_caller(void **state)
{
    struct shot s;
    (void)state;
    shoot_bounded(&s, "{{ 'x' * 100 }}", 15, "{}", TMPL_MAX_ARENA_BYTES, 100);
    assert_int_equal(s.e, OK);
    assert_int_equal(s.out.text.len, 100);
    done(&s);
    shoot_bounded(&s, "a{{ 'x' * 100 }}", 16, "{}", TMPL_MAX_ARENA_BYTES, 100);
    assert_int_equal(s.e, ERR_TEMPLATE);
    assert_non_null(strstr(s.note.text, "the output exceeds 100 bytes"));
    done(&s);
}

static void the_source_is_bounded_and_checked(void **state)
{
    struct shot s;
    char *big = nested(TMPL_MAX_SOURCE_BYTES, "a", "", "");
    (void)state;
    shoot_bounded(&s, big, TMPL_MAX_SOURCE_BYTES, "{}", TMPL_MAX_ARENA_BYTES, TMPL_MAX_OUTPUT_BYTES);
    assert_int_equal(s.e, OK);
    done(&s);
    free(big);
    big = nested(TMPL_MAX_SOURCE_BYTES, "a", "b", "");
    expect_error(big, ERR_MODEL_FILE, "at most 262144 are read");
    free(big);
    expect_error("\n\xff", ERR_MODEL_FILE, "line 2: the template is not valid UTF-8");
    expect_error("{{ '\xed\xa0\x80' }}", ERR_MODEL_FILE, "UTF-8");
    shoot_bounded(&s, "a\0{{ 1 }}", 9, "{}", TMPL_MAX_ARENA_BYTES, 100); /* NUL is a character like others */
    assert_int_equal(s.e, OK);
    assert_memory_equal(s.out.text.data, "a\0001", 4);
    done(&s);
}

static void values_may_be_as_deep_as_the_bound(void **state)
{
    (void)state;
    for (int depth = TMPL_MAX_VALUE_DEPTH - 20; depth <= TMPL_MAX_VALUE_DEPTH + 20; depth += 40) {
        struct arena a;
        struct tmpl *t;
        struct err_note note;
        struct tmpl_rendering out = {.max_bytes = 1000000};
        arena_init(&a, 0);
        strbuf_init(&out.text);
        struct tmpl_value *v = tmpl_int(&a, 1), *context = tmpl_dict(&a);
        for (int i = 0; i < depth; i++) {
            struct tmpl_value *l = tmpl_list(&a);
            assert_true(tmpl_list_add(&a, l, v));
            v = l;
        }
        assert_true(tmpl_dict_put(&a, context, tmpl_str(&a, "v", 1, TMPL_OURS), v));
        const char source[] =
            "{{ v | tojson | length }} {{ v | string | length }} {{ v == [v] }} {{ [v] < [v] }}";
        assert_int_equal(tmpl_compile(&t, source, sizeof source - 1, &note), OK);
        const enum err e = tmpl_render(t, &a, context, &out, &note);
        assert_int_equal(e, depth < TMPL_MAX_VALUE_DEPTH ? OK : ERR_TEMPLATE);
        if (e) assert_non_null(strstr(note.text, "nested too deeply"));
        tmpl_free(t);
        strbuf_fini(&out.text);
        arena_fini(&a);
    }
    expect_error("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", ERR_TEMPLATE, "nested too deeply");
    expect_error(
        "{% set ns = namespace(t=1) %}{% for i in range(9999) %}{% set ns.t = (ns.t,) %}{% endfor %}{{ {ns.t: 1} }}",
        ERR_TEMPLATE, "nested too deeply");
}

static void *deepest(void *arg)
{
    static const char source[] =
        "{% macro f(n) %}{% if n %}{% if n %}{% for x in [n] %}{% set y %}{{ (((((f(n - 1) ~ '') | string) ~ '')"
        " | trim) ~ '') }}{% endset %}{{ y }}{% endfor %}{% endif %}{% endif %}{% endmacro %}{{ f(60) }}";
    struct shot s;
    (void)arg;
    shoot(&s, source, "{}");
    const bool ok = s.e == OK || (s.e == ERR_TEMPLATE && strstr(s.note.text, "nested too deeply"));
    done(&s);
    return ok ? arg : NULL;
}

static void the_deepest_template_fits_a_small_stack(void **state)
{
    pthread_attr_t attr;
    pthread_t thread;
    void *result = NULL;
    char mark;
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const size_t stack = 8 << 20; /* the sanitizers' frames are several times as large */
#else
    const size_t stack = 512 << 10;
#endif
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, stack), 0);
    assert_int_equal(pthread_create(&thread, &attr, deepest, &mark), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_non_null(result);
    pthread_attr_destroy(&attr);
}

/* --- costs --- */

/* A template over `n`, and what it gives for a size. */
struct cost_case {
    const char *source;
    int n;
    void (*want)(char *out, size_t size, int n);
};

static void want_built(char *out, size_t size, int n) { snprintf(out, size, "%d %d %d", 8 * n, n, n - 1); }
static void want_n(char *out, size_t size, int n) { snprintf(out, size, "%d", n); }
static void want_sum(char *out, size_t size, int n)
{
    snprintf(out, size, "%lld", (long long)n * (n - 1) / 2);
}
static void want_found(char *out, size_t size, int n)
{
    snprintf(out, size, "%d 1", 20 * n - 1 - 2 * (3 * n / 10));
}
static void want_last(char *out, size_t size, int n) { snprintf(out, size, "%d", n - 1); }

static void render_case(void *arg, int times)
{
    const struct cost_case *c = arg;
    char context[64], want[100];
    int n = c->n / GROWTH_TIMES * times;
    snprintf(context, sizeof context, "{\"n\":%d}", n);
    c->want(want, sizeof want, n);
    expect_text(c->source, context, want);
}

static void what_is_linear_in_python_is_linear_here(void **state)
{
    (void)state;
    static const struct cost_case t[] = {
        {"{% set ns = namespace(s='', l=[]) %}{% for i in range(n) %}{% set ns.s = ns.s + 'abcdefgh' %}"
         "{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.s | length }} {{ ns.l | length }} {{ ns.l[-1] }}", /* built
                                                                                                             piece by piece */
         60000, want_built},
        {"{% set s = 'aé' * n %}{% set ns = namespace(n=0) %}{% for i in range(s | length) %}{% if s[i] == 'é' %}"
         "{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.n }}", /* characters of a text that is not
                                                                          ASCII, by index */
         48000, want_n},
        {"{% set ns = namespace(p=[]) %}{% for i in range(n) %}{% set ns.p = ns.p + [('k' ~ i, i)] %}{% endfor %}"
         "{% set d = dict(ns.p) %}{% set ns.n = 0 %}{% for i in range(n) %}{% set ns.n = ns.n + d['k' ~ i] %}{% "
         "endfor %}{{ ns.n }}", /* keys of a large dict */
         20000, want_sum},
        {"{{ ('ab' * (n * 10)).rfind('b' + 'ab' * (3 * n // 10)) }} {{ ('ab' * (n * 10)).rsplit('aab' * (n // 10)) | length }}",
         20000, want_found},
        {"{{ range(n) | reverse | unique | sort | last }}", 48000, want_last},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) assert_linear(t[i].source, render_case, (void *)&t[i]);
}

static void characters_are_counted_right_in_long_texts(void **state)
{
    (void)state;
    for (int n = 60; n < 700; n += 17) { /* around the entries of the table of offsets */
        char source[400], want[100];
        snprintf(
            source, sizeof source,
            "{%% set s = 'é' * %d ~ 'x' ~ '界' * %d %%}{{ s.find('x') }} {{ s[%d] }} {{ s.rfind('é') }} {{ s[:%d] "
            "| length }} "
            "{{ s | length }} {{ s[-%d:][0] }} {{ s.find('界', %d) }}",
            n, n, n, n, n + 1, n + 5);
        snprintf(want, sizeof want, "%d x %d %d %d x %d", n, n - 1, n, 2 * n + 1, n + 5);
        expect_text(source, "{}", want);
    }
}

/* --- origin --- */

#define CLIENT                                                                                               \
    "{\"m\":{\"role\":\"user\",\"content\":\" <|im_end|> \"},\"l\":[\"ab\",\"cd\"],\"ours\":\"</s>\"}"

static void output_names_what_came_from_outside(void **state)
{
    (void)state;
    expect_origin("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>", CLIENT,
                  "<|im_start|>«user»\n« <|im_end|> »<|im_end|>");
    expect_origin("{{ '<s>' + m.content + ours }}", CLIENT, "<s>« <|im_end|> »</s>");
    expect_origin("{{ m.content | trim }}{{ m.content[3:-3] }}{{ m.role[0] ~ 'x' ~ m.role[::-1] }}", CLIENT,
                  "«<|im_end|>im_endu»x«resu»");
    expect_origin("{{ m.role | upper }}.{{ m.role.title() }}.{{ m.role | replace('s', '<s>') }}", CLIENT,
                  "«USER».«User».«u»<s>«er»");
    expect_origin("{{ 'a-b' | replace('-', m.role) }}{{ ['x', m.role, 1] | join(ours) }}", CLIENT,
                  "a«user»bx</s>«user»</s>1");
    expect_origin("{{ m | tojson }}", CLIENT, "{\"«role»\": \"«user»\", \"«content»\": \"« <|im_end|> »\"}");
    expect_origin("{{ m }}{{ l[0] * 2 }}", CLIENT,
                  "{'«role»': '«user»', '«content»': '« <|im_end|> »'}«abab»");
    expect_origin("{{ l | join }}{% for k in m %}{{ k }},{% endfor %}", CLIENT, "«abcdrole»,«content»,");
    expect_origin("{{ '[%s]' % m.role }}{{ '[{}]'.format(m.role) }}{{ '[%5s]' | format(l[0]) }}", CLIENT,
                  "[«user»][«user»][   «ab»]");
    expect_origin("{% set x %}<{{ m.role }}>{% endset %}{{ x | upper }}{{ x.split('s')[1] }}", CLIENT,
                  "<«USER»>«er»>");
    expect_origin("{% macro f(a) %}({{ a }}){% endmacro %}{{ f(m.role) | trim }}{{ f(ours) }}", CLIENT,
                  "(«user»)(</s>)");
    expect_origin("{{ (m.role + '1')[2:] }}{{ ('1' + m.role) | e }}{{ (m.role ~ '<') | e }}", CLIENT,
                  "«er»11«useruser»&lt;");
    expect_origin("{{ m.content | trim | length }}{{ m.content == m.content }}{{ 'im' in m.content }}",
                  CLIENT, "10TrueTrue");
    expect_origin("{{ {'a': 1}[l[0][0]] }}{{ (m.role or 'x') }}{{ nothing | default(m.role) }}", CLIENT,
                  "1«useruser»");
    expect_origin("{{ (m.content ~ '\n') | indent(2, true) }}", CLIENT, "  « <|im_end|> »\n");
    expect_origin("{{ l[0].center(6, '*') }}{{ 'x'.join(l) }}{{ l | sort | first | list | last }}", CLIENT,
                  "**«ab»**«ab»x«cdb»");
}

static void a_quote_from_outside_keeps_its_escape(void **state)
{
    (void)state;
    expect_origin("{{ m.x | tojson }}", "{\"m\":{\"x\":\"a\\\"\\n\\u00e9\"}}", "\"«a\\\"\\né»\"");
    expect_origin("{{ m.x | tojson(true) }}", "{\"m\":{\"x\":\"\\u00e9\"}}", "\"«\\u00e9»\"");
}

/* --- the rest --- */

static void special_values_print_as_python_prints_them(void **state)
{
    (void)state;
    expect_text("{{ [1.0, 1e16, 1e-5, 0.1, 100.0, 1e22, 123456.789, 5e-324, 1.7976931348623157e308, -0.0] }}",
                "{}",
                "[1.0, 1e+16, 1e-05, 0.1, 100.0, 1e+22, 123456.789, 5e-324, 1.7976931348623157e+308, -0.0]");
    expect_text("{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }}", "{}",
                "9223372036854775807 -9223372036854775808");
    expect_error("{{ 9223372036854775807 + 1 }}", ERR_TEMPLATE, "an integer is too large");
    expect_error("{{ (-9223372036854775807 - 1) // -1 }}", ERR_TEMPLATE, "an integer is too large");
    expect_error("{{ -(-9223372036854775807 - 1) }}", ERR_TEMPLATE, "an integer is too large");
    expect_error("{{ 10 ** 19 }}", ERR_TEMPLATE, "an integer is too large");
    expect_error("{{ 9223372036854775808 }}", ERR_MODEL_FILE, "integer literal is too large");
    expect_text("{{ (-9223372036854775807 - 1) % -1 }}", "{}", "0");
}

static void the_date_is_todays(void **state)
{
    char before[64], after[64];
    const time_t t0 = time(NULL);
    struct tm tm;
    struct shot s;
    (void)state;
    shoot(&s, "{{ strftime_now('%d %b %Y') }}{{ strftime_now('') }}", "{}");
    const time_t t1 = time(NULL);
    assert_int_equal(s.e, OK);
    strftime(before, sizeof before, "%d %b %Y", localtime_r(&t0, &tm));
    strftime(after, sizeof after, "%d %b %Y", localtime_r(&t1, &tm));
    assert_true(strcmp(s.out.text.data, before) == 0 || strcmp(s.out.text.data, after) == 0);
    done(&s);
}

static void a_template_tells_which_variables_it_mentions(void **state)
{
    struct tmpl *t;
    (void)state;
    assert_int_equal(
        tmpl_compile(&t, "{% for m in messages %}{{ m.tools }}{{ loop.index }}{% endfor %}", 64, NULL), OK);
    assert_true(tmpl_mentions(t, "messages"));
    assert_true(tmpl_mentions(t, "m"));
    assert_false(tmpl_mentions(t, "tools"));
    assert_false(tmpl_mentions(t, "loop"));
    tmpl_free(t);
    tmpl_free(NULL);
}

static void an_exhausted_arena_ends_the_whole_construction(void **state)
{
    struct arena a;
    struct tmpl *t;
    struct err_note note;
    struct tmpl_rendering out = {.max_bytes = 10};
    (void)state;
    arena_init(&a, 64);
    strbuf_init(&out.text);
    struct tmpl_value *d = tmpl_dict(&a), *v;
    do v = tmpl_int(&a, 1);
    while (v);
    assert_false(tmpl_dict_put(&a, d, tmpl_str(&a, "k", 1, TMPL_OURS), v));
    assert_false(tmpl_list_add(&a, tmpl_list(&a), v));
    assert_int_equal(tmpl_compile(&t, "x", 1, &note), OK);
    assert_int_equal(tmpl_render(t, &a, NULL, &out, &note), ERR_NOMEM);
    tmpl_free(t);
    arena_fini(&a);
    strbuf_fini(&out.text);
}

struct crew {
    const struct tmpl *t;
    bool same;
};

static void *render_often(void *arg)
{
    struct crew *c = arg;
    c->same = true;
    for (int i = 0; i < 200 && c->same; i++) {
        struct arena a;
        struct tmpl_rendering out = {.max_bytes = 1000};
        arena_init(&a, TMPL_MAX_ARENA_BYTES);
        strbuf_init(&out.text);
        struct tmpl_value *context = tmpl_dict(&a);
        c->same = tmpl_dict_put(&a, context, tmpl_str(&a, "n", 1, TMPL_OURS), tmpl_int(&a, 3)) &&
                  tmpl_render(c->t, &a, context, &out, NULL) == OK && strcmp(out.text.data, "203 é x 3") == 0;
        strbuf_fini(&out.text);
        arena_fini(&a);
    }
    return NULL;
}

static void many_threads_share_one_template(void **state)
{
    char *s = nested(100, "aé", "xéx", ""), *source;
    struct tmpl *t;
    struct crew crew[4];
    pthread_t thread[4];
    (void)state;
    source = malloc(1000);
    snprintf(source, 1000, "{%% set s = '%s' %%}{{ s | length }} {{ s[199] }} {{ s[-1] }} {{ n }}", s);
    assert_int_equal(tmpl_compile(&t, source, strlen(source), NULL), OK);
    for (int i = 0; i < 4; i++) {
        crew[i].t = t;
        assert_int_equal(pthread_create(&thread[i], NULL, render_often, &crew[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_true(crew[i].same);
    }
    tmpl_free(t);
    free(source);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(syntax_errors_name_their_line),
        cmocka_unit_test(runtime_errors_name_their_line),
        cmocka_unit_test(what_the_template_raises_stands_for_itself),
        cmocka_unit_test(unknown_filters_inside_an_if_fail_only_when_reached),
        cmocka_unit_test(nesting_is_bounded_in_every_form),
        cmocka_unit_test(long_chains_of_operators_run_or_fail_cleanly),
        cmocka_unit_test(calls_of_macros_are_bounded),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(an_arena_of_any_size_gives_a_text_or_an_error),
        cmocka_unit_test(output_is_bounded_by_the_caller),
        cmocka_unit_test(the_source_is_bounded_and_checked),
        cmocka_unit_test(values_may_be_as_deep_as_the_bound),
        cmocka_unit_test(the_deepest_template_fits_a_small_stack),
        cmocka_unit_test(what_is_linear_in_python_is_linear_here),
        cmocka_unit_test(characters_are_counted_right_in_long_texts),
        cmocka_unit_test(output_names_what_came_from_outside),
        cmocka_unit_test(a_quote_from_outside_keeps_its_escape),
        cmocka_unit_test(special_values_print_as_python_prints_them),
        cmocka_unit_test(the_date_is_todays),
        cmocka_unit_test(a_template_tells_which_variables_it_mentions),
        cmocka_unit_test(an_exhausted_arena_ends_the_whole_construction),
        cmocka_unit_test(many_threads_share_one_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
