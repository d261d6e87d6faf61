/* recv: the HTTP library's reads, on their way to the kernel.
 *
 * The library reads ahead, takes no callback for its reads, and calls the C library's recv by its dynamic
 * name. This file defines that name for the whole process, so that the bytes which the library is given can
 * be checked first. Calls made between enter and leave on the same thread go to the reader given there, all
 * others straight to the kernel. send and sendmsg are counted in the same way. */
#ifndef FLUXD_SERVER_HTTP_RECV_H
#define FLUXD_SERVER_HTTP_RECV_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* As recv(): bytes, 0 at the end, -1 with errno. */
typedef ssize_t http_recv_fn(void *arg, int fd, void *buf, size_t n);

typedef void http_sent_fn(void *arg, int fd, size_t n); /* the kernel took n bytes */

void http_recv_enter(http_recv_fn *read, http_sent_fn *sent, void *arg);
void http_recv_leave(void);
ssize_t http_recv_kernel(int fd, void *buf, size_t n, int flags);

/* Runs the library once on a socket pair. ERR_IO: it does not start, or reads by another way, which nothing
 * would check. */
enum err http_recv_prove(struct err_note *note);

#endif
