/* safetensors: the header is JSON of one fixed shape, so it is read by a cursor that knows only that shape:
 * no recursion, no tree, and strings are unescaped in place. */
#include "base/files/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json_escape.h"
#include "base/utf8.h"

enum {
    HEAD_MOST = 100000000,
    META_MOST = 4096,
    ENTRY_LEAST = 50
}; /* bytes; the shortest entry of a tensor */

static const struct {
    const char *name;
    int bytes;
    enum dtype dt;
} types[] = {{"F32", 4, DT_F32},    {"F16", 2, DT_F16},       {"BF16", 2, DT_BF16},    {"F64", 8, DT_COUNT},
             {"I64", 8, DT_COUNT},  {"I32", 4, DT_COUNT},     {"I16", 2, DT_COUNT},    {"I8", 1, DT_COUNT},
             {"U64", 8, DT_COUNT},  {"U32", 4, DT_COUNT},     {"U16", 2, DT_COUNT},    {"U8", 1, DT_COUNT},
             {"BOOL", 1, DT_COUNT}, {"F8_E4M3", 1, DT_COUNT}, {"F8_E5M2", 1, DT_COUNT}};

struct meta {
    const char *key, *value;
};

struct safetensors {
    int fd;
    char *path;
    int64_t file_bytes, data0;
    char *head; /* NUL after its end */
    struct safetensors_tensor *tensor;
    int n_tensor, cap_tensor;
    struct meta *meta;
    int n_meta, cap_meta;
    int *by_name;
};

struct cursor {
    struct safetensors *s;
    char *p, *end;
    struct err_note *note;
};

static enum err bad(const struct safetensors *s, struct err_note *note, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, s->path, "%s: %s", s->path, what);
}

static enum err tensor_bad(const struct safetensors *s, const char *name, struct err_note *note,
                           const char *what)
{
    return err_set(note, ERR_MODEL_FILE, s->path, "%s: tensor %.120s: %s", s->path, name, what);
}

/* --- the cursor */

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\r' || *c->p == '\t')) c->p++;
}

/* Takes ch if it is next. */
static bool take(struct cursor *c, char ch)
{
    skip_space(c);
    if (c->p >= c->end || *c->p != ch) return false;
    c->p++;
    return true;
}

/* An escape, written to *w. No NUL: names and sizes need none. */
static bool take_escape(struct cursor *c, char **w)
{
    const char *p = c->p;
    const int32_t v = json_escape(&p, c->end);
    if (v <= 0) return false;
    c->p += p - c->p;
    *w += utf8_put(*w, (uint32_t)v);
    return true;
}

/* A string, unescaped in place and NUL-terminated (the closing quote's byte makes room). */
static enum err take_string(struct cursor *c, const char **out)
{
    if (!take(c, '"')) return bad(c->s, c->note, "the header is not the JSON that the format asks for");
    char *w = c->p;
    *out = w;
    while (c->p < c->end && *c->p != '"') {
        if (*c->p == '\\') {
            if (!take_escape(c, &w))
                return bad(c->s, c->note, "the header has an escape that is not supported");
            continue;
        }
        int n = (unsigned char)*c->p < ' ' ? -1 : utf8_step((const uint8_t *)c->p, (size_t)(c->end - c->p));
        if (n < 0) return bad(c->s, c->note, "the header is not valid UTF-8 or holds control characters");
        memmove(w, c->p, (size_t)n);
        w += n;
        c->p += n;
    }
    if (c->p >= c->end) return bad(c->s, c->note, "the header ends inside a string");
    c->p++;
    *w = 0;
    return OK;
}

/* A number without sign, fraction or exponent, up to 2^62. */
static bool take_int(struct cursor *c, int64_t *out)
{
    skip_space(c);
    char *start = c->p;
    int64_t v = 0;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9') {
        if (v > (INT64_MAX / 2 - 9) / 10) return false;
        v = v * 10 + (*c->p++ - '0');
    }
    *out = v;
    return c->p > start && !(*start == '0' && c->p - start > 1);
}

static bool take_ints(struct cursor *c, int64_t *v, int most, int *n)
{
    *n = 0;
    if (!take(c, '[')) return false;
    if (take(c, ']')) return true;
    do
        if (*n == most || !take_int(c, &v[(*n)++])) return false;
    while (take(c, ','));
    return take(c, ']');
}

/* --- the header */

static bool grow(void **p, int n, int *cap, size_t size)
{
    if (n < *cap) return true;
    int want = *cap ? *cap * 2 : 64;
    void *q = realloc(*p, (size_t)want * size);
    if (!q) return false;
    *p = q;
    *cap = want;
    return true;
}

static enum err read_metadata(struct cursor *c)
{
    struct safetensors *s = c->s;
    enum err e;
    if (!take(c, '{')) return bad(s, c->note, "__metadata__ is not an object");
    if (take(c, '}')) return OK;
    do {
        if (s->n_meta == META_MOST) return bad(s, c->note, "__metadata__ has too many keys");
        if (!grow((void **)&s->meta, s->n_meta, &s->cap_meta, sizeof *s->meta))
            return err_set(c->note, ERR_NOMEM, s->path, "out of memory");
        struct meta *m = &s->meta[s->n_meta];
        if ((e = take_string(c, &m->key)) != OK) return e;
        if (!take(c, ':')) return bad(s, c->note, "__metadata__ is not an object of strings");
        if ((e = take_string(c, &m->value)) != OK) return e;
        for (int i = 0; i < s->n_meta; i++)
            if (strcmp(s->meta[i].key, m->key) == 0) return bad(s, c->note, "duplicate key in __metadata__");
        s->n_meta++;
    } while (take(c, ','));
    return take(c, '}') ? OK : bad(s, c->note, "__metadata__ is not an object of strings");
}

/* Size from shape and type, against what the offsets say. */
static enum err check_size(struct cursor *c, struct safetensors_tensor *t, const int64_t *offset)
{
    int bytes = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, t->type_name) != 0) continue;
        bytes = types[i].bytes;
        t->dt = types[i].dt;
    }
    if (bytes == 0) return tensor_bad(c->s, t->name, c->note, "its dtype is unknown");
    t->n_elem = 1;
    for (int i = 0; i < t->n_dim; i++)
        if (__builtin_mul_overflow(t->n_elem, t->shape[i], &t->n_elem))
            return tensor_bad(c->s, t->name, c->note, "its shape overflows");
    if (__builtin_mul_overflow(t->n_elem, (int64_t)bytes, &t->n_bytes))
        return tensor_bad(c->s, t->name, c->note, "its shape overflows");
    if (offset[1] < offset[0] || offset[1] - offset[0] != t->n_bytes)
        return tensor_bad(c->s, t->name, c->note, "its offsets do not fit its shape and dtype");
    if (offset[1] > c->s->file_bytes - c->s->data0)
        return tensor_bad(c->s, t->name, c->note, "runs past the end of the file");
    t->offset = c->s->data0 + offset[0];
    return OK;
}

static enum err read_tensor(struct cursor *c, struct safetensors_tensor *t)
{
    enum { TYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    int64_t offset[2];
    int seen = 0, n;
    const char *key;
    enum err e;
    if (!take(c, '{')) return tensor_bad(c->s, t->name, c->note, "its entry is not an object");
    do {
        int what;
        if ((e = take_string(c, &key)) != OK) return e;
        if (!take(c, ':')) return tensor_bad(c->s, t->name, c->note, "its entry is not an object");
        if (strcmp(key, "dtype") == 0) {
            what = TYPE;
            if ((e = take_string(c, &t->type_name)) != OK) return e;
        } else if (strcmp(key, "shape") == 0) {
            what = SHAPE;
            if (!take_ints(c, t->shape, SAFETENSORS_DIM_MOST, &t->n_dim))
                return tensor_bad(c->s, t->name, c->note, "its shape is malformed");
        } else if (strcmp(key, "data_offsets") == 0) {
            what = OFFSETS;
            if (!take_ints(c, offset, 2, &n) || n != 2)
                return tensor_bad(c->s, t->name, c->note, "its data_offsets are malformed");
        } else
            return tensor_bad(c->s, t->name, c->note, "its entry has an unknown key");
        if (seen & what) return tensor_bad(c->s, t->name, c->note, "its entry has a key twice");
        seen |= what;
    } while (take(c, ','));
    if (!take(c, '}') || seen != ALL) return tensor_bad(c->s, t->name, c->note, "its entry is incomplete");
    return check_size(c, t, offset);
}

/* Room for as many tensors as the header can hold: no more than it has braces, or room for the shortest
 * entries. */
static enum err make_table(struct cursor *c)
{
    struct safetensors *s = c->s;
    int64_t n = 0, most = (c->end - c->p) / ENTRY_LEAST;
    for (const char *p = c->p; p < c->end; p++) n += *p == '{';
    s->cap_tensor = (int)(n < most ? n : most);
    s->tensor = malloc(((size_t)s->cap_tensor + 1) * sizeof *s->tensor);
    return s->tensor ? OK
                     : err_set(c->note, ERR_NOMEM, s->path, "%s: no memory for its tensor table", s->path);
}

/* Names stand in messages. */
static bool is_one_line(const char *name)
{
    while (*name && (unsigned char)*name >= ' ' && *name != 0x7f) name++;
    return !*name;
}

static enum err read_entries(struct cursor *c)
{
    struct safetensors *s = c->s;
    enum err e;
    const char *key;
    bool has_meta = false;
    if ((e = make_table(c)) != OK) return e;
    if (!take(c, '{')) return bad(s, c->note, "the header does not begin with {");
    if (take(c, '}')) return OK;
    do {
        if ((e = take_string(c, &key)) != OK) return e;
        if (!take(c, ':')) return bad(s, c->note, "the header is not the JSON that the format asks for");
        if (strcmp(key, "__metadata__") == 0) {
            if (has_meta) return bad(s, c->note, "duplicate __metadata__");
            has_meta = true;
            if ((e = read_metadata(c)) != OK) return e;
            continue;
        }
        if (!is_one_line(key)) return bad(s, c->note, "a tensor's name holds control characters");
        if (s->n_tensor == s->cap_tensor) return tensor_bad(s, key, c->note, "its entry is incomplete");
        struct safetensors_tensor *t = &s->tensor[s->n_tensor++];
        *t = (struct safetensors_tensor){.name = key};
        if ((e = read_tensor(c, t)) != OK) return e;
    } while (take(c, ','));
    return take(c, '}') ? OK : bad(s, c->note, "the header is not the JSON that the format asks for");
}

static int cmp_offset(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    int c = (x->offset > y->offset) - (x->offset < y->offset);
    return c ? c
             : (x->n_bytes > y->n_bytes) -
                   (x->n_bytes < y->n_bytes); /* empty tensors before the one at their place */
}

static int cmp_name(const void *a, const void *b, void *tensor)
{
    const struct safetensors_tensor *t = tensor;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

static enum err check_layout(struct safetensors *s, struct err_note *note)
{
    int64_t next = s->data0;
    if (s->n_tensor) qsort(s->tensor, (size_t)s->n_tensor, sizeof *s->tensor, cmp_offset);
    for (int i = 0; i < s->n_tensor; i++) {
        const struct safetensors_tensor *t = &s->tensor[i];
        if (t->offset != next)
            return tensor_bad(s, t->name, note,
                              t->offset < next ? "overlaps another tensor" : "leaves a hole before it");
        next += t->n_bytes;
    }
    if (next != s->file_bytes) return bad(s, note, "bytes after the last tensor");

    s->by_name = malloc(((size_t)s->n_tensor + 1) * sizeof *s->by_name);
    if (!s->by_name) return err_set(note, ERR_NOMEM, s->path, "out of memory");
    for (int i = 0; i < s->n_tensor; i++) s->by_name[i] = i;
    qsort_r(s->by_name, (size_t)s->n_tensor, sizeof *s->by_name, cmp_name, s->tensor);
    for (int i = 1; i < s->n_tensor; i++)
        if (cmp_name(&s->by_name[i - 1], &s->by_name[i], s->tensor) == 0)
            return tensor_bad(s, s->tensor[s->by_name[i]].name, note, "duplicate name");
    return OK;
}

static enum err file_pread(const struct safetensors *s, void *to, int64_t n, int64_t at,
                           struct err_note *note)
{
    char *p = to;
    while (n > 0) {
        ssize_t got = pread(s->fd, p, (size_t)n, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_set(note, ERR_IO, s->path, "%s: %s", s->path, strerror(errno));
        if (got == 0) return bad(s, note, "the file is shorter than its header says");
        p += got;
        at += got;
        n -= got;
    }
    return OK;
}

static enum err read_file(struct safetensors *s, struct err_note *note)
{
    uint64_t n;
    enum err e = file_pread(s, &n, 8, 0, note);
    if (e != OK) return e;
    if (n < 2 || n > HEAD_MOST || n > (uint64_t)s->file_bytes - 8)
        return bad(s, note, "the header's length is wrong");
    s->head = malloc((size_t)n + 1);
    if (!s->head) return err_set(note, ERR_NOMEM, s->path, "%s: no memory for its header", s->path);
    if ((e = file_pread(s, s->head, (int64_t)n, 8, note)) != OK) return e;
    s->head[n] = 0;
    s->data0 = 8 + (int64_t)n;
    struct cursor c = {.s = s, .p = s->head, .end = s->head + n, .note = note};
    if (s->head[0] != '{') return bad(s, note, "the header does not begin with {");
    if ((e = read_entries(&c)) != OK) return e;
    skip_space(&c);
    if (c.p != c.end) return bad(s, note, "the header goes on after its object");
    return check_layout(s, note);
}

enum err safetensors_open(struct safetensors **out, const char *path, struct err_note *note)
{
    struct stat st;
    enum err e = ERR_NOMEM;
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s) return err_set(note, ERR_NOMEM, path, "out of memory");
    s->fd = -1;
    if (!(s->path = strdup(path))) goto fail;
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused, not waited for */
    if (s->fd < 0 || fstat(s->fd, &st) != 0) {
        e = err_set(note, ERR_IO, path, "%s: %s", path, strerror(errno));
        goto fail;
    }
    s->file_bytes = st.st_size;
    if (!S_ISREG(st.st_mode))
        e = bad(s, note, "not a regular file");
    else
        e = s->file_bytes < 10 ? bad(s, note, "too short for a safetensors file") : read_file(s, note);
    if (e != OK) goto fail;
    *out = s;
    return OK;
fail:
    safetensors_close(s);
    return e;
}

void safetensors_close(struct safetensors *s)
{
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    free(s->by_name);
    free(s->tensor);
    free(s->meta);
    free(s->head);
    free(s->path);
    free(s);
}

int safetensors_n_tensor(const struct safetensors *s) { return s->n_tensor; }
const struct safetensors_tensor *safetensors_at(const struct safetensors *s, int i) { return &s->tensor[i]; }

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    int lo = 0, hi = s->n_tensor;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = strcmp(s->tensor[s->by_name[mid]].name, name);
        if (c == 0) return &s->tensor[s->by_name[mid]];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
    for (int i = 0; i < s->n_meta; i++)
        if (strcmp(s->meta[i].key, key) == 0) return s->meta[i].value;
    return NULL;
}

enum err safetensors_read(const struct safetensors *s, const struct safetensors_tensor *t, int64_t from,
                          int64_t n, void *to, struct err_note *note)
{
    if (from < 0 || n < 0 || from > t->n_bytes || n > t->n_bytes - from)
        return tensor_bad(s, t->name, note, "read outside the tensor");
    return file_pread(s, to, n, t->offset + from, note);
}
