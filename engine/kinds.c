/* kinds: words to rows of a table, reuse resolved to places where choices stand. */
#include "engine/kinds.h"

#include <stdlib.h>
#include <string.h>

#include "engine/batch.h"

enum arg { ARG_NONE, ARG_LAYER, ARG_HEADS };

/* Decode follows docs/attention-routes.md: layers with bit 0 decode by the streaming rule. What keeps all
 * pages has bit 1. */
static const struct word {
    const char *word;
    uint8_t bit, prefill, decode, arg;
    bool no_sink;
    int rule;
} words[] = {
    {"full", ROUTE_FULL, ATTN_FULL, ATTN_FULL, ARG_NONE, false, -1},
    {"streaming", ROUTE_SPARSE, ATTN_STREAMING, ATTN_STREAMING, ARG_NONE, false, -1},
    {"window", ROUTE_SPARSE, ATTN_STREAMING, ATTN_STREAMING, ARG_NONE, true, -1}, /* LayerBoost, 2604.22050 */
    {"none", ROUTE_SPARSE, ATTN_NONE, ATTN_NONE, ARG_NONE, false, -1},            /* LayerBoost */
    {"triangle", ROUTE_SPARSE, ATTN_TRIANGLE, ATTN_STREAMING, ARG_NONE, false, -1},
    {"xattn", ROUTE_SPARSE, ATTN_LIST, ATTN_STREAMING, ARG_NONE, false, CHOOSE_XATTN},
    {"retrieval", ROUTE_FULL, ATTN_LIST, ATTN_FULL, ARG_NONE, false, CHOOSE_XATTN}, /* retrieval_mode xattn */
    {"flex", ROUTE_FULL, ATTN_LIST, ATTN_FULL, ARG_NONE, false, CHOOSE_FLEX}, /* FlexPrefill, 2502.20766 */
    {"reuse", ROUTE_FULL, ATTN_LIST, ATTN_FULL, ARG_LAYER, false, -1},        /* HyLRA, 2602.00777 */
    {"split", ROUTE_FULL, ATTN_SPLIT, ATTN_SPLIT, ARG_HEADS, false, -1},      /* DuoAttention, H2EAL */
};
enum { N_WORD = sizeof words / sizeof *words };

static const struct word *find_word(const char *p, size_t n)
{
    for (int i = 0; i < N_WORD; i++)
        if (strlen(words[i].word) == n && memcmp(words[i].word, p, n) == 0) return &words[i];
    return NULL;
}

static struct kind side_of(const struct word *w)
{
    return (struct kind){
        .prefill = w->prefill, .decode = w->decode, .no_sink = w->no_sink, .rule = w->rule, .hold = -1};
}

/* --- the plan's text: items layers:word(argument) with commas between them */

struct reader {
    const struct kinds_conf *conf;
    struct kinds *out;
    int *source;      /* [L] layer whose choice this one reuses; -1 */
    const char *item; /* for messages */
    const char *at;
    struct err_note *note;
};

static enum err refuse(const struct reader *r, const char *what)
{
    int n = (int)strcspn(r->item, ",");
    return err_set(r->note, ERR_CONFIG, "--layer-plan", "\"%.*s\"%s: %s", n > 60 ? 60 : n, r->item,
                   n > 60 ? "..." : "", what);
}

/* [from, to] of things 0 .. n-1: "4" or "4-7". False: not that. */
static bool read_range(struct reader *r, int n, int *from, int *to)
{
    for (int i = 0; i < 2; i++) {
        int *v = i ? to : from;
        if (i && *r->at != '-') {
            *to = *from;
            break;
        }
        r->at += i;
        if (*r->at < '0' || *r->at > '9') return false;
        for (*v = 0; *r->at >= '0' && *r->at <= '9'; r->at++)
            if ((*v = *v * 10 + (*r->at - '0')) >= n) return false;
    }
    return *from <= *to;
}

/* "0-1+4": kv heads that are full, in every layer of [from, to]. */
static enum err read_heads(struct reader *r, int from, int to)
{
    const struct kinds_conf *c = r->conf;
    const int rep = c->n_head / c->n_kv;
    int a, b, n = 0;
    do {
        r->at++; /* "(" or "+" */
        if (!read_range(r, c->n_kv, &a, &b))
            return refuse(
                r, "split names the kv heads that are full, numbers below the model's, as in split(0-1+3)");
        for (int l = from; l <= to; l++)
            memset(r->out->head + (int64_t)l * c->n_head + a * rep, 1, (size_t)((b - a + 1) * rep));
    } while (*r->at == '+');
    for (int h = 0; h < c->n_head; h++) n += r->out->head[(int64_t)from * c->n_head + h];
    return n < c->n_head ? OK : refuse(r, "a split of all kv heads is full");
}

static enum err read_source(struct reader *r, int from, int to)
{
    int a, b;
    r->at++;
    if (!read_range(r, r->conf->n_layer, &a, &b) || a != b)
        return refuse(r, "reuse names the layer whose choice it takes, as in reuse(9)");
    if (a >= from) return refuse(r, "a layer reuses the choice of a lower one");
    for (int l = from; l <= to; l++) r->source[l] = a;
    return OK;
}

static enum err read_item(struct reader *r)
{
    struct kinds *k = r->out;
    int from, to;
    enum err e = OK;
    r->item = r->at;
    if (!read_range(r, r->conf->n_layer, &from, &to) || *r->at != ':')
        return refuse(r,
                      "begins with a layer, or first-last, below the model's number of layers, and a colon");
    r->at++;
    size_t n = strspn(r->at, "abcdefghijklmnopqrstuvwxyz");
    const struct word *w = find_word(r->at, n);
    if (!w) return refuse(r, "its kind is none of " KINDS_WORDS);
    r->at += n;
    if ((w->arg != ARG_NONE) != (*r->at == '('))
        return refuse(r, w->arg != ARG_NONE ? "this kind needs an argument in brackets"
                                            : "nothing may follow this kind");
    for (int l = from; l <= to; l++) {
        if (k->fixed[l] != ROUTE_OPEN) return refuse(r, "one of these layers was named before");
        k->fixed[l] = w->bit;
        k->side[l][0] = k->side[l][1] = side_of(w);
    }
    if (w->arg == ARG_LAYER) e = read_source(r, from, to);
    if (w->arg == ARG_HEADS) e = read_heads(r, from, to);
    if (e != OK || w->arg == ARG_NONE) return e;
    return *r->at++ == ')' ? OK : refuse(r, "a closing bracket is missing");
}

static enum err read_plan(struct reader *r)
{
    enum err e;
    for (r->at = r->conf->plan;; r->at++) {
        if ((e = read_item(r)) != OK) return e;
        if (!*r->at) return OK;
        if (*r->at != ',') return refuse(r, "only a comma and the next item may follow");
    }
}

/* --- where choices stand */

/* Every reused layer chooses; full ones by xattn's rule, beside their own attention (HyLRA's sensitive
 * layers). */
static enum err link_sources(struct reader *r)
{
    struct kinds *k = r->out;
    for (int l = 0; l < r->conf->n_layer; l++) {
        int s = r->source[l];
        if (s < 0) continue;
        k->reuses = true;
        if (k->fixed[s] != ROUTE_OPEN && k->side[s][0].prefill == ATTN_FULL)
            k->side[s][0].rule = k->side[s][1].rule = CHOOSE_XATTN;
        if (k->fixed[s] == ROUTE_OPEN || k->side[s][0].rule < 0)
            return err_set(
                r->note, ERR_CONFIG, "--layer-plan",
                "layer %d reuses the choice of layer %d, which the plan must name as full, xattn, retrieval or flex",
                l, s);
    }
    return OK;
}

/* A choice lives from its layer to the last that reuses it; places whose choice is over are taken again.
 * until: [L] scratch. */
static void place_choices(struct reader *r, int *until)
{
    struct kinds *k = r->out;
    for (int l = 0; l < r->conf->n_layer; l++) {
        struct kind *side = k->side[l];
        if (r->source[l] >= 0) side[0].hold = side[1].hold = k->side[r->source[l]][0].hold;
        if (side[0].rule < 0 && side[1].rule < 0) continue;
        int last = l, at = 0;
        for (int i = l + 1; i < r->conf->n_layer; i++)
            if (r->source[i] == l) last = i;
        while (at < k->n_hold && until[at] >= l) at++;
        if (at == k->n_hold) k->n_hold++;
        until[at] = last;
        for (int bit = 0; bit < 2; bit++)
            if (side[bit].rule >= 0) side[bit].hold = at;
    }
}

static void settle(struct kinds *k, const struct kinds_conf *c)
{
    k->streams = k->alike = true;
    for (int l = 0; l < c->n_layer; l++) {
        int kind = k->side[l][0].prefill;
        if (k->fixed[l] != ROUTE_FULL && kind != ATTN_STREAMING && kind != ATTN_NONE) k->streams = false;
        if (k->fixed[l] == ROUTE_OPEN && (kind == ATTN_LIST || k->side[l][1].prefill != ATTN_FULL))
            k->alike = false;
        for (int bit = 0; bit < 2; bit++) k->side[l][bit].full_head = k->head + (int64_t)l * c->n_head;
    }
}

enum err kinds_open(struct kinds *k, const struct kinds_conf *c, struct err_note *note)
{
    size_t L = (size_t)c->n_layer;
    *k = (struct kinds){
        .side = calloc(L, sizeof *k->side), .fixed = malloc(L), .head = calloc(L, (size_t)c->n_head)};
    int *room = calloc(2 * L, sizeof *room);
    struct reader r = {.conf = c, .out = k, .source = room, .note = note};
    bool plan = c->plan && *c->plan;
    enum err e =
        k->side && k->fixed && k->head && room ? OK : err_set(note, ERR_NOMEM, NULL, "out of memory");
    const char *sparse = c->sparse == ATTN_STREAMING  ? "streaming"
                         : c->sparse == ATTN_TRIANGLE ? "triangle"
                         : c->sparse == ATTN_LIST     ? "xattn"
                                                      : "";
    const char *full = c->full == ATTN_FULL ? "full" : c->full == ATTN_LIST ? "retrieval" : "";
    if (e == OK && !*sparse)
        e = err_set(note, ERR_CONFIG, "--sparse-kind", "must be streaming, triangle or xattn");
    if (e == OK && !*full) e = err_set(note, ERR_CONFIG, "--retrieval-mode", "must be full or xattn");
    for (size_t l = 0; l < L && e == OK; l++) {
        k->fixed[l] = ROUTE_OPEN;
        k->side[l][0] = side_of(find_word(sparse, strlen(sparse)));
        k->side[l][1] = side_of(find_word(full, strlen(full)));
        r.source[l] = -1;
    }
    if (e == OK && plan) e = read_plan(&r);
    if (e == OK) e = link_sources(&r);
    if (e == OK) {
        place_choices(&r, room + L);
        settle(k, c);
    }
    free(room);
    if (e != OK) kinds_free(k);
    return e;
}

void kinds_free(struct kinds *k)
{
    free(k->side);
    free(k->fixed);
    free(k->head);
    *k = (struct kinds){0};
}
