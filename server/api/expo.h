/* expo: the grammar of Prometheus' text format and of OpenMetrics. A family is written whole: HELP, TYPE,
 * then its samples. OpenMetrics differs in three places: a counter's family has no _total, the page ends with
 * # EOF, and bounds are written as floats. Loop thread. */
#ifndef FLUXD_SERVER_API_EXPO_H
#define FLUXD_SERVER_API_EXPO_H

#include <stdatomic.h>

#include "base/strbuf.h"
#include "scheduler/scheduler.h"
#include "server/api/metrics.h"

#define LOAD(x) ((double)atomic_load_explicit(&(x), memory_order_relaxed))

struct expo {
    struct strbuf *out;
    enum metrics_format format;
    const char *also; /* a label for every sample of a histogram, or NULL */
};

/* type: "counter", "gauge" or "histogram"; names are without the counters' _total. */
void expo_family(const struct expo *p, const char *prefix, const char *name, const char *type,
                 const char *help);
void expo_number(struct strbuf *out, double v);
/* A family of one sample without labels. */
void expo_single(const struct expo *p, const char *prefix, const char *name, const char *type,
                 const char *help, double v);
void expo_bucket(const struct expo *p, const char *prefix, const char *name, double bound, double cumulated);
/* Of times, in seconds; of numbers; of short times that were counted in microseconds, in seconds. */
void expo_histogram(const struct expo *p, const char *prefix, const char *name, const char *help,
                    const struct sched_hist *h);
void expo_counts(const struct expo *p, const char *prefix, const char *name, const char *help,
                 const struct sched_hist *h);
void expo_micros(const struct expo *p, const char *prefix, const char *name, const char *help,
                 const struct sched_hist *h);
void expo_label(struct strbuf *out, const char *name, const char *value);

#endif
