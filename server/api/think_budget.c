/* think_budget: see think_budget.h. */
#include "server/api/think_budget.h"

#include <string.h>

struct budget_guide {
    struct guide guide;  /* first */
    struct guide *inner; /* NULL: none */
    const struct ask *ask;
    const struct tokenizer *tokenizer;
    const int32_t *close; /* [n_close] */
    int n_close, n_words; /* words of a mask */
    int32_t most;         /* tokens of the thought */
    int n_taken, n_put;   /* tokens of the answer; of close, while it is put */
    bool begun, putting, over;
    struct tool_parser parser;
};

static struct budget_guide *of(struct guide *g) { return (struct budget_guide *)g; }

static void hear_nothing(void *arg, const struct tool_event *e)
{
    (void)arg;
    (void)e;
}

static void begin(struct budget_guide *b)
{
    const struct ask *a = b->ask;
    b->begun = true;
    tool_parser_init(&b->parser, a->format, a->tools, a->think_open, hear_nothing, NULL);
    b->putting = b->most == 0 && tool_parser_thinks(&b->parser);
}

static void finish(struct budget_guide *b)
{
    if (b->begun && !b->over) tool_parser_fini(&b->parser);
    b->begun = b->over = true;
    b->putting = false;
}

static int32_t budget_only(struct guide *g)
{
    struct budget_guide *b = of(g);
    if (!b->begun) begin(b);
    if (b->putting) return b->close[b->n_put];
    return b->inner ? guide_only(b->inner) : GUIDE_FREE;
}

/* As the answer's reader has it: special tokens that are no marks are not text. */
static void read_token(struct budget_guide *b, int32_t id)
{
    size_t n;
    const char *p = tokenizer_bytes(b->tokenizer, id, &n);
    if (tokenizer_is_special(b->tokenizer, id) &&
        !tool_format_marks(b->ask->format, b->ask->tools != NULL, p, n))
        return;
    tool_parser_feed(&b->parser, p, n);
}

static enum err budget_mask(struct guide *g, uint32_t *bits, struct err_note *note)
{
    struct budget_guide *b = of(g);
    if (b->inner && !b->putting) return b->inner->op->mask(b->inner, bits, note);
    memset(bits, b->putting ? 0 : 0xFF, (size_t)b->n_words * sizeof *bits);
    if (b->putting) bits[b->close[b->n_put] / 32] |= (uint32_t)1 << b->close[b->n_put] % 32;
    return OK;
}

/* While it thinks, all tokens so far are the thought's. */
static enum err budget_take(struct guide *g, int32_t token, struct err_note *note)
{
    struct budget_guide *b = of(g);
    b->n_taken++;
    if (!b->over) {
        read_token(b, token);
        if (tool_parser_failed(&b->parser)) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        if (b->putting) b->putting = ++b->n_put < b->n_close;
        const bool thinks = tool_parser_thinks(&b->parser);
        if (!b->putting && thinks && b->n_taken >= b->most) {
            b->putting = true;
            b->n_put = 0;
        }
        if (!thinks && !b->putting && !tool_parser_may_think(&b->parser)) finish(b);
    }
    return b->inner ? b->inner->op->take(b->inner, token, note) : OK;
}

static bool budget_whole(struct guide *g)
{
    const struct budget_guide *b = of(g);
    return b->inner && !b->putting && b->inner->op->whole(b->inner);
}

static void budget_end(struct guide *g)
{
    struct budget_guide *b = of(g);
    finish(b);
    if (b->inner) b->inner->op->end(b->inner);
}

/* The mark as the templates write it: on a line of its own, with an empty one behind. */
static enum err close_ids(struct ask *a, const struct prep_env *env, const int32_t **id, int *n,
                          struct err_note *note)
{
    const bool line = a->format->style != TOOL_CHANNEL;
    struct strbuf text;
    struct token_vec ids = {0};
    strbuf_init(&text);
    strbuf_printf(&text, "%s%s%s", line ? "\n" : "", a->format->think_close, line ? "\n\n" : "");
    enum err e = strbuf_failed(&text) ? ERR_NOMEM
                                      : tokenizer_encode(env->chat.tokenizer, text.data, text.len,
                                                         TOKENIZE_SPECIAL, &ids, note);
    int32_t *own = e ? NULL : arena_array(&a->mem, ids.n + 1, sizeof *own);
    if (own) memcpy(own, ids.id, ids.n * sizeof *own);
    if (!e && !own) e = err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    *id = own;
    *n = (int)ids.n;
    token_vec_fini(&ids);
    strbuf_fini(&text);
    return e;
}

enum err think_budget_add(struct ask *a, const struct prep_env *env, int32_t tokens, struct err_note *note)
{
    static const struct guide_ops ops = {.mask = budget_mask,
                                         .take = budget_take,
                                         .whole = budget_whole,
                                         .only = budget_only,
                                         .end = budget_end};
    const int32_t *close;
    int n_close;
    if (a->constraint && env->thought.n_close == 0) return OK; /* it leaves no room for thoughts */
    const enum err e = close_ids(a, env, &close, &n_close, note);
    if (e) return e;
    for (int i = 0; i < ask_n_choice(a); i++) {
        struct budget_guide *b = arena_alloc(&a->mem, sizeof *b);
        if (!b) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        *b = (struct budget_guide){.guide.op = &ops,
                                   .inner = a->request[i]->ask.guide,
                                   .ask = a,
                                   .tokenizer = env->chat.tokenizer,
                                   .close = close,
                                   .n_close = n_close,
                                   .n_words = (env->model->n_vocab + 31) / 32,
                                   .most = tokens};
        a->request[i]->ask.guide = &b->guide;
    }
    return OK;
}
