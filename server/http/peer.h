/* peer: who is at the other end: the address of the socket, or, behind proxies that the operator trusts, the
 * one that they tell. Pure. */
#ifndef FLUXD_SERVER_HTTP_PEER_H
#define FLUXD_SERVER_HTTP_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

enum { PEER_NETS_MOST = 64, PEER_LINES_MOST = 16, PEER_TEXT_BYTES = 48 };

enum peer_kind { PEER_UNKNOWN, PEER_UNIX, PEER_IPV4, PEER_IPV6 };

struct peer {
    enum peer_kind kind;
    uint8_t a[16]; /* IPv4: the first four */
};

/* --trusted-proxies: addresses and networks, and the word unix for unix sockets, separated by commas. */
struct peer_nets {
    struct {
        struct peer at;
        int bits;
    } net[PEER_NETS_MOST];
    int n;
    bool unix_sockets;
};
enum err peer_nets_read(struct peer_nets *out, const char *list, struct err_note *note);

/* Who counts as one client: an IPv4 address; the first 64 bits of an IPv6 address, which are one
 * subscriber's; all of unix sockets together. */
struct peer_who {
    uint64_t hi, lo;
};
struct peer_who peer_who(const struct peer *p);
bool peer_is_trusted(const struct peer_nets *trusted, const struct peer *p);

void peer_of_socket(struct peer *out,
                    const struct sockaddr_storage *addr); /* an IPv4 address in IPv6 is IPv4 */
const char *peer_text(const struct peer *p, char out[PEER_TEXT_BYTES]);

/* X-Forwarded-For: its lines, zero first, then every header. */
struct peer_told {
    struct {
        const char *p;
        size_t n;
    } line[PEER_LINES_MOST];
    int n; /* more than PEER_LINES_MOST: none counts */
};
void peer_header(struct peer_told *t, const char *name, size_t n_name, const char *value, size_t n_value);

/* From the socket's end on: while an address is a trusted proxy's, the one that it tells comes next.
 * Something that is no address ends this. */
void peer_behind(struct peer *p, const struct peer_nets *trusted, const struct peer_told *told);

#endif
