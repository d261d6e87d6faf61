/* response_out: see response_out.h. Shapes are those of the Open Responses specification, and of OpenAI where
 * its clients need more. */
#include "server/api/response_out.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static void write_string(struct json_out *o, const char *key, const struct strbuf *s)
{
    json_out_string(o, key, s->data ? s->data : "", s->len);
}

static void write_raw(struct json_out *o, const char *key, const char *json)
{
    json_out_raw(o, key, json, strlen(json));
}

/* --- items */

void response_item_id(const struct gen *g, const struct turn_block *b, char out[RESPONSE_ITEM_ID_BYTES])
{
    static const char *const prefix[] = {
        [TURN_THOUGHT] = "rs", [TURN_TEXT] = "msg", [TURN_CALL] = "fc", [TURN_CUSTOM] = "ctc"};
    snprintf(out, RESPONSE_ITEM_ID_BYTES, "%s%s_%d", prefix[b->kind], strchr(g->id, '_'), b->index);
}

void response_scores(struct json_out *o, const struct gen *g, int from)
{
    const struct choice *c = &g->choice[0];
    const int first = from > c->n_thought ? from : c->n_thought;
    const int n = c->token && c->n_held > first ? c->n_held - first : 0;
    answer_scores(o, "logprobs", g->api->env.chat.tokenizer, n ? c->token + first : NULL, (size_t)n);
}

void response_part(struct json_out *o, const char *key, const struct gen *g, const struct turn_block *b,
                   bool empty)
{
    static const struct strbuf none = {0};
    json_out_object(o, key);
    json_out_text(o, "type", b->kind == TURN_TEXT ? "output_text" : "reasoning_text");
    write_string(o, "text", empty ? &none : &b->text);
    if (b->kind == TURN_TEXT) {
        json_out_array(o, "annotations");
        json_out_end(o);
        if (empty) {
            json_out_array(o, "logprobs");
            json_out_end(o);
        } else {
            response_scores(o, g, 0);
        }
    }
    json_out_end(o);
}

void response_item(struct json_out *o, const char *key, const struct gen *g, const struct turn_block *b,
                   bool empty, const char *status)
{
    static const struct strbuf none = {0};
    static const char *const type[] = {[TURN_THOUGHT] = "reasoning",
                                       [TURN_TEXT] = "message",
                                       [TURN_CALL] = "function_call",
                                       [TURN_CUSTOM] = "custom_tool_call"};
    char id[RESPONSE_ITEM_ID_BYTES];
    response_item_id(g, b, id);
    json_out_object(o, key);
    json_out_text(o, "id", id);
    json_out_text(o, "type", type[b->kind]);
    json_out_text(o, "status", status);
    if (turn_is_call(b->kind)) {
        write_string(o, "call_id", &b->id);
        write_string(o, "name", &b->name);
        write_string(o, b->kind == TURN_CALL ? "arguments" : "input", empty ? &none : &b->text);
    } else {
        if (b->kind == TURN_TEXT) {
            json_out_text(o, "role", "assistant");
        } else {
            json_out_array(o, "summary");
            json_out_end(o);
        }
        json_out_array(o, "content");
        if (!empty) response_part(o, NULL, g, b, false);
        json_out_end(o);
    }
    json_out_end(o);
}

const char *response_item_status(const struct gen *g, const struct turn *t, const struct turn_block *b)
{
    const char *finish = g->choice[0].finish;
    const bool last = b->index == t->n - 1 && !t->more;
    if (b->open) return "in_progress";
    const bool cut = t->cut || (finish && (!strcmp(finish, "length") || !strcmp(finish, "cancelled")));
    return last && cut && !b->whole ? "incomplete" : "completed";
}

void response_items(struct strbuf *out, const struct gen *g, const struct turn *t)
{
    struct json_out o;
    const struct response_ask *r = g->ask->response;
    json_out_init(&o, out);
    json_out_array(&o, NULL);
    if (r->n_items) json_out_raw(&o, NULL, r->items, r->n_items);
    for (int i = 0; i < t->n; i++)
        response_item(&o, NULL, g, &t->block[i], false, response_item_status(g, t, &t->block[i]));
    json_out_end(&o);
}

/* --- the response */

static void write_usage(struct json_out *o, const struct engine_info *model, const struct answer_usage *u)
{
    json_out_object(o, "usage");
    json_out_int(o, "input_tokens", u->n_prompt);
    json_out_object(o, "input_tokens_details");
    json_out_int(o, "cached_tokens", u->n_cached);
    json_out_end(o);
    json_out_int(o, "output_tokens", u->n_answer);
    json_out_object(o, "output_tokens_details");
    json_out_int(o, "reasoning_tokens", u->n_thought);
    json_out_end(o);
    json_out_int(o, "total_tokens", u->n_prompt + u->n_answer);
    answer_extras(o, model, u);
    json_out_end(o);
}

static void write_int_or_null(struct json_out *o, const char *key, int32_t v)
{
    if (v >= 0)
        json_out_int(o, key, v);
    else
        json_out_null(o, key);
}

static void write_outcome(struct json_out *o, const struct gen *g, const struct response_state *s)
{
    const char *finish = g->choice[0].finish;
    if (s->note) {
        json_out_object(o, "error");
        json_out_text(o, "code", err_code(s->note->code));
        json_out_text(o, "message", s->note->text[0] ? s->note->text : err_text(s->note->code));
        json_out_end(o);
    } else {
        json_out_null(o, "error");
    }
    if (!strcmp(s->status, "incomplete") && finish && !strcmp(finish, "length")) {
        json_out_object(o, "incomplete_details");
        json_out_text(o, "reason", "max_output_tokens");
        json_out_end(o);
    } else {
        json_out_null(o, "incomplete_details");
    }
}

static void write_asked(struct json_out *o, const struct gen *g)
{
    const struct response_ask *r = g->ask->response;
    const struct sample_row *s = &g->choice[0].r->ask.sample;
    json_out_text(o, "instructions", r->instructions);
    write_int_or_null(o, "max_output_tokens", r->max_output_tokens);
    write_int_or_null(o, "max_tool_calls", r->max_tool_calls);
    json_out_bool(o, "parallel_tool_calls", r->parallel_calls);
    json_out_text(o, "previous_response_id", r->previous_id);
    write_raw(o, "reasoning", r->reasoning);
    json_out_bool(o, "store", r->store);
    json_out_float(o, "temperature", s->temperature);
    json_out_float(o, "top_p", s->top_p);
    json_out_float(o, "presence_penalty", s->presence);
    json_out_float(o, "frequency_penalty", s->frequency);
    json_out_int(o, "top_logprobs", g->ask->n_top);
    write_raw(o, "text", r->text);
    write_raw(o, "tools", r->tools);
    write_raw(o, "tool_choice", r->tool_choice);
    json_out_text(o, "truncation", r->truncates ? "auto" : "disabled");
    json_out_text(o, "user", r->user);
    json_out_text(o, "safety_identifier", r->safety_identifier);
    json_out_text(o, "prompt_cache_key", r->prompt_cache_key);
    write_raw(o, "metadata", r->metadata);
    json_out_text(o, "service_tier", "default");
    json_out_bool(o, "background", false);
}

bool response_write(struct json_out *o, const char *key, const struct gen *g, const struct turn *t,
                    const struct response_state *s)
{
    const bool begins = !strcmp(s->status, "in_progress");
    bool ok = true;
    json_out_object(o, key);
    json_out_text(o, "id", g->id);
    json_out_text(o, "object", "response");
    json_out_int(o, "created_at", g->created);
    if (!strcmp(s->status, "completed"))
        json_out_int(o, "completed_at", clock_wall_s());
    else
        json_out_null(o, "completed_at");
    json_out_text(o, "status", s->status);
    write_outcome(o, g, s);
    json_out_text(o, "model", g->api->app->names.id);
    json_out_array(o, "output");
    for (int i = 0; i < t->n; i++)
        response_item(o, NULL, g, &t->block[i], false, response_item_status(g, t, &t->block[i]));
    json_out_end(o);
    write_asked(o, g);
    if (begins || s->note)
        json_out_null(o, "usage");
    else
        ok = gen_write_usage(g, o, write_usage);
    json_out_end(o);
    return ok;
}
