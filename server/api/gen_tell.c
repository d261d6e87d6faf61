/* gen_tell: the writers of completions, chats and routes: frames of a stream, or one whole answer. Loop
 * thread only. */
#include <stdlib.h>
#include <string.h>

#include "server/api/gen_internal.h"

enum { SCORES_AT_ONCE = 64 }; /* tokens of a prompt in one chunk of a stream */

static struct answer_head head_of(const struct gen *g)
{
    return (struct answer_head){.id = g->id, .model = g->api->app->names.id, .created = g->created};
}

static bool is_chat(const struct gen *g) { return g->writer->chat; }

/* --- log-probabilities of the prompt (echo) */

/* Of all choices of a prompt the first was asked for them. Which token stands where is known here. */
static struct sample_out *prompt_tokens(const struct gen *g, const struct choice *c)
{
    const struct ask_prompt *p = &g->ask->prompt[c->prompt_i];
    struct sample_out *s = g->ask->request[c->prompt_i * g->ask->n_per_prompt]->ask.prompt_out;
    for (int i = 0; i < p->n; i++) s[i].id = p->id[i];
    s[0].n_top = 0;
    return s;
}

/* --- what a choice says */

static void put_said(struct choice *c, struct answer_choice *to)
{
    const struct said *s = &c->said;
    to->text = s->text.data ? s->text.data : "";
    to->n_text = s->text.len;
    to->reason = s->reason.data;
    to->n_reason = s->reason.len;
    to->call = s->call;
    to->n_call = s->n_call;
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
        const struct answer_usage u = gen_count_usage(g);
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

/* Chat names the speaker; a completion repeats the prompt when it was asked to, and scores it a piece at a
 * time: the names of 20 alternatives for each token of a long prompt are hundreds of megabytes. */
static bool tell_begin(struct gen *g, struct choice *c)
{
    const struct ask *a = g->ask;
    const struct ask_prompt *p = &a->prompt[c->prompt_i];
    const bool first = c->told_prompt == 0, scored = a->echo && a->logprobs;
    struct answer_choice news = {
        .index = c->index, .text = "", .role = is_chat(g), .ids_for_names = a->ids_for_names};
    if (a->return_token_ids && first) {
        news.prompt_id = p->id;
        news.n_prompt_id = (size_t)p->n;
    }
    if (a->echo && first) {
        news.echo = p->text;
        news.n_echo = p->n_text;
    }
    if (scored) {
        const int left = p->n - c->told_prompt, n = left < SCORES_AT_ONCE ? left : SCORES_AT_ONCE;
        news.scored = true;
        news.before = prompt_tokens(g, c) + c->told_prompt;
        news.before_offset = p->offset + c->told_prompt;
        news.most_top = a->n_top;
        news.n_before = (size_t)n;
        news.first_null = first;
        c->told_prompt += n;
    }
    c->told_begin = !scored || c->told_prompt == p->n;
    return (!is_chat(g) && !a->echo && !a->return_token_ids) || write_chunk(g, &news);
}

static bool tell_news(struct gen *g, struct choice *c)
{
    const struct ask *a = g->ask;
    while (!c->told_begin) {
        g->paused = c->untold = http_stream_full(g->call);
        if (c->untold) return true;
        if (!tell_begin(g, c)) return false;
    }
    c->untold = false;
    const int n_new = c->n_token - c->told_token;
    struct answer_choice news = {
        .index = c->index, .finish = c->told_finish ? NULL : c->finish, .ids_for_names = a->ids_for_names};
    if (!choice_say(c)) return false;
    put_said(c, &news);
    if (a->logprobs && n_new > 0) {
        news.scored = true;
        news.token = c->token;
        news.offset = c->offset;
        news.n_echo_char = a->prompt[c->prompt_i].n_char;
        news.n_token = (size_t)n_new;
    }
    if (a->return_token_ids && n_new > 0) {
        news.id = c->r->ask.prompt + c->r->ask.n_prompt + c->told_token;
        news.n_id = (size_t)n_new;
    }
    c->told_token = c->n_token;
    c->told_finish = c->finish != NULL;
    if ((news.n_text || news.n_reason || news.n_call || news.scored || news.id || news.finish) &&
        !write_chunk(g, &news))
        return false;
    c->n_held = 0;
    choice_was_told(c);
    return true;
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
        ok = gen_write_usage(g, &o, answer_usage);
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

static struct answer_choice whole_choice(const struct gen *g, struct choice *c)
{
    const struct ask *a = g->ask;
    const struct ask_prompt *p = &a->prompt[c->prompt_i];
    struct answer_choice all = {.index = c->index, .finish = c->finish, .ids_for_names = a->ids_for_names};
    put_said(c, &all);
    if (a->echo) {
        all.echo = p->text;
        all.n_echo = p->n_text;
    }
    if (a->logprobs) {
        all.scored = true;
        all.before = a->echo ? prompt_tokens(g, c) : NULL;
        all.n_before = a->echo ? (size_t)p->n : 0;
        all.before_offset = p->offset;
        all.n_echo_char = p->n_char;
        all.most_top = a->n_top;
        all.token = c->token;
        all.offset = c->offset;
        all.n_token = (size_t)c->n_held;
        all.first_null = a->echo;
    }
    if (a->return_token_ids) {
        all.prompt_id = p->id;
        all.n_prompt_id = (size_t)p->n;
        all.id = c->r->ask.prompt + c->r->ask.n_prompt;
        all.n_id = (size_t)c->n_token;
    }
    if (a->prompt_logprobs >= 0) {
        all.prompt = prompt_tokens(g, c);
        all.n_prompt = (size_t)p->n;
        all.prompt_top = a->prompt_logprobs;
    }
    return all;
}

static void tell_head(struct gen *g, enum answer_form form)
{
    const struct ask *a = g->ask;
    const struct answer_head head = head_of(g);
    const struct answer_choice first = {.prompt_id = a->return_token_ids ? a->prompt[0].id : NULL,
                                        .n_prompt_id = (size_t)a->prompt[0].n};
    answer_begin(&g->at.o, &head, form, &first);
    json_out_array(&g->at.o, "choices");
}

static bool tell_next(struct gen *g, struct strbuf *out, size_t most)
{
    const enum answer_form form = is_chat(g) ? ANSWER_CHAT : ANSWER_COMPLETION;
    struct json_out *o = &g->at.o;
    if (!g->at.begun) json_out_init(o, out);
    o->buf = out;
    if (!g->at.begun) tell_head(g, form);
    g->at.begun = true;
    while (g->at.choice_i < g->n_choice) {
        if (!choice_say(&g->choice[g->at.choice_i])) out->failed = true;
        const struct answer_choice all = whole_choice(g, &g->choice[g->at.choice_i]);
        if (!answer_choice_next(o, g->api->env.chat.tokenizer, form, &all, &g->at.cursor, most)) return true;
        g->at.cursor = (struct answer_cursor){.part = 0};
        g->at.choice_i++;
        if (out->len >= most && g->at.choice_i < g->n_choice) return true;
    }
    if (!g->at.told_choices) json_out_end(o);
    g->at.told_choices = true;
    if (is_chat(g) && g->ask->prompt_logprobs >= 0) {
        const struct answer_choice all = whole_choice(g, &g->choice[0]);
        if (!answer_prompt_next(o, g->api->env.chat.tokenizer, &all, &g->at.cursor, most)) return true;
    }
    if (!gen_write_usage(g, o, answer_usage)) out->failed = true;
    json_out_end(o);
    return false;
}

static bool tell_route(struct gen *g, struct strbuf *out, size_t most)
{
    struct json_out o;
    const struct answer_head head = head_of(g);
    (void)most;
    json_out_init(&o, out);
    answer_route(&o, &head, g->api->env.model, g->choice[0].r);
    return false;
}

const struct gen_writer gen_writer_completion = {.news = tell_news,
                                                 .end = tell_end,
                                                 .error = tell_error,
                                                 .next = tell_next},
                        gen_writer_chat = {.news = tell_news,
                                           .end = tell_end,
                                           .error = tell_error,
                                           .next = tell_next,
                                           .chat = true},
                        gen_writer_route = {.next = tell_route}, gen_writer_none = {0};
