/* recv: see the header. */
#undef _FORTIFY_SOURCE /* with it the C library's own header defines recv inline */
#include "server/http/recv.h"

#include <errno.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* recv() is told a descriptor and nothing else, so whose run it is must stand where it can be found: the only
 * variable of this file, one for each thread. */
static _Thread_local struct {
    http_recv_fn *read;
    http_sent_fn *sent; /* NULL: nobody counts */
    void *arg;
} run;

void http_recv_enter(http_recv_fn *read, http_sent_fn *sent, void *arg)
{
    run.read = read;
    run.sent = sent;
    run.arg = arg;
}

void http_recv_leave(void)
{
    run.read = NULL;
    run.sent = NULL;
}

ssize_t http_recv_kernel(int fd, void *buf, size_t n, int flags)
{
    return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

/* The program's own definition goes before that of any shared library, sanitizers' included. */
__attribute__((visibility("default"))) ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    return run.read ? run.read(run.arg, fd, buf, n) : http_recv_kernel(fd, buf, n, flags);
}

static ssize_t counted(int fd, ssize_t n)
{
    if (n > 0 && run.sent) run.sent(run.arg, fd, (size_t)n);
    return n;
}

__attribute__((visibility("default"))) ssize_t send(int fd, const void *p, size_t n, int flags)
{
    return counted(fd, syscall(SYS_sendto, fd, p, n, flags, NULL, 0));
}

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    return counted(fd, syscall(SYS_sendmsg, fd, m, flags));
}

/* --- the proof */

static ssize_t note_read(void *arg, int fd, void *buf, size_t n)
{
    *(int *)arg = fd;
    (void)buf, (void)n;
    return 0;
}

static enum MHD_Result no_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *n_data, void **slot)
{
    (void)arg, (void)c, (void)url, (void)method, (void)version, (void)data, (void)n_data, (void)slot;
    return MHD_NO;
}

static bool reads_through_us(struct MHD_Daemon *d, const int *pair)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int seen = -1;
    http_recv_enter(note_read, NULL, &seen);
    bool ok = write(pair[1], "G", 1) == 1 &&
              MHD_add_connection(d, pair[0], (struct sockaddr *)&addr, sizeof addr.sun_family) == MHD_YES;
    for (int turn = 0; ok && seen < 0 && turn < 4; turn++) MHD_run(d);
    http_recv_leave();
    return ok && seen == pair[0];
}

enum err http_recv_prove(struct err_note *note)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return err_set(note, ERR_IO, "--port", "the HTTP library cannot be tried out: %s", strerror(errno));
    struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
                                            no_request, NULL, MHD_OPTION_END);
    enum err e = OK;
    if (!d)
        e = err_set(note, ERR_IO, "--port", "the HTTP library does not start: %s", strerror(errno));
    else if (!reads_through_us(d, pair))
        e = err_set(
            note, ERR_IO, "--port",
            "the HTTP library does not read through this program's recv(), so its requests could not be "
            "checked: link libmicrohttpd dynamically, or build fluxd without -Bsymbolic");
    if (d)
        MHD_stop_daemon(d); /* closes pair[0] */
    else
        close(pair[0]);
    close(pair[1]);
    return e;
}
