/* gen_usage: what a generation has used: tokens, and the route of each prompt. Loop thread only. */
#include <stdlib.h>

#include "server/api/gen_internal.h"

/* Where less was granted than the client asked for, the least of it. */
static int clamped(const struct gen *g)
{
    int least = g->ask->max_asked;
    for (int i = 0; i < g->n_choice; i++)
        least = g->choice[i].r->ask.max_new < least ? g->choice[i].r->ask.max_new : least;
    return least < g->ask->max_asked ? least : 0;
}

struct answer_usage gen_count_usage(const struct gen *g)
{
    struct answer_usage u = {.clamped = clamped(g)};
    for (int i = 0; i < g->n_choice; i++) {
        const bool first = i % g->ask->n_per_prompt == 0;
        u.n_prompt += first ? g->choice[i].r->ask.n_prompt : 0;
        u.n_cached += first ? g->choice[i].r->shared.use.n_cached : 0;
        u.n_answer += g->choice[i].n_token;
        u.n_thought += g->choice[i].n_thought;
    }
    return u;
}

/* Of the choices of a prompt, the one that held the most memory. */
bool gen_write_usage(const struct gen *g, struct json_out *o,
                     void (*write)(struct json_out *, const struct engine_info *,
                                   const struct answer_usage *))
{
    const struct ask *a = g->ask;
    struct answer_usage u = gen_count_usage(g);
    const struct request **routed = calloc((size_t)a->n_prompt, sizeof *routed);
    if (!routed) return false;
    for (int i = 0; i < g->n_choice; i++) {
        const struct request **at = &routed[i / a->n_per_prompt];
        if (!*at || a->request[i]->shared.use.kv_pages_peak > (*at)->shared.use.kv_pages_peak)
            *at = a->request[i];
    }
    u.routed = routed;
    u.n_routed = a->n_prompt;
    write(o, g->api->env.model, &u);
    free(routed);
    return true;
}
