/* prep: see prep.h. */
#include "server/api/prep.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "server/api/constrain.h"
#include "server/api/messages_in.h"
#include "server/api/prep_text.h"
#include "server/api/response_tools.h"
#include "server/api/shorten.h"
#include "server/api/think_budget.h"
#include "server/api/tool_rule.h"
#include "base/utf8.h"

static const size_t ASK_BYTES_MOST = (size_t)1 << 30; /* of one call, its prompts' logprobs included */

static enum err no_memory(struct err_note *note)
{
    return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

/* What the steps below share. */
struct prep {
    const struct prep_env *env;
    struct json_in *in;
    struct params p;
    struct ask *a;
    const int32_t *stop_id; /* shared by all requests */
    int n_stop_id;
    const int32_t *bias_id;
    const float *bias_value;
    const int32_t *allow_id;
    uint8_t *route; /* [L] for ROUTE_ASK_MASK */
    enum route_ask route_ask;
    struct request_bias *bias; /* of the prompt at hand */
    uint64_t seed;
    int n_made;  /* requests so far */
    bool routes; /* they end with their route */
};

/* --- tokens of the prompts --- */

static int room_wanted(const struct prep *c)
{
    if (c->p.max_tokens >= 0) return c->p.max_tokens;
    return c->p.max_tokens_otherwise > 0 ? c->p.max_tokens_otherwise : 1;
}

/* The last k ids stay. */
static void truncate_prompt(const struct prep *c, struct token_vec *v)
{
    const int64_t fits = (int64_t)c->env->model->max_len - room_wanted(c);
    const int64_t keep = c->p.truncate < 0 ? (fits > 1 ? fits : 1) : c->p.truncate;
    if (c->p.truncate == 0 || v->n <= (size_t)keep) return;
    memmove(v->id, v->id + (v->n - (size_t)keep), (size_t)keep * sizeof *v->id);
    v->n = (size_t)keep;
}

static bool by_messages(const struct prep *c) { return c->p.messages != NULL; }

/* How many ids the answer may have. Clients know the words of OpenAI's refusal, and "prompt is too long", and
 * shorten their history. */
static enum err answer_room(const struct prep *c, size_t n_prompt, int *max_new, bool *given)
{
    const char *param = c->p.source;
    const int64_t room = (int64_t)c->env->model->max_len - (int64_t)n_prompt;
    const int32_t otherwise = c->p.max_tokens_otherwise;
    *given = c->p.max_tokens >= 0 || otherwise > 0;
    if (n_prompt == 0) return json_in_fail(c->in, ERR_INVALID_VALUE, param, "must have at least one token");
    if (room < 0 && c->p.too_long_first)
        return err_set(c->in->note, ERR_CONTEXT_LENGTH, param, "prompt is too long: %zu tokens > %d maximum",
                       n_prompt, c->env->model->max_len);
    if (room < 0 || (room == 0 && c->p.max_tokens != 0))
        return err_set(
            c->in->note, ERR_CONTEXT_LENGTH, param,
            "This model's maximum context length is %d tokens. However, your %s resulted in %zu tokens, and the answer needs room too: the prompt is too long.",
            c->env->model->max_len, param, n_prompt);
    const bool clamps = c->p.max_tokens > room && c->env->clamp_max_tokens;
    if (clamps) *given = false;
    if (c->p.max_tokens > room && !clamps)
        return err_set(
            c->in->note, ERR_CONTEXT_LENGTH,
            c->a->response                    ? "max_output_tokens"
            : c->p.max_completion_tokens >= 0 ? "max_completion_tokens"
                                              : "max_tokens",
            "This model's maximum context length is %d tokens. However, you requested %lld tokens (%zu in the %s, %d in the completion).",
            c->env->model->max_len, (long long)n_prompt + c->p.max_tokens, n_prompt, param,
            (int)c->p.max_tokens);
    *max_new = clamps || (c->p.max_tokens < 0 && otherwise == 0) ? (int)room
               : c->p.max_tokens >= 0                            ? c->p.max_tokens
               : otherwise < room                                ? otherwise
                                                                 : (int)room;
    if (c->p.min_tokens > *max_new)
        return json_in_fail(c->in, ERR_INVALID_VALUE, "min_tokens",
                            "must not exceed the %d tokens that the answer may have", *max_new);
    return OK;
}

/* --- requests --- */

static void fill_sample(const struct prep *c, struct sample_row *s)
{
    const struct params *p = &c->p;
    const struct prep_env *env = c->env;
    const struct {
        double given, model, otherwise;
        float *to;
    } value[] = {
        {p->temperature, env->gen_temperature, 1, &s->temperature},
        {p->top_p, env->gen_top_p, 1, &s->top_p},
        {p->min_p, env->gen_min_p, 0, &s->min_p},
        {p->presence, NAN, 0, &s->presence},
        {p->frequency, NAN, 0, &s->frequency},
        {p->repetition, env->gen_repetition, 1, &s->repetition},
    };
    for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
        const double v = !isnan(value[i].given)   ? value[i].given
                         : !isnan(value[i].model) ? value[i].model
                                                  : value[i].otherwise;
        *value[i].to = (float)v;
    }
    if (s->top_p < 1e-6f)
        s->top_p = 1e-6f; /* a double's smallest values are 0 as floats: the best token alone */
    if (s->repetition < 1e-6f) s->repetition = 1e-6f;
    s->top_k = p->top_k != -2 ? p->top_k : env->gen_top_k;
    s->n_top = p->n_top;
    s->bias_id = c->bias_id;
    s->bias_value = c->bias_value;
    s->n_bias = (int32_t)p->bias.n;
    s->allow_id = c->allow_id;
    s->n_allow = (int32_t)p->allow_ids.n;
    s->force_id = -1;
}

/* Choice i of one prompt. ids are copied: each choice appends its own answer. */
static enum err make_request(struct prep *c, const struct token_vec *ids, int i, int max_new, bool given,
                             struct request **out)
{
    struct arena *mem = &c->a->mem;
    struct request *r = arena_alloc(mem, sizeof *r);
    if (!r) return no_memory(c->in->note);
    const bool routes = c->routes,
               told = i == 0 && ((c->p.echo && c->p.logprobs) || c->p.prompt_logprobs >= 0),
               scores = !routes && (told || max_new == 0);
    r->ask.n_prompt = (int)ids->n;
    r->ask.max_new = max_new;
    r->ask.max_new_given = given;
    r->ask.prompt = arena_array(mem, ids->n + (size_t)max_new + 1, sizeof *r->ask.prompt);
    r->shared.use.route = arena_array(mem, (size_t)c->env->model->n_layer, 1);
    r->ask.prompt_out = scores ? arena_array(mem, ids->n, sizeof *r->ask.prompt_out) : NULL;
    r->shared.use.margin =
        routes ? arena_array(mem, (size_t)c->env->model->n_layer, sizeof *r->shared.use.margin) : NULL;
    if (!r->ask.prompt || !r->shared.use.route || (scores && !r->ask.prompt_out) ||
        (routes && !r->shared.use.margin))
        return no_memory(c->in->note);
    memcpy(r->ask.prompt, ids->id, ids->n * sizeof *ids->id);
    fill_sample(c, &r->ask.sample);
    r->ask.sample.seed =
        c->seed +
        (uint64_t)(c->p.has_seed ? i : c->n_made); /* equal prompts of one list differ unless seeded */
    c->n_made++;
    r->ask.prompt_top = c->p.n_top > c->p.prompt_logprobs ? c->p.n_top : c->p.prompt_logprobs;
    r->ask.stop_id = c->stop_id;
    r->ask.n_stop_id = c->n_stop_id;
    r->ask.min_new = c->p.min_tokens;
    r->ask.route_ask = c->route_ask;
    r->ask.route_mask = c->route;
    r->ask.bias = c->bias;
    r->ask.route_min_full = c->p.min_full_layers;
    r->ask.route_only = routes;
    r->ask.priority = c->p.priority;
    if (c->p.cache_salt.p && !(r->ask.cache_salt = arena_strndup(mem, c->p.cache_salt.p, c->p.cache_salt.n)))
        return no_memory(c->in->note);
    *out = r;
    return OK;
}

/* Bytes of the client's own text, from `at` on, that a token stands for: none where the tokenizer added it.
 * What the tokenizer normalises is taken to be as long as its token. */
static size_t token_stands_for(const struct ask_prompt *p, size_t at, const char *s, size_t n)
{
    const size_t left = p->n_text - at;
    if (n <= left && memcmp(p->text + at, s, n) == 0) return n;
    if (n > 0 && s[0] == ' ' && n - 1 <= left && memcmp(p->text + at, s + 1, n - 1) == 0) return n - 1;
    return n < left ? n : left;
}

/* Where the text of each token begins, in code points. own: the text is the client's, else what became of the
 * ids' bytes. */
static bool find_offsets(const struct prep *c, struct ask_prompt *p, const struct token_vec *ids, bool own)
{
    const struct tokenizer *t = c->env->chat.tokenizer;
    struct strbuf raw, text;
    size_t at = 0, n;
    int32_t n_char = 0;
    p->offset = arena_array(&c->a->mem, ids->n + 1, sizeof *p->offset);
    strbuf_init(&raw);
    strbuf_init(&text);
    for (size_t i = 0; p->offset && i < ids->n; i++) {
        const char *s = tokenizer_bytes(t, ids->id[i], &n);
        const size_t cut = raw.len;
        p->offset[i] = n_char;
        if (own) {
            const bool added = tokenizer_is_special(t, ids->id[i]) &&
                               (n > p->n_text - at || memcmp(p->text + at, s, n) != 0);
            n = added ? 0 : token_stands_for(p, at, s, n);
            strbuf_put(&raw, p->text + at, n);
            at += n;
        } else
            strbuf_put(&raw, s, n);
        if (utf8_breaks(raw.data, raw.len, cut)) p->offset[i]++;
        n = utf8_complete(raw.data ? raw.data : "", raw.len);
        strbuf_clear(&text);
        utf8_sanitize(raw.data ? raw.data : "", n, &text);
        strbuf_drop_front(&raw, n);
        n_char += (int32_t)utf8_count(text.data ? text.data : "", text.len);
    }
    const bool ok = p->offset && !strbuf_failed(&raw) && !strbuf_failed(&text);
    strbuf_fini(&raw);
    strbuf_fini(&text);
    return ok;
}

/* Echo returns the client's own text, and the text of ids where it sent ids or they were cut. */
static enum err keep_text(struct prep *c, int prompt_i, const struct token_vec *ids, bool cut)
{
    const struct json_str *sent = &c->p.prompt.v[prompt_i].text;
    struct ask_prompt *to = &c->a->prompt[prompt_i];
    struct strbuf raw, text;
    strbuf_init(&raw);
    strbuf_init(&text);
    for (size_t i = 0; (!sent->p || cut) && i < ids->n; i++) {
        size_t n;
        const char *s = tokenizer_bytes(c->env->chat.tokenizer, ids->id[i], &n);
        strbuf_put(&raw, s, n);
    }
    if (sent->p && !cut)
        strbuf_put(&text, sent->p, sent->n);
    else
        utf8_sanitize(raw.data ? raw.data : "", raw.len, &text);
    to->text = arena_strndup(&c->a->mem, text.data ? text.data : "", text.len);
    to->n_text = text.len;
    bool failed = strbuf_failed(&raw) || strbuf_failed(&text) || !to->text;
    if (!failed) to->n_char = (int32_t)utf8_count(to->text, to->n_text);
    if (!failed && c->p.logprobs) failed = !find_offsets(c, to, ids, sent->p && !cut);
    strbuf_fini(&raw);
    strbuf_fini(&text);
    return failed ? no_memory(c->in->note) : OK;
}

/* Of the prompts before it, the first one with which it has the most pages in common. */
static void find_donor(const struct ask *a, int prompt_i)
{
    enum { BACK_MOST = 32 /* so that thousands of prompts cost no more than their length */ };
    struct request *r = a->request[prompt_i * a->n_per_prompt];
    for (int i = prompt_i > BACK_MOST ? prompt_i - BACK_MOST : 0; i < prompt_i && r->ask.prompt_out; i++) {
        const struct request *d = a->request[i * a->n_per_prompt];
        int n = 0;
        while (n < r->ask.n_prompt && n < d->ask.n_prompt && r->ask.prompt[n] == d->ask.prompt[n]) n++;
        if ((n - 1) / PAGE_TOK <= (r->ask.n_donor - 1) / PAGE_TOK) continue;
        r->ask.donor = d;
        r->ask.n_donor = n;
    }
}

static enum err add_prompt(struct prep *c, int prompt_i, struct token_vec *ids)
{
    struct ask *a = c->a;
    int max_new = 0;
    bool given = false;
    const size_t n_before = ids->n;
    truncate_prompt(c, ids);
    enum err e = answer_room(c, ids->n, &max_new, &given);
    c->bias = arena_alloc(&a->mem, sizeof *c->bias);
    if (!e && !c->bias) e = no_memory(c->in->note);
    for (int i = 0; i < a->n_per_prompt && !e; i++)
        e = make_request(c, ids, i, max_new, given, &a->request[prompt_i * a->n_per_prompt + i]);
    for (int i = 0; i < a->n_per_prompt && a->n_per_prompt > 1 && !e; i++)
        a->request[prompt_i * a->n_per_prompt + i]->ask.siblings = &a->prompt[prompt_i];
    if (!e) find_donor(a, prompt_i);
    if (!e)
        a->prompt[prompt_i] =
            (struct ask_prompt){.id = a->request[prompt_i * a->n_per_prompt]->ask.prompt, .n = (int)ids->n};
    return !e && c->p.echo ? keep_text(c, prompt_i, ids, ids->n < n_before) : e;
}

static enum err completion_ids(const struct prep *c, const struct json_prompt *from, struct token_vec *v)
{
    if (from->text.p) {
        const enum err e = chat_prompt_may_fit(&c->env->chat, &c->p, c->in, "prompt", from->text.n);
        return e ? e
                 : tokenizer_encode(c->env->chat.tokenizer, from->text.p, from->text.n,
                                    TOKENIZE_SPECIAL | (c->p.add_special ? TOKENIZE_ADD : 0), v, c->in->note);
    }
    for (size_t i = 0; i < from->ids.n; i++)
        if (!token_vec_push(v, from->ids.v[i])) return no_memory(c->in->note);
    return OK;
}

/* truncation: auto leaves room for what was asked for, but for no more than half of the context. */
static enum err chat_ids(struct prep *c, struct token_vec *ids, struct chat_prompt_end *end)
{
    const int max_len = c->env->model->max_len, room = room_wanted(c);
    if (c->p.truncation != 1) return chat_prompt_tokens(&c->env->chat, &c->p, c->in, ids, end);
    const size_t most = (size_t)(max_len - (room < max_len / 2 ? room : max_len / 2));
    return shorten_tokens(&c->env->chat, &c->p, c->in, most, ids, end, &c->a->n_left_out);
}

static enum err add_prompts(struct prep *c)
{
    struct ask *a = c->a;
    struct token_vec ids = {0};
    struct chat_prompt_end end = {0};
    enum err e = OK;
    for (int i = 0; i < a->n_prompt && !e; i++) {
        ids.n = 0;
        e = by_messages(c) ? chat_ids(c, &ids, &end) : completion_ids(c, &c->p.prompt.v[i], &ids);
        if (!e) e = add_prompt(c, i, &ids);
    }
    a->think_open = end.think_open;
    a->n_past_call = end.n_call;
    token_vec_fini(&ids);
    return e;
}

/* --- what all requests share --- */

static const int32_t *copy_ids(struct prep *c, const struct json_ints *from, const int32_t *more, int n_more)
{
    int32_t *v = arena_array(&c->a->mem, from->n + (size_t)n_more + 1, sizeof *v);
    if (!v) return NULL;
    if (from->n) memcpy(v, from->v, from->n * sizeof *v);
    if (n_more) memcpy(v + from->n, more, (size_t)n_more * sizeof *v);
    return v;
}

static enum err share_ids(struct prep *c)
{
    const struct params *p = &c->p;
    const struct engine_info *m = c->env->model;
    const int n_eos = p->ignore_eos ? 0 : m->n_eos;
    c->stop_id = copy_ids(c, &p->stop_ids, m->eos, n_eos);
    c->n_stop_id = (int)p->stop_ids.n + n_eos;
    c->allow_id = copy_ids(c, &p->allow_ids, NULL, 0);
    int32_t *id = arena_array(&c->a->mem, p->bias.n + 1, sizeof *id);
    float *value = arena_array(&c->a->mem, p->bias.n + 1, sizeof *value);
    if (!c->stop_id || !c->allow_id || !id || !value) return no_memory(c->in->note);
    for (size_t i = 0; i < p->bias.n; i++) {
        id[i] = p->bias.v[i].key;
        value[i] = p->bias.v[i].value;
    }
    c->bias_id = id;
    c->bias_value = value;
    return OK;
}

static enum err share_route(struct prep *c)
{
    const struct json_any *r = &c->p.route;
    const int n_layer = c->env->model->n_layer;
    c->route_ask = ROUTE_ASK_DEFAULT;
    if (r->kind == JSON_KIND_NULL) return OK;
    if (r->kind == JSON_KIND_OBJECT) {
        c->route_ask = ROUTE_ASK_MIN_FULL;
        return OK;
    }
    const char *s = r->kind == JSON_KIND_STRING ? r->node->valuestring : "";
    c->route_ask = !strcmp(s, "auto")     ? ROUTE_ASK_AUTO
                   : !strcmp(s, "full")   ? ROUTE_ASK_FULL
                   : !strcmp(s, "sparse") ? ROUTE_ASK_SPARSE
                                          : ROUTE_ASK_MASK;
    if (c->route_ask != ROUTE_ASK_MASK) return OK;
    c->route = arena_array(&c->a->mem, (size_t)n_layer, 1);
    if (!c->route) return no_memory(c->in->note);
    for (int l = 0; l < n_layer; l++)
        c->route[l] =
            (r->kind == JSON_KIND_STRING ? s[l] == '1' : r->ints.v[l] == 1) ? ROUTE_FULL : ROUTE_SPARSE;
    return OK;
}

static enum err share_seed(struct prep *c)
{
    if (c->p.has_seed || c->env->seed >= 0) {
        c->seed = (uint64_t)(c->p.has_seed ? c->p.seed : c->env->seed);
        return OK;
    }
    if (getrandom(&c->seed, sizeof c->seed, 0) != (ssize_t)sizeof c->seed)
        return err_set(c->in->note, ERR_INTERNAL, NULL, "no random numbers from the system");
    return OK;
}

/* It comes back in answers and logs, so it keeps harmless characters only. */
static void copy_id(char *to, size_t size, const struct json_str *from)
{
    size_t n = 0;
    for (; n < from->n && n + 1 < size; n++)
        to[n] = isalnum((unsigned char)from->p[n]) || strchr("._-", from->p[n]) ? from->p[n] : '_';
    to[n] = '\0';
}

/* --- the whole --- */

static enum err check_model(const struct prep *c)
{
    if (!c->p.model.p || !strcmp(c->p.model.p, c->env->model_id)) return OK;
    const struct model_names *names = c->env->names;
    if (names)
        return model_names_has(names, c->p.model.p) ? OK
                                                    : model_names_refuse(names, c->p.model.p, c->in->note);
    return err_set(c->in->note, ERR_MODEL_NOT_FOUND, "model",
                   "the model \"%.128s\" does not exist here; see /v1/models", c->p.model.p);
}

static enum err size_ask(struct prep *c)
{
    struct ask *a = c->a;
    a->n_prompt = by_messages(c) ? 1 : (int)c->p.prompt.n;
    a->n_per_prompt = c->p.n;
    if (ask_n_choice(a) > c->env->choices_most)
        return json_in_fail(c->in, ERR_INVALID_VALUE, "n",
                            "times the number of prompts is %d, above the %d requests that may wait",
                            ask_n_choice(a), c->env->choices_most);
    a->prompt = arena_array(&a->mem, (size_t)a->n_prompt, sizeof *a->prompt);
    a->request = arena_array(&a->mem, (size_t)ask_n_choice(a), sizeof *a->request);
    return a->prompt && a->request ? OK : no_memory(c->in->note);
}

/* Calls and the form of what is said are one grammar: an answer is either. */
static enum err hold_tools(struct prep *c)
{
    const struct prep_env *env = c->env;
    const struct params *p = &c->p;
    const struct grammar_part said = constrain_part(p), *rule = NULL;
    const enum err e = tool_rule(&rule, &c->in->mem, c->a->format, &p->calls, env->tool_strict,
                                 p->format.kind == CONSTRAINT_NONE ? NULL : &said, c->in);
    if (e || !rule) return e;
    return constrain_parts(env, CONSTRAINT_TOOLS, rule, NULL, "tools", c->a, c->in->note);
}

static enum err constrain(struct prep *c)
{
    enum err e;
    if (!c->a->tools || c->a->scores) return constrain_ask(c->env, &c->p, c->a, c->in->note);
    while ((e = hold_tools(c)) && chat_tools_relent(&c->p.calls, c->in->note)) continue;
    return e;
}

static enum err ban_words(struct prep *c)
{
    struct ask *a = c->a;
    struct bad_words *words;
    if (c->p.bad_words.n == 0 || a->scores || c->routes) return OK;
    enum err e = bad_words_new(&words, &a->mem, c->env->chat.tokenizer, c->env->model->n_vocab,
                               &c->p.bad_words, c->in->note);
    for (int i = 0; i < ask_n_choice(a) && !e; i++) {
        a->request[i]->ask.guide = bad_words_guide(words, a->request[i]->ask.guide, &a->mem);
        if (!a->request[i]->ask.guide) e = no_memory(c->in->note);
    }
    return e;
}

static enum err fill_ask(struct prep *c)
{
    const struct params *p = &c->p;
    struct ask *a = c->a;
    a->stream = p->stream;
    a->include_usage = p->include_usage;
    a->continuous_usage = p->continuous_usage;
    a->echo = p->echo;
    a->logprobs = p->logprobs;
    a->skip_special = p->skip_special;
    a->include_stop = p->include_stop;
    a->return_token_ids = p->return_token_ids;
    a->ids_for_names = p->ids_for_names;
    a->prompt_logprobs = p->prompt_logprobs;
    a->n_top = p->n_top;
    a->min_tokens = p->min_tokens;
    a->scores = p->max_tokens == 0 && !c->routes;
    a->thinks = by_messages(c);
    a->format = c->env->chat.knows.format;
    a->max_asked = p->max_tokens;
    if (p->request_id.p) copy_id(a->id, sizeof a->id, &p->request_id);
    if (!stop_set_init(&a->stop, &a->mem, &p->stop)) return no_memory(c->in->note);
    enum err e = size_ask(c);
    if (!e && a->thinks && chat_tools_set(&p->calls, &a->mem, &a->tools)) e = no_memory(c->in->note);
    if (!e) e = share_ids(c);
    if (!e) e = share_route(c);
    if (!e) e = share_seed(c);
    if (!e) e = add_prompts(c);
    if (!e) e = constrain(c);
    if (!e) e = ban_words(c);
    if (!e && p->think_budget >= 0 && a->thinks && !a->scores && !c->routes)
        e = think_budget_add(a, c->env, p->think_budget, c->in->note);
    if (!e && a->response && response_tools_fill(a->response, &a->mem, p)) e = no_memory(c->in->note);
    return e;
}

static enum err work_prompts(struct prep *c) { return fill_ask(c); }

static enum err work_route(struct prep *c)
{
    c->routes = true;
    return fill_ask(c);
}

static enum err take_messages(struct prep *c)
{
    return messages_in(&c->p, c->in, c->env->drop_system_lines, &c->a->n_dropped_lines);
}

static enum err work_messages(struct prep *c)
{
    const enum err e = take_messages(c);
    return e ? e : fill_ask(c);
}

static enum err work_count_messages(struct prep *c)
{
    const enum err e = take_messages(c);
    return e ? e : prep_count(c->env, &c->p, c->in, c->a, NULL);
}

static enum err take_responses(struct prep *c)
{
    struct ask *a = c->a;
    const struct json_str *previous = &c->p.previous_response_id;
    a->response = arena_alloc(&a->mem, sizeof *a->response);
    if (!a->response) return no_memory(c->in->note);
    if (previous->p) a->response->previous = response_store_get(c->env->responses, a->key_id, previous->p);
    if (previous->p && !a->response->previous)
        return err_set(c->in->note, ERR_PREVIOUS_RESPONSE, "previous_response_id",
                       "Previous response with id '%.128s' not found.", previous->p);
    const enum err e = response_ask_fill(a->response, &a->mem, &c->p, c->in);
    return e ? e : responses_in(&c->p, c->in, a->response->previous);
}

static enum err work_responses(struct prep *c)
{
    const enum err e = take_responses(c);
    return e ? e : fill_ask(c);
}

static enum err work_count_responses(struct prep *c)
{
    const enum err e = take_responses(c);
    return e ? e : prep_count(c->env, &c->p, c->in, c->a, "response.input_tokens");
}

static enum err work_render(struct prep *c) { return prep_render(c->env, &c->p, c->in, c->a); }

static enum err work_tokenize(struct prep *c) { return prep_tokenize(c->env, &c->p, c->in, c->a); }

static enum err work_detokenize(struct prep *c) { return prep_detokenize(c->env, &c->p, c->in, c->a); }

static enum err run(struct prep *c, const char *route)
{
    static enum err (*const work_of[API_N_ENDPOINT])(struct prep *) = {
#define ENDPOINT(id, path, name, prefix, fields, work, ...) [API_##id] = work_##work,
#define VIEW(...)
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
    };
    CHECK(work_of[c->a->endpoint]);
    enum err e = params_read(&c->p, c->in, c->a->endpoint, c->env->model, route);
    if (!e) e = check_model(c);
    return e ? e : work_of[c->a->endpoint](c);
}

enum err prep_run_for(struct ask **out, const struct prep_env *env, const struct prep_call *call,
                      struct err_note *note)
{
    *out = NULL;
    struct ask *a = calloc(1, sizeof *a);
    if (!a) return no_memory(note);
    a->endpoint = call->endpoint;
    a->key_id = call->key_id;
    a->responses = env->responses;
    arena_init(&a->mem, ASK_BYTES_MOST);
    strbuf_init(&a->answer);
    struct json_in in;
    enum err e = json_in_open(&in, call->body, call->n, &env->limits, note);
    if (!e) {
        struct prep c = {.env = env, .in = &in, .a = a};
        e = run(&c, call->route);
        json_in_close(&in);
    }
    if (e) {
        ask_free(a);
        return e;
    }
    *out = a;
    return OK;
}

void ask_free(struct ask *a)
{
    if (!a) return;
    if (a->response) response_store_release(a->responses, a->response->previous);
    strbuf_fini(&a->answer);
    text_answer_free(a->rest);
    constraint_give(a->constraint);
    arena_fini(&a->mem);
    free(a);
}
