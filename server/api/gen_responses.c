/* gen_responses: the writer of POST /v1/responses: items, and their events in order. Loop thread only. */
#include <stdlib.h>
#include <string.h>

#include "server/api/response_out.h"

struct response {
    struct turn turn;
    int64_t sequence;
    int told_score; /* tokens whose scores were told */
    bool failed;
};

static struct response *response_of(const struct gen *g) { return g->said; }
static bool told(const struct gen *g)
{
    return !response_of(g)->failed && !turn_failed(&response_of(g)->turn);
}

/* --- events */

struct frame {
    struct strbuf text;
    struct json_out o;
};

static void frame_begin(struct frame *f, struct gen *g, const char *type)
{
    strbuf_init(&f->text);
    strbuf_printf(&f->text, "event: %s\ndata: ", type);
    json_out_init(&f->o, &f->text);
    json_out_object(&f->o, NULL);
    json_out_text(&f->o, "type", type);
    json_out_int(&f->o, "sequence_number", response_of(g)->sequence++);
}

static void frame_send(struct frame *f, struct gen *g)
{
    json_out_end(&f->o);
    strbuf_puts(&f->text, "\n\n");
    if (strbuf_failed(&f->text))
        response_of(g)->failed = true;
    else
        http_stream_write(g->call, f->text.data, f->text.len);
    strbuf_fini(&f->text);
}

/* An event of a block's part: of a thought or a text. */
static void part_begin(struct frame *f, struct gen *g, const struct turn_block *b, const char *type)
{
    char id[RESPONSE_ITEM_ID_BYTES];
    response_item_id(g, b, id);
    frame_begin(f, g, type);
    json_out_text(&f->o, "item_id", id);
    json_out_int(&f->o, "output_index", b->index);
    if (!turn_is_call(b->kind)) json_out_int(&f->o, "content_index", 0);
}

static void tell_item(struct gen *g, const struct turn_block *b, const char *type, bool empty)
{
    struct frame f;
    frame_begin(&f, g, type);
    json_out_int(&f.o, "output_index", b->index);
    response_item(&f.o, "item", g, b, empty, response_item_status(g, &response_of(g)->turn, b));
    frame_send(&f, g);
}

static void tell_part(struct gen *g, const struct turn_block *b, const char *type, bool empty)
{
    struct frame f;
    part_begin(&f, g, b, type);
    response_part(&f.o, "part", g, b, empty);
    frame_send(&f, g);
}

static const char *const delta_word[] = {[TURN_THOUGHT] = "response.reasoning_text.delta",
                                         [TURN_TEXT] = "response.output_text.delta",
                                         [TURN_CALL] = "response.function_call_arguments.delta",
                                         [TURN_CUSTOM] = "response.custom_tool_call_input.delta"},
                         *const done_word[] = {[TURN_THOUGHT] = "response.reasoning_text.done",
                                               [TURN_TEXT] = "response.output_text.done",
                                               [TURN_CALL] = "response.function_call_arguments.done",
                                               [TURN_CUSTOM] = "response.custom_tool_call_input.done"};

static const char *const text_word[] = {
    [TURN_THOUGHT] = "text", [TURN_TEXT] = "text", [TURN_CALL] = "arguments", [TURN_CUSTOM] = "input"};

static void on_begin(void *arg, const struct turn_block *b)
{
    struct gen *g = arg;
    tell_item(g, b, "response.output_item.added", true);
    if (!turn_is_call(b->kind)) tell_part(g, b, "response.content_part.added", true);
}

static void on_grow(void *arg, const struct turn_block *b, const char *p, size_t n)
{
    struct gen *g = arg;
    struct response *r = response_of(g);
    struct frame f;
    part_begin(&f, g, b, delta_word[b->kind]);
    json_out_string(&f.o, "delta", p, n);
    if (b->kind == TURN_TEXT) {
        response_scores(&f.o, g, r->told_score);
        r->told_score = g->choice[0].n_held;
    }
    frame_send(&f, g);
}

static void on_end(void *arg, const struct turn_block *b)
{
    struct gen *g = arg;
    struct frame f;
    part_begin(&f, g, b, done_word[b->kind]);
    if (b->kind == TURN_CALL) json_out_string(&f.o, "name", b->name.data ? b->name.data : "", b->name.len);
    json_out_string(&f.o, text_word[b->kind], b->text.data ? b->text.data : "", b->text.len);
    if (b->kind == TURN_TEXT) response_scores(&f.o, g, 0);
    frame_send(&f, g);
    if (!turn_is_call(b->kind)) tell_part(g, b, "response.content_part.done", false);
    tell_item(g, b, "response.output_item.done", false);
}

static const struct turn_ear stream_ear = {.begin = on_begin, .grow = on_grow, .end = on_end};

static void tell_state(struct gen *g, const char *type, const struct response_state *s)
{
    struct frame f;
    frame_begin(&f, g, type);
    if (!response_write(&f.o, "response", g, &response_of(g)->turn, s)) response_of(g)->failed = true;
    frame_send(&f, g);
}

/* --- the end */

static struct response_state state_of(const struct gen *g)
{
    const char *finish = g->choice[0].finish;
    const char *status = !finish                        ? "in_progress"
                         : !strcmp(finish, "length")    ? "incomplete"
                         : !strcmp(finish, "cancelled") ? "cancelled"
                                                        : "completed";
    return (struct response_state){.status = status};
}

/* What cannot be stored for lack of room is not found later; its answer is none the worse. */
static void store(struct gen *g, const struct response_state *s)
{
    struct response *r = response_of(g);
    struct strbuf answer, items;
    struct json_out o;
    if (!g->ask->response->store) return;
    strbuf_init(&answer);
    strbuf_init(&items);
    json_out_init(&o, &answer);
    const bool ok = response_write(&o, NULL, g, &r->turn, s);
    response_items(&items, g, &r->turn);
    const struct response_put put = {.key_id = g->ask->key_id,
                                     .id = g->id,
                                     .previous = g->ask->response->previous,
                                     .answer = answer.data,
                                     .n_answer = answer.len,
                                     .items = items.data,
                                     .n_items = items.len};
    const bool stored = ok && !strbuf_failed(&answer) && !strbuf_failed(&items) &&
                        response_store_put(g->api->responses, &put);
    if (!stored) g->api->stats.responses_not_stored++;
    strbuf_fini(&answer);
    strbuf_fini(&items);
}

/* An answer without anything is an empty message. */
static void close_turn(struct gen *g)
{
    struct turn *t = &response_of(g)->turn;
    if (t->n == 0) turn_open(t, TURN_TEXT);
    turn_end(t);
}

/* --- the writer */

static bool open_response(struct gen *g)
{
    struct response *r = calloc(1, sizeof *r);
    if (!r) return false;
    g->said = r;
    turn_init(&r->turn, g->ask->stream ? &stream_ear : NULL, g);
    return true;
}

static void close_response(struct gen *g)
{
    if (g->said) turn_fini(&response_of(g)->turn);
    free(g->said);
}

static bool tell_begin(struct gen *g)
{
    const struct response_state s = {.status = "in_progress"};
    tell_state(g, "response.created", &s);
    tell_state(g, "response.in_progress", &s);
    return told(g);
}

static bool tell_news(struct gen *g, struct choice *c)
{
    turn_take(&response_of(g)->turn, c);
    return told(g);
}

static bool tell_end(struct gen *g)
{
    static const char done[] = "data: [DONE]\n\n";
    const struct response_state s = state_of(g);
    close_turn(g);
    tell_state(g, !strcmp(s.status, "completed") ? "response.completed" : "response.incomplete", &s);
    if (!told(g)) return false;
    http_stream_write(g->call, done, sizeof done - 1);
    store(g, &s);
    return true;
}

static bool tell_error(struct gen *g, const struct err_note *note)
{
    static const char done[] = "data: [DONE]\n\n";
    const struct response_state s = {.status = "failed", .note = note};
    struct frame f;
    frame_begin(&f, g, "error");
    json_out_text(&f.o, "code", err_code(note->code));
    json_out_text(&f.o, "message", note->text[0] ? note->text : err_text(note->code));
    json_out_text(&f.o, "param", note->param[0] ? note->param : NULL);
    frame_send(&f, g);
    turn_hush(&response_of(g)->turn);
    tell_state(g, "response.failed", &s);
    if (response_of(g)->failed) return false;
    http_stream_write(g->call, done, sizeof done - 1);
    store(g, &s);
    return true;
}

/* Text alone, so it is written at once. */
static bool tell_next(struct gen *g, struct strbuf *out, size_t most)
{
    struct json_out o;
    const struct response_state s = state_of(g);
    (void)most;
    turn_take(&response_of(g)->turn, &g->choice[0]);
    close_turn(g);
    json_out_init(&o, out);
    if (!response_write(&o, NULL, g, &response_of(g)->turn, &s) || !told(g)) out->failed = true;
    if (!strbuf_failed(out)) store(g, &s);
    return false;
}

static bool tell_now(struct gen *g, struct strbuf *out)
{
    struct json_out o;
    const struct response_state s = {.status = g->cancelled ? "cancelled" : "in_progress"};
    json_out_init(&o, out);
    return response_write(&o, NULL, g, &response_of(g)->turn, &s) && !strbuf_failed(out);
}

const struct gen_writer gen_writer_responses = {.open = open_response,
                                                .close = close_response,
                                                .begin = tell_begin,
                                                .news = tell_news,
                                                .end = tell_end,
                                                .error = tell_error,
                                                .next = tell_next,
                                                .now = tell_now};
