/* bias: see bias.h. */
#include "scheduler/bias.h"

static const double QUEUE_FULL = 0.5;                 /* share of the queue at which the pressure is whole */
static const double POOL_EASY = 0.5, POOL_FULL = 0.9; /* shares of the pool between which it rises */
enum { STEPS = 8 };

static double within_one(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

float bias_of(double most, const struct bias_state *s)
{
    double queue = within_one(s->waiting / (s->queue_len * QUEUE_FULL));
    double pool = within_one(((double)s->promised / s->n_page - POOL_EASY) / (POOL_FULL - POOL_EASY));
    int step = (int)((queue > pool ? queue : pool) * STEPS);
    return step > 0 && most > 0 ? (float)(-most * step / STEPS) : 0;
}
