/* token_vec: see token_vec.h. */
#include "server/text/token_vec.h"

#include <stdlib.h>

void token_vec_fini(struct token_vec *v)
{
    free(v->id);
    *v = (struct token_vec){0};
}

bool token_vec_push(struct token_vec *v, int32_t id)
{
    if (v->n == v->cap) {
        if (v->cap > SIZE_MAX / sizeof *v->id / 2) return false;
        size_t cap = v->cap ? v->cap * 2 : 64;
        int32_t *p = realloc(v->id, cap * sizeof *p);
        if (!p) return false;
        v->id = p;
        v->cap = cap;
    }
    v->id[v->n++] = id;
    return true;
}
