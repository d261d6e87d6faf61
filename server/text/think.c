/* think: see think.h. Neither tag has its first byte twice, so a byte that does not go on with one can only
 * begin it anew. */
#include "server/text/think.h"

#include <string.h>

static const char OPEN[] = "<think>", CLOSE[] = "</think>";

void think_init(struct think *t, bool open)
{
    *t = (struct think){.at = open ? THINK_REASONS : THINK_HEAD, .blank = open};
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static void pass(struct think *t, const char *p, size_t n, struct strbuf *to)
{
    size_t i = 0;
    while (t->blank && i < n && is_blank(p[i])) i++;
    t->blank = t->blank && i == n;
    strbuf_put(to, p + i, n - i);
}

/* One byte while a tag is looked for. */
static void seek(struct think *t, char c, struct strbuf *reason, struct strbuf *out)
{
    const bool head = t->at == THINK_HEAD;
    const char *tag = head ? OPEN : CLOSE;
    if (c == tag[t->n_held]) {
        if (tag[++t->n_held]) return;
        *t = (struct think){.at = head ? THINK_REASONS : THINK_SAYS, .blank = true};
        return;
    }
    pass(t, tag, t->n_held, head ? out : reason);
    t->n_held = 0;
    if (head)
        t->at = THINK_SAYS; /* only an answer's head may open it */
    else if (c == tag[0])
        t->n_held = 1;
    if (t->n_held == 0) pass(t, &c, 1, head ? out : reason);
}

void think_feed(struct think *t, const char *p, size_t n, struct strbuf *reason, struct strbuf *out)
{
    size_t i = 0;
    for (; i < n && t->at != THINK_SAYS; i++) seek(t, p[i], reason, out);
    pass(t, p + i, n - i, out);
}

void think_end(struct think *t, struct strbuf *reason, struct strbuf *out)
{
    if (t->at != THINK_SAYS)
        pass(t, t->at == THINK_HEAD ? OPEN : CLOSE, t->n_held, t->at == THINK_HEAD ? out : reason);
    t->n_held = 0;
}

bool think_is_open(const char *p, size_t n, bool tail)
{
    const size_t n_open = sizeof OPEN - 1;
    size_t end = n;
    while (tail && end > 0 && is_blank(p[end - 1])) end--;
    if (tail) return end >= n_open && !memcmp(p + end - n_open, OPEN, n_open);
    bool open = false;
    for (const char *at = p; (at = memchr(at, '<', (size_t)(p + n - at))) != NULL; at++) {
        const size_t left = (size_t)(p + n - at);
        if (left >= n_open && !memcmp(at, OPEN, n_open)) open = true;
        if (left >= n_open + 1 && !memcmp(at, CLOSE, n_open + 1)) open = false;
    }
    return open;
}
