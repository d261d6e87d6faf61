/* gguf: the reader. The header (metadata and tensor table) is read once into one block that grows with what
 * the header really holds, never past the file's own size; keys and strings point into it. Tensor bytes are
 * pread on demand. */
#include "base/files/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_FIRST = 1 << 20, NAME_MOST = 63, DIM_MOST = 4, ALIGN_DEFAULT = 32, VERSION = 3 };

enum gguf_kind {
    K_U8,
    K_I8,
    K_U16,
    K_I16,
    K_U32,
    K_I32,
    K_F32,
    K_BOOL,
    K_STR,
    K_ARR,
    K_U64,
    K_I64,
    K_F64,
    K_COUNT
};

static const uint8_t kind_bytes[K_COUNT] = {
    [K_U8] = 1,  [K_I8] = 1,   [K_U16] = 2, [K_I16] = 2, [K_U32] = 4, [K_I32] = 4,
    [K_F32] = 4, [K_BOOL] = 1, [K_U64] = 8, [K_I64] = 8, [K_F64] = 8};

/* The format's numbers of tensor types; 0 stands for none, so entries are dtype + 1. */
static const uint8_t dtype_of[] = {
    [0] = DT_F32 + 1,   [1] = DT_F16 + 1,   [2] = DT_Q4_0 + 1, [3] = DT_Q4_1 + 1,
    [6] = DT_Q5_0 + 1,  [7] = DT_Q5_1 + 1,  [8] = DT_Q8_0 + 1, [12] = DT_Q4_K + 1,
    [13] = DT_Q5_K + 1, [14] = DT_Q6_K + 1, [30] = DT_BF16 + 1};

struct gguf_kv {
    int64_t key;             /* offsets into head: it may move while it grows */
    int64_t key_n, value, n; /* n: bytes of a string, or items of an array */
    enum gguf_kind kind, item;
};

struct gguf {
    int fd;
    int64_t file_bytes, data0, align;
    char *path;
    char *head;
    int64_t head_n, pos;
    int n_kv, n_tensor;
    struct gguf_kv *kv;
    struct gguf_tensor *tensor;
    int *by_name; /* tensors in order of their names */
};

/* --- the header as a stream of bytes */

static enum err bad(const struct gguf *g, struct err_note *note, const char *what)
{
    return err_set(note, ERR_MODEL_FILE, g->path, "%s: %s", g->path, what);
}

static enum err file_pread(const struct gguf *g, void *to, int64_t n, int64_t at, struct err_note *note)
{
    char *p = to;
    while (n > 0) {
        ssize_t got = pread(g->fd, p, (size_t)n, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_set(note, ERR_IO, g->path, "%s: %s", g->path, strerror(errno));
        if (got == 0) return bad(g, note, "the file has become shorter while it was read");
        p += got;
        at += got;
        n -= got;
    }
    return OK;
}

/* Makes n bytes from pos on available at head + pos. */
static enum err head_need(struct gguf *g, int64_t n, struct err_note *note)
{
    if (n < 0 || n > g->file_bytes - g->pos) return bad(g, note, "the header runs past the end of the file");
    if (g->pos + n <= g->head_n) return OK;
    int64_t want = g->head_n * 2 > HEAD_FIRST ? g->head_n * 2 : HEAD_FIRST;
    if (want < g->pos + n) want = g->pos + n;
    if (want > g->file_bytes) want = g->file_bytes;
    char *p = realloc(g->head, (size_t)want);
    if (!p) return err_set(note, ERR_NOMEM, g->path, "%s: no memory for its header", g->path);
    g->head = p;
    enum err e = file_pread(g, p + g->head_n, want - g->head_n, g->head_n, note);
    if (e == OK) g->head_n = want;
    return e;
}

static enum err take(struct gguf *g, void *out, int n, struct err_note *note)
{
    enum err e = head_need(g, n, note);
    if (e != OK) return e;
    memcpy(out, g->head + g->pos, (size_t)n);
    g->pos += n;
    return OK;
}

/* A string: its offset and length; pos moves past it. */
static enum err take_str(struct gguf *g, int64_t *at, int64_t *n, struct err_note *note)
{
    uint64_t len;
    enum err e = take(g, &len, 8, note);
    if (e != OK) return e;
    if (len > (uint64_t)(g->file_bytes - g->pos))
        return bad(g, note, "a string runs past the end of the file");
    *at = g->pos;
    *n = (int64_t)len;
    if ((e = head_need(g, *n, note)) == OK) g->pos += *n;
    return e;
}

/* --- metadata */

static enum err kv_bad(const struct gguf *g, const struct gguf_kv *kv, struct err_note *note,
                       const char *what)
{
    return err_set(note, ERR_MODEL_FILE, g->path, "%s: key \"%.*s\": %s", g->path,
                   (int)(kv->key_n > 80 ? 80 : kv->key_n), g->head + kv->key, what);
}

/* Visible ASCII alone: what may stand in a message of one line. */
static bool is_plain(const char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (p[i] <= ' ' || p[i] > '~') return false;
    return true;
}

static enum err read_array(struct gguf *g, struct gguf_kv *kv, struct err_note *note)
{
    uint32_t item;
    uint64_t n;
    enum err e;
    if ((e = take(g, &item, 4, note)) != OK || (e = take(g, &n, 8, note)) != OK) return e;
    if (item >= K_COUNT || item == K_ARR) return kv_bad(g, kv, note, "an array of an unknown or nested type");
    uint64_t least = item == K_STR ? 8 : kind_bytes[item]; /* bytes an item takes at least */
    if (n > (uint64_t)(g->file_bytes - g->pos) / least)
        return kv_bad(g, kv, note, "the array is longer than the file");
    kv->item = (enum gguf_kind)item;
    kv->n = (int64_t)n;
    kv->value = g->pos;
    if (item != K_STR) {
        int64_t bytes = (int64_t)(n * least);
        if ((e = head_need(g, bytes, note)) == OK) g->pos += bytes;
        return e;
    }
    for (uint64_t i = 0; i < n; i++) {
        int64_t at, len;
        if ((e = take_str(g, &at, &len, note)) != OK) return e;
    }
    return OK;
}

static enum err read_kv(struct gguf *g, struct gguf_kv *kv, struct err_note *note)
{
    enum err e = take_str(g, &kv->key, &kv->key_n, note);
    if (e != OK) return e;
    if (kv->key_n == 0 || !is_plain(g->head + kv->key, kv->key_n))
        return bad(g, note, "a key is empty or not plain ASCII");
    uint32_t kind;
    if ((e = take(g, &kind, 4, note)) != OK) return e;
    if (kind >= K_COUNT) return kv_bad(g, kv, note, "unknown type of value");
    kv->kind = (enum gguf_kind)kind;
    if (kind == K_ARR) return read_array(g, kv, note);
    if (kind == K_STR) return take_str(g, &kv->value, &kv->n, note);
    kv->value = g->pos;
    if ((e = head_need(g, kind_bytes[kind], note)) != OK) return e;
    g->pos += kind_bytes[kind];
    if (kind == K_BOOL && (uint8_t)g->head[kv->value] > 1)
        return kv_bad(g, kv, note, "a truth value that is neither 0 nor 1");
    return OK;
}

static int cmp_key(const void *a, const void *b, void *head)
{
    const struct gguf_kv *x = a, *y = b;
    const char *h = head;
    int c = memcmp(h + x->key, h + y->key, (size_t)(x->key_n < y->key_n ? x->key_n : y->key_n));
    return c ? c : (x->key_n > y->key_n) - (x->key_n < y->key_n);
}

static enum err read_metadata(struct gguf *g, struct err_note *note)
{
    for (int i = 0; i < g->n_kv; i++) {
        enum err e = read_kv(g, &g->kv[i], note);
        if (e != OK) return e;
    }
    qsort_r(g->kv, (size_t)g->n_kv, sizeof *g->kv, cmp_key, g->head);
    for (int i = 1; i < g->n_kv; i++)
        if (cmp_key(&g->kv[i - 1], &g->kv[i], g->head) == 0)
            return kv_bad(g, &g->kv[i], note, "duplicate key");

    int64_t align = ALIGN_DEFAULT;
    if (gguf_has(g, "general.alignment") && !gguf_get_int(g, "general.alignment", &align))
        return bad(g, note, "key \"general.alignment\" is not an integer");
    if (align < 8 || align > 1 << 20 || (align & (align - 1)))
        return bad(g, note, "general.alignment is not a power of two in 8..2^20");
    g->align = align;
    return OK;
}

/* --- tensor table */

static enum err tensor_bad(const struct gguf *g, const struct gguf_tensor *t, struct err_note *note,
                           const char *what)
{
    return err_set(note, ERR_MODEL_FILE, g->path, "%s: tensor %s: %s", g->path, t->name, what);
}

static enum err read_name(struct gguf *g, struct gguf_tensor *t, struct err_note *note)
{
    int64_t at, n;
    enum err e = take_str(g, &at, &n, note);
    if (e != OK) return e;
    if (n < 1 || n > NAME_MOST) return bad(g, note, "a tensor's name is empty or longer than 63 bytes");
    if (!is_plain(g->head + at, n)) return bad(g, note, "a tensor's name is not plain ASCII");
    memcpy(t->name, g->head + at, (size_t)n);
    return OK;
}

static enum err read_tensor(struct gguf *g, struct gguf_tensor *t, struct err_note *note)
{
    uint32_t n_dim, type;
    uint64_t dim, offset;
    enum err e = read_name(g, t, note);
    if (e != OK || (e = take(g, &n_dim, 4, note)) != OK) return e;
    if (n_dim < 1 || n_dim > DIM_MOST) return tensor_bad(g, t, note, "has no or more than 4 dimensions");
    t->n_dim = (int)n_dim;
    t->n_elem = 1;
    for (int i = 0; i < DIM_MOST; i++) t->dim[i] = 1;
    for (int i = 0; i < t->n_dim; i++) {
        if ((e = take(g, &dim, 8, note)) != OK) return e;
        if (dim == 0 || dim > INT32_MAX) return tensor_bad(g, t, note, "has a dimension of 0 or above 2^31");
        t->dim[i] = (int64_t)dim;
        if (__builtin_mul_overflow(t->n_elem, t->dim[i], &t->n_elem))
            return tensor_bad(g, t, note, "its shape overflows");
    }
    if ((e = take(g, &type, 4, note)) != OK || (e = take(g, &offset, 8, note)) != OK) return e;
    if (type >= sizeof dtype_of || !dtype_of[type])
        return err_set(note, ERR_MODEL_FILE, g->path, "%s: tensor %s: type %u is unknown or not supported",
                       g->path, t->name, type);
    t->dt = (enum dtype)(dtype_of[type] - 1);
    const struct quant_type *q = quant_type(t->dt);
    if (t->dim[0] % q->block) return tensor_bad(g, t, note, "its rows are not whole blocks of its type");
    if (__builtin_mul_overflow(t->n_elem / q->block, (int64_t)q->block_bytes, &t->n_bytes) ||
        t->n_bytes > g->file_bytes)
        return tensor_bad(g, t, note, "is larger than the file");
    if (offset > (uint64_t)g->file_bytes) return tensor_bad(g, t, note, "begins past the end of the file");
    t->offset = (int64_t)offset; /* from the data section's start, for now */
    return OK;
}

static int cmp_name(const void *a, const void *b, void *tensor)
{
    const struct gguf_tensor *t = tensor;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Tensors stand one after the other in the table's order, each at the next multiple of the alignment, and the
 * last one ends the file (up to its own padding): no overlap, no hole, nothing unaccounted for. */
static enum err check_layout(struct gguf *g, struct err_note *note)
{
    g->data0 = round_up(g->pos, g->align);
    int64_t next = g->data0, end = g->pos; /* a file without tensors may end without padding */
    for (int i = 0; i < g->n_tensor; i++) {
        struct gguf_tensor *t = &g->tensor[i];
        t->offset += g->data0;
        if (t->offset != next)
            return tensor_bad(g, t, note, "overlaps another tensor, leaves a hole, or is not aligned");
        if (t->n_bytes > g->file_bytes - t->offset)
            return tensor_bad(g, t, note, "runs past the end of the file");
        end = t->offset + t->n_bytes;
        next = round_up(end, g->align);
    }
    if (g->file_bytes > round_up(end, g->align)) {
        const char *what = "bytes after the last tensor";
        return g->n_tensor ? tensor_bad(g, &g->tensor[g->n_tensor - 1], note, what) : bad(g, note, what);
    }

    for (int i = 0; i < g->n_tensor; i++) g->by_name[i] = i;
    qsort_r(g->by_name, (size_t)g->n_tensor, sizeof *g->by_name, cmp_name, g->tensor);
    for (int i = 1; i < g->n_tensor; i++)
        if (cmp_name(&g->by_name[i - 1], &g->by_name[i], g->tensor) == 0)
            return tensor_bad(g, &g->tensor[g->by_name[i]], note, "duplicate name");
    return OK;
}

static enum err read_header(struct gguf *g, struct err_note *note)
{
    char magic[4];
    uint32_t version;
    uint64_t n_tensor, n_kv;
    enum err e;
    if ((e = take(g, magic, 4, note)) != OK) return e;
    if (memcmp(magic, "GGUF", 4) != 0) return bad(g, note, "not a GGUF file");
    if ((e = take(g, &version, 4, note)) != OK) return e;
    if (version != VERSION) return bad(g, note, "not version 3 of GGUF (little-endian)");
    if ((e = take(g, &n_tensor, 8, note)) != OK || (e = take(g, &n_kv, 8, note)) != OK) return e;
    uint64_t left = (uint64_t)(g->file_bytes - g->pos);
    /* less than any entry of use takes in the file, so that these tables stay below twice its size */
    if (n_tensor > left / 70 || n_kv > left / 24 || n_tensor > 1u << 20 || n_kv > 1u << 20)
        return bad(g, note, "more tensors or keys than the file can hold");
    g->n_kv = (int)n_kv;
    g->kv = calloc(n_kv ? n_kv : 1, sizeof *g->kv);
    if (!g->kv) return err_set(note, ERR_NOMEM, g->path, "%s: no memory for its header", g->path);
    if ((e = read_metadata(g, note)) != OK) return e;

    g->n_tensor = (int)n_tensor;
    g->tensor = calloc(n_tensor ? n_tensor : 1, sizeof *g->tensor);
    g->by_name = calloc(n_tensor ? n_tensor : 1, sizeof *g->by_name);
    if (!g->tensor || !g->by_name)
        return err_set(note, ERR_NOMEM, g->path, "%s: no memory for its tensor table", g->path);
    for (int i = 0; i < g->n_tensor; i++)
        if ((e = read_tensor(g, &g->tensor[i], note)) != OK) return e;
    return check_layout(g, note);
}

enum err gguf_open(struct gguf **out, const char *path, struct err_note *note)
{
    struct stat st;
    enum err e = ERR_NOMEM;
    struct gguf *g = calloc(1, sizeof *g);
    if (!g) return err_set(note, ERR_NOMEM, path, "out of memory");
    g->fd = -1;
    if (!(g->path = strdup(path))) goto fail;
    g->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused, not waited for */
    if (g->fd < 0 || fstat(g->fd, &st) != 0) {
        e = err_set(note, ERR_IO, path, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        e = bad(g, note, "not a regular file");
        goto fail;
    }
    g->file_bytes = st.st_size;
    if ((e = read_header(g, note)) != OK) goto fail;
    char *head = realloc(g->head, (size_t)g->pos); /* what was read of the tensors goes */
    if (head) g->head = head;
    *out = g;
    return OK;
fail:
    gguf_close(g);
    return e;
}

void gguf_close(struct gguf *g)
{
    if (!g) return;
    if (g->fd >= 0) close(g->fd);
    free(g->by_name);
    free(g->tensor);
    free(g->kv);
    free(g->head);
    free(g->path);
    free(g);
}

/* --- lookups */

int gguf_n_tensor(const struct gguf *g) { return g->n_tensor; }
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i) { return &g->tensor[i]; }

const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name)
{
    int lo = 0, hi = g->n_tensor;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = strcmp(g->tensor[g->by_name[mid]].name, name);
        if (c == 0) return &g->tensor[g->by_name[mid]];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

enum err gguf_read(const struct gguf *g, const struct gguf_tensor *t, int64_t from, int64_t n, void *to,
                   struct err_note *note)
{
    if (from < 0 || n < 0 || from > t->n_bytes || n > t->n_bytes - from)
        return tensor_bad(g, t, note, "read outside the tensor");
    enum err e = file_pread(g, to, n, t->offset + from, note);
    return e == OK ? OK : err_set(note, e, g->path, "%s: tensor %s cannot be read", g->path, t->name);
}

static const struct gguf_kv *find_kv(const struct gguf *g, const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; i < g->n_kv; i++)
        if ((size_t)g->kv[i].key_n == n && memcmp(g->head + g->kv[i].key, key, n) == 0) return &g->kv[i];
    return NULL;
}

static const struct gguf_kv *find_kind(const struct gguf *g, const char *key, enum gguf_kind kind)
{
    const struct gguf_kv *kv = find_kv(g, key);
    return kv && kv->kind == kind ? kv : NULL;
}

bool gguf_has(const struct gguf *g, const char *key) { return find_kv(g, key) != NULL; }

static bool is_int(enum gguf_kind k)
{
    return k == K_U8 || k == K_I8 || k == K_U16 || k == K_I16 || k == K_U32 || k == K_I32 || k == K_U64 ||
           k == K_I64;
}

static bool int_at(const char *p, enum gguf_kind kind, int64_t *out)
{
    uint64_t u = 0;
    int bits = kind_bytes[kind] * 8;
    memcpy(&u, p, kind_bytes[kind]); /* little-endian, as the file is */
    bool is_signed = kind == K_I8 || kind == K_I16 || kind == K_I32 || kind == K_I64;
    if (kind == K_U64 && u > INT64_MAX) return false;
    if (is_signed && bits < 64 && u >> (bits - 1)) u |= ~0ull << bits;
    *out = (int64_t)u;
    return true;
}

bool gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out)
{
    const struct gguf_kv *kv = find_kind(g, key, K_STR);
    if (kv) *out = (struct gguf_str){g->head + kv->value, (size_t)kv->n};
    return kv != NULL;
}

bool gguf_get_int(const struct gguf *g, const char *key, int64_t *out)
{
    const struct gguf_kv *kv = find_kv(g, key);
    return kv && is_int(kv->kind) && int_at(g->head + kv->value, kv->kind, out);
}

bool gguf_get_float(const struct gguf *g, const char *key, double *out)
{
    const struct gguf_kv *kv = find_kv(g, key);
    if (!kv || (kv->kind != K_F32 && kv->kind != K_F64)) return false;
    float f;
    if (kv->kind == K_F64)
        memcpy(out, g->head + kv->value, sizeof *out);
    else {
        memcpy(&f, g->head + kv->value, sizeof f);
        *out = (double)f;
    }
    return true;
}

bool gguf_get_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct gguf_kv *kv = find_kind(g, key, K_BOOL);
    if (kv) *out = g->head[kv->value] != 0;
    return kv != NULL;
}

int64_t gguf_n_strs(const struct gguf *g, const char *key)
{
    const struct gguf_kv *kv = find_kind(g, key, K_ARR);
    return kv && kv->item == K_STR ? kv->n : -1;
}

void gguf_get_strs(const struct gguf *g, const char *key, struct gguf_str *out)
{
    const struct gguf_kv *kv = find_kind(g, key, K_ARR);
    if (!kv || kv->item != K_STR) return;
    const char *p = g->head + kv->value;
    for (int64_t i = 0; i < kv->n; i++) {
        uint64_t n; /* checked when the header was read */
        memcpy(&n, p, sizeof n);
        out[i] = (struct gguf_str){p + 8, (size_t)n};
        p += 8 + n;
    }
}

int64_t gguf_n_ints(const struct gguf *g, const char *key)
{
    const struct gguf_kv *kv = find_kind(g, key, K_ARR);
    return kv && is_int(kv->item) ? kv->n : -1;
}

void gguf_get_ints(const struct gguf *g, const char *key, int64_t *out)
{
    const struct gguf_kv *kv = find_kind(g, key, K_ARR);
    if (!kv || !is_int(kv->item)) return;
    for (int64_t i = 0; i < kv->n; i++)
        if (!int_at(g->head + kv->value + i * kind_bytes[kv->item], kv->item, &out[i])) out[i] = INT64_MAX;
}

int64_t gguf_n_floats(const struct gguf *g, const char *key)
{
    const struct gguf_kv *kv = find_kind(g, key, K_ARR);
    return kv && kv->item == K_F32 ? kv->n : -1;
}

void gguf_get_floats(const struct gguf *g, const char *key, float *out)
{
    const struct gguf_kv *kv = find_kind(g, key, K_ARR);
    if (kv && kv->item == K_F32) memcpy(out, g->head + kv->value, (size_t)kv->n * sizeof *out);
}
