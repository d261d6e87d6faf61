/* tcp: the kernel's own count of a connection's bytes (0 where it is unknown). */
#ifndef FLUXD_SERVER_HTTP_TCP_H
#define FLUXD_SERVER_HTTP_TCP_H

#include <stdint.h>

void http_tcp_count(int fd, uint64_t *acked_bytes, uint64_t *received_bytes);

#endif
