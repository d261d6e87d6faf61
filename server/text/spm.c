/* spm: see spm.h. Scores are an order of pieces; a piece is made of any two pieces whose texts are its own,
 * so each such pair becomes a merge with the piece's rank. Equal scores are one rank: the leftmost goes
 * first. */
#include "server/text/spm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define MARK "\xE2\x96\x81" /* U+2581, what a space is written as */

enum { MARK_BYTES = 3 };

struct spm {
    struct spm_vocab v;
    struct spm_rules rules;
    int32_t byte_id[256]; /* -1: none */
    struct bpe *bpe;
};

static enum err no_memory(struct err_note *note) { return err_set(note, ERR_NOMEM, NULL, "out of memory"); }

/* Whether pieces of this kind are met in text, character by character. */
static bool is_text(uint8_t kind) { return kind == TOKEN_NORMAL || kind == TOKEN_ADDED; }

static int32_t find(const struct spm_vocab *v, const char *p, size_t n)
{
    const int32_t id = strmap_get(v->by_piece, p, n);
    return id >= 0 && is_text(v->kind[id]) ? id : -1;
}

/* --- merges from scores */

struct scored {
    float score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score < y->score || x->score > y->score) return x->score < y->score ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The pairs that make a piece: counted, and set where bpe is not NULL. */
static size_t each_pair(const struct spm_vocab *v, int32_t id, struct bpe *bpe, uint32_t rank)
{
    const char *p = v->piece[id];
    const size_t n = v->piece_len[id];
    size_t pairs = 0;
    for (size_t i = 1; i < n; i++) {
        if (((uint8_t)p[i] & 0xC0) == 0x80) continue;
        const int32_t left = find(v, p, i), right = left < 0 ? -1 : find(v, p + i, n - i);
        if (right < 0) continue;
        if (bpe) bpe_set_merge(bpe, rank, left, right, id);
        pairs++;
    }
    return pairs;
}

static enum err list_scored(const struct spm *s, const float *score, struct scored *list, int *n_list,
                            struct err_note *note)
{
    const struct spm_vocab *v = &s->v;
    for (int32_t i = 0; i < v->n_piece; i++) {
        if (v->kind[i] != TOKEN_NORMAL || find(v, v->piece[i], v->piece_len[i]) != i) continue;
        if (isnan(score[i]))
            return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.scores", "that of token %d is no number",
                           (int)i);
        list[(*n_list)++] = (struct scored){score[i], i};
    }
    qsort(list, (size_t)*n_list, sizeof *list, by_score);
    return OK;
}

static enum err merges_of_scores(struct spm *s, const float *score, struct err_note *note)
{
    struct scored *list = calloc((size_t)s->v.n_piece + 1, sizeof *list);
    int n_list = 0;
    enum err e = list ? list_scored(s, score, list, &n_list, note) : no_memory(note);
    size_t n_pair = 0;
    for (int i = 0; e == OK && i < n_list; i++) n_pair += each_pair(&s->v, list[i].id, NULL, 0);
    if (e == OK && !(s->bpe = bpe_new(n_pair + (size_t)n_list))) e = no_memory(note);
    uint32_t rank = 0;
    for (int i = 0; e == OK && i < n_list; i++) {
        if (i > 0 && list[i].score < list[i - 1].score) rank++;
        each_pair(&s->v, list[i].id, s->bpe, rank);
    }
    free(list);
    return e;
}

/* --- building */

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* "<0x0A>" */
static int byte_of(const char *p, size_t n)
{
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>' || hex(p[3]) < 0 || hex(p[4]) < 0) return -1;
    return hex(p[3]) * 16 + hex(p[4]);
}

static enum err find_bytes(struct spm *s, struct err_note *note)
{
    const struct spm_vocab *v = &s->v;
    for (int b = 0; b < 256; b++) s->byte_id[b] = -1;
    for (int32_t i = 0; i < v->n_piece; i++) {
        if (v->kind[i] == TOKEN_NORMAL && v->piece_len[i] > SPM_PIECE_BYTES_MAX)
            return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.tokens", "token %d has more than %d bytes",
                           (int)i, SPM_PIECE_BYTES_MAX);
        if (v->kind[i] != TOKEN_BYTE) continue;
        const int b = byte_of(v->piece[i], v->piece_len[i]);
        if (b < 0)
            return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.token_type",
                           "token %d is a byte, but its text is not <0xNN>", (int)i);
        if (s->byte_id[b] < 0) s->byte_id[b] = i;
    }
    return OK;
}

enum err spm_new(struct spm **out, const struct spm_vocab *v, const struct spm_rules *rules,
                 struct err_note *note)
{
    struct spm *s = calloc(1, sizeof *s);
    if (!s) return no_memory(note);
    s->v = *v;
    s->rules = *rules;
    s->rules.score = NULL;
    enum err e = find_bytes(s, note);
    if (e == OK && rules->score) e = merges_of_scores(s, rules->score, note);
    if (e == OK)
        *out = s;
    else
        spm_free(s);
    return e;
}

void spm_free(struct spm *s)
{
    if (!s) return;
    bpe_free(s->bpe);
    free(s);
}

const struct bpe *spm_bpe(const struct spm *s) { return s->bpe; }

void spm_scratch_fini(struct spm_scratch *s)
{
    strbuf_fini(&s->text);
    token_vec_fini(&s->symbol);
}

/* --- encoding */

static bool push_bytes(const struct spm *s, struct token_vec *out, const char *p, size_t n, bool *pushed)
{
    *pushed = false;
    for (size_t i = 0; i < n; i++)
        if (s->byte_id[(uint8_t)p[i]] < 0) return true;
    *pushed = true;
    for (size_t i = 0; i < n; i++)
        if (!token_vec_push(out, s->byte_id[(uint8_t)p[i]])) return false;
    return true;
}

/* A piece for each character: its own, those of its bytes, or the unknown one. */
static bool push_symbols(const struct spm *s, struct token_vec *out, const char *p, size_t n)
{
    bool after_unk = false;
    for (size_t i = 0; i < n;) {
        const size_t len = (size_t)utf8_step((const uint8_t *)p + i, n - i);
        const int32_t id = find(&s->v, p + i, len);
        bool pushed = id >= 0;
        if (id >= 0 ? !token_vec_push(out, id) : !push_bytes(s, out, p + i, len, &pushed)) return false;
        if (!pushed && s->v.unk_id >= 0 && !(after_unk && s->rules.fuse_unk) &&
            !token_vec_push(out, s->v.unk_id))
            return false;
        after_unk = !pushed;
        i += len;
    }
    return true;
}

static void put_marked(struct strbuf *to, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        const char *space = memchr(text + i, ' ', n - i);
        const size_t plain = space ? (size_t)(space - text) - i : n - i;
        strbuf_put(to, text + i, plain);
        if (space) strbuf_put(to, MARK, MARK_BYTES);
        i += plain + (space != NULL);
    }
}

static bool begins_marked(const char *text, size_t n)
{
    return (n > 0 && text[0] == ' ') || (n >= MARK_BYTES && memcmp(text, MARK, MARK_BYTES) == 0);
}

static bool wants_prefix(const struct spm *s, const char *text, size_t n, bool first)
{
    switch (s->rules.prefix) {
    case SPM_PREFIX_ALL:
        return true;
    case SPM_PREFIX_UNLESS:
        return !begins_marked(text, n);
    case SPM_PREFIX_FIRST:
        return first && !begins_marked(text, n);
    default:
        return false;
    }
}

/* Bytes up to where the next word begins: at a mark that is not the first character. */
static size_t word_bytes(const char *p, size_t n)
{
    const char *mark = n > MARK_BYTES ? memmem(p + 1, n - 1, MARK, MARK_BYTES) : NULL;
    return mark ? (size_t)(mark - p) : n;
}

bool spm_encode(const struct spm *s, const struct bpe *bpe, struct spm_scratch *scratch,
                struct bpe_scratch *bpe_scratch, const char *text, size_t n, bool first,
                struct token_vec *out)
{
    struct strbuf *marked = &scratch->text;
    if (n == 0) return true;
    strbuf_clear(marked);
    if (wants_prefix(s, text, n, first)) strbuf_put(marked, MARK, MARK_BYTES);
    put_marked(marked, text, n);
    if (strbuf_failed(marked)) return false;
    for (size_t at = 0; at < marked->len;) {
        const char *p = marked->data + at;
        const size_t len = s->rules.words ? word_bytes(p, marked->len - at) : marked->len - at;
        scratch->symbol.n = 0;
        if (!push_symbols(s, &scratch->symbol, p, len) ||
            !bpe_encode_ids(bpe, bpe_scratch, scratch->symbol.id, scratch->symbol.n, out))
            return false;
        at += len;
    }
    return true;
}
