/* assets: from GGUF's tokenizer keys (pieces stay in the reader's header block, which lives as long as the
 * assets); what comes from a directory is assets_hf.c's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/files/gguf.h"
#include "server/text/assets_internal.h"
#include "server/text/ends.h"

/* The format's token types by number. */
static const uint8_t kind_of[] = {
    [0] = TOKEN_NORMAL, [1] = TOKEN_NORMAL, [2] = TOKEN_SPECIAL, [3] = TOKEN_SPECIAL,
    [4] = TOKEN_ADDED,  [5] = TOKEN_UNUSED, [6] = TOKEN_BYTE};

static enum err key_bad(struct err_note *note, const char *path, const char *key, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, path, "%s: key %s: %s", path, key, what);
}

static enum err read_strs(struct text_owner *o, const char *path, const char *key, const char ***p,
                          size_t **len, int *n_out, struct err_note *note)
{
    int64_t n = gguf_n_strs(o->g, key);
    if (n < 0) return key_bad(note, path, key, "is missing or no array of strings");
    if (n > INT32_MAX / 2) return key_bad(note, path, key, "is too long");
    struct gguf_str *s = malloc(((size_t)n + 1) * sizeof *s);
    *p = arena_array(&o->arena, (size_t)n + 1, sizeof **p);
    *len = arena_array(&o->arena, (size_t)n + 1, sizeof **len);
    if (!s || !*p || !*len) {
        free(s);
        return err_set(note, ERR_NOMEM, path, "%s: no memory for key %s", path, key);
    }
    gguf_get_strs(o->g, key, s);
    for (int64_t i = 0; i < n; i++) {
        (*p)[i] = s[i].p;
        (*len)[i] = s[i].n;
    }
    free(s);
    *n_out = (int)n;
    return OK;
}

static enum err read_kinds(struct text_owner *o, const char *path, struct err_note *note)
{
    static const char key[] = "tokenizer.ggml.token_type";
    int64_t n = gguf_n_ints(o->g, key);
    uint8_t *kind = arena_alloc(&o->arena, (size_t)o->t.n_piece + 1);
    o->t.kind = kind;
    if (!kind) return err_set(note, ERR_NOMEM, path, "%s: no memory for key %s", path, key);
    if (n < 0) return OK; /* all normal */
    if (n != o->t.n_piece) return key_bad(note, path, key, "is not as long as tokenizer.ggml.tokens");
    int64_t *type = malloc(((size_t)n + 1) * sizeof *type);
    if (!type) return err_set(note, ERR_NOMEM, path, "%s: no memory for key %s", path, key);
    gguf_get_ints(o->g, key, type);
    enum err e = OK;
    for (int64_t i = 0; i < n && e == OK; i++) {
        if (type[i] < 0 || type[i] >= (int64_t)sizeof kind_of)
            e = key_bad(note, path, key, "has an unknown token type");
        else
            kind[i] = ends_is_marker(o->t.piece[i], o->t.piece_len[i]) ? TOKEN_SPECIAL : kind_of[type[i]];
    }
    free(type);
    return e;
}

/* A token id: absent leaves what *out is, outside the vocabulary is refused. */
static enum err read_id(struct text_owner *o, const char *path, const char *key, int32_t *out,
                        struct err_note *note)
{
    int64_t v;
    if (!gguf_has(o->g, key)) return OK;
    if (!gguf_get_int(o->g, key, &v) || v < 0 || v >= o->t.n_piece)
        return key_bad(note, path, key, "is no token of the vocabulary");
    *out = (int32_t)v;
    return OK;
}

static enum err read_flag(struct text_owner *o, const char *path, const char *key, bool *out,
                          struct err_note *note)
{
    return !gguf_has(o->g, key) || gguf_get_bool(o->g, key, out)
               ? OK
               : key_bad(note, path, key, "is neither true nor false");
}

/* What the format's first reader does where a file of this kind says nothing. */
static enum err read_spm(struct text_owner *o, const char *path, struct err_note *note)
{
    static const char key[] = "tokenizer.ggml.scores";
    struct text_assets *t = &o->t;
    bool prefix = true;
    const int64_t n = gguf_n_floats(o->g, key);
    if (n < 0) return key_bad(note, path, key, "is missing or no array of numbers");
    if (n != t->n_piece) return key_bad(note, path, key, "is not as long as tokenizer.ggml.tokens");
    float *score = arena_array(&o->arena, (size_t)n + 1, sizeof *score);
    if (!score) return err_set(note, ERR_NOMEM, path, "%s: no memory for key %s", path, key);
    gguf_get_floats(o->g, key, score);
    t->add_bos = true;
    t->bos_id = n > 1 ? 1 : -1;
    t->eos_id = n > 2 ? 2 : -1;
    t->unk_id = 0;
    enum err e = read_flag(o, path, "tokenizer.ggml.add_space_prefix", &prefix, note);
    t->spm = (struct spm_rules){.on = true,
                                .fuse_unk = true,
                                .strips = prefix,
                                .prefix = prefix ? SPM_PREFIX_ALL : SPM_PREFIX_NONE,
                                .score = score};
    return e;
}

static enum err read_vocab(struct text_owner *o, const char *path, struct err_note *note)
{
    struct text_assets *t = &o->t;
    struct gguf_str s;
    enum err e;
    if (!gguf_get_str(o->g, "tokenizer.ggml.model", &s))
        return key_bad(note, path, "tokenizer.ggml.model", "is missing");
    const bool spm = s.n == 5 && memcmp(s.p, "llama", 5) == 0;
    if (!spm && (s.n != 4 || memcmp(s.p, "gpt2", 4) != 0))
        return key_bad(note, path, "tokenizer.ggml.model",
                       "only byte-level BPE (\"gpt2\") and sentencepiece BPE (\"llama\") are supported");
    if ((e = read_strs(o, path, "tokenizer.ggml.tokens", &t->piece, &t->piece_len, &t->n_piece, note)) != OK)
        return e;
    if (!spm &&
        (e = read_strs(o, path, "tokenizer.ggml.merges", &t->merge, &t->merge_len, &t->n_merge, note)) != OK)
        return e;
    if ((e = read_kinds(o, path, note)) != OK || (spm && (e = read_spm(o, path, note)) != OK)) return e;
    if ((e = read_id(o, path, "tokenizer.ggml.bos_token_id", &t->bos_id, note)) != OK) return e;
    if ((e = read_id(o, path, "tokenizer.ggml.eos_token_id", &t->eos_id, note)) != OK) return e;
    if ((e = read_id(o, path, "tokenizer.ggml.unknown_token_id", &t->unk_id, note)) != OK) return e;
    if ((e = read_flag(o, path, "tokenizer.ggml.add_bos_token", &t->add_bos, note)) != OK) return e;
    return read_flag(o, path, "tokenizer.ggml.add_eos_token", &t->add_eos, note);
}

/* *out stays NULL where there is no such key. */
static enum err read_text(struct text_owner *o, const char *path, const char *key, const char **out,
                          size_t *n, struct err_note *note)
{
    struct gguf_str s;
    if (!gguf_has(o->g, key)) return OK;
    if (!gguf_get_str(o->g, key, &s)) return key_bad(note, path, key, "is no string");
    *n = s.n;
    *out = arena_strndup(&o->arena, s.p, s.n);
    return *out ? OK : err_set(note, ERR_NOMEM, path, "%s: no memory for its texts", path);
}

static enum err read_gguf(struct text_owner *o, const char *path, struct err_note *note)
{
    struct text_assets *t = &o->t;
    size_t n;
    enum err e = gguf_open(&o->g, path, note);
    if (e != OK) return e;
    if (!(t->file = t->template_file = arena_strndup(&o->arena, path, strlen(path))))
        return err_set(note, ERR_NOMEM, path, "out of memory");
    if ((e = read_vocab(o, path, note)) != OK) return e;
    if ((e = read_text(o, path, "tokenizer.chat_template", &t->chat_template, &t->chat_template_len, note)) !=
        OK)
        return e;
    return read_text(o, path, "tokenizer.ggml.pre", &t->pre, &n, note);
}

enum err text_assets_open(struct text_assets **out, const char *path, struct err_note *note)
{
    struct text_owner *o = calloc(1, sizeof *o);
    if (!o) return err_set(note, ERR_NOMEM, path, "out of memory");
    arena_init(&o->arena, 0);
    o->t = (struct text_assets){.bos_id = -1,
                                .eos_id = -1,
                                .unk_id = -1,
                                .owner = o,
                                .top_k = -1,
                                .temperature = (double)NAN,
                                .top_p = (double)NAN,
                                .repetition_penalty = (double)NAN};
    struct stat st;
    enum err e;
    e = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? text_assets_read_dir(o, path, note)
                                                    : read_gguf(o, path, note);
    if (e == OK)
        *out = &o->t;
    else
        text_assets_close(&o->t);
    return e;
}

void text_assets_close(struct text_assets *t)
{
    if (!t) return;
    struct text_owner *o = t->owner;
    gguf_close(o->g);
    arena_fini(&o->arena);
    free(o);
}

struct tokenizer_src text_assets_vocabulary(const struct text_assets *t)
{
    return (struct tokenizer_src){
        .n_piece = t->n_piece,
        .piece = t->piece,
        .piece_len = t->piece_len,
        .kind = t->kind,
        .trait = t->trait,
        .n_merge = t->n_merge,
        .merge = t->merge,
        .merge_len = t->merge_len,
        .merge_at = t->merge_at,
        .file = t->file,
        .pre = t->pre,
        .pattern = t->pattern,
        .split = t->split,
        .n_pattern = t->n_pattern,
        .nfc = t->nfc,
        .ignore_merges = t->ignore_merges,
        .bos_id = t->bos_id,
        .eos_id = t->eos_id,
        .unk_id = t->unk_id,
        .add_bos = t->add_bos,
        .add_eos = t->add_eos,
        .spm = t->spm,
    };
}
