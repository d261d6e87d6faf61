/* torture_calls: the C library's calls for files, memory maps, sockets, threads and polling, each of which
 * can be made to fail as it may on a machine that is short of something (starve_app.c says which does). Any
 * thread.
 *
 * They are the program's own, so its libraries come by here too. What never fails is left alone: bytes
 * through an event descriptor or a pipe, with which a library talks to itself. */
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include "tests/server/starve.h"

#define FAILS(kind) starve_fails(kind, __builtin_frame_address(0))
/* The next definition of this name, which is the library's. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* CALL(kind, errno, what is returned then, type, name, parameters, arguments) */
#define CALL(kind, code, failed, type, name, parameters, arguments)                                          \
    type name parameters                                                                                     \
    {                                                                                                        \
        static __typeof__(&name) next;                                                                       \
        if (!next) next = NEXT(name);                                                                        \
        if (FAILS(kind)) {                                                                                   \
            errno = code;                                                                                    \
            return failed;                                                                                   \
        }                                                                                                    \
        return next arguments;                                                                               \
    }

/* libuv ends the process by itself where these fail inside it; its own calls that may fail stand below.
 * Whether there will be descriptors and threads for it is asked before it is first used (open_loop in
 * server/main.c). */
static bool in_libuv(const void *caller)
{
    Dl_info at;
    return dladdr(caller, &at) && at.dli_fname && strstr(at.dli_fname, "libuv");
}

static bool is_data(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* The same, of bytes of a file or socket. */
#define DATA_CALL(code, type, name, parameters, arguments)                                                   \
    type name parameters                                                                                     \
    {                                                                                                        \
        static __typeof__(&name) next;                                                                       \
        if (!next) next = NEXT(name);                                                                        \
        if (is_data(fd) && FAILS(CALL_FILE)) {                                                               \
            errno = code;                                                                                    \
            return -1;                                                                                       \
        }                                                                                                    \
        return next arguments;                                                                               \
    }

#define MODE_OF(flags, mode)                                                                                 \
    mode_t mode = 0;                                                                                         \
    if ((flags)&O_CREAT) {                                                                                   \
        va_list args;                                                                                        \
        va_start(args, flags);                                                                               \
        mode = va_arg(args, mode_t);                                                                         \
        va_end(args);                                                                                        \
    }

#define OPEN(name)                                                                                           \
    int name(const char *path, int flags, ...)                                                               \
    {                                                                                                        \
        static __typeof__(&name) next;                                                                       \
        if (!next) next = NEXT(name);                                                                        \
        MODE_OF(flags, mode)                                                                                 \
        if (FAILS(CALL_FILE)) {                                                                              \
            errno = EMFILE;                                                                                  \
            return -1;                                                                                       \
        }                                                                                                    \
        return next(path, flags, mode);                                                                      \
    }
OPEN(open)
OPEN(open64)

int fcntl(int fd, int op, ...)
{
    static __typeof__(&fcntl) next;
    va_list args;
    if (!next) next = NEXT(fcntl);
    va_start(args, op);
    void *arg = va_arg(args, void *);
    va_end(args);
    if ((op == F_DUPFD || op == F_DUPFD_CLOEXEC) && FAILS(CALL_FILE)) {
        errno = EMFILE;
        return -1;
    }
    return next(fd, op, arg);
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    static __typeof__(&pthread_create) next;
    if (!next) next = NEXT(pthread_create);
    return !in_libuv(__builtin_return_address(0)) && FAILS(CALL_THREAD) ? EAGAIN : next(t, attr, run, arg);
}

int pipe2(int fd[2], int flags)
{
    static __typeof__(&pipe2) next;
    if (!next) next = NEXT(pipe2);
    if (in_libuv(__builtin_return_address(0)) || !FAILS(CALL_POLL)) return next(fd, flags);
    errno = EMFILE;
    return -1;
}

int pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
    static __typeof__(&pthread_mutex_init) next;
    if (!next) next = NEXT(pthread_mutex_init);
    return !in_libuv(__builtin_return_address(0)) && FAILS(CALL_THREAD) ? ENOMEM : next(m, attr);
}

/* recv, send and sendmsg are the server's own (server/http/recv.c), over these. */
long syscall(long number, ...)
{
    static __typeof__(&syscall) next;
    va_list v;
    long a[6];
    if (!next) next = NEXT(syscall);
    va_start(v, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(v, long);
    va_end(v);
    if ((number == SYS_recvfrom || number == SYS_sendto || number == SYS_sendmsg) && FAILS(CALL_SOCKET)) {
        errno = ECONNRESET;
        return -1;
    }
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    static __typeof__(&getaddrinfo) next;
    if (!next) next = NEXT(getaddrinfo);
    return FAILS(CALL_SOCKET) ? EAI_MEMORY : next(node, service, hints, out);
}

CALL(CALL_FILE, EMFILE, NULL, FILE *, fopen, (const char *path, const char *mode), (path, mode))
CALL(CALL_FILE, EMFILE, NULL, FILE *, fopen64, (const char *path, const char *mode), (path, mode))
CALL(CALL_FILE, EMFILE, NULL, DIR *, opendir, (const char *path), (path))
CALL(CALL_FILE, EACCES, -1, int, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(CALL_FILE, EACCES, -1, int, unlink, (const char *path), (path))
CALL(CALL_FILE, EACCES, -1, int, rename, (const char *from, const char *to), (from, to))
DATA_CALL(EIO, ssize_t, read, (int fd, void *p, size_t n), (fd, p, n))
DATA_CALL(EIO, ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
DATA_CALL(EIO, ssize_t, pread64, (int fd, void *p, size_t n, off64_t at), (fd, p, n, at))
DATA_CALL(EIO, ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
DATA_CALL(EIO, ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
CALL(CALL_MAP, ENOMEM, MAP_FAILED, void *, mmap,
     (void *at, size_t n, int prot, int flags, int fd, off_t from), (at, n, prot, flags, fd, from))
CALL(CALL_MAP, ENOMEM, MAP_FAILED, void *, mmap64,
     (void *at, size_t n, int prot, int flags, int fd, off64_t from), (at, n, prot, flags, fd, from))
CALL(CALL_SOCKET, EMFILE, -1, int, socket, (int domain, int type, int protocol), (domain, type, protocol))
CALL(CALL_SOCKET, EADDRINUSE, -1, int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
CALL(CALL_SOCKET, EADDRINUSE, -1, int, listen, (int fd, int n), (fd, n))
CALL(CALL_SOCKET, EMFILE, -1, int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags),
     (fd, a, n, flags))
CALL(CALL_SOCKET, ENOBUFS, -1, int, getsockname, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n))
CALL(CALL_SOCKET, ENOBUFS, -1, int, getpeername, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n))
CALL(CALL_SOCKET, ENOBUFS, -1, int, setsockopt, (int fd, int level, int name, const void *v, socklen_t n),
     (fd, level, name, v, n))
CALL(CALL_SOCKET, ENOBUFS, -1, int, getsockopt, (int fd, int level, int name, void *v, socklen_t *n),
     (fd, level, name, v, n))
CALL(CALL_SOCKET, ENOTCONN, -1, int, shutdown, (int fd, int how), (fd, how))
CALL(CALL_POLL, EMFILE, -1, int, epoll_create1, (int flags), (flags))
CALL(CALL_POLL, EMFILE, -1, int, eventfd, (unsigned n, int flags), (n, flags))

int epoll_ctl(int at, int op, int fd, struct epoll_event *e)
{
    static __typeof__(&epoll_ctl) next;
    if (!next) next = NEXT(epoll_ctl);
    if (op != EPOLL_CTL_ADD || in_libuv(__builtin_return_address(0)) || !FAILS(CALL_POLL))
        return next(at, op, fd, e);
    errno = ENOSPC;
    return -1;
}

#define UV_CALL(name, parameters, arguments)                                                                 \
    int name parameters                                                                                      \
    {                                                                                                        \
        static __typeof__(&name) next;                                                                       \
        if (!next) next = NEXT(name);                                                                        \
        return !in_libuv(__builtin_return_address(0)) && FAILS(CALL_UV) ? UV_ENOMEM : next arguments;        \
    }
UV_CALL(uv_loop_init, (uv_loop_t * l), (l))
UV_CALL(uv_async_init, (uv_loop_t * l, uv_async_t *a, uv_async_cb cb), (l, a, cb))
UV_CALL(uv_poll_init, (uv_loop_t * l, uv_poll_t *p, int fd), (l, p, fd))
UV_CALL(uv_signal_init, (uv_loop_t * l, uv_signal_t *s), (l, s))
UV_CALL(uv_signal_start, (uv_signal_t * s, uv_signal_cb cb, int n), (s, cb, n))
UV_CALL(uv_thread_create, (uv_thread_t * t, uv_thread_cb run, void *arg), (t, run, arg))
UV_CALL(uv_thread_create_ex,
        (uv_thread_t * t, const uv_thread_options_t *options, uv_thread_cb run, void *arg),
        (t, options, run, arg))
UV_CALL(uv_mutex_init, (uv_mutex_t * m), (m))
