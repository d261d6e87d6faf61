/* token_vec: a row of token ids that grows. */
#ifndef FLUXD_SERVER_TEXT_TOKEN_VEC_H
#define FLUXD_SERVER_TEXT_TOKEN_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_vec {
    int32_t *id; /* heap, grows; free with token_vec_fini */
    size_t n, cap;
};
void token_vec_fini(struct token_vec *v);
bool token_vec_push(struct token_vec *v, int32_t id); /* false: out of memory */

#endif
