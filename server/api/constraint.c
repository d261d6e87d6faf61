/* constraint: see constraint.h. A list of grammars, those used last in front. The list has one reference of
 * each; who has no other is dropped from the end when bytes are needed. How much a grammar has learnt is
 * known to the thread that asks it alone, which writes it down when an answer ends. */
#include "server/api/constraint.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"

struct constraint {
    struct list node; /* in constraints.list */
    atomic_int refs;
    struct grammar *grammar;
    _Atomic size_t bytes;
    uint64_t hash;
    char *key;
    size_t n_key;
};

struct constraints {
    struct constraint_conf conf;
    struct constraint_stats stats;
    uv_mutex_t lock; /* of all below, and of the histogram */
    struct list list;
    struct grammar_vocab *vocab; /* made for the first request that needs it */
    uint8_t hash_key[16];
};

struct constraints *constraints_new(const struct constraint_conf *conf)
{
    struct constraints *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->conf = *conf;
    list_init(&c->list);
    hash_random_key(c->hash_key);
    if (uv_mutex_init(&c->lock) == 0) return c;
    free(c);
    return NULL;
}

static void drop(struct constraint *g)
{
    list_remove(&g->node);
    grammar_give(g->grammar);
    free(g->key);
    free(g);
}

void constraints_free(struct constraints *c)
{
    if (!c) return;
    while (!list_empty(&c->list)) drop(LIST_ITEM(c->list.next, struct constraint, node));
    grammar_vocab_give(c->vocab);
    uv_mutex_destroy(&c->lock);
    free(c);
}

const struct constraint_stats *constraints_stats(const struct constraints *c) { return &c->stats; }
const struct grammar_opts *constraints_opts(const struct constraints *c) { return &c->conf.opts; }

/* --- the vocabulary */

/* A token's bytes as grammars see them: none of those that end an answer; those that are no text behind
 * GRAMMAR_SPECIAL, so that free text may hold them. */
static enum err token_bytes(const struct constraint_conf *f, struct arena *mem, int32_t id,
                            struct grammar_token *out)
{
    *out = (struct grammar_token){"", 0};
    for (int i = 0; i < f->n_eos; i++)
        if (f->eos[i] == id) return OK;
    out->p = tokenizer_bytes(f->tokenizer, id, &out->n);
    if (id < tokenizer_n_piece(f->tokenizer) && !tokenizer_is_special(f->tokenizer, id) && out->n > 0)
        return OK;
    char *p = arena_alloc(mem, out->n + 1);
    if (!p) return ERR_NOMEM;
    p[0] = GRAMMAR_SPECIAL;
    memcpy(p + 1, out->p, out->n);
    *out = (struct grammar_token){p, out->n + 1};
    return OK;
}

static enum err make_vocab(struct constraints *c, struct err_note *note)
{
    const struct constraint_conf *f = &c->conf;
    struct arena mem;
    arena_init(&mem, 0);
    struct grammar_token *token = arena_array(&mem, (size_t)f->n_vocab, sizeof *token);
    enum err e = token ? OK : ERR_NOMEM;
    for (int32_t i = 0; !e && i < f->n_vocab; i++) e = token_bytes(f, &mem, i, &token[i]);
    if (e)
        err_set(note, e, NULL, "%s", err_text(e));
    else
        e = grammar_vocab_new(&c->vocab, token, f->n_vocab, f->eos, f->n_eos, note);
    arena_fini(&mem);
    return e;
}

/* --- looking up and keeping; under the lock */

static struct constraint *find(struct constraints *c, const struct strbuf *key, uint64_t hash)
{
    LIST_EACH (it, &c->list) {
        struct constraint *g = LIST_ITEM(it, struct constraint, node);
        if (g->hash != hash || g->n_key != key->len || memcmp(g->key, key->data, key->len)) continue;
        list_remove(&g->node);
        list_push_front(&c->list, &g->node);
        atomic_fetch_add(&g->refs, 1);
        return g;
    }
    return NULL;
}

static size_t count(struct constraints *c)
{
    size_t sum = 0;
    int64_t n = 0;
    LIST_EACH (it, &c->list) {
        sum += atomic_load(&LIST_ITEM(it, struct constraint, node)->bytes);
        n++;
    }
    atomic_store(&c->stats.bytes, (int64_t)sum);
    atomic_store(&c->stats.n, n);
    return sum;
}

/* The last of those that nobody uses; only the list's own reference is left, and only find makes more. */
static bool evict_one(struct constraints *c)
{
    for (struct list *it = c->list.prev; it != &c->list; it = it->prev) {
        struct constraint *g = LIST_ITEM(it, struct constraint, node);
        if (atomic_load(&g->refs) != 1) continue;
        drop(g);
        atomic_fetch_add(&c->stats.evicted, 1);
        return true;
    }
    return false;
}

static enum err keep(struct constraints *c, struct constraint *g, struct err_note *note)
{
    const size_t most = c->conf.bytes_most;
    list_push_front(&c->list, &g->node); /* with a reference for the caller, so it is not evicted */
    while (count(c) > most)
        if (!evict_one(c)) break;
    if (count(c) <= most) return OK;
    return err_set(note, ERR_OVERLOAD, NULL,
                   "the grammars of running requests take all of --schema-cache-bytes (%zu): try again later",
                   most);
}

/* --- getting one */

static struct constraint *constraint_new(struct grammar *grammar, struct strbuf *key, uint64_t hash)
{
    struct constraint *g = calloc(1, sizeof *g);
    const size_t n = key->len;
    char *text = g ? strbuf_take(key) : NULL;
    if (!text) {
        free(g);
        return NULL;
    }
    *g = (struct constraint){.grammar = grammar, .hash = hash, .key = text, .n_key = n};
    list_init(&g->node);
    atomic_init(&g->refs, 2);
    atomic_init(&g->bytes, grammar_bytes(grammar) + n);
    return g;
}

/* Two workers may compile the same grammar at once; the second one's is let go. */
static enum err add(struct constraints *c, struct grammar *grammar, struct strbuf *key, uint64_t hash,
                    int64_t compile_ns, struct constraint **out, struct err_note *note)
{
    enum err e = OK;
    uv_mutex_lock(&c->lock);
    atomic_fetch_add(&c->stats.compiled, 1);
    sched_hist_time(&c->stats.compile, compile_ns);
    *out = find(c, key, hash);
    if (*out) {
        grammar_give(grammar);
    } else if ((*out = constraint_new(grammar, key, hash))) {
        e = keep(c, *out, note);
        if (e) drop(*out);
        if (e) count(c);
    } else {
        grammar_give(grammar);
        e = err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    }
    uv_mutex_unlock(&c->lock);
    if (e) *out = NULL;
    return e;
}

static enum err look_up(struct constraints *c, const struct strbuf *key, uint64_t hash,
                        struct constraint **out, struct err_note *note)
{
    uv_mutex_lock(&c->lock);
    const enum err e = c->vocab ? OK : make_vocab(c, note);
    *out = e ? NULL : find(c, key, hash);
    uv_mutex_unlock(&c->lock);
    if (*out) atomic_fetch_add(&c->stats.hits, 1);
    return e;
}

enum err constraints_get(struct constraints *c, enum constraint_kind kind, const struct grammar_part *root,
                         const struct grammar_opts *opts, struct constraint **out, struct err_note *note)
{
    struct strbuf key;
    *out = NULL;
    if (!opts) opts = &c->conf.opts;
    strbuf_init(&key);
    strbuf_put(&key, (const char[]){(char)opts->space, (char)opts->format}, 2);
    grammar_part_key(root, &key);
    enum err e = strbuf_failed(&key) ? err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM)) : OK;
    const uint64_t hash = e ? 0 : hash64(c->hash_key, key.data, key.len);
    atomic_fetch_add(&c->stats.asked[kind], 1);
    if (!e) e = look_up(c, &key, hash, out, note);
    if (!e && !*out) {
        struct grammar *g;
        const int64_t t0 = clock_ns();
        e = grammar_compile_parts(&g, c->vocab, root, opts, &c->conf.lim, note);
        if (!e) e = add(c, g, &key, hash, clock_ns() - t0, out, note);
    }
    if (e) atomic_fetch_add(&c->stats.refused, 1);
    strbuf_fini(&key);
    return e;
}

enum err constraints_behind(struct constraints *c, enum constraint_kind kind, const struct grammar_part *body,
                            const struct constraint_thought *t, const struct grammar_opts *opts,
                            struct constraint **out, struct err_note *note)
{
    static const char space[] = "[ \\t\\r\\n]{0,8}";
    if (t->n_close == 0) return constraints_get(c, kind, body, opts, out, note);
    const struct grammar_part open = {.kind = GRAMMAR_MARK, .text = t->open, .n = t->n_open};
    const struct grammar_part behind[] = {
        open,
        {.kind = GRAMMAR_UNTIL, .text = t->close, .n = t->n_close},
        {.kind = GRAMMAR_BODY, .body = GRAMMAR_REGEX, .text = space, .n = sizeof space - 1},
        *body};
    const struct grammar_part thought = {
        .kind = GRAMMAR_SEQ, .part = behind + t->is_open, .n_part = t->is_open ? 3u : 4u};
    const struct grammar_part ways[] = {thought, *body};
    const struct grammar_part root = {.kind = GRAMMAR_ALT, .part = ways, .n_part = t->is_open ? 1u : 2u};
    return constraints_get(c, kind, &root, opts, out, note);
}

/* The list's own reference is the last one, and goes under the lock. */
void constraint_give(struct constraint *c)
{
    if (c) atomic_fetch_sub(&c->refs, 1);
}

/* --- guides */

enum { FORCED_BYTES = 128, FORCED_MOST = 32 };

struct answer_guide {
    struct guide guide; /* first */
    struct constraint *constraint;
    const struct tokenizer *tokenizer;
    struct grammar_matcher *matcher; /* from the first mask to the end */
    int32_t forced[FORCED_MOST];     /* [n_forced] from at_forced on they come next */
    int n_forced, at_forced;
};

static enum err told(const struct answer_guide *g, enum err e, struct err_note *note)
{
    const char *limit = grammar_limit(g->constraint->grammar);
    if (e == OK) return OK;
    if (e == ERR_UNSUPPORTED && limit)
        return err_set(note, e, NULL,
                       "the answer's constraint goes beyond the limit on %s here: see /v1/limits", limit);
    return err_set(note, e == ERR_INVALID_VALUE ? ERR_INTERNAL : e, NULL, "%s", err_text(e));
}

static enum err guide_mask(struct guide *guide, uint32_t *bits, struct err_note *note)
{
    struct answer_guide *g = (struct answer_guide *)guide;
    enum err e = g->matcher ? OK : grammar_matcher_new(&g->matcher, g->constraint->grammar);
    return told(g, e ? e : grammar_matcher_mask(g->matcher, bits), note);
}

static bool spell(const struct tokenizer *t, const struct token_vec *ids, const char *p, size_t n)
{
    for (size_t i = 0, k; i < ids->n; i++, p += k, n -= k) {
        const char *s = tokenizer_bytes(t, ids->id[i], &k);
        if (k == 0 || k > n || memcmp(s, p, k) != 0) return false;
    }
    return n == 0;
}

/* Where one text alone may follow, its tokens as the tokenizer cuts it, but for those at its end which the
 * tokenizer might join with what comes behind. What the tokenizer cannot do is sampled. */
static void find_forced(struct answer_guide *g)
{
    char text[FORCED_BYTES];
    struct token_vec ids = {0};
    const size_t n = grammar_matcher_forced(g->matcher, text, sizeof text);
    g->n_forced = g->at_forced = 0;
    if (n == 0 || memchr(text, GRAMMAR_SPECIAL, n)) return;
    if (!tokenizer_encode(g->tokenizer, text, n, 0, &ids, NULL) && spell(g->tokenizer, &ids, text, n)) {
        const size_t most = ids.n < FORCED_MOST ? ids.n : FORCED_MOST;
        const size_t settled = grammar_vocab_settled(grammar_vocab_of(g->constraint->grammar), ids.id, ids.n);
        g->n_forced = (int)(settled < most ? settled : most);
        memcpy(g->forced, ids.id, (size_t)g->n_forced * sizeof *g->forced);
    }
    token_vec_fini(&ids);
}

static enum err guide_take(struct guide *guide, int32_t token, struct err_note *note)
{
    struct answer_guide *g = (struct answer_guide *)guide;
    const enum err e = grammar_matcher_accept(g->matcher, token);
    if (!e && g->at_forced < g->n_forced && g->forced[g->at_forced] == token)
        g->at_forced++;
    else
        g->n_forced = g->at_forced = 0;
    if (!e && g->at_forced == g->n_forced) find_forced(g);
    return told(g, e, note);
}

static int32_t constraint_only(struct guide *guide)
{
    const struct answer_guide *g = (const struct answer_guide *)guide;
    return g->at_forced < g->n_forced ? g->forced[g->at_forced] : GUIDE_MASK;
}

static bool guide_whole(struct guide *guide)
{
    const struct answer_guide *g = (const struct answer_guide *)guide;
    return g->matcher && grammar_matcher_done(g->matcher);
}

static void guide_end(struct guide *guide)
{
    struct answer_guide *g = (struct answer_guide *)guide;
    if (!g->matcher) return;
    grammar_matcher_free(g->matcher);
    g->matcher = NULL;
    atomic_store(&g->constraint->bytes, grammar_bytes(g->constraint->grammar) + g->constraint->n_key);
}

struct guide *constraint_guide(struct constraint *c, const struct tokenizer *t, struct arena *mem)
{
    static const struct guide_ops ops = {.mask = guide_mask,
                                         .take = guide_take,
                                         .whole = guide_whole,
                                         .only = constraint_only,
                                         .end = guide_end};
    struct answer_guide *g = arena_alloc(mem, sizeof *g);
    if (!g) return NULL;
    *g = (struct answer_guide){.guide.op = &ops, .constraint = c, .tokenizer = t};
    return &g->guide;
}
