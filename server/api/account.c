/* account: see account.h. */
#include "server/api/account.h"

#include <math.h>

enum { MINUTE_S = 60 };

static void fill(struct http_account *a, int64_t now_ns)
{
    const double most = (double)a->tok_per_minute;
    if (a->at_ns == 0)
        a->tok_left = most;
    else
        a->tok_left += (double)(now_ns - a->at_ns) * 1e-9 * most / MINUTE_S;
    if (a->tok_left > most) a->tok_left = most;
    a->at_ns = now_ns;
}

enum err account_enter(struct http_account *a, int64_t now_ns, int64_t n_prompt_tok, struct err_note *note)
{
    if (!a) return OK;
    if (a->tok_per_minute) fill(a, now_ns);
    enum err e = OK;
    if (a->running_most && a->running >= a->running_most)
        e = err_set(note, ERR_KEY_LIMIT, NULL, "this API key may have %lld requests at the same time",
                    (long long)a->running_most);
    else if (a->tok_per_minute && a->tok_left <= 0)
        e = err_set(note, ERR_KEY_LIMIT, NULL, "this API key may use %lld tokens a minute",
                    (long long)a->tok_per_minute);
    if (e) {
        a->n_refused++;
        return e;
    }
    a->running++;
    a->n_request++;
    a->n_prompt_tok += (uint64_t)n_prompt_tok;
    if (a->tok_per_minute) a->tok_left -= (double)n_prompt_tok;
    return OK;
}

void account_answered(struct http_account *a, int64_t n_tok)
{
    if (!a) return;
    a->n_answer_tok += (uint64_t)n_tok;
    if (a->tok_per_minute) a->tok_left -= (double)n_tok;
}

void account_leave(struct http_account *a)
{
    if (a) a->running--;
}

int account_retry_s(const struct http_account *a)
{
    enum { LONGEST_S = 3600 };
    if (!a || !a->tok_per_minute || a->tok_left > 0) return 1;
    const double s = ceil(-a->tok_left * MINUTE_S / (double)a->tok_per_minute);
    return s < 1 ? 1 : s > LONGEST_S ? LONGEST_S : (int)s;
}

/* --- metrics, by name */

static double requests(const struct http_account *a) { return (double)a->n_request; }
static double refused(const struct http_account *a) { return (double)a->n_refused; }
static double running(const struct http_account *a) { return a->running; }
static double prompt_tok(const struct http_account *a) { return (double)a->n_prompt_tok; }
static double answer_tok(const struct http_account *a) { return (double)a->n_answer_tok; }

static void put_sample(const struct expo *p, const char *name, const char *end, const char *key, double v)
{
    strbuf_printf(p->out, "fluxd_%s%s{", name, end);
    expo_label(p->out, "key", key);
    strbuf_puts(p->out, "} ");
    expo_number(p->out, v);
}

void account_metrics(const struct expo *p, const struct http *h)
{
    static const struct {
        const char *name, *type, *help;
        double (*of)(const struct http_account *a);
    } row[] = {
        {"key_requests", "counter", "Requests that began, by the name of their API key.", requests},
        {"key_refused", "counter", "Requests over a limit of their API key.", refused},
        {"key_running", "gauge", "Requests that run, by the name of their API key.", running},
        {"key_prompt_tokens", "counter", "Prompt tokens, by the name of the API key.", prompt_tok},
        {"key_generation_tokens", "counter", "Generated tokens, by the name of the API key.", answer_tok},
    };
    if (!http_account_next(h, NULL)) return;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *end = row[i].type[0] == 'c' ? "_total" : "";
        double unnamed = 0;
        bool has_unnamed = false;
        expo_family(p, "fluxd_", row[i].name, row[i].type, row[i].help);
        for (const struct http_account *a = NULL; (a = http_account_next(h, a));) {
            if (a->name[0]) {
                put_sample(p, row[i].name, end, a->name, row[i].of(a));
            } else {
                unnamed += row[i].of(a);
                has_unnamed = true;
            }
        }
        if (has_unnamed) put_sample(p, row[i].name, end, "unnamed", unnamed);
    }
}
