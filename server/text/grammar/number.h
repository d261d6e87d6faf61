/* number: sets of numbers as regular expressions over their JSON spelling. A set comes as a pair, what is in
 * it and what is not, since not every spelling is decided: numbers are written plain (-12.5, 3.0) or, far
 * from 1, as 1.5e+20 and 1.5e-07 (one digit before the point, 17 at most); only where nothing at all is asked
 * of a number may it have any JSON spelling. */
#ifndef FLUXD_SERVER_TEXT_GRAMMAR_NUMBER_H
#define FLUXD_SERVER_TEXT_GRAMMAR_NUMBER_H

#include "server/text/grammar/rx.h"

struct number_set {
    uint32_t in, out; /* disjoint */
};

/* Exact decimal: 0.d1 d2 ... dn * 10^point, d1 and dn not 0; n == 0: zero. */
enum { NUMBER_DIGITS = 700, NUMBER_EXPONENT = 330 };
struct decimal {
    bool minus;
    int n, point;
    uint8_t digit[NUMBER_DIGITS];
};
bool decimal_read(struct decimal *d, const char *p, size_t n); /* a JSON number; false: out of range */
bool decimal_whole(const struct decimal *d);

struct number_set number_any(struct rx *x); /* every JSON spelling */
struct number_set number_none(struct rx *x);
struct number_set number_integer(struct rx *x); /* 1.0 and 1e+20 are integers */
struct number_set number_equal(struct rx *x, const struct decimal *d);
struct number_set number_above(struct rx *x, const struct decimal *d, bool or_equal);
/* Many whole numbers at once: text holds their digits, "0" and "-0" both. Sorts text. */
bool number_is_short(const struct decimal *d);
struct number_set number_short(struct rx *x, struct rx_lit *text, size_t n);
bool number_multiple(struct rx *x, const struct decimal *d,
                     struct number_set *out); /* false: not supported */

struct number_set number_and(struct rx *x, struct number_set a, struct number_set b);
struct number_set number_or(struct rx *x, struct number_set a, struct number_set b);
static inline struct number_set number_not(struct number_set a)
{
    return (struct number_set){.in = a.out, .out = a.in};
}

#endif
