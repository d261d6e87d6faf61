/* jdoc: one recursive pass checks everything, so that all later readers may trust the text and need no error
 * paths. */
#include "base/files/jdoc.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/json_escape.h"
#include "base/utf8.h"

enum { DEPTH_MOST = 64, KEY_BYTES_LEAST = 5 /* "":0, */, NUMBER_MOST = 63 };

/* --- the check */

struct checker {
    const char *text, *p, *end;
    const char *why; /* set once */
    uint64_t *key;   /* hashes of the keys of all open objects */
    size_t n_key, cap_key;
    uint8_t seed[16];
    char *scratch; /* a key without its escapes */
};

static bool bad(struct checker *c, const char *why)
{
    if (!c->why) c->why = why;
    return false;
}

static bool is_space(char ch) { return ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t'; }

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && is_space(*p)) p++;
    return p;
}

static bool check_string(struct checker *c)
{
    if (c->p >= c->end || *c->p != '"') return bad(c, "a string is missing");
    c->p++;
    while (c->p < c->end && *c->p != '"') {
        if (*c->p == '\\') {
            const char *at = c->p;
            if (json_escape(&c->p, c->end) >= 0) continue;
            c->p = at;
            return bad(c, "an escape is malformed");
        }
        if ((unsigned char)*c->p < ' ') return bad(c, "a control character stands in a string");
        int n = utf8_step((const uint8_t *)c->p, (size_t)(c->end - c->p));
        if (n < 0) return bad(c, "not valid UTF-8");
        c->p += n;
    }
    if (c->p >= c->end) return bad(c, "ends inside a string");
    c->p++;
    return true;
}

static bool check_digits(struct checker *c)
{
    const char *start = c->p;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9') c->p++;
    return c->p > start;
}

static bool check_number(struct checker *c)
{
    const char *start = c->p;
    if (*c->p == '-') c->p++;
    const char *first = c->p;
    if (!check_digits(c) || (*first == '0' && c->p - first > 1)) return bad(c, "a number is malformed");
    if (c->p < c->end && *c->p == '.') {
        c->p++;
        if (!check_digits(c)) return bad(c, "a number is malformed");
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        c->p++;
        if (c->p < c->end && (*c->p == '+' || *c->p == '-')) c->p++;
        if (!check_digits(c)) return bad(c, "a number is malformed");
    }
    return c->p - start <= NUMBER_MOST || bad(c, "a number is too long");
}

static bool check_word(struct checker *c)
{
    static const char *const word[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        size_t n = strlen(word[i]);
        if ((size_t)(c->end - c->p) < n || memcmp(c->p, word[i], n) != 0) continue;
        c->p += n;
        return true;
    }
    return bad(c, c->p < c->end ? "no JSON value stands here" : "ends too early");
}

static size_t unescape(const char *p, const char *end, char *out);

static void keep_key(struct checker *c, const char *p, const char *end)
{
    CHECK(c->n_key < c->cap_key);
    size_t n = (size_t)(end - p);
    if (memchr(p, '\\', n)) {
        n = unescape(p, end, c->scratch);
        p = c->scratch;
    }
    c->key[c->n_key++] = hash64(c->seed, p, n);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool keys_differ(struct checker *c, size_t from)
{
    size_t n = c->n_key - from;
    if (n > 1) qsort(c->key + from, n, sizeof *c->key, compare_keys);
    for (size_t i = from + 1; i < c->n_key; i++)
        if (c->key[i] == c->key[i - 1]) return bad(c, "duplicate key in the object that ends here");
    c->n_key = from;
    return true;
}

static bool check_value(struct checker *c, int depth);

static bool check_members(struct checker *c, int depth, char close)
{
    size_t from = c->n_key;
    if (depth == DEPTH_MOST) return bad(c, "nested too deeply");
    c->p = skip_space(c->p + 1, c->end);
    if (c->p < c->end && *c->p == close) {
        c->p++;
        return true;
    }
    for (;;) {
        c->p = skip_space(c->p, c->end);
        if (close == '}') {
            const char *key = c->p + 1;
            if (!check_string(c)) return false;
            keep_key(c, key, c->p - 1);
            c->p = skip_space(c->p, c->end);
            if (c->p >= c->end || *c->p != ':') return bad(c, "a colon is missing");
            c->p++;
        }
        if (!check_value(c, depth + 1)) return false;
        c->p = skip_space(c->p, c->end);
        if (c->p >= c->end) return bad(c, "ends too early");
        if (*c->p == close) break;
        if (*c->p != ',') return bad(c, "a comma or the end is missing");
        c->p++;
    }
    if (!keys_differ(c, from)) return false;
    c->p++;
    return true;
}

static bool check_value(struct checker *c, int depth)
{
    c->p = skip_space(c->p, c->end);
    if (c->p >= c->end) return bad(c, "ends too early");
    switch (*c->p) {
    case '{':
        return check_members(c, depth, '}');
    case '[':
        return check_members(c, depth, ']');
    case '"':
        return check_string(c);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return check_number(c);
    default:
        return check_word(c);
    }
}

enum err jdoc_check(struct jval *root, const char *text, size_t n, const char *path, struct err_note *note)
{
    struct checker c = {.text = text, .p = text, .end = text + n};
    *root = (struct jval){0};
    for (const char *p = text; p < c.end; p++) c.cap_key += *p == ':';
    if (c.cap_key > n / KEY_BYTES_LEAST) c.cap_key = n / KEY_BYTES_LEAST;
    hash_random_key(c.seed);
    c.cap_key++; /* the last key needs no value yet */
    c.key = malloc(c.cap_key * sizeof *c.key);
    c.scratch = malloc(n + 1);
    enum err e = OK;
    if (!c.key || !c.scratch) {
        e = err_set(note, ERR_NOMEM, path, "%s: out of memory", path);
    } else {
        const char *start = skip_space(text, c.end);
        bool ok = check_value(&c, 0);
        *root = (struct jval){.p = start, .n = (size_t)(c.p - start)};
        if (ok) c.p = skip_space(c.p, c.end);
        if (ok && c.p != c.end) ok = bad(&c, "goes on after its value");
        if (!ok)
            e = err_set(note, ERR_MODEL_FILE, path, "%s: not JSON as it must be: %s (byte %zu)", path, c.why,
                        (size_t)(c.p - text));
    }
    if (e != OK) *root = (struct jval){0};
    free(c.key);
    free(c.scratch);
    return e;
}

static enum err read_whole(struct jdoc *d, int fd, const char *path, size_t max_bytes, struct err_note *note)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return err_set(note, ERR_IO, path, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return err_set(note, ERR_MODEL_FILE, path, "%s: not a regular file", path);
    if ((uint64_t)st.st_size > max_bytes)
        return err_set(note, ERR_MODEL_FILE, path, "%s: larger than %zu bytes", path, max_bytes);
    d->n = (size_t)st.st_size;
    if (!(d->text = malloc(d->n + 1))) return err_set(note, ERR_NOMEM, path, "%s: out of memory", path);
    for (size_t at = 0; at < d->n;) {
        ssize_t got = pread(fd, d->text + at, d->n - at, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_set(note, ERR_IO, path, "%s: %s", path, strerror(errno));
        if (got == 0) return err_set(note, ERR_MODEL_FILE, path, "%s: shrank while it was read", path);
        at += (size_t)got;
    }
    d->text[d->n] = '\0';
    return OK;
}

enum err jdoc_open(struct jdoc *d, const char *path, size_t max_bytes, struct err_note *note)
{
    *d = (struct jdoc){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_set(note, ERR_IO, path, "%s: %s", path, strerror(errno));
    enum err e = read_whole(d, fd, path, max_bytes, note);
    close(fd);
    if (e == OK) e = jdoc_check(&d->root, d->text, d->n, path, note);
    if (e != OK) jdoc_close(d);
    return e;
}

void jdoc_close(struct jdoc *d)
{
    free(d->text);
    *d = (struct jdoc){0};
}

/* --- reading what was checked */

enum jkind jval_kind(struct jval v)
{
    if (!v.p) return JKIND_NONE;
    switch (*v.p) {
    case '{':
        return JKIND_OBJECT;
    case '[':
        return JKIND_ARRAY;
    case '"':
        return JKIND_STRING;
    case 't':
    case 'f':
        return JKIND_BOOL;
    case 'n':
        return JKIND_NULL;
    default:
        return JKIND_NUMBER;
    }
}

static const char *skip_string(const char *p)
{
    for (p++; *p != '"'; p++) p += *p == '\\';
    return p + 1;
}

/* Behind the value at p, without recursion: brackets outside strings balance. */
static const char *skip_value(const char *p, const char *end)
{
    if (*p == '"') return skip_string(p);
    if (*p != '{' && *p != '[') {
        while (p < end && !is_space(*p) && *p != ',' && *p != ']' && *p != '}') p++;
        return p;
    }
    int open = 0;
    do {
        if (*p == '"') {
            p = skip_string(p);
            continue;
        }
        open += *p == '{' || *p == '[';
        open -= *p == '}' || *p == ']';
        p++;
    } while (open > 0);
    return p;
}

struct jiter jval_iter(struct jval v)
{
    enum jkind k = jval_kind(v);
    if (k != JKIND_OBJECT && k != JKIND_ARRAY) return (struct jiter){0};
    return (struct jiter){.p = v.p + 1, .end = v.p + v.n - 1, .object = k == JKIND_OBJECT};
}

static struct jval take_value(struct jiter *it)
{
    it->p = skip_space(it->p, it->end);
    const char *start = it->p;
    it->p = skip_value(start, it->end);
    return (struct jval){.p = start, .n = (size_t)(it->p - start)};
}

bool jiter_next(struct jiter *it)
{
    if (!it->p) return false;
    it->p = skip_space(it->p, it->end);
    if (it->p < it->end && *it->p == ',') it->p = skip_space(it->p + 1, it->end);
    if (it->p >= it->end) return false;
    if (it->object) {
        it->key = take_value(it);
        it->p = skip_space(it->p, it->end) + 1; /* the colon */
    }
    it->value = take_value(it);
    return true;
}

struct jval jval_get(struct jval object, const char *name)
{
    if (jval_kind(object) != JKIND_OBJECT) return (struct jval){0};
    for (struct jiter it = jval_iter(object); jiter_next(&it);)
        if (jval_is(it.key, name)) return it.value;
    return (struct jval){0};
}

/* out has room for end - p bytes: no escape is shorter than its character. */
static size_t unescape(const char *p, const char *end, char *out)
{
    char *w = out;
    while (p < end) {
        if (*p == '\\')
            w += utf8_put(w, (uint32_t)json_escape(&p, end));
        else
            *w++ = *p++;
    }
    return (size_t)(w - out);
}

bool jval_is(struct jval v, const char *text)
{
    if (jval_kind(v) != JKIND_STRING) return false;
    size_t n = strlen(text);
    const char *p = v.p + 1, *end = v.p + v.n - 1;
    if (!memchr(p, '\\', (size_t)(end - p))) return (size_t)(end - p) == n && memcmp(p, text, n) == 0;
    size_t at = 0;
    while (p < end) {
        char c[4];
        size_t k = 1;
        if (*p == '\\')
            k = (size_t)utf8_put(c, (uint32_t)json_escape(&p, end));
        else
            c[0] = *p++;
        if (n - at < k || memcmp(text + at, c, k) != 0) return false;
        at += k;
    }
    return at == n;
}

bool jval_int(struct jval v, int64_t *out)
{
    if (jval_kind(v) != JKIND_NUMBER) return false;
    bool minus = *v.p == '-';
    int64_t sum = 0;
    for (size_t i = minus; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') return false;
        if (__builtin_mul_overflow(sum, (int64_t)10, &sum)) return false;
        if (__builtin_sub_overflow(sum, (int64_t)(v.p[i] - '0'), &sum))
            return false; /* downwards: INT64_MIN has no positive twin */
    }
    if (!minus && sum == INT64_MIN) return false;
    *out = minus ? sum : -sum;
    return true;
}

bool jval_double(struct jval v, double *out)
{
    if (jval_kind(v) != JKIND_NUMBER) return false;
    char text[NUMBER_MOST + 1];
    memcpy(text, v.p, v.n);
    text[v.n] = '\0';
    *out = strtod(text, NULL); /* the product never leaves the "C" locale */
    return isfinite(*out) != 0;
}

bool jval_bool(struct jval v, bool *out)
{
    if (jval_kind(v) != JKIND_BOOL) return false;
    *out = *v.p == 't';
    return true;
}

bool jval_string(struct jval v, struct arena *mem, const char **out, size_t *len)
{
    if (jval_kind(v) != JKIND_STRING) return false;
    *len = 0;
    char *copy = arena_alloc(mem, v.n); /* two quotes more than it takes */
    if (copy) {
        *len = unescape(v.p + 1, v.p + v.n - 1, copy);
        copy[*len] = '\0';
    }
    *out = copy;
    return true;
}
