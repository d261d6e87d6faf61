/* gen_messages: the writer of POST /v1/messages: Anthropic's message, and its events. Loop thread only.
 *
 * message_start comes with the first token, when it is known how much of the prompt was cached; until then
 * the stream has comments alone. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "server/api/anthropic.h"
#include "server/api/gen_internal.h"
#include "server/api/turn.h"
#include "server/api/whole_args.h"

struct message {
    struct turn turn;
    struct args_walk args; /* of the call that is being told */
    size_t n_fit, n_told;  /* of its bytes */
    bool begun;            /* message_start was sent */
    bool failed;
};

static struct message *said_of(const struct gen *g) { return g->said; }

/* --- pieces of JSON */

static void write_usage(struct json_out *o, const struct engine_info *model, const struct answer_usage *u)
{
    json_out_object(o, "usage");
    json_out_int(o, "input_tokens", u->n_prompt - u->n_cached);
    json_out_int(o, "cache_creation_input_tokens", 0);
    json_out_int(o, "cache_read_input_tokens", u->n_cached);
    json_out_int(o, "output_tokens", u->n_answer);
    if (u->n_thought) {
        json_out_object(o, "output_tokens_details");
        json_out_int(o, "thinking_tokens", u->n_thought);
        json_out_end(o);
    }
    answer_extras(o, model, u);
    json_out_end(o);
}

/* Clients send a thought back with it. It is a mark of the text, which nobody checks. */
static void write_signature(struct json_out *o, const struct turn_block *b)
{
    static const uint8_t key[16] = {0};
    char mark[20];
    snprintf(mark, sizeof mark, "%016llx", (unsigned long long)hash64(key, b->text.data, b->text.len));
    json_out_text(o, "signature", mark);
}

static void write_string(struct json_out *o, const char *key, const struct strbuf *s)
{
    json_out_string(o, key, s->data ? s->data : "", s->len);
}

/* An input is an object; what is not whole in it is left out, in a stream as here. */
static void write_input(struct json_out *o, const struct strbuf *args)
{
    struct strbuf input;
    strbuf_init(&input);
    whole_args(args->data ? args->data : "", args->len, &input);
    if (strbuf_failed(&input))
        o->buf->failed = true;
    else
        json_out_raw(o, "input", input.data, input.len);
    strbuf_fini(&input);
}

/* The block as it stands; empty: as it begins. */
static void write_block(struct json_out *o, const char *key, const struct turn_block *b, bool empty)
{
    static const struct strbuf none = {0};
    const struct strbuf *text = empty ? &none : &b->text;
    json_out_object(o, key);
    switch (b->kind) {
    case TURN_TEXT:
        json_out_text(o, "type", "text");
        write_string(o, "text", text);
        json_out_null(o, "citations");
        break;
    case TURN_THOUGHT:
        json_out_text(o, "type", "thinking");
        write_string(o, "thinking", text);
        if (empty)
            json_out_text(o, "signature", "");
        else
            write_signature(o, b);
        break;
    case TURN_CALL:
    case TURN_CUSTOM:
        json_out_text(o, "type", "tool_use");
        write_string(o, "id", &b->id);
        write_string(o, "name", &b->name);
        write_input(o, text);
        break;
    }
    json_out_end(o);
}

static const char *stop_reason(const struct gen *g)
{
    const struct choice *c = &g->choice[0];
    const struct message *s = said_of(g);
    if (c->finish && !strcmp(c->finish, "length")) return "max_tokens";
    if (c->stopped) return "stop_sequence";
    for (int i = 0; i < s->turn.n; i++)
        if (s->turn.block[i].kind == TURN_CALL) return "tool_use";
    return "end_turn";
}

static void write_stop(struct json_out *o, const struct gen *g)
{
    const struct choice *c = &g->choice[0];
    json_out_text(o, "stop_reason", stop_reason(g));
    if (c->stopped)
        json_out_string(o, "stop_sequence", g->ask->stop.text[c->stopper.hit],
                        g->ask->stop.len[c->stopper.hit]);
    else
        json_out_null(o, "stop_sequence");
}

static void write_head(struct json_out *o, const struct gen *g)
{
    json_out_text(o, "id", g->id);
    json_out_text(o, "type", "message");
    json_out_text(o, "role", "assistant");
    json_out_text(o, "model", g->api->app->names.id);
}

/* --- events */

struct frame {
    struct strbuf text;
    struct json_out o;
};

static void frame_begin(struct frame *f, const char *type)
{
    strbuf_init(&f->text);
    strbuf_printf(&f->text, "event: %s\ndata: ", type);
    json_out_init(&f->o, &f->text);
    json_out_object(&f->o, NULL);
    json_out_text(&f->o, "type", type);
}

static void frame_send(struct frame *f, struct gen *g)
{
    json_out_end(&f->o);
    strbuf_puts(&f->text, "\n\n");
    if (strbuf_failed(&f->text))
        said_of(g)->failed = true;
    else
        http_stream_write(g->call, f->text.data, f->text.len);
    strbuf_fini(&f->text);
}

static void tell_start(struct gen *g)
{
    struct frame f;
    struct answer_usage u = gen_count_usage(g);
    u.clamped = 0; /* said at the end, with the route */
    if (said_of(g)->begun) return;
    said_of(g)->begun = true;
    frame_begin(&f, "message_start");
    json_out_object(&f.o, "message");
    write_head(&f.o, g);
    json_out_array(&f.o, "content");
    json_out_end(&f.o);
    json_out_null(&f.o, "stop_reason");
    json_out_null(&f.o, "stop_sequence");
    write_usage(&f.o, g->api->env.model, &u);
    json_out_end(&f.o);
    frame_send(&f, g);
}

static void on_begin(void *arg, const struct turn_block *b)
{
    struct frame f;
    tell_start(arg);
    args_walk_init(&said_of(arg)->args);
    said_of(arg)->n_fit = said_of(arg)->n_told = 0;
    frame_begin(&f, "content_block_start");
    json_out_int(&f.o, "index", b->index);
    write_block(&f.o, "content_block", b, true);
    frame_send(&f, arg);
}

/* What belongs to the object, and a number once it is whole: clients read what they have as it stands. */
static const char *next_args(struct message *m, const struct turn_block *b, const char *p, size_t *n)
{
    const size_t from = m->n_told;
    if (b->text.failed) return *n = 0, p;
    m->n_fit += args_walk_feed(&m->args, p, *n);
    m->n_told = m->n_fit - args_walk_number(&m->args, b->text.data, m->n_fit);
    CHECK(m->n_told >= from); /* what is told is no number's end */
    *n = m->n_told - from;
    return b->text.data + from;
}

static void on_grow(void *arg, const struct turn_block *b, const char *p, size_t n)
{
    static const char *const word[][2] = {[TURN_TEXT] = {"text_delta", "text"},
                                          [TURN_THOUGHT] = {"thinking_delta", "thinking"},
                                          [TURN_CALL] = {"input_json_delta", "partial_json"}};
    struct frame f;
    if (b->kind == TURN_CALL) p = next_args(said_of(arg), b, p, &n);
    if (n == 0) return;
    frame_begin(&f, "content_block_delta");
    json_out_int(&f.o, "index", b->index);
    json_out_object(&f.o, "delta");
    json_out_text(&f.o, "type", word[b->kind][0]);
    json_out_string(&f.o, word[b->kind][1], p, n);
    json_out_end(&f.o);
    frame_send(&f, arg);
}

static void on_end(void *arg, const struct turn_block *b)
{
    struct frame f;
    if (b->kind == TURN_THOUGHT) {
        frame_begin(&f, "content_block_delta");
        json_out_int(&f.o, "index", b->index);
        json_out_object(&f.o, "delta");
        json_out_text(&f.o, "type", "signature_delta");
        write_signature(&f.o, b);
        json_out_end(&f.o);
        frame_send(&f, arg);
    }
    frame_begin(&f, "content_block_stop");
    json_out_int(&f.o, "index", b->index);
    frame_send(&f, arg);
}

static const struct turn_ear stream_ear = {.begin = on_begin, .grow = on_grow, .end = on_end};

/* --- the writer */

static bool open_said(struct gen *g)
{
    struct message *s = calloc(1, sizeof *s);
    if (!s) return false;
    g->said = s;
    turn_init(&s->turn, g->ask->stream ? &stream_ear : NULL, g);
    return true;
}

static void close_said(struct gen *g)
{
    if (g->said) turn_fini(&said_of(g)->turn);
    free(g->said);
}

static bool told(const struct gen *g) { return !said_of(g)->failed && !turn_failed(&said_of(g)->turn); }

static bool tell_news(struct gen *g, struct choice *c)
{
    if (c->n_token > 0) tell_start(g);
    turn_take(&said_of(g)->turn, c);
    return told(g);
}

static bool tell_end(struct gen *g)
{
    struct frame f;
    tell_start(g);
    turn_end(&said_of(g)->turn);
    frame_begin(&f, "message_delta");
    json_out_object(&f.o, "delta");
    write_stop(&f.o, g);
    json_out_end(&f.o);
    if (!gen_write_usage(g, &f.o, write_usage)) said_of(g)->failed = true;
    frame_send(&f, g);
    frame_begin(&f, "message_stop");
    frame_send(&f, g);
    return told(g);
}

static bool tell_error(struct gen *g, const struct err_note *note)
{
    struct strbuf frame;
    strbuf_init(&frame);
    anthropic_dialect.frame(&frame, note, g->request_id);
    const bool ok = !strbuf_failed(&frame);
    if (ok) http_stream_write(g->call, frame.data, frame.len);
    strbuf_fini(&frame);
    return ok;
}

/* Text alone, so it is written at once. */
static bool tell_next(struct gen *g, struct strbuf *out, size_t most)
{
    struct json_out o;
    const struct message *s = said_of(g);
    (void)most;
    turn_take(&said_of(g)->turn, &g->choice[0]);
    turn_end(&said_of(g)->turn);
    json_out_init(&o, out);
    json_out_object(&o, NULL);
    write_head(&o, g);
    json_out_array(&o, "content");
    for (int i = 0; i < s->turn.n; i++) write_block(&o, NULL, &s->turn.block[i], false);
    json_out_end(&o);
    write_stop(&o, g);
    const bool ok = gen_write_usage(g, &o, write_usage);
    json_out_end(&o);
    if (!ok || !told(g)) out->failed = true;
    return false;
}

const struct gen_writer gen_writer_messages = {.open = open_said,
                                               .close = close_said,
                                               .news = tell_news,
                                               .end = tell_end,
                                               .error = tell_error,
                                               .next = tell_next};
