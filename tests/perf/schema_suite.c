/* schema_suite [--schema-format annotate|enforce] TOKENIZER FILE...: how the constraint engine does on
 * schemas with instances. TOKENIZER is a GGUF file, a tokenizer.json or its directory. A FILE holds
 * {"schema": S, "tests": [{"data": D, "valid": bool}, ...]} or a list of such. An instance is written as
 * Python's json.dumps(D, ensure_ascii=False) does it, with declared keys in the schema's order first
 * (schema_order.c), and fed token by token. One line a schema, at the end one line of JSON. Status 1: an
 * invalid instance was accepted or a valid one rejected. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/files/jdoc.h"
#include "base/strbuf.h"
#include "server/text/assets.h"
#include "server/text/grammar/grammar.h"
#include "server/text/grammar/schema.h"
#include "server/text/tokenizer.h"

enum { FILE_BYTES = 64 << 20 };

struct suite {
    struct tokenizer *t;
    struct grammar_vocab *v;
    struct grammar_opts opts;
    uint32_t *bits;
    /* totals */
    size_t schemas, passed, refused, rejected, accepted, tests, tests_passed, tests_refused, tests_rejected,
        tests_accepted;
    double compile_us, compile_us_most, mask_us, mask_us_most;
    double *mask;
    const char *limit; /* that a mask of the schema met: it counts as refused */
    size_t masks, compiled, n_mask, cap_mask;
};

static int die(const char *what)
{
    fprintf(stderr, "schema_suite: %s\n", what);
    return 2;
}

/* Of this thread alone, so that others on the machine do not count. */
static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* --- json.dumps */

/* A double as Python's repr writes it. */
static void put_double(struct strbuf *out, double d)
{
    char text[40], digits[40];
    int n = 1, e;
    for (; n <= 17; n++) {
        snprintf(text, sizeof text, "%.*e", n - 1, d);
        if (strtod(text, NULL) == d) break;
    }
    const char *p = text;
    size_t k = 0;
    if (*p == '-') strbuf_putc(out, *p++);
    for (; *p != 'e'; p++)
        if (*p != '.') digits[k++] = *p;
    e = atoi(p + 1);
    while (k > 1 && digits[k - 1] == '0') k--;
    if (e < -4 || e >= 16) {
        strbuf_putc(out, digits[0]);
        if (k > 1) strbuf_putc(out, '.');
        strbuf_put(out, digits + 1, k - 1);
        strbuf_printf(out, "e%c%02d", e < 0 ? '-' : '+', abs(e));
        return;
    }
    if (e < 0) strbuf_puts(out, "0.");
    for (int i = -1; i > e; i--) strbuf_putc(out, '0');
    for (int i = 0; i < (int)k || i <= e; i++) {
        if (i == e + 1 && e >= 0) strbuf_putc(out, '.');
        strbuf_putc(out, i < (int)k ? digits[i] : '0');
    }
    if (e >= 0 && (int)k <= e + 1) strbuf_puts(out, ".0");
}

static void put_number(struct strbuf *out, struct jval v)
{
    bool whole = true, zero = true;
    double d = 0;
    for (size_t i = 0; i < v.n; i++) {
        whole = whole && v.p[i] != '.' && v.p[i] != 'e' && v.p[i] != 'E';
        zero = zero && (v.p[i] == '-' || v.p[i] == '0');
    }
    if (whole && zero)
        strbuf_putc(out, '0');
    else if (whole)
        strbuf_put(out, v.p, v.n);
    else if (jval_double(v, &d))
        put_double(out, d);
}

static void put_string(struct strbuf *out, struct schema *s, struct jval v)
{
    uint32_t key = schema_key_of(s, v);
    strbuf_putc(out, '"');
    strbuf_put(out, s->key[key].spelled, s->key[key].n_spelled);
    strbuf_putc(out, '"');
}

/* --- order: a place of the instance is the set of schemas that may apply to it (schema_order.c) */

static void write_value(struct strbuf *out, struct schema *s, struct jval v, uint32_t place);

static void write_object(struct strbuf *out, struct schema *s, struct jval v, uint32_t place)
{
    size_t n_written = 0;
    struct sch_list order = schema_place(s, place)->key;
    strbuf_putc(out, '{');
    for (size_t pass = 0; pass <= order.n; pass++)
        for (struct jiter it = jval_iter(v); jiter_next(&it);) {
            uint32_t key = schema_key_of(s, it.key);
            bool declared = false;
            for (size_t k = 0; k < order.n && !declared; k++) declared = order.v[k] == key;
            if (pass < order.n ? order.v[pass] != key : declared) continue;
            if (n_written++) strbuf_puts(out, ", ");
            put_string(out, s, it.key);
            strbuf_puts(out, ": ");
            write_value(out, s, it.value, schema_place_key(s, place, key));
        }
    strbuf_putc(out, '}');
}

static void write_value(struct strbuf *out, struct schema *s, struct jval v, uint32_t place)
{
    uint32_t i = 0;
    switch (jval_kind(v)) {
    case JKIND_OBJECT:
        write_object(out, s, v, place);
        return;
    case JKIND_ARRAY:
        strbuf_putc(out, '[');
        for (struct jiter it = jval_iter(v); jiter_next(&it); i++) {
            if (i) strbuf_puts(out, ", ");
            write_value(out, s, it.value, schema_place_item(s, place, i));
        }
        strbuf_putc(out, ']');
        return;
    case JKIND_STRING:
        put_string(out, s, v);
        return;
    case JKIND_NUMBER:
        put_number(out, v);
        return;
    default:
        strbuf_put(out, v.p, v.n);
        return;
    }
}

static char *instance(const struct suite *u, struct jval schema, struct jval data)
{
    struct grammar_limits lim = {.compile_bytes = GRAMMAR_COMPILE_BYTES,
                                 .states = GRAMMAR_STATES,
                                 .alternatives = GRAMMAR_ALTERNATIVES};
    struct pool pool = {.bytes_max = SIZE_MAX, .steps_max = UINT64_MAX};
    struct rx x;
    struct rtn net;
    struct schema s;
    struct strbuf out;
    strbuf_init(&out);
    rx_init(&x, &pool);
    rtn_init(&net, &pool, &x, lim.states);
    if (schema_open(&s, &net, schema.p, schema.n, &u->opts, &lim, NULL) == OK) {
        uint32_t root = lit_of(0, false);
        write_value(&out, &s, data, schema_conj(&s, &root, 1));
    }
    schema_fini(&s);
    rtn_fini(&net);
    rx_fini(&x);
    return strbuf_take(&out);
}

/* --- one schema */

/* The tokenizer's tokens, unless it writes the text differently (NFC): then the longest that fit. */
static bool cut(const struct suite *u, const char *text, struct token_vec *v)
{
    size_t n = strlen(text), at = 0, len;
    if (tokenizer_encode(u->t, text, n, 0, v, NULL) != OK) return false;
    for (size_t i = 0; i < v->n; at += len, i++) {
        const char *p = tokenizer_bytes(u->t, v->id[i], &len);
        if (len > n - at || memcmp(p, text + at, len) != 0) break;
    }
    if (at == n) return true;
    for (v->n = 0, at = 0; at < n;) {
        int32_t best = -1;
        size_t most = 0;
        for (int32_t id = 0; id < tokenizer_n_piece(u->t); id++) {
            const char *p = tokenizer_bytes(u->t, id, &len);
            if (len <= most || len > n - at || memcmp(p, text + at, len) != 0 ||
                tokenizer_is_special(u->t, id))
                continue;
            best = id;
            most = len;
        }
        if (best < 0 || !token_vec_push(v, best)) return false;
        at += most;
    }
    return true;
}

static bool feed(struct suite *u, struct grammar *g, const char *text, double *sum, double *most, size_t *n)
{
    struct token_vec v = {0};
    struct grammar_matcher *m;
    bool ok = cut(u, text, &v) && grammar_matcher_new(&m, g) == OK;
    if (!ok) exit(die("an instance cannot be tokenized"));
    for (size_t i = 0; i < v.n && ok; i++) {
        double t0 = cpu_us();
        enum err e = grammar_matcher_mask(m, u->bits);
        double us = cpu_us() - t0;
        if (u->n_mask == u->cap_mask) {
            u->cap_mask = u->cap_mask ? u->cap_mask * 2 : 1024;
            u->mask = realloc(u->mask, u->cap_mask * sizeof *u->mask);
            if (!u->mask) exit(die("out of memory"));
        }
        u->mask[u->n_mask++] = us;
        *sum += us;
        *most = us > *most ? us : *most;
        ++*n;
        if (e != OK) {
            u->limit = grammar_limit(g) ? grammar_limit(g) : err_text(e);
            ok = false;
            break;
        }
        bool in = u->bits[v.id[i] >> 5] >> (v.id[i] & 31) & 1;
        ok = grammar_matcher_accept(m, v.id[i]) == OK;
        if (in != ok) exit(die("a mask and what is accepted differ"));
    }
    ok = ok && grammar_matcher_done(m);
    grammar_matcher_free(m);
    token_vec_fini(&v);
    return ok;
}

static const char *keyword(const struct err_note *note)
{
    const char *slash = strrchr(note->param, '/');
    return slash ? slash + 1 : note->param[0] ? note->param : err_name(note->code);
}

static void run_schema(struct suite *u, const char *file, size_t index, struct jval one)
{
    struct jval schema = jval_get(one, "schema");
    struct grammar *g;
    struct err_note note = {0};
    size_t n = 0, masks = 0, rejected = 0, accepted = 0;
    double sum = 0, most = 0;
    double t0 = cpu_us();
    enum err e = grammar_compile(&g, u->v, GRAMMAR_SCHEMA, schema.p, schema.n, &u->opts, NULL, &note);
    double us = cpu_us() - t0;
    /* A schema that nothing satisfies is no grammar, and so accepts nothing. */
    bool none = e == ERR_INVALID_VALUE && !note.param[0];
    u->limit = NULL;
    for (struct jiter it = jval_iter(jval_get(one, "tests")); jiter_next(&it); n++) {
        bool valid = false;
        jval_bool(jval_get(it.value, "valid"), &valid);
        if (e != OK && !none) continue;
        char *text = instance(u, schema, jval_get(it.value, "data"));
        bool in = !none && feed(u, g, text, &sum, &most, &masks);
        if (in != valid && getenv("SCHEMA_SUITE_SHOW"))
            printf("    %s %.*s\n", text, (int)(schema.n > 600 ? 600 : schema.n), schema.p);
        free(text);
        rejected += valid && !in;
        accepted += in && !valid;
    }
    u->schemas++;
    u->tests += n;
    u->compile_us += us;
    u->compile_us_most = us > u->compile_us_most ? us : u->compile_us_most;
    u->mask_us += sum;
    u->mask_us_most = most > u->mask_us_most ? most : u->mask_us_most;
    u->masks += masks;
    if (u->limit) err_set(&note, ERR_UNSUPPORTED, u->limit, "a mask goes beyond the limit on %s", u->limit);
    if (u->limit) grammar_give(g);
    if (u->limit || (e != OK && !none)) {
        u->refused++;
        u->tests_refused += n;
        printf("%s#%zu refused %s (%s), compile %.0f us\n", file, index, keyword(&note), note.text, us);
        return;
    }
    u->passed += !rejected && !accepted;
    u->rejected += rejected > 0;
    u->accepted += accepted > 0;
    u->tests_rejected += rejected;
    u->tests_accepted += accepted;
    u->tests_passed += n - rejected - accepted;
    printf("%s#%zu %s, compile %.0f us, mask %.1f us average, %.1f us most\n", file, index,
           accepted   ? "invalid accepted"
           : rejected ? "valid rejected"
                      : "passed",
           us, masks ? sum / (double)masks : 0, most);
    if (e == OK) grammar_give(g);
}

/* --- vocabulary */

/* tokenizer.json itself stands for its directory. */
static enum err open_assets(struct text_assets **a, const char *path, struct err_note *note)
{
    static const char name[] = "tokenizer.json";
    size_t n = strlen(path), cut = sizeof name - 1;
    if (n < cut || strcmp(path + n - cut, name) != 0) return text_assets_open(a, path, note);
    char *dir = n == cut ? strdup(".") : strndup(path, n - cut);
    enum err e = dir ? text_assets_open(a, dir, note) : ERR_NOMEM;
    free(dir);
    return e;
}

static enum err open_tokenizer(struct suite *u, const char *path, struct err_note *note)
{
    struct text_assets *a;
    enum err e = open_assets(&a, path, note);
    if (e != OK) return e;
    struct tokenizer_src src = {
        .n_piece = a->n_piece,
        .piece = a->piece,
        .piece_len = a->piece_len,
        .kind = a->kind,
        .trait = a->trait,
        .n_merge = a->n_merge,
        .merge = a->merge,
        .merge_len = a->merge_len,
        .merge_at = a->merge_at,
        .file = a->file,
        .pre = a->pre,
        .pattern = a->pattern,
        .split = a->split,
        .n_pattern = a->n_pattern,
        .nfc = a->nfc,
        .ignore_merges = a->ignore_merges,
        .bos_id = a->bos_id,
        .eos_id = a->eos_id,
        .unk_id = a->unk_id,
        .add_bos = a->add_bos,
        .add_eos = a->add_eos,
    };
    e = tokenizer_new(&u->t, &src, note);
    text_assets_close(a);
    if (e != OK) return e;
    int n = tokenizer_n_piece(u->t);
    int32_t eos = tokenizer_eos(u->t);
    struct grammar_token *token = calloc((size_t)n, sizeof *token);
    if (!token) return ERR_NOMEM;
    for (int32_t i = 0; i < n; i++)
        if (!tokenizer_is_special(u->t, i)) token[i].p = tokenizer_bytes(u->t, i, &token[i].n);
    e = grammar_vocab_new(&u->v, token, n, &eos, eos >= 0, note);
    free(token);
    if (e != OK) return e;
    u->bits = calloc(grammar_vocab_words(u->v), sizeof *u->bits);
    return u->bits ? OK : ERR_NOMEM;
}

static int compare_times(const void *a, const void *b)
{
    double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

/* The mask time that a share of all stays within. */
static double within(struct suite *u, double share)
{
    if (u->n_mask == 0) return 0;
    qsort(u->mask, u->n_mask, sizeof *u->mask, compare_times);
    return u->mask[(size_t)(share * (double)(u->n_mask - 1))];
}

int main(int argc, char **argv)
{
    struct suite u = {.opts.format = GRAMMAR_ENFORCE};
    struct err_note note = {0};
    int at = 1;
    if (argc > 2 && strcmp(argv[1], "--schema-format") == 0) {
        if (strcmp(argv[2], "annotate") == 0)
            u.opts.format = GRAMMAR_ANNOTATE;
        else if (strcmp(argv[2], "enforce") != 0)
            return die("--schema-format is annotate or enforce");
        at = 3;
    }
    if (argc - at < 2) return die("[--schema-format annotate|enforce] TOKENIZER FILE...");
    if (open_tokenizer(&u, argv[at], &note) != OK) return die(note.text);
    for (int i = at + 1; i < argc; i++) {
        struct jdoc d;
        if (jdoc_open(&d, argv[i], FILE_BYTES, &note) != OK) return die(note.text);
        const char *slash = strrchr(argv[i], '/'), *name = slash ? slash + 1 : argv[i];
        size_t index = 0;
        if (jval_kind(d.root) == JKIND_OBJECT)
            run_schema(&u, name, 0, d.root);
        else
            for (struct jiter it = jval_iter(d.root); jiter_next(&it); index++)
                run_schema(&u, name, index, it.value);
        jdoc_close(&d);
    }
    printf(
        "{\"schemas\": {\"schemas\": %zu, \"passed\": %zu, \"refused\": %zu, \"valid_rejected\": %zu, \"invalid_accepted\": %zu}, "
        "\"tests\": {\"tests\": %zu, \"passed\": %zu, \"refused\": %zu, \"valid_rejected\": %zu, \"invalid_accepted\": %zu}, "
        "\"compile_us_average\": %.1f, \"compile_us_most\": %.1f, \"mask_us_average\": %.1f, \"mask_us_p50\": %.1f, \"mask_us_p99\": %.1f, \"mask_us_most\": %.1f}\n",
        u.schemas, u.passed, u.refused, u.rejected, u.accepted, u.tests, u.tests_passed, u.tests_refused,
        u.tests_rejected, u.tests_accepted, u.schemas ? u.compile_us / (double)u.schemas : 0,
        u.compile_us_most, u.masks ? u.mask_us / (double)u.masks : 0, within(&u, 0.5), within(&u, 0.99),
        u.mask_us_most);
    free(u.mask);
    free(u.bits);
    grammar_vocab_give(u.v);
    tokenizer_free(u.t);
    return u.rejected || u.accepted;
}
