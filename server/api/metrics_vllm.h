/* metrics_vllm: the main metrics again under vLLM's names, which fleet routers, gateways and dashboards read
 * (--vllm-metrics on). Loop thread. */
#ifndef FLUXD_SERVER_API_METRICS_VLLM_H
#define FLUXD_SERVER_API_METRICS_VLLM_H

#include "server/api/app.h"
#include "server/api/expo.h"

struct open_requests {
    double waiting, running;
};

void metrics_vllm(const struct expo *p, const struct app *app, const struct scheduler_stats *s,
                  struct open_requests open);

#endif
