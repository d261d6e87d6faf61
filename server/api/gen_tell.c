/* gen_tell: the writers of completions, chats and routes: frames of a stream, or one whole answer. Loop
 * thread only. */
#include <stdlib.h>
#include <string.h>

#include "server/api/gen_own.h"

static struct answer_head head_of(const struct gen *g)
{
    return (struct answer_head){.id = g->id, .model = g->api->app->model_id, .created = g->created};
}

static bool is_chat(const struct gen *g) { return g->writer->chat; }

static struct answer_usage count_usage(const struct gen *g)
{
    struct answer_usage u = {0};
    for (int i = 0; i < g->n_choice; i++) {
        const bool first = i % g->ask->n_per_prompt == 0;
        u.n_prompt += first ? g->choice[i].r->n_prompt : 0;
        u.n_cached += first ? g->choice[i].r->use.n_cached : 0;
        u.n_answer += g->choice[i].n_token;
    }
    return u;
}

/* The whole count, with the route of each prompt: of its choices, the one that held the most memory. */
static bool write_usage(const struct gen *g, struct json_out *o)
{
    const struct ask *a = g->ask;
    struct answer_usage u = count_usage(g);
    const struct request **routed = calloc((size_t)a->n_prompt, sizeof *routed);
    if (!routed) return false;
    for (int i = 0; i < g->n_choice; i++) {
        const struct request **at = &routed[i / a->n_per_prompt];
        if (!*at || a->request[i]->use.kv_pages_peak > (*at)->use.kv_pages_peak) *at = a->request[i];
    }
    u.routed = routed;
    u.n_routed = a->n_prompt;
    answer_usage(o, g->api->env.model, &u);
    free(routed);
    return true;
}

/* --- log-probabilities of the prompt (echo) */

/* Of all choices of a prompt the first was asked for them. Which token stands where is known here. */
static struct sample_out *prompt_tokens(const struct gen *g, const struct choice *c)
{
    const struct ask_prompt *p = &g->ask->prompt[c->prompt_i];
    struct sample_out *s = g->ask->request[c->prompt_i * g->ask->n_per_prompt]->prompt_out;
    for (int i = 0; i < p->n; i++) s[i].id = p->id[i];
    s[0].n_top = 0;
    return s;
}

/* --- streams */

/* One chunk with the news of one choice. */
static bool write_chunk(struct gen *g, const struct answer_choice *news)
{
    struct strbuf frame;
    struct json_out o;
    const enum answer_form form = is_chat(g) ? ANSWER_CHAT_CHUNK : ANSWER_COMPLETION_CHUNK;
    const struct answer_head head = head_of(g);
    strbuf_init(&frame);
    strbuf_puts(&frame, "data: ");
    json_out_init(&o, &frame);
    answer_begin(&o, &head, form, news);
    json_out_array(&o, "choices");
    answer_choice(&o, g->api->env.chat.tokenizer, form, news);
    json_out_end(&o);
    if (g->ask->continuous_usage) {
        const struct answer_usage u = count_usage(g);
        answer_usage(&o, g->api->env.model, &u);
    } else if (g->ask->include_usage) {
        json_out_null(&o, "usage");
    }
    json_out_end(&o);
    strbuf_puts(&frame, "\n\n");
    const bool ok = !strbuf_failed(&frame);
    if (ok) http_stream_write(g->call, frame.data, frame.len);
    strbuf_fini(&frame);
    return ok;
}

/* Chat names the speaker; a completion repeats the prompt when it was asked to. */
static bool tell_begin(struct gen *g, struct choice *c)
{
    const struct ask *a = g->ask;
    const struct ask_prompt *p = &a->prompt[c->prompt_i];
    struct answer_choice news = {
        .index = c->index, .text = "", .role = is_chat(g), .text_offset = &c->text_offset};
    c->told_begin = true;
    if (a->return_token_ids) {
        news.prompt_id = p->id;
        news.n_prompt_id = (size_t)p->n;
    }
    if (a->echo) {
        news.text = p->text;
        news.n_text = p->n_text;
    }
    if (a->echo && a->logprobs) {
        news.token = prompt_tokens(g, c);
        news.n_token = (size_t)p->n;
        news.first_null = true;
    }
    return (!is_chat(g) && !a->echo && !a->return_token_ids) || write_chunk(g, &news);
}

static bool tell_news(struct gen *g, struct choice *c)
{
    const struct ask *a = g->ask;
    if (!c->told_begin && !tell_begin(g, c)) return false;
    const int n_new = c->n_token - c->told_token;
    struct answer_choice news = {.index = c->index,
                                 .text = c->out.data ? c->out.data : "",
                                 .n_text = c->out.len,
                                 .reason = c->reason.data,
                                 .n_reason = c->reason.len,
                                 .text_offset = &c->text_offset};
    if (a->logprobs && n_new > 0) {
        news.token = c->token + c->told_token;
        news.n_token = (size_t)n_new;
    }
    if (a->return_token_ids && n_new > 0) {
        news.id = c->r->prompt + c->r->n_prompt + c->told_token;
        news.n_id = (size_t)n_new;
    }
    c->told_token = c->n_token;
    if ((news.n_text || news.n_reason || news.token || news.id) && !write_chunk(g, &news)) return false;
    strbuf_clear(&c->reason);
    strbuf_clear(&c->out);
    if (!c->finish || c->told_finish) return true;
    c->told_finish = true;
    return write_chunk(g, &(struct answer_choice){.index = c->index, .text = "", .finish = c->finish});
}

static bool tell_end(struct gen *g)
{
    static const char done[] = "data: [DONE]\n\n";
    bool ok = true;
    if (g->ask->include_usage) {
        struct strbuf frame;
        struct json_out o;
        const struct answer_head head = head_of(g);
        strbuf_init(&frame);
        strbuf_puts(&frame, "data: ");
        json_out_init(&o, &frame);
        answer_begin(&o, &head, is_chat(g) ? ANSWER_CHAT_CHUNK : ANSWER_COMPLETION_CHUNK, NULL);
        json_out_array(&o, "choices");
        json_out_end(&o);
        ok = write_usage(g, &o);
        json_out_end(&o);
        strbuf_puts(&frame, "\n\n");
        ok = ok && !strbuf_failed(&frame);
        if (ok) http_stream_write(g->call, frame.data, frame.len);
        strbuf_fini(&frame);
    }
    if (ok) http_stream_write(g->call, done, sizeof done - 1);
    return ok;
}

static bool tell_error(struct gen *g, const struct err_note *note)
{
    struct strbuf frame;
    strbuf_init(&frame);
    strbuf_puts(&frame, "data: ");
    json_out_error(&frame, note);
    strbuf_puts(&frame, "\n\n");
    const bool ok = !strbuf_failed(&frame);
    if (ok) http_stream_write(g->call, frame.data, frame.len);
    strbuf_fini(&frame);
    return ok;
}

/* --- whole answers */

static bool write_whole_choice(const struct gen *g, struct choice *c, struct json_out *o)
{
    const struct ask *a = g->ask;
    const struct ask_prompt *p = &a->prompt[c->prompt_i];
    struct answer_choice all = {.index = c->index, .finish = c->finish, .text_offset = &c->text_offset};
    struct strbuf text;
    struct sample_out *both = NULL;
    strbuf_init(&text);
    if (a->echo) strbuf_put(&text, p->text, p->n_text);
    strbuf_put(&text, c->out.data ? c->out.data : "", c->out.len);
    all.text = text.data ? text.data : "";
    all.n_text = text.len;
    all.reason = c->reason.data;
    all.n_reason = c->reason.len;
    if (a->logprobs) {
        const size_t n = a->echo ? (size_t)p->n : 0;
        both = calloc(n + (size_t)c->n_token + 1, sizeof *both);
        if (both && n) memcpy(both, prompt_tokens(g, c), n * sizeof *both);
        if (both && c->n_token) memcpy(both + n, c->token, (size_t)c->n_token * sizeof *both);
        all.token = both;
        all.n_token = n + (size_t)c->n_token;
        all.first_null = a->echo;
    }
    if (a->return_token_ids) {
        all.prompt_id = p->id;
        all.n_prompt_id = (size_t)p->n;
        all.id = c->r->prompt + c->r->n_prompt;
        all.n_id = (size_t)c->n_token;
    }
    const bool ok = !strbuf_failed(&text) && (both || !a->logprobs);
    if (ok) answer_choice(o, g->api->env.chat.tokenizer, is_chat(g) ? ANSWER_CHAT : ANSWER_COMPLETION, &all);
    free(both);
    strbuf_fini(&text);
    return ok;
}

static bool tell_whole(struct gen *g, struct strbuf *out)
{
    struct json_out o;
    bool ok = true;
    const struct ask *a = g->ask;
    const struct answer_head head = head_of(g);
    const struct answer_choice first = {.prompt_id = a->return_token_ids ? a->prompt[0].id : NULL,
                                        .n_prompt_id = (size_t)a->prompt[0].n};
    json_out_init(&o, out);
    answer_begin(&o, &head, is_chat(g) ? ANSWER_CHAT : ANSWER_COMPLETION, &first);
    json_out_array(&o, "choices");
    for (int i = 0; i < g->n_choice && ok; i++) ok = write_whole_choice(g, &g->choice[i], &o);
    json_out_end(&o);
    ok = ok && write_usage(g, &o);
    json_out_end(&o);
    return ok && !strbuf_failed(out);
}

static bool tell_route(struct gen *g, struct strbuf *out)
{
    struct json_out o;
    const struct answer_head head = head_of(g);
    json_out_init(&o, out);
    answer_route(&o, &head, g->api->env.model, g->choice[0].r);
    return !strbuf_failed(out);
}

const struct gen_writer gen_writer_completion = {.news = tell_news,
                                                 .end = tell_end,
                                                 .error = tell_error,
                                                 .whole = tell_whole},
                        gen_writer_chat = {.news = tell_news,
                                           .end = tell_end,
                                           .error = tell_error,
                                           .whole = tell_whole,
                                           .chat = true},
                        gen_writer_route = {.whole = tell_route}, gen_writer_none = {0};
