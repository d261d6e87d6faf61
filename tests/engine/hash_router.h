/* hash_router: writes the router file that tests/goldens/reference.py computes with: weights from a hash of
 * their place. */
#ifndef FLUXD_TESTS_ENGINE_HASH_ROUTER_H
#define FLUXD_TESTS_ENGINE_HASH_ROUTER_H

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int out, in; /* units of K; out 0: n_out */
} hash_router_linear[5] = {{"cls_feat_extractor.0", 8, 1},
                           {"cls_feat_extractor.2", 2, 8},
                           {"cls_router_head_agnostic.0", 4, 2},
                           {"cls_router_head_agnostic.2", 1, 4},
                           {"cls_router_head_agnostic.4", 0, 1}};

static inline float hash_router_value(uint32_t seed, uint32_t tensor, uint32_t i, float scale)
{
    uint32_t x = i * 0x9E3779B1u ^ (seed * 0x85EBCA6Bu + tensor * 0xC2B2AE35u);
    for (int k = 0; k < 2; k++) {
        x ^= x >> 16;
        x *= 0x7FEB352Du;
        x ^= x >> 15;
        x *= 0x846CA68Bu;
    }
    x ^= x >> 16;
    float u = (float)(x >> 8) * 0x1p-23f - 1.0f;
    return u * scale;
}

static inline void hash_router_tensor(FILE *f, uint32_t seed, int layer, int i, int n_out, int head,
                                      float last_bias)
{
    int rows = hash_router_linear[i].out ? hash_router_linear[i].out * head : n_out,
        cols = hash_router_linear[i].in * head;
    for (int j = 0; j < rows * cols; j++) {
        float v = hash_router_value(seed, (uint32_t)(layer * 16 + 2 * i), (uint32_t)j,
                                    (float)(2.0 / sqrt((double)cols)));
        fwrite(&v, 4, 1, f);
    }
    for (int j = 0; j < rows; j++) {
        float v = i < 4 ? hash_router_value(seed, (uint32_t)(layer * 16 + 2 * i + 1), (uint32_t)j, 0.125f)
                  : j == rows - 1 ? last_bias
                                  : 0;
        fwrite(&v, 4, 1, f);
    }
}

/* metadata: JSON object text, e.g. {"pool_size":"150.0"}. */
static inline void hash_router_write(const char *path, uint32_t seed, int n_layer, int n_out, int head,
                                     const float *last_bias, const char *metadata)
{
    size_t cap = (size_t)n_layer * 5 * 512 + 4096, n = 0;
    char *head_json = malloc(cap);
    long at = 0;
    n += (size_t)snprintf(head_json, cap, "{\"__metadata__\":%s", metadata);
    for (int l = 0; l < n_layer; l++)
        for (int i = 0; i < 5; i++) {
            int rows = hash_router_linear[i].out ? hash_router_linear[i].out * head : n_out,
                cols = hash_router_linear[i].in * head;
            long w = at + 4L * rows * cols, b = w + 4L * rows;
            n += (size_t)snprintf(
                head_json + n, cap - n,
                ",\"model.layers.%d.self_attn.mask_allocator.%s.weight\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%ld,%ld]}"
                ",\"model.layers.%d.self_attn.mask_allocator.%s.bias\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%ld,%ld]}",
                l, hash_router_linear[i].name, rows, cols, at, w, l, hash_router_linear[i].name, rows, w, b);
            at = b;
        }
    head_json[n++] = '}';
    FILE *f = fopen(path, "wb");
    uint64_t len = n;
    fwrite(&len, 8, 1, f);
    fwrite(head_json, 1, n, f);
    for (int l = 0; l < n_layer; l++)
        for (int i = 0; i < 5; i++) hash_router_tensor(f, seed, l, i, n_out, head, last_bias[l]);
    fclose(f);
    free(head_json);
}

#endif
