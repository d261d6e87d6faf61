/* origin: see the header. Names and schemes compare without case (RFC 9110, 4.2.3), a name may end in the dot
 * of the root, and a port that is the scheme's own may be left out. */
#include "server/http/origin.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

struct authority {
    const char *name; /* an IPv6 address with its brackets */
    size_t n_name;
    long port; /* -1: none */
};

static bool equals(struct origin_text t, const char *word)
{
    return t.n == strlen(word) && !strncasecmp(t.p, word, t.n);
}

static bool same_text(const char *a, size_t n_a, const char *b, size_t n_b)
{
    return n_a == n_b && !strncasecmp(a, b, n_a);
}

static bool is_name_char(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '.' ||
           c == '_';
}

/* --- parts of an authority */

/* ":" and digits, or nothing. An empty port is none (RFC 3986, 3.2.3). */
static bool read_port(const char *p, size_t n, long *port)
{
    *port = -1;
    if (n == 0) return true;
    if (*p != ':' || n > 6) return false;
    long v = 0;
    for (size_t i = 1; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        v = v * 10 + (p[i] - '0');
    }
    if (n > 1) *port = v;
    return v <= 65535;
}

static bool is_address(const char *p, size_t n, int family)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char out[sizeof(struct in6_addr)];
    if (n >= sizeof text) return false;
    memcpy(text, p, n);
    text[n] = '\0';
    return strlen(text) == n && inet_pton(family, text, out) == 1;
}

static bool read_authority(struct authority *a, const char *p, size_t n)
{
    const char *end = n > 0 && *p == '[' ? memchr(p, ']', n) : NULL;
    size_t name = 0;
    if (end) {
        name = (size_t)(end - p) + 1;
        if (!is_address(p + 1, name - 2, AF_INET6)) return false;
    } else {
        while (name < n && is_name_char(p[name])) name++;
    }
    *a = (struct authority){.name = p, .n_name = name};
    return name > 0 && read_port(p + name, n - name, &a->port);
}

/* --- lists */

/* The next part of a list, without spaces around it; false at the list's end. Empty parts are passed over. */
static bool next_part(const char **list, struct origin_text *part)
{
    const char *p = *list ? *list : "";
    p += strspn(p, ", \t");
    part->p = p;
    part->n = strcspn(p, ",");
    *list = p + part->n;
    while (part->n > 0 && (p[part->n - 1] == ' ' || p[part->n - 1] == '\t')) part->n--;
    return part->n > 0;
}

/* --- hosts */

static size_t without_dot(const char *name, size_t n) { return n > 1 && name[n - 1] == '.' ? n - 1 : n; }

/* RFC 6761, 6.3: localhost and all names under it are this machine. */
static bool is_loopback_name(const char *name, size_t n)
{
    static const char word[] = ".localhost";
    const size_t m = sizeof word - 1;
    return same_text(name, n, word + 1, m - 1) ||
           (n > m && !strncasecmp(name + n - m, word, m) && name[0] != '.');
}

static bool host_is_fine(struct origin_text host, const char *allowed)
{
    struct authority a;
    if (!read_authority(&a, host.p, host.n)) return false;
    const size_t n = without_dot(a.name, a.n_name);
    if (a.name[0] == '[' || is_address(a.name, n, AF_INET) || is_loopback_name(a.name, n)) return true;
    struct origin_text part;
    while (next_part(&allowed, &part))
        if (same_text(part.p, without_dot(part.p, part.n), a.name, n)) return true;
    return false;
}

/* --- origins */

/* scheme://authority and nothing behind it. */
static bool read_origin(struct origin_text o, struct origin_text *scheme, struct authority *a)
{
    size_t n = 0;
    while (n < o.n && (is_name_char(o.p[n]) || o.p[n] == '+') && o.p[n] != '_') n++;
    if (n == 0 || o.n - n < 3 || memcmp(o.p + n, "://", 3) != 0) return false;
    *scheme = (struct origin_text){o.p, n};
    return read_authority(a, o.p + n + 3, o.n - n - 3);
}

static long port_of(struct origin_text scheme, const struct authority *a)
{
    return a->port >= 0 ? a->port : equals(scheme, "http") ? 80 : equals(scheme, "https") ? 443 : -1;
}

/* Ours is what Host names, by whichever of the two schemes the browser came: there may be TLS in front. */
static bool is_own(struct origin_text origin, struct origin_text host)
{
    struct origin_text scheme;
    struct authority a, h;
    if (!host.p || !read_origin(origin, &scheme, &a) || !read_authority(&h, host.p, host.n)) return false;
    return (equals(scheme, "http") || equals(scheme, "https")) &&
           same_text(a.name, a.n_name, h.name, h.n_name) && port_of(scheme, &a) == port_of(scheme, &h);
}

static bool stands_in(struct origin_text origin, const char *pages)
{
    struct origin_text part, scheme, its;
    struct authority a, b;
    if (!read_origin(origin, &scheme, &a)) return false;
    while (next_part(&pages, &part))
        if (read_origin(part, &its, &b) && same_text(scheme.p, scheme.n, its.p, its.n) &&
            same_text(a.name, a.n_name, b.name, b.n_name) && port_of(scheme, &a) == port_of(its, &b))
            return true;
    return false;
}

/* --- a request */

/* White space at the end is no part of a header's value (RFC 9110, 5.5), and the HTTP library may leave it
 * there. */
static struct origin_text without_space(const char *p, size_t n)
{
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    return (struct origin_text){p, n};
}

void origin_header(struct origin_seen *s, const char *name, size_t n_name, const char *value, size_t n_value)
{
    const struct {
        const char *name;
        struct origin_text *to;
    } want[] = {{"Host", &s->host},
                {"Origin", &s->origin},
                {"Sec-Fetch-Site", &s->site},
                {"Sec-Fetch-Mode", &s->mode}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        if (!same_text(name, n_name, want[i].name, strlen(want[i].name))) continue;
        s->twice |= want[i].to->p != NULL;
        *want[i].to = without_space(value ? value : "", value ? n_value : 0);
    }
}

bool origin_is_listed(const struct origin_rules *r, const struct origin_seen *s)
{
    return s->origin.p && !s->twice && stands_in(s->origin, r->pages);
}

/* A page of the same site is another's too: it sends an Origin, or, where it reads nothing, only this word.
 */
static bool page_is_fine(const struct origin_rules *r, const struct origin_seen *s)
{
    if (s->twice) return false;
    if (s->page && s->mode.p && equals(s->mode, "navigate")) return true;
    if (origin_is_listed(r, s)) return true;
    if (s->origin.p && !is_own(s->origin, s->host)) return false;
    return !s->site.p || equals(s->site, "same-origin") || equals(s->site, "none");
}

enum err origin_verdict(const struct origin_rules *r, const struct origin_seen *s, struct err_note *note)
{
    if (r->host && s->host.p && !host_is_fine(s->host, r->hosts))
        return err_set(
            note, ERR_FORBIDDEN, NULL,
            "the Host header names neither an address nor localhost; other names of this server must stand "
            "in its --allowed-hosts");
    if (r->origin && !page_is_fine(r, s))
        return err_set(
            note, ERR_FORBIDDEN, NULL,
            "the request comes from a web page of another origin; pages that may call this server must "
            "stand in its --cors-origins");
    return OK;
}

/* --- what an operator gives */

enum err origin_check_hosts(const char *list, struct err_note *note)
{
    struct origin_text part;
    struct authority a;
    while (next_part(&list, &part))
        if (!read_authority(&a, part.p, part.n) || a.n_name != part.n)
            return err_set(
                note, ERR_CONFIG, "--allowed-hosts",
                "\"%.*s\" is no host name; give names without scheme and port, separated by commas",
                part.n < 100 ? (int)part.n : 100, part.p);
    return OK;
}

enum err origin_check_pages(const char *list, struct err_note *note)
{
    struct origin_text part, scheme;
    struct authority a;
    while (next_part(&list, &part))
        if (!read_origin(part, &scheme, &a))
            return err_set(
                note, ERR_CONFIG, "--cors-origins",
                "\"%.*s\" is no origin; give scheme://host or scheme://host:port, no path, separated by commas",
                part.n < 100 ? (int)part.n : 100, part.p);
    return OK;
}
