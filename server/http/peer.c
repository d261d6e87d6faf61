/* peer: see the header. */
#include "server/http/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void take_ipv6(struct peer *out, const struct in6_addr *a)
{
    const bool mapped = IN6_IS_ADDR_V4MAPPED(a);
    *out = (struct peer){.kind = mapped ? PEER_IPV4 : PEER_IPV6};
    memcpy(out->a, mapped ? &a->s6_addr[12] : a->s6_addr, mapped ? 4 : 16);
}

void peer_of_socket(struct peer *out, const struct sockaddr_storage *addr)
{
    *out = (struct peer){.kind = addr->ss_family == AF_UNIX ? PEER_UNIX : PEER_UNKNOWN};
    if (addr->ss_family == AF_INET6) take_ipv6(out, &((const struct sockaddr_in6 *)addr)->sin6_addr);
    if (addr->ss_family != AF_INET) return;
    out->kind = PEER_IPV4;
    memcpy(out->a, &((const struct sockaddr_in *)addr)->sin_addr, 4);
}

/* A numeric address, nothing around it. */
static bool read_address(struct peer *out, const char *p, size_t n)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr six;
    if (n == 0 || n >= sizeof text || memchr(p, '\0', n)) return false;
    memcpy(text, p, n);
    text[n] = '\0';
    *out = (struct peer){.kind = PEER_IPV4};
    if (inet_pton(AF_INET, text, out->a) == 1) return true;
    if (inet_pton(AF_INET6, text, &six) != 1) return false;
    take_ipv6(out, &six);
    return true;
}

struct peer_who peer_who(const struct peer *p)
{
    struct peer_who who = {.hi = (uint64_t)p->kind};
    memcpy(&who.lo, p->a, sizeof who.lo);
    return who;
}

const char *peer_text(const struct peer *p, char out[PEER_TEXT_BYTES])
{
    if (p->kind == PEER_UNIX) return "unix";
    if (p->kind == PEER_UNKNOWN ||
        !inet_ntop(p->kind == PEER_IPV4 ? AF_INET : AF_INET6, p->a, out, PEER_TEXT_BYTES))
        return "unknown";
    return out;
}

/* --- networks */

static bool same_bits(const uint8_t *a, const uint8_t *b, int bits)
{
    const int whole = bits / 8, rest = bits % 8;
    return !memcmp(a, b, (size_t)whole) && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

bool peer_is_trusted(const struct peer_nets *t, const struct peer *p)
{
    if (p->kind == PEER_UNIX) return t->unix_sockets;
    for (int i = 0; i < t->n; i++)
        if (t->net[i].at.kind == p->kind && same_bits(t->net[i].at.a, p->a, t->net[i].bits)) return true;
    return false;
}

/* "a.b.c.d/n", or without /n one address. A bit behind the n first is a mistake. */
static bool read_net(struct peer *at, int *bits, const char *p, size_t n)
{
    const char *slash = memchr(p, '/', n);
    if (!read_address(at, p, slash ? (size_t)(slash - p) : n)) return false;
    const int most = at->kind == PEER_IPV4 ? 32 : 128;
    *bits = most;
    if (slash) {
        char number[4];
        const size_t len = (size_t)(p + n - slash) - 1;
        if (len == 0 || len >= sizeof number || strspn(slash + 1, "0123456789") < len) return false;
        memcpy(number, slash + 1, len);
        number[len] = '\0';
        *bits = atoi(number);
    }
    if (*bits > most) return false;
    for (int i = *bits; i < most; i++)
        if (at->a[i / 8] & (0x80 >> i % 8)) return false;
    return true;
}

enum err peer_nets_read(struct peer_nets *out, const char *list, struct err_note *note)
{
    *out = (struct peer_nets){.n = 0};
    const char *p = list ? list : "";
    while (*(p += strspn(p, ", \t"))) {
        size_t n = strcspn(p, ",");
        const char *next = p + n;
        while (p[n - 1] == ' ' || p[n - 1] == '\t') n--;
        if (n == 4 && !memcmp(p, "unix", 4)) {
            out->unix_sockets = true;
        } else if (out->n == PEER_NETS_MOST) {
            return err_set(note, ERR_CONFIG, "--trusted-proxies", "names more than %d networks",
                           PEER_NETS_MOST);
        } else if (!read_net(&out->net[out->n].at, &out->net[out->n].bits, p, n)) {
            return err_set(
                note, ERR_CONFIG, "--trusted-proxies",
                "\"%.*s\" is no address and no network like 10.0.0.0/8 or fd00::/8 (bits behind the "
                "first are 0)",
                n < 60 ? (int)n : 60, p);
        } else {
            out->n++;
        }
        p = next;
    }
    return OK;
}

/* --- what proxies tell */

void peer_header(struct peer_told *t, const char *name, size_t n_name, const char *value, size_t n_value)
{
    static const char word[] = "X-Forwarded-For";
    if (n_name != sizeof word - 1 || strncasecmp(name, word, n_name) != 0) return;
    if (t->n < PEER_LINES_MOST) {
        t->line[t->n].p = value ? value : "";
        t->line[t->n].n = value ? n_value : 0;
    }
    t->n++;
}

/* An address, alone, with a port, or in brackets as some proxies write it. */
static bool read_told(struct peer *out, const char *p, size_t n)
{
    while (n > 0 && (*p == ' ' || *p == '\t')) p++, n--;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    if (n > 0 && *p == '[') {
        const char *close = memchr(p, ']', n);
        return close && read_address(out, p + 1, (size_t)(close - p) - 1) && out->kind != PEER_UNKNOWN;
    }
    const char *colon = memchr(p, ':', n);
    const bool port = colon && !memchr(colon + 1, ':', n - (size_t)(colon - p) - 1);
    return read_address(out, p, port ? (size_t)(colon - p) : n);
}

void peer_behind(struct peer *p, const struct peer_nets *trusted, const struct peer_told *told)
{
    if (told->n > PEER_LINES_MOST) return;
    for (int i = told->n - 1; i >= 0; i--) {
        const char *line = told->line[i].p;
        size_t n = told->line[i].n;
        for (bool more = true; more;) {
            if (!peer_is_trusted(trusted, p)) return;
            size_t at = n;
            while (at > 0 && line[at - 1] != ',') at--;
            struct peer next;
            if (!read_told(&next, line + at, n - at)) return;
            *p = next;
            more = at > 0;
            n = more ? at - 1 : 0;
        }
    }
}
