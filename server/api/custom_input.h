/* custom_input: the text of a custom tool's call out of its arguments, which are {"input": TEXT}, as they
 * come. Arguments of another shape are the text themselves. The same for every way of cutting them. Pure. */
#ifndef FLUXD_SERVER_API_CUSTOM_INPUT_H
#define FLUXD_SERVER_API_CUSTOM_INPUT_H

#include "base/strbuf.h"

enum { CUSTOM_INPUT_HELD = 64 }; /* a longer head is none */

struct custom_input {
    int mode;                     /* custom_input.c */
    int at;                       /* HEAD: bytes of the head that came, white space aside */
    char held[CUSTOM_INPUT_HELD]; /* HEAD: all of them. TEXT: an escape */
    int n_held;
    unsigned high; /* a surrogate that waits for its half; 0: none */
};

void custom_input_init(struct custom_input *c);
/* Appends what is certain to out. */
void custom_input_feed(struct custom_input *c, const char *p, size_t n, struct strbuf *out);
void custom_input_end(struct custom_input *c, struct strbuf *out); /* nothing more comes */

#endif
