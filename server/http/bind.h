/* bind: the sockets that --host names, bound and listening. At the start and the end; no loop. */
#ifndef FLUXD_SERVER_HTTP_BIND_H
#define FLUXD_SERVER_HTTP_BIND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { BOUND_MOST = 32 }; /* a name may have several addresses */

struct bound {
    int fd;
    bool loopback; /* an address of this machine alone */
    char *path;    /* of a unix socket, owned; NULL: TCP */
    dev_t dev;     /* the file there, while it is ours */
    ino_t ino;
};

struct bound_set {
    struct bound at[BOUND_MOST];
    int n, port; /* port: the same for all of TCP, 0 where there is none */
};

/* All or none. ERR_CONFIG "--host": a name that is none; ERR_IO "--port" or "--host": the socket. */
enum err bind_all(struct bound_set *out, const char *hosts, int port, int socket_mode, struct err_note *note);
void bind_close(struct bound *b); /* removes the socket's file, if it still is the one that was made */

#endif
