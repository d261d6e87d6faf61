/* format: see format.h. The patterns are written after the RFCs named beside them; where those allow what no
 * reader takes (a leap second, a year 0000) the pattern does not. */
#include "server/text/grammar/format.h"

#include "base/check.h"
#include "server/text/grammar/ecma.h"

#define YEAR "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP                                                                                                 \
    "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][48]|[2468][048]|[13579][26])00)" /* years with a      \
                                                                                           February 29 */
#define DATE                                                                                                         \
    "(" YEAR                                                                                                         \
    "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|" LEAP \
    "-02-29)"
#define CLOCK "([01][0-9]|2[0-3]):[0-5][0-9]"
#define TIME  CLOCK ":[0-5][0-9](\\.[0-9]+)?(Z|[+-]" CLOCK ")"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4  OCTET "(\\." OCTET "){3}"
#define H16   "[0-9A-Fa-f]{1,4}"
#define LS32  "(" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                                 \
    "((" H16 ":){6}" LS32 "|::(" H16 ":){5}" LS32 "|(" H16 ")?::(" H16 ":){4}" LS32 "|((" H16 ":)?" H16      \
    ")?::(" H16 ":){3}" LS32 "|((" H16 ":){0,2}" H16 ")?::(" H16 ":){2}" LS32 "|((" H16 ":){0,3}" H16        \
    ")?::" H16 ":" LS32 "|((" H16 ":){0,4}" H16 ")?::" LS32 "|((" H16 ":){0,5}" H16 ")?::" H16 "|((" H16     \
    ":){0,6}" H16 ")?::)"
#define LABEL    "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST     LABEL "(\\." LABEL ")*"
#define ATOM     "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define PCT      "%[0-9A-Fa-f]{2}"
#define PCHAR    "([A-Za-z0-9._~!$&'()*+,;=:@-]|" PCT ")"
#define REG_NAME "([A-Za-z0-9._~!$&'()*+,;=-]|" PCT ")*"
#define AUTHORITY                                                                                            \
    "(([A-Za-z0-9._~!$&'()*+,;=:-]|" PCT ")*@)?(\\[(" IPV6                                                   \
    "|v[0-9A-Fa-f]+\\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\\]|" REG_NAME ")(:[0-9]*)?"
#define QUERY    "(\\?(" PCHAR "|[/?])*)?(#(" PCHAR "|[/?])*)?"
#define ABS_PATH "(/" PCHAR "*)*"
#define HIER     "(//" AUTHORITY ABS_PATH "|/(" PCHAR "+" ABS_PATH ")?|" PCHAR "+" ABS_PATH ")?"
#define NO_COLON "([A-Za-z0-9._~!$&'()*+,;=@-]|" PCT ")+"
#define POINTER  "(/([^/~]|~[01])*)*"

struct format {
    const char *name, *pattern; /* pattern NULL: it says nothing about the text */
};
static const struct format formats[] = {
    {"date", DATE}, /* RFC 3339 */
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"duration",
     "P((([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))?"
     "|T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))|[0-9]+W)"}, /* RFC 3339, appendix A */
    {"email", ATOM "(\\." ATOM ")*@" HOST},                                  /* RFC 5321, no quoted names */
    {"hostname", "(?=.{1,253}$)" HOST},                                      /* RFC 1123 */
    {"ipv4", IPV4},                                                          /* RFC 2673 */
    {"ipv6", IPV6},                                                          /* RFC 4291, 3986 */
    {"uri", "[A-Za-z][A-Za-z0-9+.-]*:" HIER QUERY},                          /* RFC 3986 */
    {"uri-reference", "([A-Za-z][A-Za-z0-9+.-]*:" HIER "|//" AUTHORITY ABS_PATH "|/(" PCHAR "+" ABS_PATH
                      ")?|" NO_COLON ABS_PATH ")?" QUERY},
    {"uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"}, /* RFC 4122 */
    {"json-pointer", POINTER},                                                               /* RFC 6901 */
    {"relative-json-pointer", "(0|[1-9][0-9]*)(#|" POINTER ")"},
    {"int32", NULL},
    {"int64", NULL},
    {"float", NULL},
    {"double", NULL},
    {"password", NULL},
    {"binary", NULL},
    {"byte", NULL},
};

enum format_what format_find(struct rx *x, struct jval name, uint32_t *out)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const struct format *f = &formats[i];
        const char *why;
        size_t at;
        if (!jval_is(name, f->name)) continue;
        if (!f->pattern) return FORMAT_SAYS_NOTHING;
        CHECK(ecma_compile(x, CHARS_JSON, ECMA_WHOLE, f->pattern, strlen(f->pattern), out, &why, &at));
        return FORMAT_KNOWN;
    }
    return FORMAT_UNKNOWN;
}
