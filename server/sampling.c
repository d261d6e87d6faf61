/* sampling: see sampling.h. */
#include "server/sampling.h"

#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "server/api/app.h"
#include "server/config.h"
#include "server/text/assets.h"

void sampling_settle(struct app *a, const struct config *c, const struct text_assets *t)
{
    const double none = (double)NAN;
    const struct {
        const char *name;
        double setting; /* below 0: not set */
        double file;    /* NaN: not said */
        double otherwise, *to;
    } row[] = {
        {"temperature", c->default_temperature, t->temperature, 1, &a->gen_temperature},
        {"top_p", c->default_top_p, t->top_p, 1, &a->gen_top_p},
        {"min_p", c->default_min_p, none, 0, &a->gen_min_p},
        {"repetition_penalty", c->default_repetition_penalty, t->repetition_penalty, 1,
         &a->gen_repetition_penalty},
    };
    char text[256];
    int n = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const bool set = row[i].setting >= 0, said = !set && !isnan(row[i].file);
        *row[i].to = set ? row[i].setting : row[i].file;
        n += snprintf(text + n, sizeof text - (size_t)n, "%s=%g(%s) ", row[i].name,
                      set    ? row[i].setting
                      : said ? row[i].file
                             : row[i].otherwise,
                      set    ? "setting"
                      : said ? "generation_config.json"
                             : "default");
    }
    const bool set = c->default_top_k >= 0;
    a->gen_top_k = set ? (int)c->default_top_k : t->top_k;
    log_line(LOG_INFO, "requests that name no sampling", "%stop_k=%d(%s)", text,
             a->gen_top_k < 0 ? 0 : a->gen_top_k,
             set             ? "setting"
             : t->top_k >= 0 ? "generation_config.json"
                             : "default");
}
