/* route_ask: see route_ask.h. */
#include "scheduler/route_ask.h"

#include <string.h>

/* auto means the routers, and full where the model has none (docs/settings.md, route). */
static uint8_t auto_bit(const struct engine_info *m) { return m->has_router ? ROUTE_OPEN : ROUTE_FULL; }

enum err route_ask_parse(const char *word, const struct engine_info *m, uint8_t *bit, struct err_note *note)
{
    size_t L = (size_t)m->n_layer;
    if (!word || strcmp(word, "auto") == 0) {
        memset(bit, auto_bit(m), L);
    } else if (strcmp(word, "full") == 0) {
        memset(bit, ROUTE_FULL, L);
    } else if (strcmp(word, "sparse") == 0) {
        memset(bit, ROUTE_SPARSE, L);
    } else if (strspn(word, "01") == strlen(word) && strlen(word) == L) {
        for (size_t l = 0; l < L; l++) bit[l] = word[l] == '1' ? ROUTE_FULL : ROUTE_SPARSE;
    } else {
        return err_set(note, ERR_CONFIG, "--route",
                       "must be auto, full, sparse or %d characters of 0 and 1, layer 0 first", m->n_layer);
    }
    return OK;
}

static enum err resolve(struct request *r, const struct engine_info *m, const uint8_t *dflt,
                        struct err_note *note)
{
    size_t L = (size_t)m->n_layer;
    uint8_t *bit = r->shared.use.route;
    switch (r->ask.route_ask) {
    case ROUTE_ASK_DEFAULT:
        memcpy(bit, dflt, L);
        return OK;
    case ROUTE_ASK_AUTO:
    case ROUTE_ASK_MIN_FULL: /* the routers too; the engine keeps the floor */
        memset(bit, auto_bit(m), L);
        return OK;
    case ROUTE_ASK_FULL:
        memset(bit, ROUTE_FULL, L);
        return OK;
    case ROUTE_ASK_SPARSE:
        memset(bit, ROUTE_SPARSE, L);
        return OK;
    case ROUTE_ASK_MASK:
        memcpy(bit, r->ask.route_mask, L);
        return OK;
    }
    return err_set(note, ERR_INTERNAL, "route", "asked for in no known way");
}

/* A layer that the plan names reads what the plan says, whatever a client asks: so its pages are kept by the
 * plan's bit. */
enum err route_ask_resolve(struct request *r, const struct engine_info *m, const uint8_t *dflt,
                           struct err_note *note)
{
    enum err err = resolve(r, m, dflt, note);
    for (int l = 0; m->fixed_route && l < m->n_layer; l++)
        if (m->fixed_route[l] != ROUTE_OPEN) r->shared.use.route[l] = m->fixed_route[l];
    return err;
}
