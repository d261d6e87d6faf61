/* pretok_foreign: patterns of tokenizer.json are written for Oniguruma (Ruby's syntax) and run in PCRE2. This
 * file knows the part of the syntax that both read alike, and names the first thing outside it. */
#include <string.h>

#include "server/text/pretok.h"

/* Escapes of one letter that mean the same: classes, and characters written out. */
#define SAME_ESCAPES "pPsSdDrntfvxae"

/* Behind the escape at p (a backslash); *why when it is foreign. */
static const char *skip_escape(const char *p, const char **why)
{
    unsigned char c = (unsigned char)p[1];
    if (c == '\0') return p + 1; /* does not compile */
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter && !strchr(SAME_ESCAPES, c))
        *why = "an escape other than \\p \\P \\s \\S \\d \\D and written characters";
    else if (c == 'v')
        *why = "\\v"; /* one character there, a class here */
    const char *end = letter && strchr("pPx", c) && p[2] == '{' ? strchr(p, '}') : NULL;
    if (!end) return p + 2;
    size_t n = (size_t)(end - p) - 3 - (p[3] == '^');
    if (c != 'x' && n > 2)
        *why = "a property other than a general category"; /* PCRE2 takes scripts with their extensions */
    return end + 1;
}

/* A repetition {n,m}. Behind it a sign means something else, and so does one without its first number. */
static const char *skip_repeat(const char *p, const char **why)
{
    const char *end = p + 1 + strspn(p + 1, "0123456789,");
    if (*end != '}' || end == p + 1)
        *why = "a brace that is no repetition";
    else if (p[1] == ',')
        *why = "a repetition without its least number";
    else if (end[1] == '+' || end[1] == '?')
        *why = "a sign behind a repetition";
    return *end ? end + 1 : end;
}

static const char *skip_class(const char *p, const char **why)
{
    p++;
    if (*p == '^') p++;
    if (*p == ']') *why = "a class that begins with ]";
    while (*p && *p != ']' && !*why) {
        if (*p == '\\') {
            p = skip_escape(p, why);
            continue;
        }
        if (*p == '[') *why = "a class within a class";
        if (p[0] == '&' && p[1] == '&') *why = "&& in a class";
        p++;
    }
    return *p ? p + 1 : p;
}

/* A group's opening: plain, (?:, (?i:, look ahead and look behind. */
static const char *skip_group(const char *p, const char **why)
{
    static const char *const open[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (p[1] == '*') *why = "a verb";
    if (p[1] != '?') return p + 1;
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        if (strncmp(p, open[i], strlen(open[i])) == 0) return p + strlen(open[i]);
    *why = "a group with options other than i, or with a name";
    return p + 1;
}

const char *pretok_foreign(const char *pattern)
{
    const char *why = NULL;
    for (const char *p = pattern; *p && !why;) {
        switch (*p) {
        case '\\':
            p = skip_escape(p, &why);
            break;
        case '[':
            p = skip_class(p, &why);
            break;
        case '(':
            p = skip_group(p, &why);
            break;
        case '{':
            p = skip_repeat(p, &why);
            break;
        default:
            p++;
        }
    }
    return why;
}
