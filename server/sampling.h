/* sampling: what requests get that say nothing: a setting, else generation_config.json, else OpenAI's. */
#ifndef FLUXD_SERVER_SAMPLING_H
#define FLUXD_SERVER_SAMPLING_H

struct app;
struct config;
struct text_assets;

/* Fills a's gen_...; one line of the log says what holds and who says it. Loop thread. */
void sampling_settle(struct app *a, const struct config *c, const struct text_assets *t);

#endif
