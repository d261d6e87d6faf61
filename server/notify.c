/* notify: see notify.h. */
#include "server/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* A path, or an abstract name behind '@'. */
static bool take_address(struct notify *n, const char *socket)
{
    const size_t len = strlen(socket);
    if ((*socket != '/' && *socket != '@') || len < 2 || len >= sizeof n->to.sun_path) return false;
    n->to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(n->to.sun_path, socket, len);
    if (*socket == '@') n->to.sun_path[0] = '\0';
    n->n_to = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (*socket == '/'));
    return true;
}

/* Digits alone; 0 where the text is anything else or too large. */
static int64_t take_number(const char *text)
{
    char *end;
    if (!text || *text < '0' || *text > '9') return 0;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    return errno || *end || v > INT64_MAX / 1000 ? 0 : v;
}

void notify_open(struct notify *n, const char *socket_name, const char *watchdog_us, const char *watchdog_pid)
{
    *n = (struct notify){.fd = -1};
    if (!socket_name || !*socket_name) return;
    if (!take_address(n, socket_name) ||
        (n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0) {
        log_line(LOG_WARN, "no service manager", "NOTIFY_SOCKET=\"%.100s\"", socket_name);
        n->fd = -1;
        return;
    }
    if (!watchdog_pid || take_number(watchdog_pid) == getpid())
        n->every_ns = take_number(watchdog_us) * 1000 / 2; /* half of it, as sd_watchdog_enabled(3) advises */
}

void notify_close(struct notify *n)
{
    if (n->fd >= 0) close(n->fd);
    n->fd = -1;
}

static void say(struct notify *n, const char *text)
{
    if (n->fd < 0) return;
    if (sendto(n->fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&n->to, n->n_to) < 0)
        log_line(LOG_WARN, "service manager not told", "what=%s error=\"%s\"", text, strerror(errno));
}

void notify_ready(struct notify *n) { say(n, "READY=1"); }

void notify_stopping(struct notify *n)
{
    if (n->stopping) return;
    n->stopping = true;
    say(n, "STOPPING=1");
}

void notify_feed(struct notify *n, int64_t beat_ns, int64_t now_ns)
{
    if (n->every_ns == 0 || beat_ns <= n->fed_ns || now_ns - n->fed_ns < n->every_ns) return;
    n->fed_ns = now_ns;
    say(n, "WATCHDOG=1");
}
