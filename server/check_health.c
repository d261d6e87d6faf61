/* check_health: two small blocking requests. Runs alone in its process, without a loop. */
#include "server/check_health.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"

enum { TIMEOUT_S = 3 };

static int open_socket(const char *host, int port)
{
    char service[16];
    struct addrinfo hint = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM},
                    *ai = NULL;
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hint, &ai) != 0) return -1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(ai);
    return fd;
}

/* The status, or 0. */
static int ask(const char *host, int port, const char *path)
{
    int fd = open_socket(host, port), status = 0;
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

int check_health(const char *host, int port)
{
    /* A server that listens everywhere is asked here. */
    const char *to = !strcmp(host, "0.0.0.0") || !strcmp(host, "localhost") ? "127.0.0.1"
                     : !strcmp(host, "::")                                  ? "::1"
                                                                            : host;
    const char *path[] = {"/health", "/ready"};
    for (int i = 0; i < 2; i++) {
        int status = ask(to, port, path[i]);
        if (status == 200) continue;
        char what[32] = "no answer";
        if (status) snprintf(what, sizeof what, "status %d", status);
        log_say(STDERR_FILENO, "fluxd: %s of %s port %d: %s", path[i], to, port, what);
        return 1;
    }
    return 0;
}
