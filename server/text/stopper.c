/* stopper: see stopper.h. */
#include "server/text/stopper.h"

#include <string.h>

#include "base/check.h"

/* Bytes of t that the text matches once byte b is appended to one that matched k of them. */
static uint16_t next_match(const struct stop_set *set, int i, uint16_t k, char b)
{
    if (k == set->len[i]) k = set->fall[i][k - 1];
    while (k > 0 && set->text[i][k] != b) k = set->fall[i][k - 1];
    return set->text[i][k] == b ? (uint16_t)(k + 1) : 0;
}

bool stop_set_init(struct stop_set *set, struct arena *mem, const struct json_strs *stop)
{
    *set = (struct stop_set){0};
    CHECK(stop->n <= STOP_MOST);
    for (size_t s = 0; s < stop->n; s++) {
        const size_t n = stop->v[s].n;
        CHECK(n > 0 && n <= STOP_BYTES_MOST);
        set->text[s] = arena_strndup(mem, stop->v[s].p, n);
        set->fall[s] = arena_array(mem, n, sizeof(uint16_t));
        set->len[s] = n;
        if (!set->text[s] || !set->fall[s]) return false;
        set->fall[s][0] = 0;
        for (size_t i = 1; i < n; i++)
            set->fall[s][i] = next_match(set, (int)s, set->fall[s][i - 1], set->text[s][i]);
    }
    set->n = (int)stop->n;
    return true;
}

void stopper_init(struct stopper *s, const struct stop_set *set, bool keep)
{
    *s = (struct stopper){.set = set, .hit = -1, .keep = keep};
}

/* One byte further; the length of the stop string that it completes, or 0. *open becomes what must be held
 * back. */
static size_t step(struct stopper *s, char b, size_t *open)
{
    size_t done = 0;
    *open = 0;
    for (int i = 0; i < s->set->n; i++) {
        s->at[i] = next_match(s->set, i, s->at[i], b);
        *open = s->at[i] > *open ? s->at[i] : *open;
        if (s->at[i] == s->set->len[i] && s->at[i] > done) {
            done = s->at[i];
            s->hit = i;
        }
    }
    return done;
}

bool stopper_feed(struct stopper *s, const char *p, size_t n, struct strbuf *out)
{
    CHECK(s->hit < 0);
    if (s->set->n == 0) {
        strbuf_put(out, p, n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        size_t open;
        const size_t done = step(s, p[i], &open);
        const size_t keep =
            done ? (s->keep ? 0 : done) : open; /* of held and this byte, not yet to be told */
        const size_t told = s->n_held + 1 - keep;
        if (told > s->n_held) {
            strbuf_put(out, s->held, s->n_held);
            strbuf_put(out, &p[i], 1);
            s->n_held = 0;
        } else {
            strbuf_put(out, s->held, told);
            memmove(s->held, s->held + told, s->n_held - told);
            s->n_held -= told;
            if (!done) s->held[s->n_held++] = p[i];
        }
        if (done) {
            s->n_held = 0;
            return true;
        }
    }
    return false;
}

void stopper_end(struct stopper *s, struct strbuf *out)
{
    strbuf_put(out, s->held, s->n_held);
    s->n_held = 0;
}
