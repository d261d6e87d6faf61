/* examine: the first look at a request - origin, path, key, media type, length - and what its handler sees of
 * it. Loop thread only. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/http/guard.h"
#include "server/http/internal.h"
#include "server/http/near.h"

const char *http_path_rest(const struct http_call *c) { return c->rest ? c->rest : ""; }
const char *http_request_id(const struct http_call *c) { return c->id; }
struct http_account *http_account(const struct http_call *c) { return c->account; }

/* What all headers together say. */
struct seen {
    struct guard guard;
    struct origin_seen origin;
    struct peer_told told;
    struct trace *trace;
};

static enum MHD_Result see_header(void *arg, enum MHD_ValueKind kind, const char *key, size_t n_key,
                                  const char *value, size_t n_value)
{
    struct seen *s = arg;
    (void)kind;
    guard_header(&s->guard, key, n_key, value ? value : "", value ? n_value : 0);
    origin_header(&s->origin, key, n_key, value, n_value);
    peer_header(&s->told, key, n_key, value, n_value);
    trace_header(s->trace, key, n_key, value, n_value);
    return MHD_YES;
}

static enum http_method method_of(const char *word)
{
    if (!strcmp(word, "GET") || !strcmp(word, "HEAD")) /* RFC 9110, 9.3.2; the library leaves the body out */
        return HTTP_GET;
    if (!strcmp(word, "POST")) return HTTP_POST;
    if (!strcmp(word, "DELETE")) return HTTP_DELETE;
    if (!strcmp(word, "OPTIONS")) return HTTP_OPTIONS;
    return HTTP_OTHER;
}

static const char *method_name(enum http_method m)
{
    static const char *const name[] = {
        [HTTP_GET] = "GET, HEAD", [HTTP_POST] = "POST", [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS"};
    return name[m];
}

/* How many bytes of the url the route's "*" takes, and where they begin; 0: it does not match, or has none.
 */
static size_t star_bytes(const struct http_route *r, const char *url, size_t *begin)
{
    const char *star = strchr(r->path, '*');
    if (!star) return 0;
    const size_t before = (size_t)(star - r->path), after = strlen(star + 1), n = strlen(url);
    *begin = before;
    return n > before + after && !strncmp(r->path, url, before) && !strcmp(star + 1, url + n - after)
               ? n - before - after
               : 0;
}

/* How closely a path fits a URL: 0 not at all, 1 by a star at its end, 2 by one with a rest behind it, 3 as
 * it is. */
static int path_fit(const struct http_route *r, const char *url)
{
    size_t begin;
    if (!strcmp(r->path, url)) return 3;
    if (star_bytes(r, url, &begin) == 0) return 0;
    return r->path[begin + 1] ? 2 : 1;
}

static enum err find_route(struct http_call *c, struct err_note *note)
{
    const struct http_conf *conf = &c->http->conf;
    int best = 0; /* a closer path hides the others, whatever their methods: a star stands for slashes too */
    for (int i = 0; i < conf->n_route; i++) {
        const struct http_route *r = &conf->route[i];
        const int fit = path_fit(r, c->url);
        if (fit == 0 || fit < best) continue;
        if (fit > best) {
            best = fit;
            c->route = NULL;
            c->allow[0] = 0;
        }
        if (r->method == method_of(c->method)) c->route = r;
        size_t n = strlen(c->allow);
        snprintf(c->allow + n, sizeof c->allow - n, "%s%s", n ? ", " : "", method_name(r->method));
    }
    if (c->route) return OK;
    if (best) return err_set(note, ERR_METHOD, NULL, "this path takes %s only", c->allow);
    const char *near = near_path(conf->route, conf->n_route, c->url);
    if (near) return err_set(note, ERR_UNKNOWN_URL, NULL, "no such path; did you mean %s?", near);
    return err_set(note, ERR_UNKNOWN_URL, NULL, "no such path; see GET / for what there is");
}

static enum err take_rest(struct http_call *c, struct err_note *note)
{
    size_t begin, n = star_bytes(c->route, c->url, &begin);
    if (n == 0) return OK;
    c->rest = malloc(n + 1);
    if (!c->rest) return err_set(note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (!guard_unescape(c->rest, c->url + begin, n))
        return err_set(note, ERR_UNKNOWN_URL, NULL, "the path holds a bad escape");
    return OK;
}

static enum err check_key(struct http_call *c, const struct guard *g, struct err_note *note)
{
    const struct http_route *r = c->route;
    if (c->http->n_key == 0 || (r && (r->open || (r->scrape && c->http->conf.scrape_open)))) return OK;
    const bool once = g->n_auth <= 1 && g->n_api_key <= 1;
    c->account = http_account_hold(
        once ? http_keys_find(c->http, http_header(c, "Authorization"), http_header(c, "x-api-key")) : NULL);
    if (c->account) return OK;
    const char *why = g->n_auth + g->n_api_key == 0
                          ? "no API key was sent: use \"Authorization: Bearer KEY\" or \"x-api-key: KEY\""
                      : g->n_auth > 1    ? "more than one Authorization header was sent"
                      : g->n_api_key > 1 ? "more than one x-api-key header was sent"
                                         : "the API key is not valid";
    return err_set(note, ERR_UNAUTHORIZED, NULL, "%s", why);
}

/* A preflight is judged where keys are, too: it carries none, and the call behind it is not to be tried. */
static enum err check_origin(struct http_call *c, struct origin_seen *seen, struct err_note *note)
{
    struct origin_rules rules = c->http->origin;
    rules.host |= c->conn->loopback && c->http->n_key == 0; /* what a browser here could be sent to */
    seen->page = method_of(c->method) == HTTP_GET && !strcmp(c->url, "/");
    c->listed = origin_is_listed(&rules, seen);
    const bool preflight = http_cors_asks(c, seen);
    rules.origin |= preflight;
    const enum err e = origin_verdict(&rules, seen, note);
    if (!e && preflight && c->listed) c->route = &http_cors_preflight;
    return e;
}

/* A page may send a form, or text, to anybody without asking first; JSON it may not. So a body says what it
 * is. */
static enum err check_media_type(const struct http_call *c, struct err_note *note)
{
    const char *coding = c->route->json_body ? http_header(c, "Content-Encoding") : NULL;
    const size_t n_identity = strlen("identity");
    if (coding && (strncasecmp(coding, "identity", n_identity) ||
                   coding[n_identity + strspn(coding + n_identity, " \t")]))
        return err_set(note, ERR_MEDIA_TYPE, NULL, "the body must come without a Content-Encoding");
    const char *type = c->route->json_body ? http_header(c, "Content-Type") : NULL;
    if (!type)
        return c->route->json_body && c->has_body
                   ? err_set(note, ERR_MEDIA_TYPE, NULL, "a body needs \"Content-Type: application/json\"")
                   : OK;
    size_t n = strcspn(type, "; \t");
    if (n == strlen("application/json") && !strncasecmp(type, "application/json", n)) return OK;
    return err_set(note, ERR_MEDIA_TYPE, NULL, "%s", err_text(ERR_MEDIA_TYPE));
}

enum err http_call_examine(struct http_call *c, struct err_note *note)
{
    const struct http_conf *conf = &c->http->conf;
    struct seen seen = {.trace = &c->trace};
    MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, see_header, &seen);
    c->has_body = seen.guard.body;
    c->continues =
        seen.guard.expect && c->has_body && strcasecmp(http_header(c, "Expect"), "100-continue") != 0;
    peer_behind(&c->client, &c->http->trusted, &seen.told);

    enum err e = check_origin(c, &seen.origin, note);
    if (c->route) return e;
    if (!e) {
        enum err found = find_route(c, note);
        struct err_note key_note;
        e = check_key(c, &seen.guard, &key_note);
        if (e)
            *note = key_note; /* who has no key learns nothing of paths */
        else
            e = found;
    }
    if (!e) e = take_rest(c, note);
    if (!e) e = check_media_type(c, note);
    if (!e && seen.guard.length > conf->max_body_bytes)
        e = err_set(note, ERR_TOO_LARGE, NULL, "the request body exceeds %zu bytes", conf->max_body_bytes);
    return e;
}
