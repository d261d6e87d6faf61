/* shorten: see shorten.h. A turn begins with a message of the user, so that no result is left without its
 * call. More turns are more tokens, so the fewest to leave out are found by halving. */
#include "server/api/shorten.h"

#include <string.h>

struct talk {
    const struct chat_prompt_env *env;
    struct params *p;
    struct json_in *in;
    size_t most;
    const cJSON *all;
    const cJSON **turn; /* [n_turn] first messages of turns; turn[0] is the first behind the head */
    int n_turn;
    struct token_vec *ids;
    struct chat_prompt_end *end;
};

static enum err no_memory(struct json_in *in)
{
    return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

static bool has_role(const cJSON *m, const char *role)
{
    const cJSON *r = json_in_get(m, "role");
    return cJSON_IsString(r) && !strcmp(r->valuestring, role);
}

static bool is_head(const cJSON *m) { return has_role(m, "system") || has_role(m, "developer"); }

static enum err find_turns(struct talk *t)
{
    const cJSON *m = t->all->child;
    t->turn = arena_array(&t->in->mem, (size_t)cJSON_GetArraySize(t->all) + 1, sizeof *t->turn);
    if (!t->turn) return no_memory(t->in);
    while (m && is_head(m)) m = m->next;
    for (; m; m = m->next)
        if (t->n_turn == 0 || has_role(m, "user")) t->turn[t->n_turn++] = m;
    return OK;
}

/* The head, and from that turn on. A reference to an item is a copy of its node alone. */
static enum err keep_from(struct talk *t, int turn)
{
    cJSON *list = cJSON_CreateArray();
    bool on = true, ok = json_in_keep(t->in, list);
    for (const cJSON *m = t->all->child; m && ok; m = m->next) {
        if (m == t->turn[0]) on = false;
        if (m == t->turn[turn]) on = true;
        cJSON *copy = on ? cJSON_CreateObjectReference(m->child) : NULL;
        ok = !on || (copy && cJSON_AddItemToArray(list, copy));
    }
    if (!ok) return no_memory(t->in);
    t->p->messages = list;
    return OK;
}

static enum err render(struct talk *t, bool *fits)
{
    t->ids->n = 0;
    const enum err e = chat_prompt_tokens(t->env, t->p, t->in, t->ids, t->end);
    *fits = !e && t->ids->n <= t->most;
    return e == ERR_CONTEXT_LENGTH ? OK : e;
}

static enum err render_from(struct talk *t, int turn, bool *fits)
{
    const enum err e = keep_from(t, turn);
    return e ? e : render(t, fits);
}

enum err shorten_tokens(const struct chat_prompt_env *env, struct params *p, struct json_in *in, size_t most,
                        struct token_vec *ids, struct chat_prompt_end *end, int *n_out)
{
    struct talk t = {.env = env, .p = p, .in = in, .most = most, .all = p->messages, .ids = ids, .end = end};
    bool fits;
    *n_out = 0;
    enum err e = render(&t, &fits);
    if (e || fits) return e;
    e = find_turns(&t);
    int lo = 0, hi = t.n_turn; /* lo is too long; hi fits, or is none */
    while (!e && hi - lo > 1) {
        const int mid = lo + (hi - lo) / 2;
        e = render_from(&t, mid, &fits);
        *(fits ? &hi : &lo) = mid;
    }
    if (e) return e;
    if (hi < t.n_turn) { /* the last one tried may have been another */
        e = render_from(&t, hi, &fits);
        *n_out = cJSON_GetArraySize(t.all) - cJSON_GetArraySize(p->messages);
        return e;
    }
    p->messages = t.all;
    ids->n = 0;
    return chat_prompt_tokens(env, p, in, ids, end);
}
