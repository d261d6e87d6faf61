/* names: see names.h. */
#include "server/api/names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static bool starts(const char *p, const char *with) { return strncasecmp(p, with, strlen(with)) == 0; }

/* Bytes of name without ".Q4_1", "-IQ2_XXS", "-f16" at its end; all of them where there is none. */
static size_t without_quant(const char *name, size_t n)
{
    size_t at = n;
    while (at > 0 && name[at - 1] != '.' && name[at - 1] != '-') at--;
    if (at < 2) return n;
    const char *p = name + at;
    const bool q = (tolower((unsigned char)p[0]) == 'q' && isdigit((unsigned char)p[1])) ||
                   (starts(p, "iq") && isdigit((unsigned char)p[2]));
    return q || starts(p, "f16") || starts(p, "f32") || starts(p, "bf16") ? at - 1 : n;
}

/* Bytes of name without "-00001-of-00003" at its end. */
static size_t without_part(const char *name, size_t n)
{
    static const char form[] = "-ddddd-of-ddddd";
    const size_t m = sizeof form - 1;
    if (n <= m) return n;
    for (size_t i = 0; i < m; i++) {
        const char c = name[n - m + i];
        if (form[i] == 'd' ? !isdigit((unsigned char)c) : c != form[i]) return n;
    }
    return n - m;
}

static void add_alias(struct model_names *n, const char *name, size_t len)
{
    if (len == 0 || len >= MODEL_ID_BYTES || !utf8_valid(name, len)) return;
    char *to = n->alias[n->n_alias];
    snprintf(to, MODEL_ID_BYTES, "%.*s", (int)len, name);
    if (!model_names_has(n, to)) n->n_alias++;
}

void model_names_init(struct model_names *n, const char *served, const char *path, const char *inside)
{
    *n = (struct model_names){0};
    if (*served) {
        snprintf(n->id, sizeof n->id, "%s", served);
        return;
    }
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t at = end;
    while (at > 0 && path[at - 1] != '/') at--;
    size_t len = end - at;
    const char *name = path + at;
    static const char *const ending[] = {".gguf", ".json"};
    for (size_t i = 0; i < 2; i++)
        if (len > 5 && strncasecmp(name + len - 5, ending[i], 5) == 0) len = without_part(name, len - 5);
    const bool fits = len < MODEL_ID_BYTES && len > 0 && utf8_valid(name, len) && strspn(name, ".") < len;
    snprintf(n->id, sizeof n->id, "%.*s", fits ? (int)len : (int)strlen(inside), fits ? name : inside);
    if (fits) add_alias(n, name, without_quant(name, len));
    add_alias(n, inside, strlen(inside));
}

bool model_names_has(const struct model_names *n, const char *name)
{
    bool is = strcmp(name, n->id) == 0;
    for (int i = 0; i < n->n_alias; i++) is |= strcmp(name, n->alias[i]) == 0;
    return is;
}

enum err model_names_refuse(const struct model_names *n, const char *name, struct err_note *note)
{
    char known[256];
    int len = snprintf(known, sizeof known, "\"%s\"", n->id);
    for (int i = 0; i < n->n_alias && len < (int)sizeof known; i++)
        len += snprintf(known + len, sizeof known - (size_t)len, ", \"%s\"", n->alias[i]);
    return err_set(note, ERR_MODEL_NOT_FOUND, "model",
                   "the model \"%.100s\" does not exist here: there is %s", name, known);
}
