/* pretok: patterns run in PCRE2's JIT under limits, on text whose characters mean to PCRE2 what they mean to
 * the tokenizers (unicode.h). Patterns recurse piece by piece, so no list of pieces is ever held. */
#include "server/text/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/strbuf.h"
#include "server/text/tokenizer.h"
#include "server/text/unicode.h"

#define PATTERNS_MAX      16
#define PATTERN_BYTES_MAX 16384
/* A run of n spaces costs "\\s*[\\r\\n]+" n steps back, so a long text has a limit in proportion. */
#define MATCH_LIMIT           1000000u
#define MATCH_LIMIT_PER_BYTE  4u
#define HEAP_LIMIT_KIB        (64u * 1024)
#define JIT_STACK_BYTES_FIRST 32768
#define JIT_STACK_BYTES_MAX   (1024 * 1024)

/* GPT-2's pattern, which ByteLevel applies by itself. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* The pattern of tiktoken's cl100k, by the digits that stay together. */
#define CL100K(digits)                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"  \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* Digits: Unicode 17's numbers (Rust's char::is_numeric), of which two blocks are newer than 16. */
#define DIGITS "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]"

/* Names of GGUF's tokenizer.ggml.pre. */
static const struct pretok_row {
    const char *name;
    const char *pattern[2];
    bool nfc, ignore_merges;
} pretok_row[] = {
    {.name = "smollm", .pattern = {DIGITS, GPT2}},
    {.name = "gpt-2", .pattern = {GPT2}},
    {.name = "default", .pattern = {GPT2}},
    {.name = "llama-bpe", .pattern = {CL100K("\\p{N}{1,3}")}, .ignore_merges = true},
    {.name = "llama3", .pattern = {CL100K("\\p{N}{1,3}")}, .ignore_merges = true},
    {.name = "llama-v3", .pattern = {CL100K("\\p{N}{1,3}")}, .ignore_merges = true},
    {.name = "qwen2", .pattern = {CL100K("\\p{N}")}, .nfc = true},
    {.name = "deepseek-r1-qwen", .pattern = {CL100K("\\p{N}")}, .nfc = true},
};

struct pretok {
    int n_code;
    pcre2_code *code[PATTERNS_MAX];
    bool nfc, ignore_merges;
};

struct pretok_run {
    pcre2_match_context *context;
    pcre2_match_data *data;
    pcre2_jit_stack *jit_stack;
    struct strbuf subject; /* the text as PCRE2 is shown it, where that differs */
};

static const struct pretok_row *find_row(const char *name)
{
    for (size_t i = 0; name && i < sizeof pretok_row / sizeof pretok_row[0]; i++) {
        if (strcmp(name, pretok_row[i].name) == 0) return &pretok_row[i];
    }
    return NULL;
}

int pretok_steps(const char *name, struct pretok_step step[PRETOK_STEPS_MOST], bool *nfc, bool *ignore_merges)
{
    const struct pretok_row *row = find_row(name);
    int n = 0;
    if (!row) return -1;
    *nfc = row->nfc;
    *ignore_merges = row->ignore_merges;
    for (; n < PRETOK_STEPS_MOST && row->pattern[n]; n++) {
        const char *p = row->pattern[n];
        step[n] = (struct pretok_step){.split = !strcmp(p, GPT2)     ? SPLIT_WORDS
                                                : !strcmp(p, DIGITS) ? SPLIT_DIGITS
                                                                     : SPLIT_REGEX,
                                       .pattern = p};
    }
    return n;
}

/* ---- running ---- */

struct pretok_run *pretok_run_new(void)
{
    struct pretok_run *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->context = pcre2_match_context_create(NULL);
    r->data = pcre2_match_data_create(1, NULL); /* the whole match is all that is asked for */
    r->jit_stack = pcre2_jit_stack_create(JIT_STACK_BYTES_FIRST, JIT_STACK_BYTES_MAX, NULL);
    if (!r->context || !r->data) {
        pretok_run_free(r);
        return NULL;
    }
    pcre2_set_heap_limit(r->context, HEAP_LIMIT_KIB);
    if (r->jit_stack)
        pcre2_jit_stack_assign(r->context, NULL, r->jit_stack); /* NULL where PCRE2 has no JIT */
    return r;
}

void pretok_run_free(struct pretok_run *r)
{
    if (!r) return;
    strbuf_fini(&r->subject);
    pcre2_jit_stack_free(r->jit_stack);
    pcre2_match_data_free(r->data);
    pcre2_match_context_free(r->context);
    free(r);
}

/* One call of pretok_split: text and subject are the same n bytes to us and to PCRE2. */
struct split {
    const struct pretok *pretok;
    struct pretok_run *run;
    const char *text, *subject;
    bool (*emit)(void *arg, const char *piece, size_t n);
    void *arg;
    struct err_note *note;
};

/* Cuts [from, to) by the patterns from `level` on. Each pattern sees its piece as a text of its own. */
static enum err cut(const struct split *s, int level, size_t from, size_t to)
{
    if (from == to) return OK;
    if (level == s->pretok->n_code) {
        if (s->emit(s->arg, s->text + from, to - from)) return OK;
        return err_set(s->note, ERR_NOMEM, NULL, "out of memory");
    }
    size_t n = to - from;
    for (size_t at = 0; at < n;) {
        int rc = pcre2_match(s->pretok->code[level], (PCRE2_SPTR)s->subject + from, n, at,
                             PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, s->run->data, s->run->context);
        if (rc == PCRE2_ERROR_NOMATCH) return cut(s, level + 1, from + at, to);
        if (rc == PCRE2_ERROR_NOMEMORY) return err_set(s->note, ERR_NOMEM, NULL, "out of memory");
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(s->run->data);
        if (rc < 0 || o[0] < at || o[1] <= o[0]) { /* \K makes odd matches */
            return err_set(s->note, ERR_INVALID_REQUEST, NULL,
                           "the text exceeds the budget of split pattern %d", level + 1);
        }
        size_t match = o[0], end = o[1]; /* the next level overwrites o */
        enum err e = cut(s, level + 1, from + at, from + match);
        if (e == OK) e = cut(s, level + 1, from + match, from + end);
        if (e != OK) return e;
        at = end;
    }
    return OK;
}

enum err pretok_split(const struct pretok *p, struct pretok_run *r, const char *text, size_t n,
                      bool (*emit)(void *arg, const char *piece, size_t n), void *arg, struct err_note *note)
{
    strbuf_clear(&r->subject);
    bool aliased = unicode_alias(text, n, &r->subject);
    if (strbuf_failed(&r->subject)) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    size_t limit = n < UINT32_MAX / MATCH_LIMIT_PER_BYTE ? n * MATCH_LIMIT_PER_BYTE : UINT32_MAX;
    pcre2_set_match_limit(r->context, limit > MATCH_LIMIT ? (uint32_t)limit : MATCH_LIMIT);
    struct split s = {
        .pretok = p,
        .run = r,
        .text = text,
        .subject = aliased ? r->subject.data : text,
        .emit = emit,
        .arg = arg,
        .note = note,
    };
    return cut(&s, 0, 0, n);
}

/* ---- loading ---- */

static enum err compile(pcre2_code **out, const char *pattern, uint32_t options,
                        pcre2_compile_context *context, struct err_note *note)
{
    int code;
    PCRE2_SIZE at;
    if (!(options & PCRE2_LITERAL)) options |= PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | options, &code, &at, context);
    if (!re) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(code, why, sizeof why);
        return err_set(note, ERR_MODEL_FILE, "pre_tokenizer",
                       "a split pattern does not compile, at byte %zu: %s", at, (const char *)why);
    }
    uint32_t may_be_empty = 0;
    pcre2_pattern_info(re, PCRE2_INFO_MATCHEMPTY, &may_be_empty);
    if (may_be_empty) {
        pcre2_code_free(re);
        return err_set(note, ERR_MODEL_FILE, "pre_tokenizer", "a split pattern can match empty text");
    }
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without JIT the interpreter does the same, slower */
    *out = re;
    return OK;
}

static bool emit_nothing(void *arg, const char *piece, size_t n)
{
    (void)arg, (void)piece, (void)n;
    return true;
}

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* What real text is full of, repeated: a catastrophic pattern runs into a limit, a quadratic one takes too
 * long. Lengths grow so that a bad pattern is found on a short text. 32 KiB take a sane pattern a few ms. */
#define TRIAL_MS_MAX    250.0
#define TRIAL_BYTES_MAX 32768

static enum err try_out(const struct pretok *p, struct err_note *note)
{
    static const char *const unit[] = {"a", " ",  "1",   "\n", "a1", "a ", "\xE4\xB8\xAD",
                                       "-", "'a", " \n", "A"};
    static const char *const tail[] = {"", "!"};
    struct pretok_run *r = pretok_run_new();
    struct strbuf text;
    strbuf_init(&text);
    enum err e = r ? OK : err_set(note, ERR_NOMEM, NULL, "out of memory");
    for (size_t bytes = 32; e == OK && bytes <= TRIAL_BYTES_MAX; bytes *= 32) {
        for (size_t k = 0; e == OK && k < sizeof unit / sizeof unit[0] * 2; k++) {
            strbuf_clear(&text);
            while (text.len < bytes && !strbuf_failed(&text)) strbuf_puts(&text, unit[k / 2]);
            strbuf_puts(&text, tail[k % 2]);
            if (strbuf_failed(&text)) {
                e = err_set(note, ERR_NOMEM, NULL, "out of memory");
                break;
            }
            double t0 = cpu_ms();
            e = pretok_split(p, r, text.data, text.len, emit_nothing, NULL, note);
            if (e == ERR_INVALID_REQUEST || cpu_ms() - t0 > TRIAL_MS_MAX) {
                e = err_set(note, ERR_MODEL_FILE, "pre_tokenizer",
                            "a split pattern takes too long on %zu bytes", text.len);
            }
        }
    }
    strbuf_fini(&text);
    pretok_run_free(r);
    return e;
}

/* A step of a tokenizer.json. Its ^ and $ are those of every line. */
static enum err compile_step(pcre2_code **out, const char *pattern, enum split_kind kind,
                             pcre2_compile_context *context, struct err_note *note)
{
    static const char *const built_in[] = {
        [SPLIT_DIGITS] = DIGITS, [SPLIT_DIGIT_RUNS] = DIGITS "+", [SPLIT_WORDS] = GPT2};
    const char *foreign;
    switch (kind) {
    case SPLIT_REGEX:
        foreign = pretok_foreign(pattern);
        if (foreign)
            return err_set(note, ERR_MODEL_FILE, "pre_tokenizer",
                           "a split pattern uses %s, which is not supported", foreign);
        return compile(out, pattern, PCRE2_MULTILINE, context, note);
    case SPLIT_LITERAL:
        return compile(out, pattern, PCRE2_LITERAL, context, note);
    default:
        if (kind > SPLIT_WORDS)
            return err_set(note, ERR_MODEL_FILE, "pre_tokenizer", "an unknown kind of step");
        return compile(out, built_in[kind], 0, context, note);
    }
}

static enum err compile_all(struct pretok *p, const struct pretok_row *row, const char *const *pattern,
                            const uint8_t *split, struct err_note *note)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_max_pattern_length(context, PATTERN_BYTES_MAX);
    enum err e = OK;
    for (int i = 0; e == OK && i < p->n_code; i++) {
        enum split_kind kind = split ? (enum split_kind)split[i] : SPLIT_REGEX;
        e = row ? compile(&p->code[i], row->pattern[i], 0, context, note)
                : compile_step(&p->code[i], pattern[i], kind, context, note);
    }
    pcre2_compile_context_free(context);
    return e;
}

enum err pretok_new(struct pretok **out, const char *name, const char *const *pattern, const uint8_t *split,
                    int n_pattern, struct err_note *note)
{
    *out = NULL;
    const struct pretok_row *row = n_pattern > 0 ? NULL : find_row(name);
    if (n_pattern <= 0 && !row) {
        return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.pre", "unknown pre-tokenizer \"%.40s\"",
                       name ? name : "");
    }
    if (n_pattern > PATTERNS_MAX) {
        return err_set(note, ERR_MODEL_FILE, "pre_tokenizer", "more than %d split patterns", PATTERNS_MAX);
    }
    struct pretok *p = calloc(1, sizeof *p);
    if (!p) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    p->n_code = row ? 1 + (row->pattern[1] != NULL) : n_pattern;
    p->nfc = row && row->nfc;
    p->ignore_merges = row && row->ignore_merges;
    enum err e = compile_all(p, row, pattern, split, note);
    if (e == OK && !row) e = try_out(p, note);
    if (e != OK) {
        pretok_free(p);
        return e;
    }
    *out = p;
    return OK;
}

void pretok_free(struct pretok *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_code; i++) pcre2_code_free(p->code[i]);
    free(p);
}

bool pretok_nfc(const struct pretok *p) { return p->nfc; }
bool pretok_ignore_merges(const struct pretok *p) { return p->ignore_merges; }
