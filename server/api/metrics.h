/* metrics: the Prometheus page. Loop thread; it reads counters and takes no lock. */
#ifndef FLUXD_SERVER_API_METRICS_H
#define FLUXD_SERVER_API_METRICS_H

#include <stdbool.h>

#include "base/strbuf.h"
#include "server/api/app.h"

enum metrics_format { METRICS_TEXT /* Prometheus text 0.0.4 */, METRICS_OPEN /* OpenMetrics 1.0 */ };

enum metrics_format metrics_choose(const char *accept); /* by the Accept header, which may be NULL */
const char *metrics_content_type(enum metrics_format f);
void metrics_write(struct strbuf *out, struct app *app, enum metrics_format f);

#endif
