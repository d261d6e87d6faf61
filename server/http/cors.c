/* cors: pages of the origins that --cors-origins lists, as their browsers ask and read (Fetch standard, 3.2).
 * A preflight comes without the key and gets no more than what may be sent, whatever its path; each answer to
 * a listed page names the page's origin, without which the browser keeps it from the page. Loop thread only.
 */
#include <string.h>

#include "server/http/guard.h"
#include "server/http/internal.h"

enum { ASKED_MOST = 1024, PREFLIGHT_S = 600 };

bool http_cors_asks(const struct http_call *c, const struct origin_seen *seen)
{
    return !strcmp(c->method, "OPTIONS") && !c->has_body && seen->origin.p && !seen->twice &&
           http_header(c, "Access-Control-Request-Method");
}

/* Names of headers, separated by commas. */
static bool is_name_list(const char *p)
{
    const size_t n = strlen(p);
    if (n == 0 || n > ASKED_MOST) return false;
    for (size_t i = 0; i < n; i++)
        if (!guard_is_token_char(p[i]) && p[i] != ',' && p[i] != ' ') return false;
    return true;
}

/* The client libraries send headers of their own, so a listed page may send those that it names. */
static void answer_preflight(struct http_call *c, void *app)
{
    (void)app;
    const char *asked = http_header(c, "Access-Control-Request-Headers");
    const char *private_network = http_header(c, "Access-Control-Request-Private-Network");
    char age[16];
    snprintf(age, sizeof age, "%d", PREFLIGHT_S);
    const char *const row[][2] = {
        {"Access-Control-Allow-Methods", "GET, POST, DELETE"},
        {"Access-Control-Allow-Headers",
         asked && is_name_list(asked) ? asked : "Authorization, Content-Type"},
        {"Access-Control-Max-Age", age},
        {private_network ? "Access-Control-Allow-Private-Network" : NULL, "true"},
    };
    struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i][0]) r = http_with_header(r, row[i][0], row[i][1]);
    if (!c->overtaken)
        http_call_set_response(c, 204, r);
    else if (r)
        MHD_destroy_response(r);
    http_call_finish(c);
}

const struct http_route http_cors_preflight = {
    .method = HTTP_OPTIONS, .open = true, .handle = answer_preflight};
