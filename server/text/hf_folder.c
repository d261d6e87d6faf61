/* hf_folder: see the header. What `pre` means stands in pretok.c; here it is put into the words of the
 * `tokenizers` library. */
#include "server/text/hf_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/text/pretok.h"

/* --- JSON */

static void put_text(struct strbuf *out, const char *p, size_t n)
{
    strbuf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\')
            strbuf_printf(out, "\\%c", c);
        else if (c < 0x20)
            strbuf_printf(out, "\\u%04x", c);
        else
            strbuf_putc(out, (char)c);
    }
    strbuf_putc(out, '"');
}

static void put_word(struct strbuf *out, const char *s) { put_text(out, s, strlen(s)); }

static void put_piece(struct strbuf *out, const struct text_assets *t, int32_t id)
{
    if (id < 0)
        strbuf_puts(out, "null");
    else
        put_text(out, t->piece[id], t->piece_len[id]);
}

static const char *word_of(bool v) { return v ? "true" : "false"; }

/* --- tokenizer.json */

static bool is_whole(const struct text_assets *t, int id)
{
    return t->kind[id] == TOKEN_SPECIAL || t->kind[id] == TOKEN_ADDED;
}

static void put_added(struct strbuf *out, const struct text_assets *t)
{
    const char *comma = "";
    strbuf_puts(out, "\"added_tokens\":[");
    for (int i = 0; i < t->n_piece; i++) {
        if (!is_whole(t, i)) continue;
        const int trait = t->trait ? t->trait[i] : 0;
        strbuf_printf(out, "%s{\"id\":%d,\"content\":", comma, i);
        put_piece(out, t, i);
        strbuf_printf(out,
                      ",\"single_word\":false,\"lstrip\":%s,\"rstrip\":%s,\"normalized\":%s,\"special\":%s}",
                      word_of(trait & TOKEN_LSTRIP), word_of(trait & TOKEN_RSTRIP),
                      word_of(trait & TOKEN_NORMALIZED), word_of(t->kind[i] == TOKEN_SPECIAL));
        comma = ",";
    }
    strbuf_puts(out, "],");
}

static void put_bytes(struct strbuf *out, bool words)
{
    strbuf_printf(
        out, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":%s}",
        word_of(words));
}

static void put_split(struct strbuf *out, const struct pretok_step *s)
{
    if (s->split == SPLIT_WORDS) {
        put_bytes(out, true);
    } else if (s->split == SPLIT_DIGITS || s->split == SPLIT_DIGIT_RUNS) {
        strbuf_printf(out, "{\"type\":\"Digits\",\"individual_digits\":%s}",
                      word_of(s->split == SPLIT_DIGITS));
    } else {
        strbuf_printf(
            out, "{\"type\":\"Split\",\"pattern\":{\"%s\":", s->split == SPLIT_LITERAL ? "String" : "Regex");
        put_word(out, s->pattern);
        strbuf_puts(out, "},\"behavior\":\"Isolated\",\"invert\":false}");
    }
}

/* ByteLevel goes last, once: its pattern is the one step that it has itself. */
static enum err put_pretokenizer(struct strbuf *out, const struct text_assets *t, bool *nfc,
                                 bool *ignore_merges, struct err_note *note)
{
    struct pretok_step step[PRETOK_STEPS_MOST];
    const int n = pretok_steps(t->pre, step, nfc, ignore_merges);
    if (n < 0)
        return err_set(note, ERR_MODEL_FILE, t->file, "%s: the pre-tokenizer \"%.60s\" cannot be written",
                       t->file, t->pre ? t->pre : "none");
    const bool last_words = n > 0 && step[n - 1].split == SPLIT_WORDS;
    strbuf_puts(out, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < n; i++) {
        if (i > 0) strbuf_putc(out, ',');
        put_split(out, &step[i]);
    }
    if (!last_words) {
        if (n > 0) strbuf_putc(out, ',');
        put_bytes(out, false);
    }
    strbuf_puts(out, "]},");
    return OK;
}

static void put_template_token(struct strbuf *out, const char *before, const struct text_assets *t,
                               int32_t id)
{
    strbuf_printf(out, "%s{\"SpecialToken\":{\"id\":", before);
    put_piece(out, t, id);
    strbuf_puts(out, ",\"type_id\":0}}");
}

/* What is put around a text: with one sequence and, as the format wants it, with two. */
static void put_frame(struct strbuf *out, const struct text_assets *t)
{
    const bool bos = t->add_bos && t->bos_id >= 0, eos = t->add_eos && t->eos_id >= 0;
    strbuf_puts(out, "\"post_processor\":");
    if (!bos && !eos) {
        put_bytes(out, false);
        strbuf_putc(out, ',');
        return;
    }
    strbuf_puts(out, "{\"type\":\"TemplateProcessing\"");
    for (int n_text = 1; n_text <= 2; n_text++) {
        strbuf_printf(out, ",\"%s\":[", n_text == 1 ? "single" : "pair");
        for (int k = 0; k < n_text; k++) {
            if (bos) put_template_token(out, k ? "," : "", t, t->bos_id);
            strbuf_printf(out, "%s{\"Sequence\":{\"id\":\"%c\",\"type_id\":%d}}", bos || k ? "," : "",
                          'A' + k, k);
            if (eos) put_template_token(out, ",", t, t->eos_id);
        }
        strbuf_putc(out, ']');
    }
    strbuf_puts(out, ",\"special_tokens\":{");
    for (int k = 0; k < 2; k++) {
        const int32_t id = k ? t->eos_id : t->bos_id;
        if (!(k ? eos : bos) || (k && bos && t->eos_id == t->bos_id)) continue;
        if (k && bos) strbuf_putc(out, ',');
        put_piece(out, t, id);
        strbuf_puts(out, ":{\"id\":");
        put_piece(out, t, id);
        strbuf_printf(out, ",\"ids\":[%d],\"tokens\":[", id);
        put_piece(out, t, id);
        strbuf_puts(out, "]}");
    }
    strbuf_puts(out, "}},");
}

static size_t left_of(const struct text_assets *t, int i)
{
    if (t->merge_at) return t->merge_at[i];
    const char *space = memchr(t->merge[i] + 1, ' ', t->merge_len[i] - 1); /* a piece is never empty */
    return space ? (size_t)(space - t->merge[i]) : t->merge_len[i];
}

static void put_model(struct strbuf *out, const struct text_assets *t, bool ignore_merges)
{
    strbuf_puts(out, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    /* Where it is special, bytes without a piece are dropped: so the models of this kind were trained. */
    put_piece(out, t, t->unk_id >= 0 && t->kind[t->unk_id] != TOKEN_SPECIAL ? t->unk_id : -1);
    strbuf_printf(out,
                  ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
                  "\"byte_fallback\":false,\"ignore_merges\":%s,\"vocab\":{",
                  word_of(ignore_merges));
    for (int i = 0; i < t->n_piece; i++) {
        if (i > 0) strbuf_putc(out, ',');
        put_piece(out, t, i);
        strbuf_printf(out, ":%d", i);
    }
    strbuf_puts(out, "},\"merges\":[");
    for (int i = 0; i < t->n_merge; i++) {
        const size_t left = left_of(t, i), from = left + (t->merge_at ? 0 : 1);
        strbuf_puts(out, i > 0 ? ",[" : "[");
        put_text(out, t->merge[i], left);
        strbuf_putc(out, ',');
        put_text(out, t->merge[i] + from, t->merge_len[i] - from);
        strbuf_putc(out, ']');
    }
    strbuf_puts(out, "]}");
}

enum err hf_tokenizer_json(const struct text_assets *t, struct strbuf *out, struct err_note *note)
{
    bool nfc = false, ignore_merges = false;
    struct strbuf pre;
    if (!t->pre)
        return err_set(note, ERR_MODEL_FILE, t->file,
                       "%s: a Hugging Face tokenizer is written already: use it", t->file);
    if (t->spm.on)
        return err_set(note, ERR_MODEL_FILE, t->file, "%s: a sentencepiece vocabulary cannot be written",
                       t->file);
    strbuf_init(&pre);
    const enum err e = put_pretokenizer(&pre, t, &nfc, &ignore_merges, note);
    if (!e) {
        strbuf_puts(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,");
        put_added(out, t);
        strbuf_printf(out, "\"normalizer\":%s,", nfc || t->nfc ? "{\"type\":\"NFC\"}" : "null");
        strbuf_put(out, pre.data ? pre.data : "", pre.len);
        put_frame(out, t);
        strbuf_puts(out, "\"decoder\":");
        put_bytes(out, false);
        strbuf_putc(out, ',');
        put_model(out, t, ignore_merges || t->ignore_merges);
        strbuf_puts(out, "}\n");
    }
    const bool full = strbuf_failed(&pre) || strbuf_failed(out);
    strbuf_fini(&pre);
    return e || !full ? e : err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

/* --- tokenizer_config.json */

void hf_tokenizer_config_json(const struct text_assets *t, struct strbuf *out)
{
    const struct {
        const char *key;
        int32_t id;
    } token[] = {{"bos_token", t->bos_id}, {"eos_token", t->eos_id}, {"unk_token", t->unk_id}};
    strbuf_puts(out,
                "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"clean_up_tokenization_spaces\":false");
    for (size_t i = 0; i < sizeof token / sizeof *token; i++) {
        strbuf_printf(out, ",\"%s\":", token[i].key);
        put_piece(out, t, token[i].id);
    }
    strbuf_printf(out, ",\"add_bos_token\":%s,\"add_eos_token\":%s", word_of(t->add_bos),
                  word_of(t->add_eos));
    if (t->chat_template) {
        strbuf_puts(out, ",\"chat_template\":");
        put_text(out, t->chat_template, t->chat_template_len);
    }
    strbuf_puts(out, "}\n");
}

/* --- the folder */

static enum err write_file(const char *dir, const char *name, const struct strbuf *b, struct err_note *note)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return err_set(note, ERR_CONFIG, "--write-tokenizer", "the path is too long");
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    bool ok = fd >= 0;
    for (size_t at = 0; ok && at < b->len;) {
        const ssize_t n = write(fd, b->data + at, b->len - at);
        ok = n > 0 || (n < 0 && errno == EINTR);
        at += n > 0 ? (size_t)n : 0;
    }
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) ok = false, why = errno;
    if (ok) return OK;
    if (fd >= 0) unlink(path);
    return err_set(note, ERR_CONFIG, "--write-tokenizer", "cannot write %.200s: %s", path, strerror(why));
}

enum err hf_folder_write(const struct text_assets *t, const char *dir, struct err_note *note)
{
    struct strbuf vocabulary, config;
    strbuf_init(&vocabulary);
    strbuf_init(&config);
    enum err e = hf_tokenizer_json(t, &vocabulary, note);
    hf_tokenizer_config_json(t, &config);
    if (!e && strbuf_failed(&config)) e = err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (!e && mkdir(dir, 0777) != 0 && errno != EEXIST)
        e = err_set(note, ERR_CONFIG, "--write-tokenizer", "cannot make %.200s: %s", dir, strerror(errno));
    if (!e) e = write_file(dir, "tokenizer.json", &vocabulary, note);
    if (!e) e = write_file(dir, "tokenizer_config.json", &config, note);
    strbuf_fini(&vocabulary);
    strbuf_fini(&config);
    return e;
}
