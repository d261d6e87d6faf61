/* fuzz_json: the door of every body: scan, tree, and numbers as they were sent. */
#include "tests/fuzz/fuzz.h"

#include "server/json/in.h"

static void numbers(struct json_in *in, const cJSON *node)
{
    for (const cJSON *c = node->child; c; c = c->next) {
        int64_t v = 0;
        if (!cJSON_IsNumber(c))
            numbers(in, c);
        else if (json_in_number(in, c, &v) == JSON_NUMBER_INT)
            FUZZ_CHECK((double)v <= c->valuedouble && (double)v >= c->valuedouble);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct json_in in;
    struct err_note note = {0};
    enum err e = json_in_open(&in, (const char *)data, n, NULL, &note);
    if (e != OK) {
        fuzz_refused(e, &note);
        return 0;
    }
    numbers(&in, in.root);
    json_in_close(&in);
    return 0;
}
