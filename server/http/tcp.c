/* tcp: the kernel's own count of a connection. A file of its own, because <linux/tcp.h>, which knows these
 * counters, and <netinet/tcp.h>, which uv.h brings, exclude each other. Any thread. */
#include "server/http/tcp.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

void http_tcp_count(int fd, uint64_t *acked_bytes, uint64_t *received_bytes)
{
    struct tcp_info t = {0};
    socklen_t n = sizeof t;
    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &n);
    *acked_bytes = t.tcpi_bytes_acked;
    *received_bytes = t.tcpi_bytes_received;
}
