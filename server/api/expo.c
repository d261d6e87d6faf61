/* expo: see expo.h. */
#include "server/api/expo.h"

#include <math.h>
#include <string.h>

void expo_family(const struct expo *p, const char *prefix, const char *name, const char *type,
                 const char *help)
{
    const char *total = p->format == METRICS_TEXT && !strcmp(type, "counter") ? "_total" : "";
    strbuf_printf(p->out, "# HELP %s%s%s %s\n# TYPE %s%s%s %s\n", prefix, name, total, help, prefix, name,
                  total, type);
}

void expo_number(struct strbuf *out, double v)
{
    if (v == floor(v) && fabs(v) < 9e15)
        strbuf_printf(out, "%.0f\n", v);
    else
        strbuf_printf(out, "%.15g\n", v);
}

void expo_single(const struct expo *p, const char *prefix, const char *name, const char *type,
                 const char *help, double v)
{
    expo_family(p, prefix, name, type, help);
    strbuf_printf(p->out, "%s%s%s ", prefix, name, !strcmp(type, "counter") ? "_total" : "");
    expo_number(p->out, v);
}

void expo_bucket(const struct expo *p, const char *prefix, const char *name, double bound, double cumulated)
{
    strbuf_printf(p->out, "%s%s_bucket{%s%s", prefix, name, p->also ? p->also : "", p->also ? "," : "");
    if (isinf(bound))
        strbuf_puts(p->out, "le=\"+Inf\"} ");
    else
        strbuf_printf(p->out, "le=\"%.15g%s\"} ", bound,
                      bound == floor(bound) && p->format == METRICS_OPEN ? ".0" : "");
    expo_number(p->out, cumulated);
}

/* The buckets are read once, and the count is their sum: a scrape amid an observation is consistent in
 * itself. */
static double buckets(const struct expo *p, const char *prefix, const char *name, const struct sched_hist *h,
                      const double *bound, double unit)
{
    double n = 0;
    for (int i = 0; i < HIST_BUCKETS; i++) {
        n += LOAD(h->bucket[i]);
        expo_bucket(p, prefix, name, bound[i] * unit, n);
    }
    return n;
}

static void sum_and_count(const struct expo *p, const char *prefix, const char *name, double sum, double n)
{
    const char *open = p->also ? "{" : "", *also = p->also ? p->also : "", *shut = p->also ? "}" : "";
    strbuf_printf(p->out, "%s%s_sum%s%s%s ", prefix, name, open, also, shut);
    expo_number(p->out, sum);
    strbuf_printf(p->out, "%s%s_count%s%s%s ", prefix, name, open, also, shut);
    expo_number(p->out, n);
}

void expo_histogram(const struct expo *p, const char *prefix, const char *name, const char *help,
                    const struct sched_hist *h)
{
    expo_family(p, prefix, name, "histogram", help);
    const double n = buckets(p, prefix, name, h, sched_hist_bound_s, 1);
    sum_and_count(p, prefix, name, LOAD(h->sum) * 1e-9, n);
}

void expo_counts(const struct expo *p, const char *prefix, const char *name, const char *help,
                 const struct sched_hist *h)
{
    expo_family(p, prefix, name, "histogram", help);
    const double n = buckets(p, prefix, name, h, sched_hist_bound_n, 1);
    sum_and_count(p, prefix, name, LOAD(h->sum), n);
}

void expo_micros(const struct expo *p, const char *prefix, const char *name, const char *help,
                 const struct sched_hist *h)
{
    expo_family(p, prefix, name, "histogram", help);
    const double n = buckets(p, prefix, name, h, sched_hist_bound_n, 1e-6);
    sum_and_count(p, prefix, name, LOAD(h->sum) * 1e-6, n);
}

/* Backslash, quote and line feed are escaped. */
void expo_label(struct strbuf *out, const char *name, const char *value)
{
    strbuf_printf(out, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '\n') {
            strbuf_puts(out, "\\n");
            continue;
        }
        if (*value == '\\' || *value == '"') strbuf_putc(out, '\\');
        strbuf_putc(out, *value);
    }
    strbuf_putc(out, '"');
}
