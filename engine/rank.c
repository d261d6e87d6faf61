/* rank: see rank.h. */
#include "engine/rank.h"

enum err rank_check(const struct spec *s, int n_rank, struct err_note *note)
{
    const struct {
        const char *what;
        int n;
    } even[] = {{"query heads", s->n_head}, {"feed-forward columns, in eights,", s->f / 8}};
    if (n_rank < 1) return err_set(note, ERR_CONFIG, NULL, "a model has at least one rank");
    for (int i = 0; i < 2; i++)
        if (even[i].n % n_rank)
            return err_set(note, ERR_CONFIG, NULL, "%d %s cannot be shared evenly by %d ranks", even[i].n,
                           even[i].what, n_rank);
    if (s->n_kv % n_rank && n_rank % s->n_kv)
        return err_set(note, ERR_CONFIG, NULL, "%d kv heads and %d ranks: neither is a multiple of the other",
                       s->n_kv, n_rank);
    if (n_rank > s->n_vocab) return err_set(note, ERR_CONFIG, NULL, "more ranks than tokens");
    return OK;
}

/* Part `rank` of n: even ones where n_rank divides n. */
static void part_of(int n, struct rank r, int *at, int *size)
{
    *at = (int)((int64_t)n * r.rank / r.n_rank);
    *size = (int)((int64_t)n * (r.rank + 1) / r.n_rank) - *at;
}

struct rank_cut rank_cut(const struct spec *s, struct rank r, enum shard shard, int n, int k)
{
    struct rank_cut c = {.n = n, .k = k};
    const int share = r.n_rank / s->n_kv; /* ranks that read the same kv head */
    switch (shard) {
    case SHARD_ALL:
        break;
    case SHARD_OUT:
        part_of(n, r, &c.n0, &c.n);
        break;
    case SHARD_KV:
        part_of(n, share > 1 ? (struct rank){r.rank / share, s->n_kv} : r, &c.n0, &c.n);
        break;
    case SHARD_IN:
        part_of(k, r, &c.k0, &c.k);
        break;
    case SHARD_FIRST:
        if (r.rank > 0) c.n = 0;
        break;
    }
    return c;
}
