/* number: see number.h. Of a magnitude's three parts (plain, far above 1, far below 1) the last two are
 * decided by their exponent alone unless the bound itself lies there. */
#include "server/text/grammar/number.h"

#include <stdio.h>

enum { MEMO_ANY = 4 };
enum { BIG_FIRST = 16, BIG_LAST = 308, SMALL_FIRST = 5, SMALL_LAST = 323, MANTISSA_PLACES = 16 };
enum { MULTIPLE_MOST = 99999 /* beside a range, the search for a multiple may visit as many states */ };

/* --- decimals */

static bool take_exponent(const char *p, const char *end, int *out)
{
    bool minus = p < end && *p == '-';
    int e = 0;
    if (p < end && (*p == '-' || *p == '+')) p++;
    for (; p < end; p++)
        if ((e = e * 10 + (*p - '0')) > 100000) return false;
    *out = minus ? -e : e;
    return true;
}

bool decimal_read(struct decimal *d, const char *p, size_t n)
{
    const char *end = p + n, *q;
    int exponent = 0, whole = 0;
    bool point = false;
    *d = (struct decimal){.minus = n && *p == '-'};
    if (d->minus) p++;
    for (q = p; q < end && *q != 'e' && *q != 'E'; q++) {
        if (*q == '.') {
            point = true;
            continue;
        }
        if (d->n == NUMBER_DIGITS) return false;
        d->digit[d->n++] = (uint8_t)(*q - '0');
        whole += !point;
    }
    if (q < end && !take_exponent(q + 1, end, &exponent)) return false;
    int zeros = 0;
    while (zeros < d->n && d->digit[zeros] == 0) zeros++;
    memmove(d->digit, d->digit + zeros, (size_t)(d->n - zeros));
    d->n -= zeros;
    while (d->n > 0 && d->digit[d->n - 1] == 0) d->n--;
    d->point = d->n ? whole - zeros + exponent : 0;
    if (d->n == 0) d->minus = false;
    return d->point >= -NUMBER_EXPONENT && d->point <= NUMBER_EXPONENT;
}

bool decimal_whole(const struct decimal *d) { return d->n <= d->point || d->n == 0; }

/* Digits before the point (at least one) and behind it. */
static int whole_digits(const struct decimal *d) { return d->point > 0 ? d->point : 1; }
static uint8_t whole_digit(const struct decimal *d, int i)
{
    return d->point > 0 && i < d->n ? d->digit[i] : 0;
}
static int places(const struct decimal *d) { return d->n > d->point ? d->n - d->point : 0; }
static uint8_t place_digit(const struct decimal *d, int i)
{
    int k = d->point + i;
    return k >= 0 && k < d->n ? d->digit[k] : 0;
}

/* --- pieces */

static uint32_t digits(struct rx *x, uint8_t lo, uint8_t hi)
{
    return lo > hi ? RX_EMPTY : rx_range(x, (uint8_t)('0' + lo), (uint8_t)('0' + hi));
}
static uint32_t digit_runs(struct rx *x, uint32_t min, uint32_t max)
{
    return rx_rep(x, digits(x, 0, 9), min, max);
}
/* .0, or digits of which the last is not 0: a model that has written one 0 too many could write them for
 * ever. */
static uint32_t fraction(struct rx *x)
{
    uint32_t some = rx_cat(x, digit_runs(x, 0, RX_MORE), digits(x, 1, 9));
    return rx_opt(x, rx_cat(x, rx_byte(x, '.'), rx_alt(x, rx_byte(x, '0'), some)));
}
static uint32_t any_fraction(struct rx *x)
{
    return rx_opt(x, rx_cat(x, rx_byte(x, '.'), digit_runs(x, 1, RX_MORE)));
}
static uint32_t zeros_behind(struct rx *x) { return rx_opt(x, rx_str(x, ".0")); }
static uint32_t whole(struct rx *x) /* without leading zeros */
{
    return rx_alt(x, rx_byte(x, '0'), rx_cat(x, digits(x, 1, 9), digit_runs(x, 0, RX_MORE)));
}
static uint32_t plain(struct rx *x) { return rx_cat(x, whole(x), fraction(x)); }
static uint32_t e_sign(struct rx *x, bool minus)
{
    struct rx_set e = {0};
    rx_set_add(&e, 'e');
    rx_set_add(&e, 'E');
    return rx_cat(x, rx_class(x, &e), minus ? rx_byte(x, '-') : rx_opt(x, rx_byte(x, '+')));
}
static uint32_t mantissa_to(struct rx *x, int places)
{
    if (places < 1) return places < 0 ? RX_EMPTY : digits(x, 1, 9);
    return rx_cat(x, digits(x, 1, 9),
                  rx_opt(x, rx_cat(x, rx_byte(x, '.'), digit_runs(x, 1, (uint32_t)places))));
}
static uint32_t mantissa(struct rx *x) { return mantissa_to(x, MANTISSA_PLACES); }

/* Exponents from first to last, written with two digits at least (-05) or fewer. */
static uint32_t exponents(struct rx *x, bool minus, int first, int last)
{
    size_t base = x->n_tmp;
    for (int e = first; e <= last; e++) {
        char text[8];
        snprintf(text, sizeof text, "%d", e);
        rx_push(x, rx_cat(x, e < 10 ? rx_opt(x, rx_byte(x, '0')) : RX_EPS, rx_str(x, text)));
    }
    return rx_cat(x, e_sign(x, minus), rx_alt_of(x, base));
}

/* As exponents for the whole span of one side, in few nodes. */
static uint32_t all_exponents(struct rx *x, bool minus)
{
    uint32_t d = digits(x, 0, 9), two = rx_cat(x, digits(x, 1, 9), d),
             three = rx_cat3(x, digits(x, 1, 2), d, d);
    uint32_t last = minus ? rx_alt(x, rx_cat3(x, rx_byte(x, '3'), digits(x, 0, 1), d),
                                   rx_cat(x, rx_str(x, "32"), digits(x, 0, 3)))
                          : rx_cat(x, rx_str(x, "30"), digits(x, 0, 8));
    uint32_t first =
        minus ? rx_alt(x, rx_cat(x, rx_opt(x, rx_byte(x, '0')), digits(x, 5, 9)), two)
              : rx_alt(x, rx_cat(x, rx_byte(x, '1'), digits(x, 6, 9)), rx_cat(x, digits(x, 2, 9), d));
    return rx_cat(x, e_sign(x, minus), rx_alt(x, first, rx_alt(x, three, last)));
}
static uint32_t big(struct rx *x) { return rx_cat(x, mantissa(x), all_exponents(x, false)); }
static uint32_t small(struct rx *x) { return rx_cat(x, mantissa(x), all_exponents(x, true)); }
static uint32_t far(struct rx *x) { return rx_alt(x, big(x), small(x)); }
static uint32_t signed_of(struct rx *x, uint32_t a) { return rx_cat(x, rx_opt(x, rx_byte(x, '-')), a); }

/* --- comparing digits: those that follow against d[0..n), which is not all zeros at its end */

static uint32_t tail_above(struct rx *x, const uint8_t *d, int n)
{
    uint32_t any = digit_runs(x, 0, RX_MORE), r = rx_cat3(x, any, digits(x, 1, 9), any);
    for (int i = n - 1; i >= 0; i--)
        r = rx_alt(x, rx_cat(x, digits(x, (uint8_t)(d[i] + 1), 9), any), rx_cat(x, digits(x, d[i], d[i]), r));
    return r;
}

static uint32_t tail_below(struct rx *x, const uint8_t *d, int n)
{
    uint32_t any = digit_runs(x, 0, RX_MORE), r = RX_EMPTY;
    for (int i = n - 1; i >= 0; i--) {
        uint32_t less = d[i] ? rx_cat(x, digits(x, 0, (uint8_t)(d[i] - 1)), any) : RX_EMPTY;
        r = rx_alt(x, i > 0 ? RX_EPS : RX_EMPTY, rx_alt(x, less, rx_cat(x, digits(x, d[i], d[i]), r)));
    }
    return r;
}

static uint32_t whole_text(struct rx *x, const struct decimal *d)
{
    uint32_t r = RX_EPS;
    for (int i = whole_digits(d) - 1; i >= 0; i--)
        r = rx_cat(x, rx_byte(x, (uint8_t)('0' + whole_digit(d, i))), r);
    return r;
}

/* Plain magnitudes with as many digits before the point, greater or smaller in them. */
static uint32_t same_length(struct rx *x, const struct decimal *d, bool above)
{
    int n = whole_digits(d);
    uint32_t r = RX_EMPTY, rest = fraction(x);
    for (int i = n - 1; i >= 0; i--) {
        uint8_t at = whole_digit(d, i), low = i == 0 && n > 1;
        uint32_t other = above      ? digits(x, (uint8_t)(at + 1), 9)
                         : at > low ? digits(x, low, (uint8_t)(at - 1))
                                    : RX_EMPTY;
        uint32_t take = rx_cat3(x, other, digit_runs(x, (uint32_t)(n - 1 - i), (uint32_t)(n - 1 - i)), rest);
        r = rx_alt(x, take, rx_cat(x, digits(x, at, at), r));
    }
    return r;
}

static uint32_t plain_compare(struct rx *x, const struct decimal *d, bool above)
{
    int n = whole_digits(d), k = places(d);
    uint8_t place[NUMBER_DIGITS + NUMBER_EXPONENT];
    uint32_t length = RX_EMPTY, tail;
    for (int i = 0; i < k; i++) place[i] = place_digit(d, i);
    if (above)
        length = rx_cat3(x, digits(x, 1, 9), digit_runs(x, (uint32_t)n, RX_MORE), fraction(x));
    else if (n > 1)
        length = rx_cat(
            x, rx_alt(x, rx_byte(x, '0'), rx_cat(x, digits(x, 1, 9), digit_runs(x, 0, (uint32_t)n - 2))),
            fraction(x));
    tail = rx_cat(x, rx_byte(x, '.'), above ? tail_above(x, place, k) : tail_below(x, place, k));
    if (!above && k > 0) tail = rx_alt(x, RX_EPS, tail);
    return rx_alt(x, length, rx_alt(x, same_length(x, d, above), rx_cat(x, whole_text(x, d), tail)));
}

/* The mantissa of d with zeros behind it, or what is above or below it. how: 0 equal, 1 above, -1 below. */
static uint32_t mantissa_compare(struct rx *x, const struct decimal *d, int how)
{
    uint32_t head = rx_byte(x, (uint8_t)('0' + d->digit[0])), point = rx_byte(x, '.'),
             zeros = rx_rep(x, rx_byte(x, '0'), 0, RX_MORE);
    uint32_t rest = any_fraction(x), tail = RX_EPS; /* as many as a mantissa may have */
    if (how == 0) {
        for (int i = d->n - 1; i > 0; i--) tail = rx_cat(x, rx_byte(x, (uint8_t)('0' + d->digit[i])), tail);
        tail =
            d->n > 1 ? rx_cat3(x, point, tail, zeros) : rx_opt(x, rx_cat3(x, point, rx_byte(x, '0'), zeros));
        return rx_cat(x, head, tail);
    }
    if (how > 0)
        return rx_alt(x, rx_cat(x, digits(x, (uint8_t)(d->digit[0] + 1), 9), rest),
                      rx_cat3(x, head, point, tail_above(x, d->digit + 1, d->n - 1)));
    uint32_t less = d->digit[0] > 1 ? rx_cat(x, digits(x, 1, (uint8_t)(d->digit[0] - 1)), rest) : RX_EMPTY;
    tail = rx_cat(x, point, tail_below(x, d->digit + 1, d->n - 1));
    if (d->n > 1) tail = rx_alt(x, RX_EPS, tail);
    return rx_alt(x, less, rx_cat(x, head, tail));
}

/* Numbers with an exponent on one side of 1. */
static uint32_t far_compare(struct rx *x, const struct decimal *d, int how, bool minus)
{
    int first = minus ? SMALL_FIRST : BIG_FIRST, last = minus ? SMALL_LAST : BIG_LAST,
        e = minus ? 1 - d->point : d->point - 1;
    int up = minus ? -how : how; /* whether a larger exponent as written is what is asked for */
    uint32_t all = minus ? small(x) : big(x);
    if (d->n == 0) return how > 0 ? all : RX_EMPTY;
    if (e < first) return up > 0 ? all : RX_EMPTY;
    if (e > last) return up < 0 ? all : RX_EMPTY;
    uint32_t other = how == 0 ? RX_EMPTY
                     : up > 0 ? exponents(x, minus, e + 1, last)
                              : exponents(x, minus, first, e - 1);
    uint32_t same = rx_cat(x, mantissa_compare(x, d, how), exponents(x, minus, e, e));
    return rx_alt(x, rx_cat(x, mantissa(x), other), rx_and(x, same, all));
}

/* Magnitudes above, below or equal to that of d. */
static uint32_t magnitude(struct rx *x, const struct decimal *d, int how)
{
    uint32_t p = how ? plain_compare(x, d, how > 0) : RX_EPS;
    if (how == 0) {
        p = zeros_behind(x);
        if (places(d) > 0) {
            p = RX_EPS;
            for (int i = places(d) - 1; i >= 0; i--)
                p = rx_cat(x, rx_byte(x, (uint8_t)('0' + place_digit(d, i))), p);
            p = rx_cat(x, rx_byte(x, '.'), p);
        }
        p = rx_cat(x, whole_text(x, d), p);
    }
    return rx_alt(x, p, rx_alt(x, far_compare(x, d, how, false), far_compare(x, d, how, true)));
}

/* --- sets */

/* Every number in the spelling that is decided. */
static uint32_t number_written(struct rx *x) { return signed_of(x, rx_alt(x, plain(x), far(x))); }

struct number_set number_any(struct rx *x)
{
    uint32_t *memo = &x->memo[MEMO_ANY];
    if (!*memo) {
        struct rx_set e = {0}, s = {0};
        rx_set_add(&e, 'e');
        rx_set_add(&e, 'E');
        rx_set_add(&s, '+');
        rx_set_add(&s, '-');
        uint32_t exponent = rx_alt(x, digit_runs(x, 1, 2), rx_cat(x, digits(x, 1, 2), digit_runs(x, 2, 2)));
        exponent = rx_alt(x, exponent, rx_cat(x, rx_str(x, "30"), digits(x, 0, 8)));
        exponent = rx_cat3(x, rx_class(x, &e), rx_opt(x, rx_class(x, &s)), exponent);
        uint32_t any = rx_cat(x, whole(x), any_fraction(x));
        *memo = rx_alt(x, signed_of(x, rx_cat(x, any, rx_opt(x, exponent))), signed_of(x, small(x)));
    }
    return (struct number_set){.in = *memo, .out = RX_EMPTY};
}

struct number_set number_none(struct rx *x) { return number_not(number_any(x)); }

struct number_set number_integer(struct rx *x)
{
    uint32_t any = digit_runs(x, 0, RX_MORE),
             part = rx_cat(x, rx_cat3(x, rx_byte(x, '.'), any, digits(x, 1, 9)), any);
    return (struct number_set){
        .in = signed_of(x, rx_alt(x, rx_cat(x, whole(x), zeros_behind(x)), big(x))),
        .out = signed_of(x, rx_alt(x, rx_cat(x, whole(x), part), small(x))),
    };
}

struct number_set number_equal(struct rx *x, const struct decimal *d)
{
    uint32_t eq = magnitude(x, d, 0), in = d->n == 0  ? signed_of(x, eq)
                                           : d->minus ? rx_cat(x, rx_byte(x, '-'), eq)
                                                      : eq;
    return (struct number_set){.in = in, .out = rx_minus(x, number_written(x), in)};
}

struct number_set number_above(struct rx *x, const struct decimal *d, bool or_equal)
{
    uint32_t all = rx_alt(x, plain(x), far(x)), minus = rx_byte(x, '-'), eq = magnitude(x, d, 0),
             above = magnitude(x, d, 1);
    uint32_t below = d->n ? magnitude(x, d, -1) : RX_EMPTY, none = RX_EMPTY;
    if (d->n == 0) /* -0 is 0 */
        return (struct number_set){
            .in = rx_alt(x, above, or_equal ? signed_of(x, eq) : none),
            .out = rx_alt(x, rx_cat(x, minus, above), or_equal ? none : signed_of(x, eq))};
    if (d->minus)
        return (struct number_set){
            .in = rx_alt(x, all, rx_cat(x, minus, rx_alt(x, below, or_equal ? eq : none))),
            .out = rx_cat(x, minus, rx_alt(x, above, or_equal ? none : eq))};
    return (struct number_set){.in = rx_alt(x, above, or_equal ? eq : none),
                               .out =
                                   rx_alt(x, rx_cat(x, minus, all), rx_alt(x, below, or_equal ? none : eq))};
}

/* Far above 1: whole numbers that end in this many zeros, whatever their digits. */
static uint32_t big_with_zeros(struct rx *x, int zeros)
{
    int first = BIG_FIRST + zeros;
    uint32_t d = digits(x, 0, 9), three = rx_alt(x, rx_cat3(x, digits(x, 1, 2), d, d),
                                                 rx_cat(x, rx_str(x, "30"), digits(x, 0, 8)));
    if (first <= BIG_FIRST) return big(x);
    size_t base = x->n_tmp;
    for (int e = BIG_FIRST; e < first; e++)
        rx_push(x, rx_cat(x, mantissa_to(x, e - zeros), exponents(x, false, e, e)));
    rx_push(x, rx_cat(x, mantissa(x),
                      rx_alt(x, exponents(x, false, first, 99), rx_cat(x, e_sign(x, false), three))));
    return rx_alt_of(x, base);
}

/* Powers of 10 that a divides when they have at least this many zeros; -1: it divides none. */
static int zeros_needed(uint64_t a)
{
    int twos = 0, fives = 0;
    for (; a % 2 == 0; a /= 2) twos++;
    for (; a % 5 == 0; a /= 5) fives++;
    return a > 1 ? -1 : twos > fives ? twos : fives;
}

bool number_multiple(struct rx *x, const struct decimal *d, struct number_set *out)
{
    uint64_t a = 0;
    int down = places(d);
    if (d->n == 0 || d->minus || down > 18) return false;
    for (int i = 0; i < d->n || i < d->point; i++)
        if ((a = a * 10 + (i < d->n ? d->digit[i] : 0)) > MULTIPLE_MOST) return false;
    uint32_t m = rx_multiple(x, a, (uint32_t)down), p = plain(x);
    *out = (struct number_set){.in = signed_of(x, m), .out = signed_of(x, rx_minus(x, p, m))};
    /* With an exponent: what ends in so many zeros that the divisor goes into them is a multiple; the rest is
     * not decided. */
    int zeros = zeros_needed(a);
    if (d->point > -4) out->out = rx_alt(x, out->out, signed_of(x, small(x))); /* all are below 1e-4 */
    if (zeros >= 0) out->in = rx_alt(x, out->in, signed_of(x, big_with_zeros(x, zeros - down)));
    return true;
}

struct number_set number_and(struct rx *x, struct number_set a, struct number_set b)
{
    uint32_t any = number_any(x).in;
    if (a.in == any) return b;
    if (b.in == any) return a;
    if (a.out == any) return a;
    if (b.out == any) return b;
    return (struct number_set){.in = rx_and(x, a.in, b.in), .out = rx_alt(x, a.out, b.out)};
}

struct number_set number_or(struct rx *x, struct number_set a, struct number_set b)
{
    return number_not(number_and(x, number_not(a), number_not(b)));
}

/* Whole numbers of up to this many digits have no spelling with an exponent. */
bool number_is_short(const struct decimal *d) { return decimal_whole(d) && d->point <= BIG_FIRST; }

struct number_set number_short(struct rx *x, struct rx_lit *text, size_t n)
{
    uint32_t in = rx_cat(x, rx_lits(x, text, n), zeros_behind(x));
    return (struct number_set){.in = in, .out = rx_minus(x, number_written(x), in)};
}
