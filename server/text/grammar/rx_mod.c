/* rx: multiples. A plain number without a sign is read digit by digit; what remains of it by a is the state.
 * It is a multiple of a / 10^places when its digits with the point moved places to the right are a multiple
 * of a, so there may be places digits behind the point, or .0
 * where there are none. From a state that is kept
 * some multiple is always within reach. */
#include "server/text/grammar/rx.h"

/* A node: a = remainder, b = rx_mod, c = phase << 8 | digits that may still come behind the point. */
enum phase {
    PHASE_START,
    PHASE_ZERO /* 0, which no digit follows */,
    PHASE_WHOLE,
    PHASE_POINT /* a digit must come */,
    PHASE_PART
};

static uint64_t to_end(const struct rx_mod *m, uint64_t rest, uint32_t left)
{
    for (; left > 0 && rest; left--) rest = rest * 10 % m->a;
    return rest;
}

/* Of what stands behind the point: whether left more digits can make it a multiple. Any number of whole
 * digits can. */
static bool can_end(const struct rx_mod *m, uint64_t rest, uint32_t left)
{
    uint64_t end = to_end(m, rest, left), room = 1;
    for (uint32_t i = 0; i < left && room < m->a; i++) room *= 10;
    return end == 0 || m->a - end < room;
}

static uint32_t mod_node(struct rx *x, uint64_t rest, uint32_t mod, enum phase phase, uint32_t left)
{
    if (phase >= PHASE_POINT && !can_end(&x->mod[mod], rest, left)) return RX_EMPTY;
    return rx_intern(
        x,
        (struct rx_node){
            .kind = RX_KIND_MOD, .a = (uint32_t)rest, .b = mod, .c = (uint32_t)phase << 8 | left},
        NULL);
}

uint32_t rx_multiple(struct rx *x, uint64_t a, uint32_t places)
{
    size_t i = 0;
    while (i < x->n_mod && (x->mod[i].a != a || x->mod[i].places != places)) i++;
    if (i == x->n_mod) {
        if (!pool_grow(x->pool, &x->mod, &x->cap_mod, x->n_mod + 1, sizeof *x->mod)) return RX_EMPTY;
        x->mod[x->n_mod++] = (struct rx_mod){.a = a, .places = places};
    }
    return mod_node(x, 0, (uint32_t)i, PHASE_START, places);
}

bool rx_mod_nullable(const struct rx *x, const struct rx_node *n)
{
    enum phase phase = (enum phase)(n->c >> 8);
    return phase != PHASE_START && phase != PHASE_POINT && to_end(&x->mod[n->b], n->a, n->c & 0xff) == 0;
}

uint32_t rx_mod_step(struct rx *x, uint32_t id, uint8_t b, struct rx_set *same)
{
    struct rx_node n = x->node[id];
    struct rx_mod m = x->mod[n.b];
    enum phase phase = (enum phase)(n.c >> 8);
    uint32_t left = n.c & 0xff;
    struct rx_set own = {0}, known = {0};
    rx_set_add(&own, b);
    rx_set_add(&known, '.');
    for (unsigned d = '0'; d <= '9'; d++) rx_set_add(&known, d);
    bool in = rx_set_has(&known, b);
    for (int i = 0; i < 4; i++) same->w[i] &= in ? own.w[i] : ~known.w[i];
    if (!in) return RX_EMPTY;
    if (b == '.')
        return phase == PHASE_ZERO || phase == PHASE_WHOLE ? mod_node(x, n.a, n.b, PHASE_POINT, left)
                                                           : RX_EMPTY;
    if (phase == PHASE_ZERO) return RX_EMPTY;
    if (phase >= PHASE_POINT && left == 0)
        return b == '0' && phase == PHASE_POINT ? mod_node(x, n.a, n.b, PHASE_PART, 0) : RX_EMPTY;
    uint64_t rest = (n.a * (uint64_t)10 + (uint64_t)(b - '0')) % m.a;
    if (phase == PHASE_START) return mod_node(x, rest, n.b, b == '0' ? PHASE_ZERO : PHASE_WHOLE, left);
    return phase == PHASE_WHOLE ? mod_node(x, rest, n.b, PHASE_WHOLE, left)
                                : mod_node(x, rest, n.b, PHASE_PART, left - 1);
}
