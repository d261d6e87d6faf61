/* check_health: two small blocking requests. Runs alone in its process, without a loop. */
#include "server/check_health.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http/place.h"

enum { TIMEOUT_S = 3 };

static int connect_to(const struct sockaddr *addr, socklen_t n)
{
    const struct timeval limit = {.tv_sec = TIMEOUT_S};
    const int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, addr, n) == 0) return fd;
    close(fd);
    return -1;
}

static int open_socket(const struct place *p, int port)
{
    if (p->is_path) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        snprintf(addr.sun_path, sizeof addr.sun_path, "%.107s", p->name);
        return connect_to((const struct sockaddr *)&addr, sizeof addr);
    }
    char service[16];
    const struct addrinfo hint = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *all = NULL;
    int fd = -1;
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(place_reach(p), service, &hint, &all) != 0) return -1;
    for (const struct addrinfo *ai = all; ai && fd < 0; ai = ai->ai_next)
        fd = connect_to(ai->ai_addr, ai->ai_addrlen);
    freeaddrinfo(all);
    return fd;
}

/* The status, or 0. */
static int ask(const struct place *p, int port, const char *path)
{
    int fd = open_socket(p, port), status = 0;
    if (fd < 0) return 0;
    char text[256];
    int n =
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL) == n) {
        size_t got = 0;
        ssize_t part;
        while (got < sizeof text - 1 && (part = recv(fd, text + got, sizeof text - 1 - got, 0)) > 0)
            got += (size_t)part;
        text[got] = '\0';
        if (sscanf(text, "HTTP/1.1 %d", &status) != 1) status = 0;
    }
    close(fd);
    return status;
}

int check_health(const char *hosts, int port)
{
    static const char *const path[] = {"/health", "/ready"};
    struct place p;
    if (!place_next(&hosts, &p)) {
        log_say(STDERR_FILENO, "fluxd: --host: names no address");
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        int status = ask(&p, port, path[i]);
        if (status == 200) continue;
        char what[32] = "no answer", at[32] = "";
        if (status) snprintf(what, sizeof what, "status %d", status);
        if (!p.is_path) snprintf(at, sizeof at, " port %d", port);
        log_say(STDERR_FILENO, "fluxd: %s of %s%s: %s", path[i], place_reach(&p), at, what);
        return 1;
    }
    return 0;
}
