/* fuzz_safetensors: files of tensors. */
#include "tests/fuzz/fuzz.h"

#include "base/files/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct hf *h;
    struct err_note note = {0};
    enum err e = hf_open_file(&h, fuzz_file(data, n), &note);
    if (e != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    for (int i = 0; i < hf_n_tensor(h); i++) {
        const struct hf_tensor *t = hf_at(h, i);
        char byte;
        FUZZ_CHECK(t->t->n_bytes >= 0 && t->t->n_bytes <= (int64_t)n && hf_find(h, t->t->name) == t);
        if (t->t->n_bytes > 0)
            FUZZ_CHECK(safetensors_read(t->file, t->t, t->t->n_bytes - 1, 1, &byte, &note) == OK);
    }
    hf_close(h);
    return 0;
}
