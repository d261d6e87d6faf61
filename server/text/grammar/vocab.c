/* vocab: see vocab.h. */
#include "server/text/grammar/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { PLAIN_ALL = VOCAB_MIDDLE_CHARS + 1 };

/* --- which slice */

/* Characters when all of them are whole and plain, else -1. */
static int plain_chars(const char *p, size_t n)
{
    int chars = 0;
    for (size_t i = 0; i < n; chars++) {
        unsigned char c = (unsigned char)p[i];
        int k = utf8_step((const uint8_t *)p + i, n - i);
        if (k <= 0 || c < 0x20 || c == '"' || c == '\\') return -1;
        i += (size_t)k;
    }
    return chars;
}

static enum vocab_slice slice_of(const char *p, size_t n)
{
    int k = plain_chars(p, n);
    if (k < 0) return n <= VOCAB_SHORT_CHARS ? VOCAB_OTHER : VOCAB_OTHER_LONG;
    return k <= VOCAB_SHORT_CHARS ? VOCAB_SHORT : k <= VOCAB_MIDDLE_CHARS ? VOCAB_MIDDLE : VOCAB_LONG;
}

/* --- building */

struct sorted {
    const char *p;
    size_t n;
    int32_t token;
};

static int compare_sorted(const void *a, const void *b)
{
    const struct sorted *p = a, *q = b;
    int c = memcmp(p->p, q->p, p->n < q->n ? p->n : q->n);
    if (c) return c;
    if (p->n != q->n) return p->n < q->n ? -1 : 1;
    return (p->token > q->token) - (p->token < q->token);
}

/* Nodes of the way to the token that is last: their indexes by depth. */
struct trie_way {
    uint32_t at[GRAMMAR_TOKEN_BYTES + 1];
    size_t n;
};

static void close_way(struct vocab_trie *t, struct trie_way *w, size_t keep)
{
    for (; w->n > keep; w->n--) {
        struct vocab_node *d = &t->node[w->at[w->n - 1]];
        d->skip_depth = (uint32_t)(t->n - w->at[w->n - 1]) << 8 | (uint32_t)w->n;
    }
}

static bool build_trie(struct vocab_trie *t, const struct sorted *s, size_t n, int32_t *same)
{
    size_t most = 0, prev_n = 0;
    const char *prev = "";
    struct trie_way w = {.n = 0};
    for (size_t i = 0; i < n; i++) most += s[i].n;
    t->n = 0;
    t->node = malloc((most ? most : 1) * sizeof *t->node);
    if (!t->node) return false;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < prev_n && k < s[i].n && prev[k] == s[i].p[k]) k++;
        if (i > 0 && k == prev_n && k == s[i].n) {
            same[s[i - 1].token] = s[i].token;
            continue;
        }
        close_way(t, &w, k);
        for (; k < s[i].n; k++) {
            w.at[w.n++] = (uint32_t)t->n;
            t->node[t->n++] =
                (struct vocab_node){.token_byte = VOCAB_NO_TOKEN << 8 | (unsigned char)s[i].p[k]};
        }
        t->node[w.at[w.n - 1]].token_byte = (uint32_t)s[i].token << 8 | (unsigned char)s[i].p[s[i].n - 1];
        prev = s[i].p;
        prev_n = s[i].n;
    }
    close_way(t, &w, 0);
    for (size_t b = 0, i = 0; b <= 256; b++) {
        while (i < t->n && (t->node[i].token_byte & 0xff) < b) i += t->node[i].skip_depth >> 8;
        t->first[b] = (uint32_t)(b == 256 ? t->n : i);
    }
    struct vocab_node *fit = realloc(t->node, (t->n ? t->n : 1) * sizeof *fit);
    if (fit) t->node = fit;
    return true;
}

static bool build_slice(struct grammar_vocab *v, enum vocab_slice slice, struct sorted *room)
{
    size_t n = 0;
    for (int32_t i = 0; i < v->n_token; i++) {
        size_t len;
        const char *p = vocab_bytes(v, i, &len);
        if (len == 0 || len > GRAMMAR_TOKEN_BYTES || slice_of(p, len) != slice) continue;
        room[n++] = (struct sorted){p, len, i};
    }
    qsort(room, n, sizeof *room, compare_sorted);
    if (!build_trie(&v->trie[slice], room, n, v->same)) return false;
    for (size_t i = 0; i < n && slice >= VOCAB_SHORT; i++) {
        int k = plain_chars(room[i].p, room[i].n);
        for (int c = k < PLAIN_ALL ? k : PLAIN_ALL; c <= PLAIN_ALL; c++)
            v->plain[c][room[i].token >> 5] |= 1u << (room[i].token & 31);
    }
    return true;
}

static bool make_plain(struct grammar_vocab *v)
{
    for (int c = 0; c <= PLAIN_ALL; c++)
        if (!(v->plain[c] = calloc(v->n_word ? v->n_word : 1, sizeof(uint32_t)))) return false;
    return true;
}

static bool copy_tokens(struct grammar_vocab *v, const struct grammar_token *token, const int32_t *eos)
{
    size_t bytes = 0, at = 0;
    for (int i = 0; i < v->n_token; i++) bytes += token[i].n;
    if (bytes > UINT32_MAX) return false;
    v->text = malloc(bytes ? bytes : 1);
    v->at = calloc((size_t)v->n_token + 1, sizeof *v->at);
    v->same = malloc((size_t)(v->n_token ? v->n_token : 1) * sizeof *v->same);
    v->eos = calloc((size_t)(v->n_eos ? v->n_eos : 1), sizeof *v->eos);
    if (!v->text || !v->at || !v->same || !v->eos) return false;
    for (int i = 0; i < v->n_token; i++) {
        v->at[i] = (uint32_t)at;
        if (token[i].n) memcpy(v->text + at, token[i].p, token[i].n);
        at += token[i].n;
        v->same[i] = -1;
    }
    v->at[v->n_token] = (uint32_t)at;
    if (v->n_eos) memcpy(v->eos, eos, (size_t)v->n_eos * sizeof *eos);
    return true;
}

enum err grammar_vocab_new(struct grammar_vocab **out, const struct grammar_token *token, int n_token,
                           const int32_t *eos, int n_eos, struct err_note *note)
{
    *out = NULL;
    if (n_token > GRAMMAR_TOKENS)
        return err_set(note, ERR_MODEL_FILE, NULL, "the vocabulary has more than %d tokens", GRAMMAR_TOKENS);
    for (int i = 0; i < n_eos; i++)
        if (eos[i] < 0 || eos[i] >= n_token)
            return err_set(note, ERR_MODEL_FILE, NULL,
                           "token %d, which ends a text, is not in the vocabulary", eos[i]);
    struct grammar_vocab *v = calloc(1, sizeof *v);
    struct sorted *room = malloc((size_t)(n_token ? n_token : 1) * sizeof *room);
    bool ok = v && room;
    if (v) {
        atomic_init(&v->refs, 1);
        v->n_token = n_token;
        v->n_eos = n_eos;
        v->n_word = ((size_t)n_token + 31) / 32;
    }
    ok = ok && copy_tokens(v, token, eos) && make_plain(v);
    for (int s = 0; s < VOCAB_SLICES && ok; s++) ok = build_slice(v, (enum vocab_slice)s, room);
    free(room);
    if (!ok) {
        grammar_vocab_give(v);
        return err_set(note, ERR_NOMEM, NULL, "no memory for the vocabulary's tries");
    }
    *out = v;
    return OK;
}

void grammar_vocab_take(struct grammar_vocab *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
}

void grammar_vocab_give(struct grammar_vocab *v)
{
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1) return;
    for (int s = 0; s < VOCAB_SLICES; s++) free(v->trie[s].node);
    for (int c = 0; c <= PLAIN_ALL; c++) free(v->plain[c]);
    free(v->same);
    free(v->eos);
    free(v->text);
    free(v->at);
    free(v);
}

size_t grammar_vocab_words(const struct grammar_vocab *v) { return v->n_word; }

/* --- what a tokenizer may still join */

/* Whether some token begins with these bytes and goes on behind them. */
static bool goes_on(const struct vocab_trie *t, const char *p, size_t n)
{
    size_t i = 0, end = t->n;
    for (size_t depth = 0; depth < n; depth++) {
        while (i < end && (t->node[i].token_byte & 0xff) != (unsigned char)p[depth])
            i += t->node[i].skip_depth >> 8;
        if (i >= end) return false;
        end = i + (t->node[i].skip_depth >> 8);
        i++;
    }
    return i < end;
}

size_t grammar_vocab_settled(const struct grammar_vocab *v, const int32_t *token, size_t n)
{
    char tail[GRAMMAR_TOKEN_BYTES];
    size_t bytes = 0, settled = n; /* tail: the last bytes, filled from its end */
    for (size_t i = n; i > 0; i--) {
        size_t len;
        const char *p = vocab_bytes(v, token[i - 1], &len);
        if (len + bytes > sizeof tail) break;
        bytes += len;
        memcpy(tail + sizeof tail - bytes, p, len);
        for (int s = 0; s < VOCAB_SLICES; s++)
            if (goes_on(&v->trie[s], tail + sizeof tail - bytes, bytes)) settled = i - 1;
    }
    return settled;
}
