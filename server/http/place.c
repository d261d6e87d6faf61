/* place: see the header. */
#include "server/http/place.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* The next part, without blanks around it; its length, 0 at the list's end. */
static size_t next_part(const char **list, const char **part)
{
    const char *p = *list + strspn(*list, ", \t");
    size_t n = strcspn(p, ",");
    *part = p;
    *list = p + n;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    return n;
}

static bool take(struct place *out, const char *p, size_t n)
{
    static const char scheme[] = "unix:";
    *out = (struct place){.is_path = n >= sizeof scheme - 1 && !memcmp(p, scheme, sizeof scheme - 1)};
    if (out->is_path) p += sizeof scheme - 1, n -= sizeof scheme - 1;
    const bool brackets = !out->is_path && n >= 2 && p[0] == '[' && p[n - 1] == ']';
    if (brackets) p++, n -= 2;
    if (n == 0 || n >= sizeof out->name) return false;
    memcpy(out->name, p, n);
    out->name[n] = '\0';
    struct in6_addr any;
    return !brackets || inet_pton(AF_INET6, out->name, &any) == 1;
}

bool place_next(const char **list, struct place *out)
{
    const char *p;
    const size_t n = next_part(list, &p);
    return n > 0 && take(out, p, n);
}

const char *place_reach(const struct place *p)
{
    return p->is_path                    ? p->name
           : !strcmp(p->name, "0.0.0.0") ? "127.0.0.1"
           : !strcmp(p->name, "::")      ? "::1"
                                         : p->name;
}

static const char *fault_of(const char *p, size_t n)
{
    struct place at;
    struct in6_addr any;
    if (!take(&at, p, n)) return "is no address";
    if (at.is_path && at.name[0] != '/') return "must be unix: and an absolute path";
    if (at.is_path && strlen(at.name) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return "is too long for a socket's path (107 bytes)";
    if (!at.is_path && strpbrk(at.name, "/ \t")) return "is no address and no name";
    if (!at.is_path && strchr(at.name, ':') && inet_pton(AF_INET6, at.name, &any) != 1)
        return "is no IPv6 address; the port is --port's";
    return NULL;
}

enum err place_check_list(const char *list, struct err_note *note)
{
    const char *p;
    int n_place = 0;
    for (size_t n; (n = next_part(&list, &p)) > 0; n_place++) {
        const char *fault = fault_of(p, n);
        if (!fault) continue;
        return err_set(note, ERR_CONFIG, "--host", "\"%.*s\" %s", n < 100 ? (int)n : 100, p, fault);
    }
    if (n_place == 0) return err_set(note, ERR_CONFIG, "--host", "names no address");
    if (n_place > PLACES_MOST)
        return err_set(note, ERR_CONFIG, "--host", "names more than %d addresses", PLACES_MOST);
    return OK;
}

int place_mode(const char *octal) { return (int)strtol(octal, NULL, 8); }

enum err place_check_mode(const char *octal, struct err_note *note)
{
    const size_t n = strlen(octal);
    if (n >= 3 && n <= 4 && strspn(octal, "01234567") == n && place_mode(octal) <= 0777) return OK;
    return err_set(note, ERR_CONFIG, "--socket-mode", "\"%.60s\" is no mode of a file in octal, like 0660",
                   octal);
}
