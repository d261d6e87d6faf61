/* account: the limits of an API key, as the endpoints hold them. Loop thread. NULL is nobody: no limits.
 *
 * Tokens are a bucket that holds a minute's and fills evenly. A request may begin while it is not empty, and
 * what it turns out to take may leave it in debt: then nobody of that name begins before the debt is filled
 * up. */
#ifndef FLUXD_SERVER_API_ACCOUNT_H
#define FLUXD_SERVER_API_ACCOUNT_H

#include "base/err.h"
#include "server/api/expo.h"
#include "server/http/http.h"

/* ERR_KEY_LIMIT, or it runs from now on. */
enum err account_enter(struct http_account *a, int64_t now_ns, int64_t n_prompt_tok, struct err_note *note);
void account_answered(struct http_account *a, int64_t n_tok); /* of an answer, as they come */
void account_leave(struct http_account *a);
int account_retry_s(const struct http_account *a); /* after it was refused: when another try may help */

void account_metrics(const struct expo *p, const struct http *h);

#endif
