/* special: the token texts in one sorted array. The texts that share a prefix of d bytes are neighbours, so a
 * match walks down the array like a trie: each byte of input narrows the range, a text of exactly d bytes
 * stands first. */
#include "server/text/special.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    const char *text;
    size_t len;
    int32_t id;
};

struct special {
    size_t n;
    struct entry *entry; /* sorted by bytes, then by id */
    size_t first[257];   /* first[b] .. first[b + 1]: the entries that start with byte b */
};

static int compare(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    int c = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    if (c != 0) return c;
    if (a->len != b->len) return a->len < b->len ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

enum err special_new(struct special **out, size_t n, const char *const *text, const size_t *len,
                     const int32_t *id, struct err_note *note)
{
    *out = NULL;
    struct special *s = calloc(1, sizeof *s);
    if (!s) return err_set(note, ERR_NOMEM, NULL, "out of memory");
    s->entry = calloc(n ? n : 1, sizeof *s->entry);
    if (!s->entry) {
        special_free(s);
        return err_set(note, ERR_NOMEM, NULL, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        if (len[i] > SPECIAL_BYTES_MAX) {
            special_free(s);
            return err_set(note, ERR_MODEL_FILE, "tokenizer.ggml.tokens",
                           "special token %d has %zu bytes, above %d", id[i], len[i], SPECIAL_BYTES_MAX);
        }
        if (len[i] > 0) s->entry[s->n++] = (struct entry){.text = text[i], .len = len[i], .id = id[i]};
    }
    qsort(s->entry, s->n, sizeof *s->entry, compare);
    for (size_t i = 0; i < s->n; i++) s->first[(unsigned char)s->entry[i].text[0] + 1]++;
    for (int b = 0; b < 256; b++) s->first[b + 1] += s->first[b];
    *out = s;
    return OK;
}

void special_free(struct special *s)
{
    if (!s) return;
    free(s->entry);
    free(s);
}

/* First of the entries lo..hi whose byte d is >= b. All of them are longer than d bytes. */
static size_t lower_bound(const struct special *s, size_t lo, size_t hi, size_t d, int b)
{
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if ((unsigned char)s->entry[mid].text[d] < b) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* The longest entry that starts text, or NULL. */
static const struct entry *longest(const struct special *s, const unsigned char *text, size_t n)
{
    const struct entry *best = NULL;
    size_t lo = s->first[text[0]], hi = s->first[text[0] + 1];
    for (size_t d = 1; lo < hi; d++) { /* lo..hi: the entries that start with text[0, d) */
        if (s->entry[lo].len == d) {
            best = &s->entry[lo];
            while (lo < hi && s->entry[lo].len == d) lo++;
        }
        if (d == n) break;
        lo = lower_bound(s, lo, hi, d, text[d]);
        hi = lower_bound(s, lo, hi, d, text[d] + 1);
    }
    return best;
}

bool special_next(const struct special *s, const char *text, size_t n, size_t from, struct special_hit *hit)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = from; i < n; i++) {
        if (s->first[p[i]] == s->first[p[i] + 1]) continue;
        const struct entry *e = longest(s, p + i, n - i);
        if (e) {
            *hit = (struct special_hit){.at = i, .len = e->len, .id = e->id};
            return true;
        }
    }
    return false;
}
