/* rope: frequencies under each scaling that checkpoints use. */
#include <math.h>

#include "engine/spec.h"

static const double TWO_PI = 6.283185307179586476925;

/* Llama 3.1: dimensions that turn fewer than `low` times in the original context are stretched, those that turn more than `high` times
 * stay, and between them the two are blended by the number of turns. */
static double llama3(const struct rope_scaling *r, double f)
{
    double turns = r->original_len * f / TWO_PI;
    if (turns < r->low) return f / r->factor;
    if (turns > r->high) return f;
    double share = (turns - r->low) / (r->high - r->low);
    return (1 - share) * f / r->factor + share * f;
}

/* The dimension (not whole) that turns so many times in the original context. */
static double dim_of_turns(const struct rope_scaling *r, double base, int head, double turns)
{
    return head * log(r->original_len / (turns * TWO_PI)) / (2 * log(base));
}

/* YaRN (Peng et al. 2309.00071): the blend runs over dimensions, in a straight line. */
static double yarn(const struct rope_scaling *r, double base, int head, int i, double f)
{
    double from = dim_of_turns(r, base, head, r->high), to = dim_of_turns(r, base, head, r->low);
    if (r->whole) {
        from = floor(from);
        to = ceil(to);
    }
    from = fmax(from, 0);
    to = fmin(to, head - 1);
    if (!(to > from) && !(to < from)) to += 0.001; /* as the published models' own code: no division by zero */
    double share = fmin(fmax((i - from) / (to - from), 0), 1); /* of the stretched frequency */
    return share * f / r->factor + (1 - share) * f;
}

double rope_frequency(const struct rope_scaling *r, double base, int head, int i)
{
    double f = pow(base, -2.0 * i / head);
    switch (r->kind) {
    case ROPE_LINEAR: return f / r->factor;
    case ROPE_LLAMA3: return llama3(r, f);
    case ROPE_YARN: return yarn(r, base, head, i, f);
    default: return f;
    }
}
