/* strbuf: a growing byte string, always NUL-terminated after the first write. Allocation failure is sticky:
 * later writes do nothing and strbuf_failed() says so, so that callers check once at the end. */
#ifndef FLUXD_BASE_STRBUF_H
#define FLUXD_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

struct strbuf {
    char *data; /* may be NULL while len == 0 */
    size_t len;
    size_t cap;
    bool failed;
};

void strbuf_init(struct strbuf *b);
void strbuf_fini(struct strbuf *b);
void strbuf_clear(struct strbuf *b); /* len = 0, keeps the memory and a failure */
void strbuf_put(struct strbuf *b, const void *p, size_t n);
void strbuf_puts(struct strbuf *b, const char *s);
void strbuf_putc(struct strbuf *b, char c);
void strbuf_printf(struct strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_drop_front(struct strbuf *b, size_t n); /* removes the first n bytes */
bool strbuf_failed(const struct strbuf *b);
char *strbuf_take(struct strbuf *b); /* hands over the heap string (free()), "" when
                                        nothing was written, NULL when failed; b is empty after */

#endif
