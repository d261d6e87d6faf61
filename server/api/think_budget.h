/* think_budget: how many tokens an answer may think. Where they are used up, the tokens that end the thought
 * come next, whatever the model says; the answer's own constraint goes on behind them. A guide around the
 * request's guide: a function of the tokens alone, so the answer is the same in any batch. */
#ifndef FLUXD_SERVER_API_THINK_BUDGET_H
#define FLUXD_SERVER_API_THINK_BUDGET_H

#include "server/api/prep.h"

/* For each request of a, whose guides are made. Memory is a's. */
enum err think_budget_add(struct ask *a, const struct prep_env *env, int32_t tokens, struct err_note *note);

#endif
