/* text_answer: see text_answer.h. Shapes as vLLM's. */
#include "server/api/text_answer.h"

#include <stdlib.h>

#include "server/json/out.h"
#include "base/utf8.h"

enum { RAW_BYTES = 4096 }; /* of tokens are joined before they are read as UTF-8 */

/* In the order in which they come; a kind begins at one of the heads. */
enum part { PART_HEAD, PART_IDS, PART_MIDDLE, PART_TEXTS, PART_TAIL, PART_TEXT_HEAD, PART_TEXT, PART_END };

struct text_answer {
    enum text_answer_kind kind;
    const struct tokenizer *tokenizer;
    int max_model_len;
    struct token_vec ids;
    enum part part;
    size_t at;         /* ids of this part that are written */
    struct strbuf raw; /* their bytes not yet written, where characters may span tokens */
};

struct text_answer *text_answer_new(enum text_answer_kind kind, const struct tokenizer *t, int max_model_len,
                                    struct token_vec *ids)
{
    struct text_answer *a = calloc(1, sizeof *a);
    if (!a) {
        token_vec_fini(ids);
        return NULL;
    }
    *a = (struct text_answer){.kind = kind,
                              .tokenizer = t,
                              .max_model_len = max_model_len,
                              .ids = *ids,
                              .part = kind == TEXT_ANSWER_TEXT ? PART_TEXT_HEAD : PART_HEAD};
    *ids = (struct token_vec){0};
    strbuf_init(&a->raw);
    int32_t *less = a->ids.n ? realloc(a->ids.id, a->ids.n * sizeof *less) : NULL;
    if (less) {
        a->ids.id = less;
        a->ids.cap = a->ids.n;
    }
    return a;
}

void text_answer_free(struct text_answer *a)
{
    if (!a) return;
    token_vec_fini(&a->ids);
    strbuf_fini(&a->raw);
    free(a);
}

size_t text_answer_bytes(const struct text_answer *a)
{
    return sizeof *a + a->ids.cap * sizeof *a->ids.id + 2 * RAW_BYTES;
}

static void put_int(struct strbuf *out, uint32_t v)
{
    char text[10];
    char *p = text + sizeof text;
    do {
        *--p = (char)('0' + v % 10);
    } while (v /= 10);
    strbuf_put(out, p, (size_t)(text + sizeof text - p));
}

/* The next of the ids of this part, or the part's end. */
static bool next_id(struct text_answer *a, struct strbuf *out, int32_t *id)
{
    if (a->at == a->ids.n) {
        a->at = 0;
        a->part++;
        return false;
    }
    if (a->at > 0) strbuf_putc(out, ',');
    *id = a->ids.id[a->at++];
    return true;
}

static void put_text_of(struct text_answer *a, struct strbuf *out, int32_t id)
{
    size_t n;
    const char *s = tokenizer_bytes(a->tokenizer, id, &n);
    json_out_quote(out, s, n);
}

/* A character that the next tokens may complete stays in raw. */
static void put_text(struct text_answer *a, struct strbuf *out)
{
    while (a->at < a->ids.n && a->raw.len < RAW_BYTES && !strbuf_failed(&a->raw)) {
        size_t n;
        const char *s = tokenizer_bytes(a->tokenizer, a->ids.id[a->at++], &n);
        const bool skip = a->at == 1 && n > 0 && s[0] == ' ' && tokenizer_strips(a->tokenizer);
        strbuf_put(&a->raw, s + skip, n - skip);
    }
    const bool last = a->at == a->ids.n;
    const size_t n = last ? a->raw.len : utf8_complete(a->raw.data, a->raw.len);
    json_out_escape(out, a->raw.data ? a->raw.data : "", n);
    if (n) strbuf_drop_front(&a->raw, n);
    if (last) a->part++;
    out->failed |= strbuf_failed(&a->raw);
}

static void put_part(struct text_answer *a, struct strbuf *out)
{
    int32_t id;
    switch (a->part) {
    case PART_HEAD:
        strbuf_printf(out, "{\"count\":%zu,\"max_model_len\":%d,\"tokens\":[", a->ids.n, a->max_model_len);
        a->part++;
        return;
    case PART_IDS:
        if (next_id(a, out, &id)) put_int(out, (uint32_t)id);
        return;
    case PART_MIDDLE:
        strbuf_puts(out, a->kind == TEXT_ANSWER_IDS ? "],\"token_strs\":null}" : "],\"token_strs\":[");
        a->part = a->kind == TEXT_ANSWER_IDS ? PART_END : PART_TEXTS;
        return;
    case PART_TEXTS:
        if (next_id(a, out, &id)) put_text_of(a, out, id);
        return;
    case PART_TAIL:
        strbuf_puts(out, "]}");
        a->part = PART_END;
        return;
    case PART_TEXT_HEAD:
        strbuf_puts(out, "{\"prompt\":\"");
        a->part++;
        return;
    case PART_TEXT:
        put_text(a, out);
        if (a->part == PART_END) strbuf_puts(out, "\"}");
        return;
    case PART_END:
        return;
    }
}

bool text_answer_next(struct text_answer *a, struct strbuf *out)
{
    const size_t most = out->len + TEXT_ANSWER_PIECE_BYTES;
    while (a->part != PART_END && out->len < most && !strbuf_failed(out)) put_part(a, out);
    return a->part != PART_END;
}
