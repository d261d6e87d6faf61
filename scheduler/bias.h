/* bias: how far the routers' margins are moved under load. Pure, like plan.c.
 *
 * A request's margins are lowered by a share of --route-bias-max that grows with the pressure when it is
 * admitted, and stay so for its life: given its bias its route and tokens are what they always are. The share
 * rises in eighths, so that few values occur. The whole of it is reached before anyone is refused: at half of
 * the queue, and where nine tenths of the pool are promised. */
#ifndef FLUXD_SCHEDULER_BIAS_H
#define FLUXD_SCHEDULER_BIAS_H

struct bias_state {
    int waiting, queue_len; /* requests in the queue, and its bound */
    int promised, n_page;   /* pages promised to those that run, of the pool */
};

float bias_of(double most, const struct bias_state *s); /* in -most..0, to add to the margins; most 0: 0 */

#endif
