/* assets_json: tokenizer.json of a byte-level BPE. Whatever would change the ids and is not one of the parts
 * below is refused by its name: a tokenizer that is read half gives a model's answers a slight madness that
 * nobody can find. */
#include <string.h>

#include "server/text/assets_internal.h"

enum { SPLIT_MOST = 16, ID_SLACK = 1024 };

struct reader {
    struct text_owner *o;
    struct text_assets *t;
    const char *path;
    struct strmap *ids;
    bool marks;          /* sentencepiece: a space becomes U+2581 */
    const char *no_flag; /* a flag that is neither true nor false, if one was met */
    struct err_note *note;
};

static enum err bad(const struct reader *r, const char *key, const char *what)
{
    return err_set(r->note, ERR_MODEL_FILE, r->path, "%s: %s: %s", r->path, key, what);
}

static enum err nomem(const struct reader *r)
{
    return err_set(r->note, ERR_NOMEM, r->path, "%s: out of memory", r->path);
}

static bool is_none(struct jval v) { return jval_kind(v) == JKIND_NONE || jval_kind(v) == JKIND_NULL; }

/* The text of v in the arena, without NUL bytes. */
static enum err take_text(const struct reader *r, struct jval v, const char *key, const char **out)
{
    size_t n;
    if (!jval_string(v, &r->o->arena, out, &n)) return bad(r, key, "is no string");
    if (!*out) return nomem(r);
    return strlen(*out) == n ? OK : bad(r, key, "holds a NUL byte");
}

/* What is no flag is remembered, and refused at the end. */
static bool get_flag(struct reader *r, struct jval object, const char *name, bool absent)
{
    struct jval v = jval_get(object, name);
    bool on = absent;
    if (!is_none(v) && !jval_bool(v, &on)) r->no_flag = name;
    return on;
}

/* --- the vocabulary */

static size_t count_members(struct jval v)
{
    size_t n = 0;
    for (struct jiter it = jval_iter(v); jiter_next(&it);) n++;
    return n;
}

/* Ids are dense but for a few holes, so no id may ask for more memory than the file itself took. */
static enum err measure(struct reader *r, struct jval vocab, struct jval added)
{
    size_t n = count_members(vocab) + count_members(added);
    int64_t most = (int64_t)(n + n / 2) + ID_SLACK, top = -1, id;
    if (most > INT32_MAX / 2) return bad(r, "model.vocab", "is too large");
    for (struct jiter it = jval_iter(vocab); jiter_next(&it);) {
        if (!jval_int(it.value, &id) || id < 0 || id >= most)
            return bad(r, "model.vocab", "holds an id that is none, or far beyond the others");
        top = id > top ? id : top;
    }
    for (struct jiter it = jval_iter(added); jiter_next(&it);) {
        if (!jval_int(jval_get(it.value, "id"), &id) || id < 0 || id >= most)
            return bad(r, "added_tokens", "holds an id that is none, or far beyond the others");
        top = id > top ? id : top;
    }
    struct text_assets *t = r->t;
    struct arena *mem = &r->o->arena;
    t->n_piece = (int)(top + 1);
    t->piece = arena_array(mem, (size_t)t->n_piece + 1, sizeof *t->piece);
    t->piece_len = arena_array(mem, (size_t)t->n_piece + 1, sizeof *t->piece_len);
    t->kind = arena_array(mem, (size_t)t->n_piece + 1, 1);
    t->trait = arena_array(mem, (size_t)t->n_piece + 1, 1);
    r->ids = strmap_new(n);
    return t->piece && t->piece_len && t->kind && t->trait && r->ids ? OK : nomem(r);
}

static enum err read_vocab(struct reader *r, struct jval vocab)
{
    struct text_assets *t = r->t;
    for (struct jiter it = jval_iter(vocab); jiter_next(&it);) {
        int64_t id = 0;
        jval_int(it.value, &id); /* measure has looked at it */
        if (t->piece[id]) return bad(r, "model.vocab", "two pieces have the same id");
        jval_string(it.key, &r->o->arena, &t->piece[id], &t->piece_len[id]);
        if (!t->piece[id] || !strmap_put(r->ids, t->piece[id], t->piece_len[id], (int32_t)id))
            return nomem(r);
    }
    return OK;
}

static bool is_byte(const char *p, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    return n == 6 && memcmp(p, "<0x", 3) == 0 && p[5] == '>' && memchr(digits, p[3], 16) &&
           memchr(digits, p[4], 16);
}

static enum err read_added(struct reader *r, struct jval added)
{
    struct text_assets *t = r->t;
    for (struct jiter it = jval_iter(added); jiter_next(&it);) {
        int64_t id = 0;
        const char *text;
        size_t n;
        jval_int(jval_get(it.value, "id"), &id);
        if (!jval_string(jval_get(it.value, "content"), &r->o->arena, &text, &n))
            return bad(r, "added_tokens", "a token has no content");
        if (!text) return nomem(r);
        if (get_flag(r, it.value, "single_word", false))
            return bad(r, "added_tokens", "single_word is not supported");
        int32_t known = strmap_get(r->ids, text, n);
        if (t->kind[id] != TOKEN_NORMAL || (known >= 0 ? known != id : t->piece[id] != NULL))
            return bad(r, "added_tokens", "a token and an id do not belong to each other alone");
        bool special = get_flag(r, it.value, "special", false);
        t->kind[id] = special ? TOKEN_SPECIAL : TOKEN_ADDED;
        t->trait[id] = (uint8_t)((get_flag(r, it.value, "lstrip", false) ? TOKEN_LSTRIP : 0) |
                                 (get_flag(r, it.value, "rstrip", false) ? TOKEN_RSTRIP : 0) |
                                 (get_flag(r, it.value, "normalized", !special) ? TOKEN_NORMALIZED : 0));
        if (known >= 0) continue;
        t->piece[id] = text;
        t->piece_len[id] = n;
        if (!strmap_put(r->ids, text, n, (int32_t)id)) return nomem(r);
    }
    for (int i = 0; i < t->n_piece; i++) {
        if (t->spm.on && t->piece[i] && t->kind[i] == TOKEN_NORMAL && is_byte(t->piece[i], t->piece_len[i]))
            t->kind[i] = TOKEN_BYTE;
        if (t->piece[i]) continue;
        t->piece[i] = "";
        t->kind[i] = TOKEN_UNUSED;
    }
    return OK;
}

/* "left right", or ["left", "right"] of which either may hold spaces. */
static enum err read_merges(struct reader *r, struct jval merges)
{
    static const char key[] = "model.merges";
    struct text_assets *t = r->t;
    struct arena *mem = &r->o->arena;
    size_t n = count_members(merges), i = 0;
    if (jval_kind(merges) != JKIND_ARRAY) return bad(r, key, "is missing or no list");
    if (n > INT32_MAX / 2) return bad(r, key, "is too long");
    t->merge = arena_array(mem, n + 1, sizeof *t->merge);
    t->merge_len = arena_array(mem, n + 1, sizeof *t->merge_len);
    t->merge_at = arena_array(mem, n + 1, sizeof *t->merge_at);
    if (!t->merge || !t->merge_len || !t->merge_at) return nomem(r);
    for (struct jiter it = jval_iter(merges); jiter_next(&it); i++) {
        const char *text = NULL;
        size_t len;
        if (jval_string(it.value, mem, &text, &len)) {
            const char *space = text ? memchr(text, ' ', len) : NULL;
            if (!text) return nomem(r);
            if (!space || memchr(space + 1, ' ', len - (size_t)(space - text) - 1))
                return bad(r, key, "a merge is not two pieces with a space between");
            t->merge_at[i] = (uint32_t)(space - text);
        } else {
            const char *part[2];
            size_t part_len[2];
            struct jiter half = jval_iter(it.value);
            for (int k = 0; k < 2; k++) {
                if (half.object || !jiter_next(&half) ||
                    !jval_string(half.value, mem, &part[k], &part_len[k]))
                    return bad(r, key, "a merge is not a pair of strings");
                if (!part[k]) return nomem(r);
            }
            if (jiter_next(&half)) return bad(r, key, "a merge is not a pair of strings");
            len = part_len[0] + 1 + part_len[1];
            char *joined = arena_alloc(mem, len + 1);
            if (!joined) return nomem(r);
            memcpy(joined, part[0], part_len[0]);
            joined[part_len[0]] = ' ';
            memcpy(joined + part_len[0] + 1, part[1], part_len[1]);
            t->merge_at[i] = (uint32_t)part_len[0];
            text = joined;
        }
        t->merge[i] = text;
        t->merge_len[i] = len;
    }
    t->n_merge = (int)n;
    return OK;
}

static enum err read_model(struct reader *r, struct jval root)
{
    struct jval model = jval_get(root, "model"), type = jval_get(model, "type"),
                unk = jval_get(model, "unk_token");
    double dropout = 0;
    enum err e;
    if (jval_kind(model) != JKIND_OBJECT || (!is_none(type) && !jval_is(type, "BPE")))
        return bad(r, "model", "only byte-level BPE is supported");
    if (jval_kind(jval_get(model, "vocab")) != JKIND_OBJECT)
        return bad(r, "model.vocab", "is missing or no object");
    static const char *const affix[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++)
        if (!is_none(jval_get(model, affix[i])) && !jval_is(jval_get(model, affix[i]), ""))
            return bad(r, affix[i], "is not supported");
    if (!is_none(jval_get(model, "dropout")) &&
        (!jval_double(jval_get(model, "dropout"), &dropout) || dropout != 0))
        return bad(r, "dropout", "is not supported");
    struct spm_rules *spm = &r->t->spm;
    spm->on = get_flag(r, model, "byte_fallback", false);
    spm->fuse_unk = get_flag(r, model, "fuse_unk", false);
    if (!is_none(unk) && spm->fuse_unk && !spm->on) return bad(r, "fuse_unk", "is not supported");
    if (spm->on && get_flag(r, model, "ignore_merges", false))
        return bad(r, "ignore_merges", "is not supported with byte_fallback");
    r->t->ignore_merges = get_flag(r, model, "ignore_merges", false);
    struct jval vocab = jval_get(model, "vocab"), added = jval_get(root, "added_tokens");
    if (!is_none(added) && jval_kind(added) != JKIND_ARRAY) return bad(r, "added_tokens", "is no list");
    if ((e = measure(r, vocab, added)) != OK || (e = read_vocab(r, vocab)) != OK ||
        (e = read_added(r, added)) != OK)
        return e;
    if ((e = read_merges(r, jval_get(model, "merges"))) != OK || is_none(unk)) return e;
    const char *text;
    if ((e = take_text(r, unk, "unk_token", &text)) != OK) return e;
    r->t->unk_id = strmap_get(r->ids, text, strlen(text));
    return r->t->unk_id >= 0 ? OK : bad(r, "unk_token", "is no token of the vocabulary");
}

/* --- what happens to text before and after the merges. A part stands alone or in a Sequence. */

typedef enum err part_reader(struct reader *r, struct jval part, void *arg);

static enum err each_part(struct reader *r, struct jval v, const char *list, part_reader *read, void *arg)
{
    if (!jval_is(jval_get(v, "type"), "Sequence")) return read(r, v, arg);
    if (jval_kind(jval_get(v, list)) != JKIND_ARRAY) return bad(r, list, "is missing or no list");
    for (struct jiter it = jval_iter(jval_get(v, list)); jiter_next(&it);) {
        enum err e = read(r, it.value, arg);
        if (e != OK) return e;
    }
    return OK;
}

static enum err read_normalizer(struct reader *r, struct jval part, void *arg)
{
    (void)arg;
    if (!jval_is(jval_get(part, "type"), "NFC")) return bad(r, "normalizer", "only NFC is supported");
    r->t->nfc = true;
    return OK;
}

static enum err add_split(struct reader *r, int kind, const char *pattern)
{
    struct text_assets *t = r->t;
    if (t->n_pattern == SPLIT_MOST) return bad(r, "pre_tokenizer", "has too many steps");
    t->pattern[t->n_pattern] = pattern;
    t->split[t->n_pattern++] = (uint8_t)kind;
    return OK;
}

static enum err read_pretokenizer(struct reader *r, struct jval part, void *arg)
{
    static const char key[] = "pre_tokenizer";
    bool *bytes = arg;
    struct jval type = jval_get(part, "type"), pattern = jval_get(part, "pattern");
    if (*bytes) return bad(r, key, "a step behind ByteLevel is not supported");
    if (jval_is(type, "Digits"))
        return add_split(r, get_flag(r, part, "individual_digits", false) ? SPLIT_DIGITS : SPLIT_DIGIT_RUNS,
                         "");
    if (jval_is(type, "ByteLevel")) {
        *bytes = true;
        if (get_flag(r, part, "add_prefix_space", true))
            return bad(r, key, "add_prefix_space is not supported");
        return get_flag(r, part, "use_regex", true) ? add_split(r, SPLIT_WORDS, "") : OK;
    }
    if (!jval_is(type, "Split"))
        return bad(r, key, "only Split, Digits, ByteLevel and a Sequence of them are supported");
    if (!jval_is(jval_get(part, "behavior"), "Isolated"))
        return bad(r, key, "only Split's behavior Isolated is supported");
    bool regex = !is_none(jval_get(pattern, "Regex"));
    const char *text;
    enum err e = take_text(r, jval_get(pattern, regex ? "Regex" : "String"), "pre_tokenizer.pattern", &text);
    return e == OK ? add_split(r, regex ? SPLIT_REGEX : SPLIT_LITERAL, text) : e;
}

/* One special token before or behind the text: bos or eos, which the two names of tokenizer_config.json must
 * bear out. */
static enum err read_frame_token(struct reader *r, struct jval token, struct jval table, bool behind)
{
    static const char key[] = "post_processor";
    const char *name;
    enum err e = take_text(r, jval_get(token, "id"), key, &name);
    if (e != OK) return e;
    struct jiter it = jval_iter(jval_get(jval_get(table, name), "ids"));
    int64_t id;
    if (!jiter_next(&it) || !jval_int(it.value, &id) || id < 0 || id >= r->t->n_piece ||
        r->t->kind[id] == TOKEN_UNUSED)
        return bad(r, key, "a token that it adds is none of the vocabulary");
    if (jiter_next(&it) || (behind ? r->t->add_eos : r->t->add_bos))
        return bad(r, key, "more than one token before or behind the text is not supported");
    *(behind ? &r->t->eos_id : &r->t->bos_id) = (int32_t)id;
    *(behind ? &r->t->add_eos : &r->t->add_bos) = true;
    return OK;
}

static enum err read_postprocessor(struct reader *r, struct jval part, void *arg)
{
    static const char key[] = "post_processor";
    struct jval type = jval_get(part, "type"), single = jval_get(part, "single");
    bool seen = false;
    (void)arg;
    if (jval_is(type, "ByteLevel")) return OK; /* offsets only */
    if (!jval_is(type, "TemplateProcessing"))
        return bad(r, key, "only TemplateProcessing and ByteLevel are supported");
    if (jval_kind(single) != JKIND_ARRAY) return bad(r, key, "its template for one text is missing");
    for (struct jiter it = jval_iter(single); jiter_next(&it);) {
        struct jval token = jval_get(it.value, "SpecialToken");
        if (!is_none(token)) {
            enum err e = read_frame_token(r, token, jval_get(part, "special_tokens"), seen);
            if (e != OK) return e;
        } else {
            if (seen || is_none(jval_get(it.value, "Sequence")))
                return bad(r, key, "its template for one text is not token, text, token");
            seen = true;
        }
    }
    return seen ? OK : bad(r, key, "its template for one text holds no text");
}

/* --- of byte_fallback (sentencepiece): spaces are U+2581, and one stands before the text */

#define MARK "\xE2\x96\x81"

static enum err read_spm_normalizer(struct reader *r, struct jval part, void *arg)
{
    struct jval type = jval_get(part, "type");
    (void)arg;
    if (jval_is(type, "Prepend") && jval_is(jval_get(part, "prepend"), MARK)) {
        r->t->spm.prefix = SPM_PREFIX_ALL;
        return OK;
    }
    if (jval_is(type, "Replace") && jval_is(jval_get(jval_get(part, "pattern"), "String"), " ") &&
        jval_is(jval_get(part, "content"), MARK)) {
        r->marks = true;
        return OK;
    }
    return bad(r, "normalizer",
               "only Prepend and Replace of a space by U+2581 are supported with byte_fallback");
}

static enum err read_spm_pretokenizer(struct reader *r, struct jval part, void *arg)
{
    static const char key[] = "pre_tokenizer";
    struct jval scheme = jval_get(part, "prepend_scheme");
    (void)arg;
    if (!jval_is(jval_get(part, "type"), "Metaspace") || !jval_is(jval_get(part, "replacement"), MARK))
        return bad(r, key, "only Metaspace with U+2581 is supported with byte_fallback");
    r->marks = true;
    r->t->spm.words = get_flag(r, part, "split", true);
    const bool adds = get_flag(r, part, "add_prefix_space", true);
    if (is_none(scheme) ? adds : jval_is(scheme, "always"))
        r->t->spm.prefix = SPM_PREFIX_UNLESS;
    else if (jval_is(scheme, "first"))
        r->t->spm.prefix = SPM_PREFIX_FIRST;
    else if (!is_none(scheme) && !jval_is(scheme, "never"))
        return bad(r, "prepend_scheme", "is none of always, first, never");
    return OK;
}

static enum err read_spm_decoder(struct reader *r, struct jval part, void *arg)
{
    static const char *const known[] = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"};
    struct jval type = jval_get(part, "type");
    (void)arg;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!jval_is(type, known[i])) continue;
        if (i >= 3) r->t->spm.strips = true;
        return OK;
    }
    return bad(r, "decoder", "is not supported with byte_fallback");
}

static enum err read_spm(struct reader *r, struct jval root)
{
    struct jval normalizer = jval_get(root, "normalizer"), pre = jval_get(root, "pre_tokenizer"),
                decoder = jval_get(root, "decoder");
    enum err e = OK;
    if (!is_none(normalizer)) e = each_part(r, normalizer, "normalizers", read_spm_normalizer, NULL);
    if (e == OK && !is_none(pre)) e = each_part(r, pre, "pretokenizers", read_spm_pretokenizer, NULL);
    if (e == OK && !is_none(decoder)) e = each_part(r, decoder, "decoders", read_spm_decoder, NULL);
    if (e == OK && !r->marks) e = bad(r, "normalizer", "does not write spaces as U+2581");
    return e;
}

static enum err read_byte_level(struct reader *r, struct jval root)
{
    struct jval normalizer = jval_get(root, "normalizer"), pre = jval_get(root, "pre_tokenizer"),
                decoder = jval_get(root, "decoder");
    struct text_assets *t = r->t;
    bool bytes = false;
    enum err e = OK;
    t->pattern = arena_array(&r->o->arena, SPLIT_MOST, sizeof *t->pattern);
    t->split = arena_alloc(&r->o->arena, SPLIT_MOST);
    if (!t->pattern || !t->split) return nomem(r);
    if (!is_none(normalizer) && (e = each_part(r, normalizer, "normalizers", read_normalizer, NULL)) != OK)
        return e;
    if (is_none(pre)) return bad(r, "pre_tokenizer", "is missing");
    if ((e = each_part(r, pre, "pretokenizers", read_pretokenizer, &bytes)) != OK) return e;
    if (!bytes || t->n_pattern == 0)
        return bad(r, "pre_tokenizer", bytes ? "does not cut text" : "does not end in ByteLevel");
    if (!is_none(decoder) && !jval_is(jval_get(decoder, "type"), "ByteLevel"))
        return bad(r, "decoder", "only ByteLevel is supported");
    return OK;
}

enum err text_assets_read_tokenizer(struct text_owner *o, const struct jdoc *d, struct strmap **ids,
                                    struct err_note *note)
{
    struct reader r = {.o = o, .t = &o->t, .path = o->t.file, .note = note};
    struct jval post = jval_get(d->root, "post_processor");
    enum err e = read_model(&r, d->root);
    *ids = r.ids;
    if (e != OK) return e;
    if ((e = o->t.spm.on ? read_spm(&r, d->root) : read_byte_level(&r, d->root)) != OK) return e;
    if (!is_none(post) && (e = each_part(&r, post, "processors", read_postprocessor, NULL)) != OK) return e;
    return r.no_flag ? bad(&r, r.no_flag, "is neither true nor false") : OK;
}
