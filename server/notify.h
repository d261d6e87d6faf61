/* notify: tells the service manager how the server is: ready, stopping, and alive for its watchdog. One
 * datagram each to the socket that NOTIFY_SOCKET names (sd_notify(3)); nothing where there is none. Loop
 * thread.
 *
 * The watchdog is fed by the engine's sign of life, not by the loop's: an engine that hangs is a server that
 * hangs. */
#ifndef FLUXD_SERVER_NOTIFY_H
#define FLUXD_SERVER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody asked */
    socklen_t n_to;
    struct sockaddr_un to;
    int64_t every_ns; /* between two signs of life; 0: no watchdog */
    int64_t fed_ns;   /* when the last was sent */
    bool stopping;    /* was told */
};

/* socket, watchdog_us, watchdog_pid: the values of NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, NULL where
 * they are not set. A socket that cannot be is logged and taken for none. */
void notify_open(struct notify *n, const char *socket, const char *watchdog_us, const char *watchdog_pid);
void notify_close(struct notify *n);
void notify_ready(struct notify *n);
void notify_stopping(struct notify *n); /* tells it once */
/* Sends a sign of life where one is due and the engine has given one since the last that was sent. beat_ns,
 * now_ns: by clock_ns. */
void notify_feed(struct notify *n, int64_t beat_ns, int64_t now_ns);

#endif
