/* names: see names.h. Expressions are PCRE2's, with bounds on what they may cost: they come from a file. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/names.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { ENTRY_MOST = 1 << 16, TEXT_MOST = 512, STEPS_MOST = 100000, HEAP_KIB = 256, ARENA_BYTES = 1 << 24 };

struct entry {
    const char *text; /* without "re:" */
    pcre2_code *re;   /* NULL: compared as it is */
    enum names_fit fit;
};

struct names {
    enum names_rule rule;
    const char *key, *path;
    struct arena mem;
    struct entry *entry;
    int n;
    pcre2_match_context *context;
    pcre2_match_data *match;
};

static enum err bad(const struct names *n, struct err_note *note, const char *text, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, n->path, "%s: key %s: %.80s: %s", n->path, n->key, text, what);
}

static enum err no_memory(struct err_note *note)
{
    return err_set(note, ERR_NOMEM, NULL, "no memory for lists of modules");
}

/* Letters, digits and dots mean themselves, but for a dot that could be any character: no name has two that
 * differ in that. */
static bool is_plain(const char *text)
{
    return !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")];
}

static enum err compile(struct names *n, struct entry *e, struct err_note *note)
{
    char whole[TEXT_MOST + 64];
    int code;
    PCRE2_SIZE at;
    snprintf(whole, sizeof whole, n->rule == NAMES_MODULES ? "(?:%s)(?:(?<=\\.)|(?=\\.|$))" : "(?:%s)",
             e->text);
    e->re = pcre2_compile((PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C,
                          &code, &at, NULL);
    if (e->re) return OK;
    return code == PCRE2_ERROR_NOMEMORY ? no_memory(note)
                                        : bad(n, note, e->text, "is no regular expression that can be read");
}

static enum err add(struct names *n, struct jval v, struct err_note *note)
{
    size_t len;
    struct entry *e = &n->entry[n->n];
    if (!jval_string(v, &n->mem, &e->text, &len)) return bad(n, note, "an entry", "is no string");
    if (!e->text) return no_memory(note);
    if (len == 0 || len > TEXT_MOST || strlen(e->text) != len)
        return bad(n, note, "an entry", "is empty, too long or holds a NUL");
    n->n++;
    e->fit = NAMES_EXACT;
    if (n->rule == NAMES_TARGETS && strncmp(e->text, "re:", 3) == 0) {
        e->text += 3;
        e->fit = NAMES_PATTERN;
        return compile(n, e, note);
    }
    if (n->rule == NAMES_TARGETS && strcmp(e->text, "Linear") == 0) e->fit = NAMES_CLASS;
    return n->rule == NAMES_MODULES && !is_plain(e->text) ? compile(n, e, note) : OK;
}

enum err names_new(struct names **out, struct jval list, enum names_rule rule, const char *key,
                   const char *path, struct err_note *note)
{
    struct names *n = calloc(1, sizeof *n);
    enum err e = OK;
    int count = 0;
    if (!n) return no_memory(note);
    *n = (struct names){.rule = rule, .key = key, .path = path};
    arena_init(&n->mem, ARENA_BYTES);
    if (jval_kind(list) != JKIND_NONE && jval_kind(list) != JKIND_ARRAY) e = bad(n, note, "it", "is no list");
    for (struct jiter it = jval_iter(list); jiter_next(&it);) count++;
    if (e == OK && count > ENTRY_MOST) e = bad(n, note, "it", "has too many entries");
    if (e == OK) {
        n->entry = calloc((size_t)count + 1, sizeof *n->entry);
        n->context = pcre2_match_context_create(NULL);
        n->match = pcre2_match_data_create(1, NULL);
        if (!n->entry || !n->context || !n->match) e = no_memory(note);
    }
    if (e == OK) {
        pcre2_set_match_limit(n->context, STEPS_MOST);
        pcre2_set_depth_limit(n->context, STEPS_MOST);
        pcre2_set_heap_limit(n->context, HEAP_KIB);
    }
    for (struct jiter it = jval_iter(list); e == OK && jiter_next(&it);) e = add(n, it.value, note);
    if (e == OK)
        *out = n;
    else
        names_free(n);
    return e;
}

void names_free(struct names *n)
{
    if (!n) return;
    for (int i = 0; i < n->n; i++) pcre2_code_free(n->entry[i].re);
    pcre2_match_data_free(n->match);
    pcre2_match_context_free(n->context);
    arena_fini(&n->mem);
    free(n->entry);
    free(n);
}

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

static bool begins_with_modules(const char *s, const char *head)
{
    const size_t m = strlen(head);
    return strncmp(s, head, m) == 0 && (head[m - 1] == '.' || s[m] == '.' || !s[m]);
}

static enum err fits(const struct names *n, const struct entry *e, const char *module, bool *yes,
                     struct err_note *note)
{
    *yes = false;
    if (e->re) {
        const int rc = pcre2_match(e->re, (PCRE2_SPTR)module, strlen(module), 0, 0, n->match, n->context);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            return rc == PCRE2_ERROR_NOMEMORY ? no_memory(note)
                                              : bad(n, note, e->text, "takes too many steps to match");
        *yes = rc >= 0;
    }
    switch (n->rule) {
    case NAMES_TARGETS:
        *yes = *yes || e->fit == NAMES_CLASS || (!e->re && strcmp(e->text, module) == 0);
        break;
    case NAMES_MODULES:
        *yes = *yes || ends_with(module, e->text) || (!e->re && begins_with_modules(module, e->text));
        break;
    case NAMES_PART:
        *yes = strstr(module, e->text);
        break;
    }
    return OK;
}

enum err names_find(const struct names *n, const char *module, enum names_fit *fit, const char **text,
                    struct err_note *note)
{
    const struct entry *best = NULL;
    for (int i = 0; i < n->n; i++) {
        const struct entry *e = &n->entry[i];
        bool yes;
        if (best && (e->fit > best->fit || (e->fit == best->fit && strcmp(e->text, best->text) >= 0)))
            continue;
        TRY(fits(n, e, module, &yes, note));
        if (yes) best = e;
    }
    *fit = best ? best->fit : NAMES_NOT;
    if (text) *text = best ? best->text : NULL;
    return OK;
}

const char *names_other_class(const struct names *n)
{
    for (int i = 0; i < n->n; i++) {
        const struct entry *e = &n->entry[i];
        if (e->fit == NAMES_EXACT && !strchr(e->text, '.') && strcmp(e->text, "lm_head") != 0) return e->text;
    }
    return NULL;
}
