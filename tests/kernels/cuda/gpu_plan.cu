/* Work lists made on the device against the same made here, one by one: pages and positions of every row,
 * what each run attends to in every layer, patches of the page tables. usage: gpu_plan */
#include "kernels/cuda/plan_gpu.h"
#include "tests/kernels/cuda/gpu_test.cuh"

#include <string.h>
#include <algorithm>
#include <random>
#include <vector>

enum {
    LAYERS = 6,
    SLOTS = 70,
    BLOCKS = 40,
    HEADS = 4,
    WORDS = 1,
    HOLDS = 2,
    HOLD_BLOCKS = 500,
    MAX_RUN = 64,
    LOCAL = 3
};

struct plan {
    std::vector<void *> mem;
    std::mt19937 rng{3};
    std::vector<int32_t> table; /* as it must be after the patches */
    int32_t *table_d;
    plan_kind kind[LAYERS][2];
    uint8_t *full_head;
    uint64_t *keep;

    template <typename T> T *upload(const std::vector<T> &v)
    {
        void *p;
        CUDA(cudaMalloc(&p, v.size() * sizeof(T) + 16));
        CUDA(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
        mem.push_back(p);
        return (T *)p;
    }
    template <typename T> static std::vector<T> fetch(const T *p, size_t n)
    {
        std::vector<T> v(n);
        CUDA(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
        return v;
    }
    plan() : table((size_t)SLOTS * LAYERS * BLOCKS)
    {
        for (size_t i = 0; i < table.size(); i++) table[i] = (int32_t)i;
        std::shuffle(table.begin(), table.end(), rng);
        table_d = upload(table);
        full_head = upload(std::vector<uint8_t>((size_t)LAYERS * HEADS, 1));
        keep = upload(std::vector<uint64_t>(1, 0)); /* an address to count from */
        for (int l = 0; l < LAYERS; l++)
            for (int bit = 0; bit < 2; bit++)
                kind[l][bit] = {bit     ? ATTN_FULL
                                : l % 2 ? ATTN_TRIANGLE
                                        : ATTN_LIST,
                                bit ? ATTN_FULL : ATTN_STREAMING, 1 + l % 2,
                                bit || l % 2 ? -1 : l / 2 % HOLDS, full_head + l * HEADS};
    }
    ~plan()
    {
        for (void *p : mem) cudaFree(p);
    }
    void one(const std::vector<int> &len, int pad_tok, int pad_run, int layer0, int layer1, bool decode,
             bool open);
};

void plan::one(const std::vector<int> &len, int pad_tok, int pad_run, int layer0, int layer1, bool decode,
               bool open)
{
    const int n_real = (int)len.size(), n_run = n_real + pad_run;
    std::vector<plan_run> run;
    std::vector<uint8_t> route;
    std::vector<int32_t> patch;
    int n_tok = 0;
    for (int i = 0; i < n_real; i++) {
        const int slot = (i * 29 + 3) % SLOTS,
                  pos0 = (int)(rng() % (uint32_t)(BLOCKS * PAGE_TOK - len[(size_t)i] + 1));
        run.push_back({slot, n_tok, len[(size_t)i], pos0, pos0 + 7, i * 5});
        n_tok += len[(size_t)i];
        for (int l = 0; l < LAYERS; l++) route.push_back((uint8_t)(rng() % (open ? 3 : 2)));
        for (int k = 0; k < 40;
             k++) { /* places all different: two patches of one place in a call never come */
            const int32_t at = ((slot * LAYERS + k % LAYERS) * BLOCKS) + (k * 7) % BLOCKS,
                          page = (int32_t)(rng() % 1000000);
            if (table[(size_t)at] < 0) continue;
            patch.push_back(at);
            patch.push_back(page);
            table[(size_t)at] = page;
        }
    }
    for (int i = 0; i < pad_run; i++) {
        run.push_back({0, n_tok + pad_tok, 0, 0, 0, 0});
        route.insert(route.end(), LAYERS, 0);
    }
    const int n_all = n_tok + pad_tok, max_tok = n_all + 3;
    std::vector<attn_seg> poison_seg((size_t)LAYERS * MAX_RUN);
    memset(poison_seg.data(), 0xee, poison_seg.size() * sizeof(attn_seg));
    plan_gpu_args a = {};
    a.run = upload(run);
    a.route = upload(route);
    a.kind = (const plan_kind(*)[2])upload(std::vector<plan_kind>(&kind[0][0], &kind[0][0] + 2 * LAYERS));
    a.table = table_d;
    a.patch = (const int32_t(*)[2])upload(patch);
    a.n_patch = upload(std::vector<int32_t>(1, (int32_t)patch.size() / 2));
    a.seg = upload(poison_seg);
    a.page = upload(std::vector<int32_t>((size_t)(LAYERS * max_tok), -77));
    a.pos = upload(std::vector<int32_t>((size_t)max_tok, -77));
    a.n_run = n_run, a.n_tok = n_all, a.n_layer = LAYERS, a.n_block = BLOCKS, a.max_run = MAX_RUN,
    a.max_tok = max_tok, a.layer0 = layer0, a.layer1 = layer1;
    a.local_blocks = LOCAL, a.decode = decode, a.keep = keep, a.hold_stride = HOLD_BLOCKS, a.n_head = HEADS,
    a.keep_words = WORDS;
    if (plan_gpu(&a, 0) != OK) {
        printf("launch failed: %s\n", cudaGetErrorString(cudaGetLastError()));
        exit(2);
    }
    CUDA(cudaDeviceSynchronize());
    std::vector<attn_seg> seg = fetch(a.seg, poison_seg.size());
    std::vector<int32_t> page = fetch(a.page, (size_t)(LAYERS * max_tok)),
                         pos = fetch(a.pos, (size_t)max_tok);
    char text[128];
    snprintf(text, sizeof text, "%d runs and %d of padding, %d rows and %d, layers %d to %d, decode %d",
             n_real, pad_run, n_tok, pad_tok, layer0, layer1, decode);
    check(fetch(table_d, table.size()) == table, "patches_are_applied", text);
    bool rows = true, runs = true, rest = true;
    for (int l = 0; l < LAYERS; l++) {
        const bool in = l >= layer0 && l < layer1;
        std::vector<int32_t> want((size_t)max_tok, -77), want_pos((size_t)max_tok, -77);
        for (int t = n_tok; t < n_all; t++) want[(size_t)t] = -1, want_pos[(size_t)t] = 0;
        for (int i = 0; i < n_run; i++) {
            const plan_run &r = run[(size_t)i];
            for (int t = 0; t < r.n_row; t++) {
                want[(size_t)(r.row0 + t)] =
                    table[(size_t)((r.slot * LAYERS + l) * BLOCKS + (r.pos0 + t) / PAGE_TOK)];
                want_pos[(size_t)(r.row0 + t)] = r.pos0 + t;
            }
            const int bit = route[(size_t)(i * LAYERS + l)];
            const plan_kind &k = kind[l][bit & 1];
            const attn_seg &s = seg[(size_t)(l * MAX_RUN + i)];
            const int hold = bit < 2 ? k.hold : std::max(kind[l][0].hold, kind[l][1].hold);
            const uint64_t *choice = hold < 0 ? NULL : keep + (hold * HOLD_BLOCKS + r.keep) * HEADS * WORDS;
            if (in)
                runs &= s.row0 == r.row0 && s.n_row == r.n_row && s.pos0 == r.pos0 &&
                        s.kind == (bit > 1  ? -1
                                   : decode ? k.decode
                                            : k.prefill) &&
                        s.sink_blocks == k.sink_blocks && s.local_blocks == LOCAL &&
                        s.dense_from == r.dense_from && s.full_head == k.full_head && s.keep == choice &&
                        s.page == table_d + (r.slot * LAYERS + l) * BLOCKS &&
                        (!choice || (s.keep_head_stride == WORDS && s.keep_block_stride == HEADS * WORDS));
        }
        for (int i = in ? n_run : 0; i < MAX_RUN; i++)
            rest &= !memcmp(&seg[(size_t)(l * MAX_RUN + i)], &poison_seg[0], sizeof(attn_seg));
        for (int t = 0; t < max_tok; t++)
            (in && t < n_all ? rows : rest) &=
                page[(size_t)(l * max_tok + t)] == (in ? want[(size_t)t] : -77);
        rows &= pos == want_pos;
    }
    check(rows, "rows_have_their_pages_and_positions", text);
    check(runs, "runs_attend_to_what_their_bits_say", text);
    check(rest, "nothing_else_is_written", text);
}

int main()
{
    plan p;
    for (int n : {1, 127, 128, 129, 4097})
        for (int layers = 0; layers < 3; layers++)
            for (bool open : {false, true})
                p.one({n}, 0, 0, layers ? layers : 0, layers ? layers + 1 : LAYERS, false, open);
    p.one({129, 1, 4097, 128, 5}, 0, 0, 0, LAYERS, false, true);
    p.one({300, 1, 700}, 0, 0, 3, 4, false, true);
    for (int n : {1, 2, 17, 64})
        for (int bucket : {1, 2, 32, 64})
            if (bucket >= n)
                p.one(std::vector<int>((size_t)n, 1), bucket - n, bucket - n, 0, LAYERS, true, false);
    return report("gpu_plan");
}
