/* fuzz_prep: bodies of every endpoint, from JSON to requests that could be submitted. The first byte says
 * which endpoint. */
#include "tests/fuzz/fuzz.h"

#include "tests/server/mini_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct mini mini;
    struct ask *a;
    struct err_note note = {0};
    if (!mini.tokenizer) mini_open(&mini);
    if (n < 1 || data[0] >= API_N_ENDPOINT) return 0;
    if (data[0] == API_MODELS) return 0; /* takes no body */
    enum err e = prep_run(&a, &mini.env, (enum api_endpoint)data[0], (const char *)data + 1, n - 1, &note);
    if (e != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    ask_free(a);
    return 0;
}
