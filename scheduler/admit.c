/* admit: see admit.h. */
#include "scheduler/admit.h"

bool admit_fits(const struct admit_room *room, const struct admit_ask *a)
{
    return a->pages <= room->pages && (room->prefill_idle || a->n_prompt <= room->prefill_tok);
}

/* How uneven the layers' pages would be with it: the most loaded layer over the mean. */
static double unevenness(const struct plan_limits *lim, const struct admit_room *room,
                         const struct admit_ask *a)
{
    int64_t most = 0, sum = 0;
    for (int l = 0; l < lim->n_layer; l++) {
        int64_t pages = room->layer_pages[l] + plan_layer_pages(lim, a->route[l], a->n_tok);
        most = pages > most ? pages : most;
        sum += pages;
    }
    return (double)most * lim->n_layer / (double)sum;
}

/* Of the first few of this key that fit, the one that keeps the layers most even; the first where they are as
 * good. */
static int most_even(const struct plan_limits *lim, const struct admit_room *room,
                     const struct admit_ask *ask, int n, int first)
{
    int best = first;
    double best_score = unevenness(lim, room, &ask[first]);
    for (int i = first + 1, seen = 1; i < n && seen < BALANCE_REACH && ask[i].priority == ask[first].priority;
         i++) {
        if (ask[i].key != ask[first].key || !admit_fits(room, &ask[i])) continue;
        seen++;
        double score = unevenness(lim, room, &ask[i]);
        if (score < best_score * 0.98) {
            best = i;
            best_score = score;
        }
    }
    return best;
}

int admit_pick(const struct plan_limits *lim, const struct admit_room *room, const struct admit_ask *ask,
               int n)
{
    int pick = -1, worn = n; /* worn: the first that may not be overtaken again */
    for (int i = 0; i < n && ask[i].priority == ask[0].priority; i++) {
        if (worn == n && ask[i].passed >= lim->pass_most) worn = i;
        if (admit_fits(room, &ask[i]) &&
            (pick < 0 || room->served_ms[ask[i].key] < room->served_ms[ask[pick].key]))
            pick = i;
    }
    if (pick >= 0 && lim->route_policy == ROUTE_POLICY_BALANCE) pick = most_even(lim, room, ask, n, pick);
    if (pick > worn) pick = admit_fits(room, &ask[worn]) ? worn : -1;
    return pick;
}
