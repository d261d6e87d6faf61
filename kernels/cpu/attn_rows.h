/* attn_rows: the row kernels of attn_cpu.c, included there once for each width of vectors: V_FLOATS floats,
 * names by V_NAME, built for V_TARGET. GCC 12 makes a vector of one factor an element at a time where it is
 * wider than the processor's registers, so each processor needs its own width. A column's bits do not depend
 * on it: no sum runs across a vector. */

/* Aligned as a float: rows of values begin anywhere. */
typedef float V_NAME(vec) __attribute__((vector_size(4 * V_FLOATS), aligned(4)));

/* R is a constant at every use; two vectors of sums a row stay in registers. */
static inline __attribute__((always_inline)) void V_NAME(score_rows)(struct tile *t, const struct row_set *r,
                                                                     const int R)
{
    for (int j = 0; j < PAGE_TOK; j += 2 * V_FLOATS) {
        V_NAME(vec) a[ROWS][2];
        for (int k = 0; k < R; k++) a[k][0] = a[k][1] = (V_NAME(vec)){0};
        for (int i = 0; i < r->K; i++) {
            V_NAME(vec)
            w0 = *(const V_NAME(vec) *)&t->kt[i][j], w1 = *(const V_NAME(vec) *)&t->kt[i][j + V_FLOATS];
            for (int k = 0; k < R; k++) {
                float q = r->q[k][i] * r->scale;
                a[k][0] += w0 * q;
                a[k][1] += w1 * q;
            }
        }
        for (int k = 0; k < R; k++) {
            *(V_NAME(vec) *)&t->s[k][j] = a[k][0];
            *(V_NAME(vec) *)&t->s[k][j + V_FLOATS] = a[k][1];
        }
    }
}

static inline __attribute__((always_inline)) void V_NAME(value_rows)(struct tile *t, const struct row_set *r,
                                                                     const int R)
{
    int c = 0;
    for (; c + V_FLOATS <= r->K; c += V_FLOATS) {
        V_NAME(vec) a[ROWS];
        for (int k = 0; k < R; k++) a[k] = *(const V_NAME(vec) *)(r->o[k] + c);
        for (int j = 0; j < r->n_max; j++) {
            V_NAME(vec) w = *(const V_NAME(vec) *)&t->v[j][c];
            for (int k = 0; k < R; k++) a[k] += w * t->s[k][j];
        }
        for (int k = 0; k < R; k++) *(V_NAME(vec) *)(r->o[k] + c) = a[k];
    }
    for (; c < r->K; c++)
        for (int j = 0; j < r->n_max; j++)
            for (int k = 0; k < R; k++) r->o[k][c] += t->s[k][j] * t->v[j][c];
}

V_TARGET static void V_NAME(rows_many)(struct tile *t, const struct row_set *r, float *m, float *l)
{
    V_NAME(score_rows)(t, r, ROWS);
    for (int k = 0; k < ROWS; k++) soften_row(t, r, k, &m[k], &l[k]);
    V_NAME(value_rows)(t, r, ROWS);
}

V_TARGET static void V_NAME(rows_one)(struct tile *t, const struct row_set *r, float *m, float *l)
{
    V_NAME(score_rows)(t, r, 1);
    soften_row(t, r, 0, m, l);
    V_NAME(value_rows)(t, r, 1);
}

#undef V_FLOATS
#undef V_NAME
#undef V_TARGET
