/* host: what the host's own parts take, in ms: scanning bodies of 8 MB, tokenizing long runs, planning a full
 * step. usage: host MODEL */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/strbuf.h"
#include "server/text/assets.h"
#include "server/json/scan.h"
#include "server/text/tokenizer.h"
#include "tests/scheduler/crowd.h"

enum { TRIES = 5 };

static void repeat(struct strbuf *b, const char *unit, int times)
{
    for (int i = 0; i < times; i++) strbuf_puts(b, unit);
}

static void tell(const char *what, const char *unit, size_t bytes, double ms)
{
    printf("{\"bench\":\"%s\",\"unit\":%d,\"bytes\":%zu,\"ms\":%.3f}\n", what, unit[0], bytes, ms);
    fprintf(stderr, "%-10s %8zu bytes of \"%s\" %9.3f ms\n", what, bytes, unit, ms);
}

static void bench_scan(const char *unit, int times)
{
    struct strbuf b;
    double best = 1e9;
    strbuf_init(&b);
    strbuf_puts(&b, "{\"prompt\":\"");
    repeat(&b, unit, times);
    strbuf_puts(&b, "\"}");
    for (int i = 0; i < TRIES; i++) {
        struct json_scan scan;
        int64_t t0 = clock_ns();
        CHECK(json_scan(&scan, b.data, b.len, NULL, NULL) == OK);
        double ms = clock_ms_since(t0);
        json_scan_fini(&scan);
        best = ms < best ? ms : best;
    }
    tell("scan", unit, b.len, best);
    strbuf_fini(&b);
}

static void bench_encode(const struct tokenizer *t, const char *unit, int times)
{
    struct strbuf b;
    double best = 1e9;
    strbuf_init(&b);
    repeat(&b, unit, times);
    for (int i = 0; i < TRIES; i++) {
        struct token_vec v = {0};
        int64_t t0 = clock_ns();
        struct err_note note;
        CHECK(tokenizer_encode(t, b.data, b.len, 0, &v, &note) == OK);
        double ms = clock_ms_since(t0);
        token_vec_fini(&v);
        best = ms < best ? ms : best;
    }
    tell("encode", unit, b.len, best);
    strbuf_fini(&b);
}

static enum err open_tokenizer(struct tokenizer **t, const struct text_assets *a, struct err_note *note)
{
    const struct tokenizer_src src = {.n_piece = a->n_piece,
                                      .piece = a->piece,
                                      .piece_len = a->piece_len,
                                      .kind = a->kind,
                                      .n_merge = a->n_merge,
                                      .merge = a->merge,
                                      .merge_len = a->merge_len,
                                      .pre = "smollm",
                                      .bos_id = a->bos_id,
                                      .eos_id = a->eos_id,
                                      .unk_id = a->unk_id};
    return tokenizer_new(t, &src, note);
}

static void bench_plan(void)
{
    static struct crowd c;
    double best[2] = {1e9, 1e9};
    crowd_init(&c, CROWD_ROWS, 8);
    for (int i = 0; i < 2000; i++) {
        int64_t t0 = clock_ns();
        crowd_plan(&c, i % 2);
        double ms = clock_ms_since(t0);
        best[i % 2] = ms < best[i % 2] ? ms : best[i % 2];
    }
    crowd_fini(&c);
    for (int i = 0; i < 2; i++) {
        printf("{\"bench\":\"plan\",\"rows\":%d,\"new_page\":%d,\"ms\":%.4f}\n", CROWD_ROWS, i, best[i]);
        fprintf(stderr, "plan       %d rows and 8 prompts%s %9.4f ms\n", CROWD_ROWS,
                i ? ", all on a new page" : "", best[i]);
    }
}

int main(int argc, char **argv)
{
    struct text_assets *a;
    struct tokenizer *t;
    struct err_note note;
    if (text_assets_open(&a, argc > 1 ? argv[1] : "models/SmolLM2-135M-Instruct.Q4_1.gguf", &note) ||
        open_tokenizer(&t, a, &note)) {
        fprintf(stderr, "%s: %s\n", note.param, note.text);
        return 1;
    }
    bench_scan("sixteen letters ", 520000);
    bench_scan("\xe4\xb8\xad\xe6\x96\x87", 1390000);
    bench_scan("\\n\\\"", 2080000);
    bench_encode(t, "a", 40000);
    bench_encode(t, "\xe4\xb8\xad", 40000);
    bench_encode(t, "{\"a\":[", 7000);
    bench_encode(t, " ", 1000000);
    bench_plan();
    tokenizer_free(t);
    text_assets_close(a);
    return 0;
}
