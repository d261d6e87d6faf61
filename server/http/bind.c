/* bind: see the header. "::" takes both families, unless an IPv4 address is listed as well; of a name with
 * several addresses those are left out that this machine does not have. */
#include "server/http/bind.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/http/place.h"

enum {
    PORT_TRIES = 16,  /* for a free port that all addresses have */
    LOCK_TRIES = 100, /* for the folder of a socket */
    LOCK_STEP_US = 10000
};

/* One address that a place came to. */
struct target {
    struct sockaddr_storage addr;
    socklen_t n_addr;
    bool optional; /* one of several that a name has */
    const char *host;
};

struct targets {
    struct place place[PLACES_MOST];
    struct target at[BOUND_MOST];
    int n_place, n;
    bool has_ipv4;
};

/* --- addresses */

static bool known(const struct targets *t, const struct addrinfo *ai)
{
    for (int i = 0; i < t->n; i++)
        if (t->at[i].n_addr == ai->ai_addrlen && !memcmp(&t->at[i].addr, ai->ai_addr, ai->ai_addrlen))
            return true;
    return false;
}

static enum err resolve(struct targets *t, const char *host, struct err_note *note)
{
    struct addrinfo hint = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *all = NULL;
    const int failed = getaddrinfo(host, NULL, &hint, &all);
    if (failed)
        return err_set(note, ERR_CONFIG, "--host", "\"%.100s\" is no address, and as a name: %s", host,
                       gai_strerror(failed));
    for (const struct addrinfo *ai = all; ai && t->n < BOUND_MOST; ai = ai->ai_next) {
        if (known(t, ai) || ai->ai_addrlen > sizeof t->at->addr) continue;
        struct target *to = &t->at[t->n++];
        *to = (struct target){.n_addr = ai->ai_addrlen, .optional = all->ai_next != NULL, .host = host};
        memcpy(&to->addr, ai->ai_addr, ai->ai_addrlen);
        t->has_ipv4 |= ai->ai_family == AF_INET;
    }
    freeaddrinfo(all);
    return OK;
}

static in_port_t *port_at(struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)a)->sin6_port
                                    : &((struct sockaddr_in *)a)->sin_port;
}

static bool is_loopback(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    const struct in6_addr *a = &((const struct sockaddr_in6 *)addr)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == IN_LOOPBACKNET);
}

/* -1 and errno. */
static int listen_on(const struct sockaddr *addr, socklen_t n, bool one_family)
{
    const int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1,
              v6 = one_family;
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (addr->sa_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6, sizeof v6);
    if (bind(fd, addr, n) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static bool may_lack(const struct target *t)
{
    return t->optional && (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT);
}

/* 0, or the errno of the first that failed. */
static int bind_tcp(struct bound_set *out, struct targets *t, int port, const struct target **failed)
{
    out->port = port;
    for (int i = 0; i < t->n; i++) {
        struct target *to = &t->at[i];
        *port_at(&to->addr) = htons((uint16_t)out->port);
        const int fd = listen_on((struct sockaddr *)&to->addr, to->n_addr, t->has_ipv4);
        if (fd < 0 && may_lack(to) && (i + 1 < t->n || out->n > 0)) continue;
        if (fd < 0) {
            *failed = to;
            return errno;
        }
        struct sockaddr_storage got;
        socklen_t n = sizeof got;
        getsockname(fd, (struct sockaddr *)&got, &n);
        out->port = ntohs(*port_at(&got));
        out->at[out->n++] = (struct bound){.fd = fd, .loopback = is_loopback(&got)};
    }
    return 0;
}

static void close_all(struct bound_set *out)
{
    while (out->n > 0) bind_close(&out->at[--out->n]);
}

static enum err bind_addresses(struct bound_set *out, struct targets *t, int port, struct err_note *note)
{
    const struct target *failed = NULL;
    int why = EADDRINUSE;
    for (int i = 0; i < (port ? 1 : PORT_TRIES) && why == EADDRINUSE; i++) {
        close_all(out);
        why = bind_tcp(out, t, port, &failed);
    }
    if (why)
        return err_set(note, ERR_IO, "--port", "cannot listen on %.100s port %d: %s", failed->host, port,
                       strerror(why));
    return OK;
}

/* --- unix sockets */

/* Two servers that start at once must not remove each other's socket: the folder is locked meanwhile. -1: it
 * cannot be. */
static int lock_folder(const char *path)
{
    char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
    snprintf(copy, sizeof copy, "%s", path);
    const int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
        usleep(LOCK_STEP_US);
    }
    if (fd >= 0) {
        close(fd);
        errno = EBUSY;
    }
    return -1;
}

/* What a server that was killed has left is removed. errno says why not. */
static bool remove_stale(const struct sockaddr_un *addr)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) != 0) return errno == ENOENT;
    if (!S_ISSOCK(st.st_mode)) {
        errno = EEXIST;
        return false;
    }
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    const bool dead = connect(fd, (const struct sockaddr *)addr, sizeof *addr) != 0 && errno == ECONNREFUSED;
    close(fd);
    if (!dead) errno = EADDRINUSE;
    return dead && unlink(addr->sun_path) == 0;
}

static bool bind_path(struct bound *b, const char *path, int mode)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    *b = (struct bound){.fd = -1};
    const int lock = lock_folder(path);
    if (lock < 0) return false;
    if (remove_stale(&addr)) {
        const mode_t before = umask((mode_t)(0777 & ~mode)); /* no other thread makes files yet */
        b->fd = listen_on((struct sockaddr *)&addr, sizeof addr, false);
        umask(before);
    }
    const int why = errno;
    struct stat st;
    if (b->fd >= 0 && stat(path, &st) == 0) {
        b->path = strdup(path);
        b->dev = st.st_dev;
        b->ino = st.st_ino;
    }
    close(lock);
    errno = why;
    return b->fd >= 0;
}

/* While the socket is open its file's number is nobody else's. */
void bind_close(struct bound *b)
{
    struct stat st;
    if (b->path && lstat(b->path, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino) unlink(b->path);
    free(b->path);
    if (b->fd >= 0) close(b->fd);
    *b = (struct bound){.fd = -1};
}

static enum err bind_paths(struct bound_set *out, const struct targets *t, int mode, struct err_note *note)
{
    for (int i = 0; i < t->n_place; i++) {
        if (!t->place[i].is_path) continue;
        if (out->n == BOUND_MOST) return err_set(note, ERR_CONFIG, "--host", "names too many addresses");
        if (!bind_path(&out->at[out->n], t->place[i].name, mode))
            return err_set(note, ERR_IO, "--host", "cannot listen on unix:%s: %s", t->place[i].name,
                           errno == EADDRINUSE ? "another server does" : strerror(errno));
        out->n++;
    }
    return OK;
}

enum err bind_all(struct bound_set *out, const char *hosts, int port, int socket_mode, struct err_note *note)
{
    struct targets t = {.n = 0};
    *out = (struct bound_set){.n = 0};
    enum err e = place_check_list(hosts, note);
    while (!e && t.n_place < PLACES_MOST && place_next(&hosts, &t.place[t.n_place])) {
        const struct place *p = &t.place[t.n_place++];
        if (!p->is_path) e = resolve(&t, p->name, note);
    }
    if (!e && t.n > 0) e = bind_addresses(out, &t, port, note);
    if (!e) e = bind_paths(out, &t, socket_mode, note);
    if (e) close_all(out);
    return e;
}
