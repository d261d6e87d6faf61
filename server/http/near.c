/* near: paths are compared by their tails, what follows "/v1". */
#include "server/http/near.h"

#include <ctype.h>
#include <string.h>

#include "base/distance.h"

enum {
    URL_BYTES = 256,     /* longer ones are no slip of the pen */
    LETTERS_PER_SLIP = 4 /* one wrong letter in so many is taken for one */
};

static const char *tail_of(const char *path) { return !strncmp(path, "/v1/", 4) ? path + 3 : path; }

/* Lower case, single slashes, none at the end, no "/v1" at the head. False: too long. */
static bool plain(char out[URL_BYTES], const char *url)
{
    size_t n = 0;
    for (; *url; url++) {
        if (n == URL_BYTES - 1) return false;
        if (*url != '/' || n == 0 || out[n - 1] != '/') out[n++] = (char)tolower((unsigned char)*url);
    }
    while (n > 1 && out[n - 1] == '/') n--;
    out[n] = '\0';
    while (!strncmp(out, "/v1/", 4)) memmove(out, out + 3, strlen(out + 3) + 1);
    return true;
}

static bool ends_in(const char *text, size_t n, const char *tail, size_t n_tail)
{
    return n >= n_tail && !memcmp(text + n - n_tail, tail, n_tail);
}

const char *near_path(const struct http_route *route, int n_route, const char *url)
{
    char asked[URL_BYTES];
    const char *best = NULL;
    size_t longest = 0;
    int least = DISTANCE_FAR;
    if (!plain(asked, url)) return NULL;
    const size_t n = strlen(asked);
    for (int i = 0; i < n_route; i++) {
        const char *tail = tail_of(route[i].path);
        const size_t n_tail = strlen(tail);
        if (n_tail < 2 || tail[n_tail - 1] == '*') continue;
        if (ends_in(asked, n, tail, n_tail) && n_tail > longest) {
            longest = n_tail;
            best = route[i].path;
        }
        const int d = distance(asked, n, tail, n_tail);
        if (longest > 0 || d >= least || d * LETTERS_PER_SLIP > (int)n_tail) continue;
        least = d;
        best = route[i].path;
    }
    return best;
}
