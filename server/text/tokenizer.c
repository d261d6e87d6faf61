/* tokenizer: puts the parts together. Text is cut at special tokens (special), normalised (unicode), cut into
 * pieces (pretok), and each piece is merged from bytes (bpe). Everything is built once and then only read. */
#include "server/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "server/text/bpe.h"
#include "server/text/pretok.h"
#include "server/text/special.h"
#include "server/text/spm.h"
#include "server/text/unicode.h"
#include "base/utf8.h"

struct tokenizer {
    struct arena mem; /* holds all texts */
    int n_piece;
    const char **piece; /* as the file writes them */
    size_t *piece_len;
    const char **bytes; /* what they stand for */
    size_t *bytes_len;
    uint8_t *kind, *trait;
    struct strmap *by_piece; /* text in the file -> id */
    struct strmap *by_bytes; /* bytes -> id of a normal piece; only with ignore_merges */
    struct bpe *bpe;
    struct pretok *pretok;
    struct spm *spm;                              /* NULL: a byte-level vocabulary, with a pretok */
    struct special *special, *special_normalized; /* tokens looked for in raw and in normalised text */
    bool nfc, ignore_merges, add_bos, add_eos;
    bool strips;
    int32_t bos_id, eos_id;
};

/* ---- GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes are U+0100 .. U+0143
 * ---- */

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

/* Bytes of a piece in the byte alphabet, written to out (of n bytes). False: some character is not a letter
 * of it. */
static bool piece_to_bytes(const int16_t table[0x144], const char *piece, size_t n, char *out,
                           size_t *out_len)
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

/* What can be wrong, by its key in GGUF and in tokenizer.json and the files beside it. */
enum key { KEY_PIECES, KEY_MERGES, KEY_KINDS, KEY_BOS, KEY_EOS, KEY_UNK };

static const char *key_name(const struct tokenizer_src *src, enum key key)
{
    static const char *const name[][2] = {
        [KEY_PIECES] = {"tokenizer.ggml.tokens", "model.vocab"},
        [KEY_MERGES] = {"tokenizer.ggml.merges", "model.merges"},
        [KEY_KINDS] = {"tokenizer.ggml.token_type", "added_tokens"},
        [KEY_BOS] = {"tokenizer.ggml.bos_token_id", "bos_token"},
        [KEY_EOS] = {"tokenizer.ggml.eos_token_id", "eos_token"},
        [KEY_UNK] = {"tokenizer.ggml.unknown_token_id", "model.unk_token"},
    };
    return name[key][src->n_pattern > 0 || (src->spm.on && !src->spm.score)];
}

static enum err check_src(const struct tokenizer_src *src, struct err_note *note)
{
    if (src->n_piece <= 0)
        return err_set(note, ERR_MODEL_FILE, key_name(src, KEY_PIECES), "the vocabulary is empty");
    if (src->n_merge < 0)
        return err_set(note, ERR_MODEL_FILE, key_name(src, KEY_MERGES), "a negative number of merges");
    const struct {
        enum key key;
        int32_t id;
        bool needed;
    } ids[] = {{KEY_BOS, src->bos_id, src->add_bos},
               {KEY_EOS, src->eos_id, src->add_eos},
               {KEY_UNK, src->unk_id, false}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (ids[i].id < -1 || ids[i].id >= src->n_piece || (ids[i].needed && ids[i].id < 0)) {
            return err_set(note, ERR_MODEL_FILE, key_name(src, ids[i].key),
                           "%d is not a token of this vocabulary", (int)ids[i].id);
        }
    }
    for (int i = 0; i < src->n_piece; i++) {
        if (src->kind[i] > TOKEN_BYTE) {
            return err_set(note, ERR_MODEL_FILE, key_name(src, KEY_KINDS), "token %d has an unknown kind", i);
        }
    }
    return OK;
}

/* The bytes that piece i of a sentencepiece vocabulary stands for, into out, of its length. False: those of
 * its text. */
static bool spm_to_bytes(const struct tokenizer *t, size_t i, char *out, size_t *out_len)
{
    const char *p = t->piece[i];
    if (t->kind[i] == TOKEN_BYTE) {
        char hex[3] = {0};
        if (t->piece_len[i] == 6) memcpy(hex, p + 3, 2);
        out[0] = (char)strtoul(hex, NULL, 16);
        *out_len = 1;
        return true;
    }
    if (t->kind[i] != TOKEN_NORMAL) return false;
    size_t n = 0;
    for (size_t k = 0; k < t->piece_len[i];) {
        const bool mark = t->piece_len[i] - k >= 3 && memcmp(p + k, "\xE2\x96\x81", 3) == 0;
        out[n++] = mark ? ' ' : p[k];
        k += mark ? 3 : 1;
    }
    *out_len = n;
    return true;
}

/* Copies the pieces, decodes them, and maps them. A duplicate text means its first id. */
static enum err build_pieces(struct tokenizer *t, const struct tokenizer_src *src, struct err_note *note)
{
    size_t n = (size_t)src->n_piece;
    t->n_piece = src->n_piece;
    t->piece = arena_array(&t->mem, n, sizeof *t->piece);
    t->piece_len = arena_array(&t->mem, n, sizeof *t->piece_len);
    t->bytes = arena_array(&t->mem, n, sizeof *t->bytes);
    t->bytes_len = arena_array(&t->mem, n, sizeof *t->bytes_len);
    t->kind = arena_array(&t->mem, n, sizeof *t->kind);
    t->trait = arena_array(&t->mem, n, sizeof *t->trait);
    t->by_piece = strmap_new(n);
    if (!t->piece || !t->piece_len || !t->bytes || !t->bytes_len || !t->kind || !t->trait || !t->by_piece)
        return no_memory(note);
    memcpy(t->kind, src->kind, n);
    if (src->trait) memcpy(t->trait, src->trait, n);

    int16_t table[0x144];
    letters_fill(table);
    for (size_t i = 0; i < n; i++) {
        size_t len = src->piece_len[i];
        char *copy = arena_strndup(&t->mem, src->piece[i], len);
        char *bytes = arena_alloc(&t->mem, len + 1);
        if (!copy || !bytes) return no_memory(note);
        t->piece[i] = copy;
        t->piece_len[i] = len;
        bool coded = src->spm.on ? spm_to_bytes(t, i, bytes, &t->bytes_len[i])
                                 : t->kind[i] == TOKEN_NORMAL &&
                                       piece_to_bytes(table, copy, len, bytes, &t->bytes_len[i]);
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

/* Pieces may hold spaces themselves: where the file does not say which space parts them (only < 0), every one
 * is tried. Returns the number of ways, the last one in *m. */
static int read_merge(const struct tokenizer *t, const char *text, size_t n, int64_t only,
                      struct strbuf *joined, struct merge *m)
{
    int ways = 0;
    for (size_t i = 1; i + 1 < n; i++) {
        if (only >= 0 ? i != (size_t)only : text[i] != ' ') continue;
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
    const char *key = key_name(src, KEY_MERGES);
    t->bpe = bpe_new((size_t)src->n_merge);
    if (!t->bpe) return no_memory(note);
    struct strbuf joined;
    strbuf_init(&joined);
    enum err e = OK;
    for (int i = 0; e == OK && i < src->n_merge; i++) {
        struct merge m = {0};
        size_t n = src->merge_len[i];
        int64_t only = src->merge_at ? (int64_t)src->merge_at[i] : -1;
        int ways =
            n > (size_t)SPECIAL_BYTES_MAX * 64 ? 0 : read_merge(t, src->merge[i], n, only, &joined, &m);
        if (strbuf_failed(&joined)) {
            e = no_memory(note);
        } else if (ways != 1) {
            e = err_set(note, ERR_MODEL_FILE, key, "merge %d \"%.*s\" %s", i, (int)(n < 80 ? n : 80),
                        src->merge[i],
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

/* A byte without a piece of its own is dropped, unless the model has an unknown token that may stand in text.
 */
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

/* Whether the token is looked for in normalised text. A special one is not where normalising may move bytes:
 * it could not be kept away from a client's spans there. */
static bool is_late(const struct tokenizer *t, int32_t id)
{
    return (t->trait[id] & TOKEN_NORMALIZED) && !t->spm && !(t->nfc && t->kind[id] == TOKEN_SPECIAL);
}

static enum err build_special(struct tokenizer *t, struct special **out, bool late, struct err_note *note)
{
    size_t n = 0, n_piece = (size_t)t->n_piece;
    const char **text = calloc(n_piece, sizeof *text);
    size_t *len = calloc(n_piece, sizeof *len);
    int32_t *id = calloc(n_piece, sizeof *id);
    struct strbuf nfc;
    strbuf_init(&nfc);
    enum err e = text && len && id ? OK : ERR_NOMEM;
    for (size_t i = 0; e == OK && i < n_piece; i++) {
        if ((t->kind[i] != TOKEN_SPECIAL && t->kind[i] != TOKEN_ADDED) || is_late(t, (int32_t)i) != late)
            continue;
        text[n] = t->piece[i];
        len[n] = t->piece_len[i];
        id[n] = (int32_t)i;
        strbuf_clear(&nfc);
        if (late && t->nfc && unicode_nfc(text[n], len[n], &nfc)) {
            text[n] = strbuf_failed(&nfc) ? NULL : arena_strndup(&t->mem, nfc.data, nfc.len);
            len[n] = nfc.len;
            if (!text[n]) e = ERR_NOMEM;
        }
        n++;
    }
    strbuf_fini(&nfc);
    if (e == OK) e = special_new(out, n, text, len, id, note);
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

/* What parts text, and merges. */
static enum err build_words(struct tokenizer *t, const struct tokenizer_src *src, struct err_note *note)
{
    if (src->spm.on) {
        const struct spm_vocab v = {.n_piece = t->n_piece,
                                    .piece = t->piece,
                                    .piece_len = t->piece_len,
                                    .kind = t->kind,
                                    .by_piece = t->by_piece,
                                    .unk_id = src->unk_id};
        t->strips = src->spm.strips;
        enum err e = spm_new(&t->spm, &v, &src->spm, note);
        return e == OK && !src->spm.score ? build_merges(t, src, note) : e;
    }
    enum err e = build_merges(t, src, note);
    if (e == OK) build_bytes(t, src->unk_id);
    return e;
}

static enum err build(struct tokenizer **out, const struct tokenizer_src *src, struct err_note *note)
{
    enum err e = check_src(src, note);
    if (e != OK) return e;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t) return no_memory(note);
    arena_init(&t->mem, 0);
    t->bos_id = src->bos_id;
    t->eos_id = src->eos_id;
    t->add_bos = src->add_bos;
    t->add_eos = src->add_eos;
    if (!src->spm.on) {
        if ((e = pretok_new(&t->pretok, src->pre, src->pattern, src->split, src->n_pattern, note)) != OK)
            goto fail;
        t->nfc = src->nfc || pretok_nfc(t->pretok);
        t->ignore_merges = src->ignore_merges || pretok_ignore_merges(t->pretok);
    }
    if ((e = build_pieces(t, src, note)) != OK) goto fail;
    if ((e = build_words(t, src, note)) != OK) goto fail;
    if ((e = build_special(t, &t->special, false, note)) != OK) goto fail;
    if ((e = build_special(t, &t->special_normalized, true, note)) != OK) goto fail;
    if (t->ignore_merges && (e = build_by_bytes(t, note)) != OK) goto fail;
    *out = t;
    return OK;
fail:
    tokenizer_free(t);
    return e;
}

enum err tokenizer_new(struct tokenizer **out, const struct tokenizer_src *src, struct err_note *note)
{
    struct err_note why = {0};
    *out = NULL;
    enum err e = build(out, src, &why);
    for (char *p = why.text; *p; p++) { /* pieces may hold anything; a refusal is one line */
        if ((uint8_t)*p < ' ' || *p == 0x7F) *p = '?';
    }
    if (e == ERR_MODEL_FILE && src->file)
        return err_set(note, e, src->file, "%s: %s: %s", src->file, why.param, why.text);
    return e == OK ? OK : err_set(note, e, why.param, "%s", why.text);
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    special_free(t->special);
    special_free(t->special_normalized);
    pretok_free(t->pretok);
    spm_free(t->spm);
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
    struct token_vec *out;
    struct pretok_run *run;
    struct bpe_scratch bpe;
    struct spm_scratch spm;
    struct strbuf nfc;
    const struct tokenizer_span *guard; /* [n_guard] bytes in which no special token may lie */
    size_t n_guard, base;               /* base: where the text at hand stands in all of it */
    int flags;
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

/* The guarded span that overlaps [at, at + len), or NULL. */
static const struct tokenizer_span *find_guard(const struct encode *c, size_t at, size_t len)
{
    size_t lo = 0, hi = c->n_guard; /* the first span that ends behind at */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->guard[mid].end <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_guard && c->guard[lo].start < at + len ? &c->guard[lo] : NULL;
}

/* White space as the tokenizers' \s has it, of which the character of `len` bytes at p is one. */
static bool is_white(const uint8_t *p, int len)
{
    if (len == 1) return p[0] == ' ' || (p[0] >= '\t' && p[0] <= '\r');
    unsigned c = 0; /* four bytes are never white */
    if (len == 2) c = (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    if (len == 3) c = (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static size_t white_before(const char *text, size_t from, size_t at)
{
    const uint8_t *p = (const uint8_t *)text;
    while (at > from) {
        size_t start = at - 1;
        while (start > from && (p[start] & 0xC0) == 0x80) start--;
        if (!is_white(p + start, (int)(at - start))) break;
        at = start;
    }
    return at;
}

static size_t white_behind(const char *text, size_t at, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    while (at < n) {
        int len = utf8_step(p + at, n - at);
        if (len < 0 || !is_white(p + at, len)) break;
        at += (size_t)len;
    }
    return at;
}

/* What becomes of the text between the tokens that a pass finds. */
typedef enum err between(struct encode *c, const char *text, size_t n, struct err_note *note);

/* Cuts text at the tokens of `special`. base: where text[0] stands in the client's text, for the guarded
 * spans. */
static enum err cut_at_tokens(struct encode *c, const struct special *special, const char *text, size_t n,
                              size_t base, between *rest, struct err_note *note)
{
    size_t from = 0, search = 0; /* a special token that may not count stays in the text */
    struct special_hit hit;
    while (special_next(special, text, n, search, &hit)) {
        bool control = c->t->kind[hit.id] == TOKEN_SPECIAL;
        size_t at = base + hit.at;
        const struct tokenizer_span *guard = control ? find_guard(c, at, hit.len) : NULL;
        if (guard) {
            bool inside = at >= guard->start && at + hit.len <= guard->end;
            search =
                hit.at + (inside ? hit.len : 1); /* the template's own may begin in one that sticks out */
            continue;
        }
        search = hit.at + hit.len;
        if (control && !(c->flags & TOKENIZE_SPECIAL)) continue;
        size_t start = hit.at, stop = search;
        if (c->t->trait[hit.id] & TOKEN_LSTRIP)
            start = white_before(text, from < start ? from : start, start);
        if (c->t->trait[hit.id] & TOKEN_RSTRIP) stop = white_behind(text, stop, n);
        if (from < start) {
            c->base = base + from;
            enum err e = rest(c, text + from, start - from, note);
            if (e != OK) return e;
        }
        if (!token_vec_push(c->out, hit.id)) return no_memory(note);
        from = stop;
    }
    if (from >= n) return OK;
    c->base = base + from;
    return rest(c, text + from, n - from, note);
}

static enum err encode_words(struct encode *c, const char *text, size_t n, struct err_note *note)
{
    if (c->t->spm) {
        const struct bpe *bpe = c->t->bpe ? c->t->bpe : spm_bpe(c->t->spm);
        const bool first = c->base == 0 && !(c->flags & TOKENIZE_INSIDE);
        return spm_encode(c->t->spm, bpe, &c->spm, &c->bpe, text, n, first, c->out) ? OK : no_memory(note);
    }
    return pretok_split(c->t->pretok, c->run, text, n, emit_piece, c, note);
}

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
    return cut_at_tokens(c, c->t->special_normalized, text, n, c->base, encode_words, note);
}

enum err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, int flags,
                          struct token_vec *out, struct err_note *note)
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
    struct encode c = {
        .t = t, .out = out, .run = pretok_run_new(), .guard = guard, .n_guard = n_guard, .flags = flags};
    strbuf_init(&c.nfc);
    strbuf_init(&c.spm.text);
    enum err e = OK;
    if (!c.run) {
        e = no_memory(note);
    } else if ((flags & TOKENIZE_ADD) && t->add_bos && !token_vec_push(out, t->bos_id)) {
        e = no_memory(note);
    } else {
        e = cut_at_tokens(&c, t->special, text, n, 0, encode_plain, note);
    }
    if (e == OK && (flags & TOKENIZE_ADD) && t->add_eos && !token_vec_push(out, t->eos_id))
        e = no_memory(note);
    if (e != OK) out->n = n_before;
    strbuf_fini(&c.nfc);
    spm_scratch_fini(&c.spm);
    bpe_scratch_fini(&c.bpe);
    pretok_run_free(c.run);
    return e;
}

/* ---- reading the vocabulary ---- */

int tokenizer_n_piece(const struct tokenizer *t) { return t->n_piece; }
bool tokenizer_strips(const struct tokenizer *t) { return t->strips; }
int32_t tokenizer_bos(const struct tokenizer *t) { return t->bos_id; }
int32_t tokenizer_eos(const struct tokenizer *t) { return t->eos_id; }

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_piece && t->kind[id] == TOKEN_SPECIAL;
}

bool tokenizer_is_whole(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_piece && (t->kind[id] == TOKEN_SPECIAL || t->kind[id] == TOKEN_ADDED);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *piece, size_t n) { return find(t, piece, n); }

const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n)
{
    bool known = id >= 0 && id < t->n_piece;
    *n = known ? t->bytes_len[id] : 0;
    return known ? t->bytes[id] : "";
}
