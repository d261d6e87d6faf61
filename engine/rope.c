/* rope: frequencies under each scaling that checkpoints use. In single precision at every step, as the
 * models' own code: weights were trained with these angles, and at position 100,000 a frequency rounded
 * otherwise is another angle by 0.006. */
#include <math.h>

#include "engine/spec.h"

static const float TWO_PI = 6.2831853071795864769F;

/* base^(2i/K). */
static float period(double base, int head, int i)
{
    const float at = (float)(2 * i) / (float)head;
    return (float)pow((double)(float)base, (double)at);
}

/* Llama 3.1: dimensions that turn fewer than `low` times in the original context are stretched, those that
 * turn more than `high` times stay, and between them the two are blended by the number of turns. */
static float llama3(const struct rope_scaling *r, float f)
{
    const float wave = 1 / f * TWO_PI, len = (float)r->original_len, factor = (float)r->factor;
    if (wave > (float)(r->original_len / r->low)) return f / factor;
    if (wave < (float)(r->original_len / r->high)) return f;
    const float share = (1 / wave * len - (float)r->low) / (float)(r->high - r->low);
    return (1 - share) * f / factor + share * f;
}

/* The dimension (not whole) that turns so many times in the original context. */
static double dim_of_turns(const struct rope_scaling *r, double base, int head, double turns)
{
    const double two_pi = 6.283185307179586476925;
    return head * log(r->original_len / (turns * two_pi)) / (2 * log(base));
}

/* YaRN (Peng et al. 2309.00071): the blend runs over dimensions, in a straight line. per: base^(2i/K). */
static float yarn(const struct rope_scaling *r, double base, int head, int i, float per)
{
    double from = dim_of_turns(r, base, head, r->high), to = dim_of_turns(r, base, head, r->low);
    if (r->whole) {
        from = floor(from);
        to = ceil(to);
    }
    from = fmax(from, 0);
    to = fmin(to, head - 1);
    if (!(to > from) && !(to < from))
        to += 0.001; /* as the published models' own code: no division by zero */
    const float ramp = fminf(fmaxf(((float)i - (float)from) / (float)(to - from), 0), 1), keep = 1 - ramp;
    return 1 / ((float)r->factor * per) * (1 - keep) + 1 / per * keep;
}

float rope_frequency(const struct rope_scaling *r, double base, int head, int i)
{
    const float per = period(base, head, i);
    switch (r->kind) {
    case ROPE_LINEAR:
        return 1 / per / (float)r->factor;
    case ROPE_LLAMA3:
        return llama3(r, 1 / per);
    case ROPE_YARN:
        return yarn(r, base, head, i, per);
    default:
        return 1 / per;
    }
}
