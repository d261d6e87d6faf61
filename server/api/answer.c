/* answer: see answer.h. Shapes are OpenAI's; token_ids and prompt_token_ids stand where vLLM has them. */
#include "server/api/answer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const float LOGPROB_FLOOR = -9999.0f; /* what is printed for minus infinity */

static const struct form {
    const char *object;
    bool chat, chunk;
} form_of[ANSWER_N_FORM] = {
    [ANSWER_COMPLETION] = {.object = "text_completion"},
    [ANSWER_COMPLETION_CHUNK] = {.object = "text_completion", .chunk = true},
    [ANSWER_CHAT] = {.object = "chat.completion", .chat = true},
    [ANSWER_CHAT_CHUNK] = {.object = "chat.completion.chunk", .chat = true, .chunk = true},
};

/* --- log-probabilities --- */

static float printable(float logprob) { return logprob > LOGPROB_FLOOR ? logprob : LOGPROB_FLOOR; }

/* A token that stands among the alternatives has their number: clients compare the two as floats. */
static float own_logprob(const struct sample_out *s)
{
    for (int k = 0; k < s->n_top; k++)
        if (s->top_id[k] == s->id) return printable(s->top_logprob[k]);
    return printable(s->logprob);
}

/* A token's name where names must be unique: its text, or "bytes:\xe2\x80" where it is a part of a character
 * (or a NUL, which a key cannot hold). ids: "token_id:7" instead. */
static void token_name(const struct tokenizer *t, int32_t id, bool ids, struct strbuf *out)
{
    size_t n;
    const char *s = tokenizer_bytes(t, id, &n);
    strbuf_clear(out);
    if (ids) {
        strbuf_printf(out, "token_id:%d", (int)id);
        return;
    }
    if (utf8_valid(s, n) && !memchr(s, '\0', n)) {
        strbuf_put(out, s, n);
        return;
    }
    strbuf_puts(out, "bytes:");
    for (size_t i = 0; i < n; i++) strbuf_printf(out, "\\x%02x", (unsigned)(uint8_t)s[i]);
}

/* A choice on its way: what the parts below read and write. */
struct work {
    struct json_out *o;
    const struct tokenizer *t;
    const struct form *f;
    const struct answer_choice *c;
    struct strbuf name;
};

static const struct sample_out *token_at(const struct answer_choice *c, size_t i)
{
    return i < c->n_before ? &c->before[i] : &c->token[i - c->n_before];
}

static int n_top_at(const struct answer_choice *c, size_t i)
{
    const int n = token_at(c, i)->n_top;
    return i < c->n_before && n > c->most_top ? c->most_top : n;
}

static void put_name(struct work *w, size_t i)
{
    token_name(w->t, token_at(w->c, i)->id, w->c->ids_for_names, &w->name);
    json_out_string(w->o, NULL, w->name.data ? w->name.data : "", w->name.len);
}

static void put_offset(struct work *w, size_t i)
{
    const struct answer_choice *c = w->c;
    json_out_int(w->o, NULL,
                 i < c->n_before ? c->before_offset[i] : c->n_echo_char + c->offset[i - c->n_before]);
}

static void put_logprob(struct work *w, size_t i)
{
    if (i == 0 && w->c->first_null)
        json_out_null(w->o, NULL);
    else
        json_out_float(w->o, NULL, own_logprob(token_at(w->c, i)));
}

/* The alternatives as an object, with the token itself where it is not among them. The ids are distinct, and
 * so are names but for vocabularies that hold a text twice: of such the likeliest stands. */
static void legacy_top(struct work *w, const struct sample_out *s, int n_top)
{
    struct json_out *o = w->o;
    const bool ids = w->c->ids_for_names;
    int32_t seen[SAMPLE_TOP_MAX + 1];
    int n_seen = 0;
    json_out_object(o, NULL);
    for (int k = 0; k <= n_top; k++) {
        const int32_t id = k < n_top ? s->top_id[k] : s->id;
        size_t n, m;
        const char *text = tokenizer_bytes(w->t, id, &n);
        bool dup = false;
        for (int j = 0; j < n_seen && !dup; j++) {
            const char *other = tokenizer_bytes(w->t, seen[j], &m);
            dup = ids ? seen[j] == id : n == m && !memcmp(text, other, n);
        }
        if (dup) continue;
        seen[n_seen++] = id;
        token_name(w->t, id, ids, &w->name);
        strbuf_putc(&w->name, '\0');
        json_out_float(o, strbuf_failed(&w->name) ? "" : w->name.data,
                       k < n_top ? printable(s->top_logprob[k]) : own_logprob(s));
    }
    json_out_end(o);
}

static void put_top(struct work *w, size_t i)
{
    if (i == 0 && w->c->first_null)
        json_out_null(w->o, NULL);
    else
        legacy_top(w, token_at(w->c, i), n_top_at(w->c, i));
}

static void chat_token(struct work *w, int32_t id, float logprob)
{
    struct json_out *o = w->o;
    size_t n;
    const char *s = tokenizer_bytes(w->t, id, &n);
    if (w->c->ids_for_names) {
        token_name(w->t, id, true, &w->name);
        json_out_string(o, "token", w->name.data ? w->name.data : "", w->name.len);
    } else {
        json_out_string(o, "token", s, n);
    }
    json_out_float(o, "logprob", logprob);
    json_out_array(o, "bytes");
    for (size_t i = 0; i < n; i++) json_out_int(o, NULL, (uint8_t)s[i]);
    json_out_end(o);
}

static void put_chat_token(struct work *w, size_t i)
{
    const struct sample_out *s = token_at(w->c, i);
    json_out_object(w->o, NULL);
    chat_token(w, s->id, own_logprob(s));
    json_out_array(w->o, "top_logprobs");
    for (int k = 0; k < s->n_top; k++) {
        json_out_object(w->o, NULL);
        chat_token(w, s->top_id[k], printable(s->top_logprob[k]));
        json_out_end(w->o);
    }
    json_out_end(w->o);
    json_out_end(w->o);
}

static void prompt_entry(struct work *w, int32_t id, float logprob, int rank)
{
    char key[16];
    size_t n;
    const char *text = tokenizer_bytes(w->t, id, &n);
    snprintf(key, sizeof key, "%d", (int)id);
    json_out_object(w->o, key);
    json_out_float(w->o, "logprob", logprob);
    if (rank > 0)
        json_out_int(w->o, "rank", rank);
    else
        json_out_null(w->o, "rank");
    json_out_string(w->o, "decoded_token", text, n);
    json_out_end(w->o);
}

/* As vLLM has them: null, then for each token itself and the likeliest by their ids. Its rank is null where
 * it is not among those that are known. */
static void put_prompt(struct work *w, size_t i)
{
    const struct sample_out *s = &w->c->prompt[i];
    const int n_top = s->n_top < w->c->prompt_top ? s->n_top : w->c->prompt_top;
    int own = 0;
    if (i == 0) {
        json_out_null(w->o, NULL);
        return;
    }
    for (int k = 0; k < s->n_top; k++)
        if (s->top_id[k] == s->id) own = k + 1;
    json_out_object(w->o, NULL);
    if (own == 0 || own > n_top) prompt_entry(w, s->id, own_logprob(s), own);
    for (int k = 0; k < n_top; k++) prompt_entry(w, s->top_id[k], printable(s->top_logprob[k]), k + 1);
    json_out_end(w->o);
}

void answer_scores(struct json_out *o, const char *key, const struct tokenizer *t, const struct sample_out *s,
                   size_t n)
{
    const struct answer_choice c = {.token = s, .n_token = n};
    struct work w = {.o = o, .t = t, .c = &c};
    json_out_array(o, key);
    for (size_t i = 0; i < n; i++) put_chat_token(&w, i);
    json_out_end(o);
}

/* --- choices --- */

void answer_begin(struct json_out *o, const struct answer_head *h, enum answer_form form,
                  const struct answer_choice *c)
{
    json_out_object(o, NULL);
    json_out_text(o, "id", h->id);
    json_out_text(o, "object", form_of[form].object);
    json_out_int(o, "created", h->created);
    json_out_text(o, "model", h->model);
    if (form_of[form].chat && c && c->prompt_id) {
        json_out_array(o, "prompt_token_ids");
        for (size_t i = 0; i < c->n_prompt_id; i++) json_out_int(o, NULL, c->prompt_id[i]);
        json_out_end(o);
    }
}

static void write_calls(struct json_out *o, const struct form *f, const struct answer_choice *c)
{
    json_out_array(o, "tool_calls");
    for (int i = 0; i < c->n_call; i++) {
        const struct answer_call *k = &c->call[i];
        json_out_object(o, NULL);
        if (f->chunk) json_out_int(o, "index", k->index);
        if (k->begins) {
            json_out_text(o, "id", k->id);
            json_out_text(o, "type", "function");
        }
        json_out_object(o, "function");
        if (k->begins) json_out_string(o, "name", k->name, k->n_name);
        json_out_string(o, "arguments", k->args, k->n_args);
        json_out_end(o);
        json_out_end(o);
    }
    json_out_end(o);
}

static void write_text(struct json_out *o, const struct form *f, const struct answer_choice *c)
{
    if (!f->chat) {
        json_out_raw(o, "text", "\"", 1);
        json_out_escape(o->buf, c->echo ? c->echo : "", c->n_echo);
        json_out_escape(o->buf, c->text, c->n_text);
        strbuf_putc(o->buf, '"');
        return;
    }
    json_out_object(o, f->chunk ? "delta" : "message");
    if (c->role || !f->chunk) json_out_text(o, "role", "assistant");
    if (c->n_reason) json_out_string(o, "reasoning_content", c->reason, c->n_reason);
    if (!f->chunk && c->n_call && !c->n_text)
        json_out_null(o, "content");
    else if (c->role || c->n_text || !f->chunk)
        json_out_string(o, "content", c->text, c->n_text);
    if (c->n_call) write_calls(o, f, c);
    if (!f->chunk) json_out_null(o, "refusal");
    json_out_end(o);
}

static void open_choice(struct work *w, size_t i)
{
    (void)i;
    json_out_object(w->o, NULL);
    json_out_int(w->o, "index", w->c->index);
    write_text(w->o, w->f, w->c);
    if (w->c->scored)
        json_out_object(w->o, "logprobs");
    else
        json_out_null(w->o, "logprobs");
}

static void close_scores(struct work *w, size_t i)
{
    (void)i;
    if (w->f->chat) json_out_null(w->o, "refusal");
    json_out_end(w->o);
}

static void put_finish(struct work *w, size_t i)
{
    (void)i;
    json_out_text(w->o, "finish_reason", w->c->finish);
}

static void close_choice(struct work *w, size_t i)
{
    (void)i;
    json_out_end(w->o);
}

static void put_prompt_id(struct work *w, size_t i) { json_out_int(w->o, NULL, w->c->prompt_id[i]); }
static void put_id(struct work *w, size_t i) { json_out_int(w->o, NULL, w->c->id[i]); }

static bool is_scored(const struct work *w) { return w->c->scored; }
static bool is_scored_completion(const struct work *w) { return w->c->scored && !w->f->chat; }
static bool is_scored_chat(const struct work *w) { return w->c->scored && w->f->chat; }
static bool has_prompt_ids(const struct work *w) { return w->c->prompt_id && !w->f->chat; }
static bool has_prompt(const struct work *w) { return w->c->prompt && !w->f->chat; }
static bool has_ids(const struct work *w) { return w->c->id; }
static size_t n_scored(const struct work *w) { return w->c->n_before + w->c->n_token; }
static size_t n_prompt_ids(const struct work *w) { return w->c->n_prompt_id; }
static size_t n_prompt(const struct work *w) { return w->c->n_prompt; }
static size_t n_ids(const struct work *w) { return w->c->n_id; }

/* In their order: lists, which have a key, and what stands between them. */
static const struct part {
    void (*put)(struct work *w, size_t i); /* item i of the list */
    bool (*applies)(const struct work *w); /* NULL: always */
    const char *key;
    size_t (*n)(const struct work *w); /* items */
} part_of_choice[] = {
    {open_choice, NULL, NULL, NULL},
    {put_name, is_scored_completion, "tokens", n_scored},
    {put_offset, is_scored_completion, "text_offset", n_scored},
    {put_logprob, is_scored_completion, "token_logprobs", n_scored},
    {put_top, is_scored_completion, "top_logprobs", n_scored},
    {put_chat_token, is_scored_chat, "content", n_scored},
    {close_scores, is_scored, NULL, NULL},
    {put_finish, NULL, NULL, NULL},
    {put_prompt_id, has_prompt_ids, "prompt_token_ids", n_prompt_ids},
    {put_id, has_ids, "token_ids", n_ids},
    {put_prompt, has_prompt, "prompt_logprobs", n_prompt},
    {close_choice, NULL, NULL, NULL},
};
enum { N_PARTS = sizeof part_of_choice / sizeof *part_of_choice };

/* The list's end, or as far as most allows: false. */
static bool put_list(struct work *w, const struct part *p, struct answer_cursor *at, size_t most)
{
    const struct strbuf *out = w->o->buf;
    const size_t n = p->n(w);
    if (!at->in_list) json_out_array(w->o, p->key);
    at->in_list = true;
    while (at->item < n && out->len < most && !strbuf_failed(out)) p->put(w, at->item++);
    if (at->item < n && !strbuf_failed(out)) return false;
    json_out_end(w->o);
    at->in_list = false;
    at->item = 0;
    return true;
}

bool answer_choice_next(struct json_out *o, const struct tokenizer *t, enum answer_form form,
                        const struct answer_choice *c, struct answer_cursor *at, size_t most)
{
    struct work w = {.o = o, .t = t, .f = &form_of[form], .c = c};
    bool whole = true;
    strbuf_init(&w.name);
    for (; at->part < N_PARTS; at->part++) {
        const struct part *p = &part_of_choice[at->part];
        if (p->applies && !p->applies(&w)) continue;
        if (!p->key)
            p->put(&w, 0);
        else if (!put_list(&w, p, at, most)) {
            whole = false;
            break;
        }
    }
    if (strbuf_failed(&w.name)) o->buf->failed = true;
    strbuf_fini(&w.name);
    return whole;
}

bool answer_prompt_next(struct json_out *o, const struct tokenizer *t, const struct answer_choice *c,
                        struct answer_cursor *at, size_t most)
{
    static const struct part list = {put_prompt, NULL, "prompt_logprobs", n_prompt};
    struct work w = {.o = o, .t = t, .f = &form_of[ANSWER_CHAT], .c = c};
    return put_list(&w, &list, at, most);
}

void answer_choice(struct json_out *o, const struct tokenizer *t, enum answer_form form,
                   const struct answer_choice *c)
{
    struct answer_cursor at = {.part = 0};
    answer_choice_next(o, t, form, c, &at, SIZE_MAX);
}

/* --- usage --- */

static void write_route(struct json_out *o, const char *key, const struct engine_info *model,
                        const struct request *r, int64_t pages, int64_t pages_full)
{
    struct strbuf mask;
    int full = 0;
    strbuf_init(&mask);
    for (int l = 0; l < model->n_layer; l++) {
        full += r->shared.use.route[l] == ROUTE_FULL;
        strbuf_putc(&mask, r->shared.use.route[l] == ROUTE_FULL ? '1' : '0');
    }
    json_out_object(o, key);
    json_out_string(o, "mask", mask.data ? mask.data : "", mask.len);
    json_out_int(o, "full_layers", full);
    json_out_int(o, "sparse_layers", model->n_layer - full);
    if (r->ask.bias && r->ask.bias->on) json_out_float(o, "bias", r->ask.bias->value);
    json_out_int(o, "kv_bytes", pages * model->page_bytes);
    json_out_int(o, "kv_bytes_full", pages_full * model->page_bytes);
    json_out_end(o);
    if (strbuf_failed(&mask)) o->buf->failed = true;
    strbuf_fini(&mask);
}

static void write_used_route(struct json_out *o, const char *key, const struct engine_info *model,
                             const struct request *r)
{
    write_route(o, key, model, r, r->shared.use.kv_pages_peak, r->shared.use.kv_pages_full);
}

void answer_extras(struct json_out *o, const struct engine_info *model, const struct answer_usage *u)
{
    if (u->clamped) json_out_int(o, "clamped_max_tokens", u->clamped);
    if (u->routed && u->n_routed == 1) {
        write_used_route(o, "attention_route", model, u->routed[0]);
    } else if (u->routed) {
        json_out_array(o, "attention_route");
        for (int i = 0; i < u->n_routed; i++) write_used_route(o, NULL, model, u->routed[i]);
        json_out_end(o);
    }
}

void answer_usage(struct json_out *o, const struct engine_info *model, const struct answer_usage *u)
{
    json_out_object(o, "usage");
    json_out_int(o, "prompt_tokens", u->n_prompt);
    json_out_int(o, "completion_tokens", u->n_answer);
    json_out_int(o, "total_tokens", u->n_prompt + u->n_answer);
    json_out_object(o, "prompt_tokens_details");
    json_out_int(o, "cached_tokens", u->n_cached);
    json_out_end(o);
    if (u->n_thought) {
        json_out_object(o, "completion_tokens_details");
        json_out_int(o, "reasoning_tokens", u->n_thought);
        json_out_end(o);
    }
    answer_extras(o, model, u);
    json_out_end(o);
}

/* --- what a prompt would get */

static void write_ms(struct json_out *o, const char *key, double ms)
{
    if (isfinite(ms))
        json_out_double(o, key, round(ms * 1000) / 1000);
    else
        json_out_null(o, key);
}

void answer_route(struct json_out *o, const struct answer_head *h, const struct engine_info *model,
                  const struct request *r)
{
    const struct request_price *p = &r->shared.use.price;
    const struct answer_usage u = {.n_prompt = r->ask.n_prompt, .n_cached = r->shared.use.n_cached};
    json_out_object(o, NULL);
    json_out_text(o, "id", h->id);
    json_out_text(o, "object", "route");
    json_out_int(o, "created", h->created);
    json_out_text(o, "model", h->model);
    write_route(o, "attention_route", model, r, p->kv_pages, p->kv_pages_full);
    json_out_array(o, "margins");
    for (int l = 0; l < model->n_layer; l++) {
        if (r->shared.use.margin[l] != 0)
            json_out_float(o, NULL, r->shared.use.margin[l]);
        else
            json_out_null(o, NULL);
    }
    json_out_end(o);
    json_out_object(o, "cost");
    write_ms(o, "prefill_ms", p->prefill_ms);
    write_ms(o, "prefill_ms_full", p->prefill_full_ms);
    write_ms(o, "token_ms", p->token_ms);
    write_ms(o, "token_ms_full", p->token_full_ms);
    json_out_end(o);
    answer_usage(o, model, &u);
    json_out_end(o);
}
