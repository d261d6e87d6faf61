/* fuzz_frame: a connection's bytes, at once and in two parts: what may pass is the same. */
#include "tests/fuzz/fuzz.h"

#include "server/http/frame.h"

static size_t pass_all(const char *p, size_t n, size_t cut, enum err *e)
{
    const struct guard_bound max = {.n_byte = 4096, .n_field = 32};
    struct frame f = {0};
    struct err_note note = {0};
    size_t done = 0;
    *e = OK;
    for (size_t end = cut; *e == OK; end = n) {
        for (size_t k = 1; k > 0 && done < end && *e == OK; done += k) {
            k = frame_pass(&f, p + done, end - done, &max, e, &note);
            FUZZ_CHECK(k <= end - done);
        }
        if (end == n) break;
    }
    if (*e != OK) fuzz_refused(*e, &note);
    return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) return 0;
    const char *p = (const char *)data + 1;
    enum err one, two;
    const size_t cut = data[0] % n, whole = pass_all(p, n - 1, n - 1, &one),
                 parts = pass_all(p, n - 1, cut, &two);
    FUZZ_CHECK(whole == parts && one == two);
    return 0;
}
