/* tokenizer: puts the parts together. Text is cut at special tokens (special), normalised (unicode), cut into pieces
 * (pretok), and each piece is merged from bytes (bpe). Everything is built once and then only read. */
#include "server/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "server/bpe.h"
#include "server/pretok.h"
#include "server/special.h"
#include "server/unicode.h"
#include "server/utf8.h"

struct tokenizer {
    struct arena    mem; /* holds all texts */
    int             n_piece;
    const char    **piece; /* as the file writes them */
    size_t         *piece_len;
    const char    **bytes; /* what they stand for */
    size_t         *bytes_len;
    uint8_t        *kind;
    struct strmap  *by_piece; /* text in the file -> id */
    struct strmap  *by_bytes; /* bytes -> id of a normal piece; only with ignore_merges */
    struct bpe     *bpe;
    struct pretok  *pretok;
    struct special *special;
    bool            nfc, ignore_merges, add_bos, add_eos;
    int32_t         bos_id, eos_id;
};

/* ---- ids ---- */

void token_vec_fini(struct token_vec *v)
{
    free(v->id);
    *v = (struct token_vec){0};
}

bool token_vec_push(struct token_vec *v, int32_t id)
{
    if (v->n == v->cap) {
        if (v->cap > SIZE_MAX / sizeof *v->id / 2) return false;
        size_t cap = v->cap ? v->cap * 2 : 64;
        int32_t *p = realloc(v->id, cap * sizeof *p);
        if (!p) return false;
        v->id = p;
        v->cap = cap;
    }
    v->id[v->n++] = id;
    return true;
}

/* ---- GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes are U+0100 .. U+0143 ---- */

static bool is_own_letter(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

static unsigned letter_of_byte(unsigned byte)
{
    if (is_own_letter(byte)) return byte;
    unsigned nth = 0;
    for (unsigned b = 0; b < byte; b++) nth += !is_own_letter(b);
    return 0x100 + nth;
}

/* Fills table with the byte of each letter below U+0144, -1 where there is none. */
static void letters_fill(int16_t table[0x144])
{
    for (int c = 0; c < 0x144; c++) table[c] = -1;
    for (unsigned b = 0; b < 256; b++) table[letter_of_byte(b)] = (int16_t)b;
}

/* Bytes of a piece in the byte alphabet, written to out (of n bytes). False: some character is not a letter of it. */
static bool piece_to_bytes(const int16_t table[0x144], const char *piece, size_t n, char *out, size_t *out_len)
{
    const uint8_t *p = (const uint8_t *)piece;
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        int len = utf8_step(p + i, n - i);
        if (len != 1 && len != 2) return false;
        unsigned c = len == 1 ? p[i] : (unsigned)(p[i] & 0x1F) << 6 | (p[i + 1] & 0x3Fu);
        if (c >= 0x144 || table[c] < 0) return false;
        out[k++] = (char)table[c];
        i += (size_t)len;
    }
    *out_len = k;
    return true;
}

/* ---- building ---- */

static enum err no_memory(struct err_note *note) { return err_set(note, ERR_NOMEM, NULL, "out of memory"); }

static enum err check_src(const struct tokenizer_src *src, struct err_note *note)
{
    if (src->n_piece <= 0) return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.tokens", "the vocabulary is empty");
    if (src->n_merge < 0) return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.merges", "a negative number of merges");
    const struct {
        const char *key;
        int32_t     id;
        bool        needed;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", src->bos_id, src->add_bos},
        {"tokenizer.ggml.eos_token_id", src->eos_id, src->add_eos},
        {"tokenizer.ggml.unknown_token_id", src->unk_id, false},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (ids[i].id < -1 || ids[i].id >= src->n_piece || (ids[i].needed && ids[i].id < 0)) {
            return err_set(note, ERR_MODEL_FILE, ids[i].key, "%d is not a token of this vocabulary", (int)ids[i].id);
        }
    }
    for (int i = 0; i < src->n_piece; i++) {
        if (src->kind[i] > TOKEN_UNUSED) {
            return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.token_type", "token %d has an unknown kind", i);
        }
    }
    return OK;
}

/* Copies the pieces, decodes them, and maps them. A text that stands twice means its first id. */
static enum err build_pieces(struct tokenizer *t, const struct tokenizer_src *src, struct err_note *note)
{
    size_t n = (size_t)src->n_piece;
    t->n_piece = src->n_piece;
    t->piece = arena_array(&t->mem, n, sizeof *t->piece);
    t->piece_len = arena_array(&t->mem, n, sizeof *t->piece_len);
    t->bytes = arena_array(&t->mem, n, sizeof *t->bytes);
    t->bytes_len = arena_array(&t->mem, n, sizeof *t->bytes_len);
    t->kind = arena_array(&t->mem, n, sizeof *t->kind);
    t->by_piece = strmap_new(n);
    if (!t->piece || !t->piece_len || !t->bytes || !t->bytes_len || !t->kind || !t->by_piece) return no_memory(note);
    memcpy(t->kind, src->kind, n);

    int16_t table[0x144];
    letters_fill(table);
    for (size_t i = 0; i < n; i++) {
        size_t len = src->piece_len[i];
        char *copy = arena_strndup(&t->mem, src->piece[i], len);
        char *bytes = arena_alloc(&t->mem, len + 1);
        if (!copy || !bytes) return no_memory(note);
        t->piece[i] = copy;
        t->piece_len[i] = len;
        bool coded = t->kind[i] == TOKEN_NORMAL && piece_to_bytes(table, copy, len, bytes, &t->bytes_len[i]);
        t->bytes[i] = coded ? bytes : copy;
        if (!coded) t->bytes_len[i] = len;
        if (strmap_get(t->by_piece, copy, len) < 0 && !strmap_put(t->by_piece, copy, len, (int32_t)i)) {
            return no_memory(note);
        }
    }
    return OK;
}

static int32_t find(const struct tokenizer *t, const char *piece, size_t n)
{
    return strmap_get(t->by_piece, piece, n);
}

/* One way to read "left right" so that both pieces and their union are in the vocabulary. */
struct merge {
    int32_t left, right, to;
};

/* Pieces may hold spaces themselves, so every space is tried; returns the number of ways, the last one in *m. */
static int read_merge(const struct tokenizer *t, const char *text, size_t n, struct strbuf *joined, struct merge *m)
{
    int ways = 0;
    for (size_t i = 1; i + 1 < n; i++) {
        if (text[i] != ' ') continue;
        int32_t left = find(t, text, i), right = find(t, text + i + 1, n - i - 1);
        if (left < 0 || right < 0) continue;
        strbuf_clear(joined);
        strbuf_put(joined, text, i);
        strbuf_put(joined, text + i + 1, n - i - 1);
        int32_t to = strbuf_failed(joined) ? -1 : find(t, joined->data, joined->len);
        if (to < 0) continue;
        *m = (struct merge){.left = left, .right = right, .to = to};
        ways++;
    }
    return ways;
}

static enum err build_merges(struct tokenizer *t, const struct tokenizer_src *src, struct err_note *note)
{
    const char *key = "tokenizer.ggml.merges";
    t->bpe = bpe_new((size_t)src->n_merge);
    if (!t->bpe) return no_memory(note);
    struct strbuf joined;
    strbuf_init(&joined);
    enum err e = OK;
    for (int i = 0; e == OK && i < src->n_merge; i++) {
        struct merge m = {0};
        size_t n = src->merge_len[i];
        int ways = n > (size_t)SPECIAL_BYTES_MAX * 64 ? 0 : read_merge(t, src->merge[i], n, &joined, &m);
        if (strbuf_failed(&joined)) {
            e = no_memory(note);
        } else if (ways != 1) {
            e = err_set(note, ERR_MODEL_FILE, key, "merge %d \"%.*s\" %s", i, (int)(n < 80 ? n : 80), src->merge[i],
                        ways ? "can be read in two ways" : "names pieces that are not in the vocabulary");
        } else if (t->kind[m.to] == TOKEN_SPECIAL) { /* or plain text could become a control token */
            e = err_set(note, ERR_MODEL_FILE, key, "merge %d makes the special token %d", i, (int)m.to);
        } else {
            bpe_set_merge(t->bpe, (uint32_t)i, m.left, m.right, m.to);
        }
    }
    strbuf_fini(&joined);
    return e;
}

/* A byte without a piece of its own is dropped, unless the model has an unknown token that may stand in text. */
static void build_bytes(struct tokenizer *t, int32_t unk_id)
{
    int32_t unk = unk_id >= 0 && t->kind[unk_id] != TOKEN_SPECIAL ? unk_id : -1;
    for (unsigned b = 0; b < 256; b++) {
        unsigned c = letter_of_byte(b);
        char letter[2] = {(char)c, 0};
        if (c >= 0x80) {
            letter[0] = (char)(0xC0 | c >> 6);
            letter[1] = (char)(0x80 | (c & 0x3F));
        }
        int32_t id = find(t, letter, c < 0x80 ? 1 : 2);
        bpe_set_byte(t->bpe, (uint8_t)b, id >= 0 && t->kind[id] == TOKEN_NORMAL ? id : unk);
    }
}

static enum err build_special(struct tokenizer *t, struct err_note *note)
{
    size_t n = 0, n_piece = (size_t)t->n_piece;
    const char **text = calloc(n_piece, sizeof *text);
    size_t *len = calloc(n_piece, sizeof *len);
    int32_t *id = calloc(n_piece, sizeof *id);
    enum err e = ERR_NOMEM;
    if (text && len && id) {
        for (size_t i = 0; i < n_piece; i++) {
            if (t->kind[i] != TOKEN_SPECIAL && t->kind[i] != TOKEN_ADDED) continue;
            text[n] = t->piece[i];
            len[n] = t->piece_len[i];
            id[n++] = (int32_t)i;
        }
        e = special_new(&t->special, n, text, len, id, note);
    }
    free(text);
    free(len);
    free(id);
    return e == ERR_NOMEM ? no_memory(note) : e;
}

static enum err build_by_bytes(struct tokenizer *t, struct err_note *note)
{
    t->by_bytes = strmap_new((size_t)t->n_piece);
    if (!t->by_bytes) return no_memory(note);
    for (int i = 0; i < t->n_piece; i++) {
        if (t->kind[i] != TOKEN_NORMAL || t->bytes[i] == t->piece[i]) continue;
        if (strmap_get(t->by_bytes, t->bytes[i], t->bytes_len[i]) >= 0) continue;
        if (!strmap_put(t->by_bytes, t->bytes[i], t->bytes_len[i], i)) return no_memory(note);
    }
    return OK;
}

enum err tokenizer_new(struct tokenizer **out, const struct tokenizer_src *src, struct err_note *note)
{
    *out = NULL;
    enum err e = check_src(src, note);
    if (e != OK) return e;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t) return no_memory(note);
    arena_init(&t->mem, 0);
    t->bos_id = src->bos_id;
    t->eos_id = src->eos_id;
    t->add_bos = src->add_bos;
    t->add_eos = src->add_eos;
    if ((e = pretok_new(&t->pretok, src->pre, src->pattern, src->n_pattern, note)) != OK) goto fail;
    t->nfc = src->nfc || pretok_nfc(t->pretok);
    t->ignore_merges = src->ignore_merges || pretok_ignore_merges(t->pretok);
    if ((e = build_pieces(t, src, note)) != OK) goto fail;
    if ((e = build_merges(t, src, note)) != OK) goto fail;
    build_bytes(t, src->unk_id);
    if ((e = build_special(t, note)) != OK) goto fail;
    if (t->ignore_merges && (e = build_by_bytes(t, note)) != OK) goto fail;
    *out = t;
    return OK;
fail:
    tokenizer_free(t);
    return e;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    special_free(t->special);
    pretok_free(t->pretok);
    bpe_free(t->bpe);
    strmap_free(t->by_bytes);
    strmap_free(t->by_piece);
    arena_fini(&t->mem);
    free(t);
}

/* ---- encoding ---- */

#define TEXT_BYTES_MAX (BPE_PIECE_BYTES_MAX / 4) /* NFC can make text three times as long */

struct encode {
    const struct tokenizer *t;
    struct token_vec       *out;
    struct pretok_run      *run;
    struct bpe_scratch      bpe;
    struct strbuf           nfc;
    const struct tokenizer_span *guard; /* [n_guard] bytes in which no special token may lie */
    size_t                       n_guard;
};

static bool emit_piece(void *arg, const char *piece, size_t n)
{
    struct encode *c = arg;
    if (c->t->ignore_merges) {
        int32_t id = strmap_get(c->t->by_bytes, piece, n);
        if (id >= 0) return token_vec_push(c->out, id);
    }
    return bpe_encode(c->t->bpe, &c->bpe, piece, n, c->out);
}

/* Text between special tokens. */
static enum err encode_plain(struct encode *c, const char *text, size_t n, struct err_note *note)
{
    if (c->t->nfc) {
        strbuf_clear(&c->nfc);
        if (unicode_nfc(text, n, &c->nfc)) {
            if (strbuf_failed(&c->nfc)) return no_memory(note);
            text = c->nfc.data;
            n = c->nfc.len;
        }
    }
    return pretok_split(c->t->pretok, c->run, text, n, emit_piece, c, note);
}

static bool is_guarded(struct encode *c, const struct special_hit *hit)
{
    while (c->n_guard && c->guard->end <= hit->at) { /* hits come in order: spans behind are done with */
        c->guard++;
        c->n_guard--;
    }
    return c->n_guard && c->guard->start < hit->at + hit->len;
}

static enum err encode_text(struct encode *c, const char *text, size_t n, int flags, struct err_note *note)
{
    size_t from = 0, search = 0; /* a special token that may not count stays in the text */
    struct special_hit hit;
    while (special_next(c->t->special, text, n, search, &hit)) {
        if (c->t->kind[hit.id] == TOKEN_SPECIAL && is_guarded(c, &hit)) {
            bool inside = hit.at >= c->guard->start && hit.at + hit.len <= c->guard->end;
            search = hit.at + (inside ? hit.len : 1); /* the template's own may begin in one that sticks out */
            continue;
        }
        search = hit.at + hit.len;
        if (c->t->kind[hit.id] == TOKEN_SPECIAL && !(flags & TOKENIZE_SPECIAL)) continue;
        enum err e = encode_plain(c, text + from, hit.at - from, note);
        if (e != OK) return e;
        if (!token_vec_push(c->out, hit.id)) return no_memory(note);
        from = search;
    }
    return encode_plain(c, text + from, n - from, note);
}

enum err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, int flags, struct token_vec *out,
                          struct err_note *note)
{
    return tokenizer_encode_guarded(t, text, n, flags, NULL, 0, out, note);
}

enum err tokenizer_encode_guarded(const struct tokenizer *t, const char *text, size_t n, int flags,
                                  const struct tokenizer_span *guard, size_t n_guard, struct token_vec *out,
                                  struct err_note *note)
{
    if (n > TEXT_BYTES_MAX) return err_set(note, ERR_TOO_LARGE, NULL, "the text is too long");
    if (!utf8_valid(text, n)) return err_set(note, ERR_INVALID_UTF8, NULL, "the text is not valid UTF-8");
    size_t n_before = out->n;
    struct encode c = {.t = t, .out = out, .run = pretok_run_new(), .guard = guard, .n_guard = n_guard};
    strbuf_init(&c.nfc);
    enum err e = OK;
    if (!c.run) {
        e = no_memory(note);
    } else if ((flags & TOKENIZE_ADD) && t->add_bos && !token_vec_push(out, t->bos_id)) {
        e = no_memory(note);
    } else {
        e = encode_text(&c, text, n, flags, note);
    }
    if (e == OK && (flags & TOKENIZE_ADD) && t->add_eos && !token_vec_push(out, t->eos_id)) e = no_memory(note);
    if (e != OK) out->n = n_before;
    strbuf_fini(&c.nfc);
    bpe_scratch_fini(&c.bpe);
    pretok_run_free(c.run);
    return e;
}

/* ---- reading the vocabulary ---- */

int     tokenizer_n_piece(const struct tokenizer *t) { return t->n_piece; }
int32_t tokenizer_bos(const struct tokenizer *t) { return t->bos_id; }
int32_t tokenizer_eos(const struct tokenizer *t) { return t->eos_id; }

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_piece && t->kind[id] == TOKEN_SPECIAL;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *piece, size_t n) { return find(t, piece, n); }

const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n)
{
    bool known = id >= 0 && id < t->n_piece;
    *n = known ? t->bytes_len[id] : 0;
    return known ? t->bytes[id] : "";
}
