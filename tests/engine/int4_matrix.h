/* int4_matrix: a matrix as codes of 4 bits in the forms of files, by their definitions: compressed-tensors
 * packs eight columns a word, the first lowest, and zero points likewise along rows; GPTQ the same of the
 * transposed, AWQ eight rows a word in the order 0 2 4 6 1 3 5 7. Included by fp8_dir.h alone. */
#ifndef FLUXD_TESTS_ENGINE_INT4_MATRIX_H
#define FLUXD_TESTS_ENGINE_INT4_MATRIX_H

struct int4_codes {
    int n, k, group;
    uint8_t code[FP8_N], zero[FP8_N / 32];
    float scale[FP8_N / 32]; /* numbers of bf16 in the range of f16 */
    int32_t of[FP8_F];       /* which group a column is of */
};

static inline uint16_t int4_f16(float x) /* such a number's */
{
    uint32_t u;
    memcpy(&u, &x, 4);
    assert_true(x >= 0x1p-14f && x < 1);
    return (uint16_t)((u >> 13) - (112u << 10));
}

/* A group's codes under a scale, without zero points; the sum of squared errors. */
static inline double int4_under(const struct int4_codes *c, const uint16_t *v, int row, int g, float scale,
                                uint8_t *code)
{
    double sum = 0;
    for (int i = 0; i < c->k; i++) {
        if (c->of[i] != g) continue;
        const float x = fp8_of_bf16(v[row * c->k + i]), q = rintf(x / scale);
        const int clipped = q < -8 ? -8 : q > 7 ? 7 : (int)q;
        code[row * c->k + i] = (uint8_t)(clipped + 8);
        sum += pow((double)x - (double)((float)clipped * scale), 2);
    }
    return sum;
}

static inline void int4_encode(struct int4_codes *c, const uint16_t *v, bool zeros)
{
    static uint8_t other[FP8_N];
    const int groups = c->k / c->group;
    for (int row = 0; row < c->n; row++)
        for (int g = 0; g < groups; g++) {
            float low = 0, high = 0, *scale = &c->scale[row * groups + g];
            for (int i = 0; i < c->k; i++) {
                if (c->of[i] != g) continue;
                low = fminf(low, fp8_of_bf16(v[row * c->k + i]));
                high = fmaxf(high, fp8_of_bf16(v[row * c->k + i]));
            }
            if (!zeros) {
                const float most = fmaxf(-low, high),
                            s[2] = {fp8_of_bf16(fp8_bf16(most / 7)), fp8_of_bf16(fp8_bf16(most / 7.5f))};
                const double e0 = int4_under(c, v, row, g, s[0], c->code),
                             e1 = int4_under(c, v, row, g, s[1], other);
                if (e1 < e0) int4_under(c, v, row, g, s[1], c->code);
                *scale = s[e1 < e0];
                c->zero[row * groups + g] = 8;
                continue;
            }
            *scale = fp8_of_bf16(fp8_bf16((high - low) / 15));
            const int zero = (int)fminf(15, fmaxf(1, rintf(-low / *scale))); /* GPTQ stores it less 1 */
            c->zero[row * groups + g] = (uint8_t)zero;
            for (int i = 0; i < c->k; i++) {
                if (c->of[i] != g) continue;
                const float q = rintf(fp8_of_bf16(v[row * c->k + i]) / *scale) + (float)zero;
                c->code[row * c->k + i] = (uint8_t)fminf(15, fmaxf(0, q));
            }
        }
}

static inline void int4_tensor(struct fp8_file *f, const char *module, const char *tail, const char *type,
                               int n, int k, const void *data, size_t bytes)
{
    char name[160];
    snprintf(name, sizeof name, "%.90s%s", module, tail);
    fp8_tensor(f, name, type, n, k, data, bytes);
}

static inline void int4_write_packed(struct fp8_file *f, const char *module, const struct int4_codes *c,
                                     bool zeros)
{
    static uint32_t word[FP8_N / 8];
    static uint16_t scale[FP8_N / 32];
    const int groups = c->k / c->group;
    const int64_t shape[2] = {c->n, c->k};
    memset(word, 0, sizeof word);
    for (int i = 0; i < c->n * c->k; i++) word[i / 8] |= (uint32_t)c->code[i] << i % 8 * 4;
    int4_tensor(f, module, ".weight_packed", "I32", c->n, c->k / 8, word, (size_t)(c->n * c->k / 2));
    for (int i = 0; i < c->n * groups; i++) scale[i] = fp8_bf16(c->scale[i]);
    int4_tensor(f, module, ".weight_scale", "BF16", c->n, groups, scale, (size_t)(c->n * groups * 2));
    int4_tensor(f, module, ".weight_shape", "I64", 2, 0, shape, sizeof shape);
    if (!zeros) return;
    memset(word, 0, sizeof word);
    for (int i = 0; i < c->n; i++)
        for (int g = 0; g < groups; g++)
            word[i / 8 * groups + g] |= (uint32_t)c->zero[i * groups + g] << i % 8 * 4;
    int4_tensor(f, module, ".weight_zero_point", "I32", c->n / 8, groups, word,
                (size_t)(c->n / 8 * groups * 4));
}

/* AWQ and GPTQ: columns first. */
static inline void int4_write_across(struct fp8_file *f, const char *module, const struct int4_codes *c,
                                     enum fp8_form form)
{
    static const int slot[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* AWQ: of the row in its word */
    static uint32_t word[FP8_N / 8], zero[FP8_N / 32];
    static uint16_t scale[FP8_N / 32];
    const bool awq = form == INT4_AWQ;
    const int groups = c->k / c->group, n = c->n, less = form == INT4_GPTQ || form == INT4_GPTQ_APART;
    memset(word, 0, sizeof word);
    memset(zero, 0, sizeof zero);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < c->k; j++) {
            const uint32_t code = c->code[i * c->k + j];
            if (awq)
                word[j * (n / 8) + i / 8] |= code << slot[i % 8] * 4;
            else
                word[j / 8 * n + i] |= code << j % 8 * 4;
        }
        for (int g = 0; g < groups; g++) {
            scale[g * n + i] = int4_f16(c->scale[i * groups + g]);
            zero[g * (n / 8) + i / 8] |= (uint32_t)(c->zero[i * groups + g] - less)
                                         << (awq ? slot[i % 8] : i % 8) * 4;
        }
    }
    int4_tensor(f, module, ".qweight", "I32", awq ? c->k : c->k / 8, awq ? n / 8 : n, word,
                (size_t)(n * c->k / 2));
    int4_tensor(f, module, ".qzeros", "I32", groups, n / 8, zero, (size_t)(groups * n / 2));
    int4_tensor(f, module, ".scales", "F16", groups, n, scale, (size_t)(groups * n * 2));
    if (!awq) int4_tensor(f, module, ".g_idx", "I32", c->k, 0, c->of, (size_t)c->k * 4);
}

/* Columns of products with the same inputs share an order, but for those apart. */
static inline void int4_draw_order(struct int4_codes *c, const char *module, enum fp8_form form)
{
    const char *own = strrchr(module, '.') + 1;
    uint32_t seed = strstr(own, "o_proj") ? 2 : strstr(own, "down") ? 3 : 1;
    if (form == INT4_GPTQ_APART && strstr(own, "up_proj")) seed = 4;
    for (int i = 0; i < c->k; i++) c->of[i] = i / c->group;
    if (form != INT4_GPTQ_ORDER && form != INT4_GPTQ_APART) return;
    for (int i = c->k - 1; i > 0; i--) {
        const int j = (int)((fp8_draw(seed, (uint32_t)i) * 0.5f + 0.5f) * 0.999f * (float)(i + 1));
        const int32_t t = c->of[i];
        c->of[i] = c->of[j];
        c->of[j] = t;
    }
}

static inline void int4_matrix(struct fp8_file *f, const char *module, int n, int k, enum fp8_form form,
                               const uint16_t *v)
{
    static struct int4_codes c;
    static uint16_t number[FP8_N];
    const bool zeros = form != INT4_MADE && form != INT4_PACKED && form != INT4_GPTQ;
    c.n = n;
    c.k = k;
    c.group = form == INT4_PACKED || form == INT4_GPTQ_ORDER   ? 32
              : form == INT4_PACKED_ZEROS || form == INT4_GPTQ ? 64
                                                               : 128;
    int4_draw_order(&c, module, form);
    int4_encode(&c, v, zeros);
    if (fp8_dir_as_numbers) {
        for (int i = 0; i < n * k; i++) {
            const int at = i / k * (k / c.group) + c.of[i % k];
            number[i] = fp8_bf16((float)(c.code[i] - c.zero[at]) * c.scale[at]);
        }
        int4_tensor(f, module, ".weight", "BF16", n, k, number, (size_t)(n * k) * 2);
    } else if (form <= INT4_PACKED_ZEROS)
        int4_write_packed(f, module, &c, zeros);
    else
        int4_write_across(f, module, &c, form);
}

#endif
