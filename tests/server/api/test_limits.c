/* limits: what /v1/limits tells. */
#include "tests/base/cm.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "server/json/in.h"
#include "server/json/keys.h"
#include "server/api/limits.h"

static cJSON *limits_of(char **flag)
{
    static char *no_variable[] = {NULL};
    struct config c;
    struct strbuf out;
    enum config_ask ask;
    struct err_note note;
    int n = 0;
    while (flag[n]) n++;
    assert_int_equal(config_load(&c, &ask, n, flag, no_variable, &note), OK);
    strbuf_init(&out);
    limits_write(&c, &out);
    cJSON *all = cJSON_ParseWithLength(out.data, out.len);
    assert_non_null(all);
    strbuf_fini(&out);
    config_fini(&c);
    return all;
}

static double value_of(const cJSON *all, const char *name, const char *what)
{
    const cJSON *row;
    cJSON_ArrayForEach(
        row, cJSON_GetObjectItem(all, "data")) if (!strcmp(cJSON_GetObjectItem(row, "name")->valuestring,
                                                           name)) return cJSON_GetObjectItem(row, what)
        ->valuedouble;
    fail_msg("no limit is called %s", name);
    return 0;
}

/* A setting's limit has its key, a fixed one has none; there are no duplicates, and every row says what it
 * bounds. */
static void every_limit_stands_once_with_its_meaning(void **st)
{
    (void)st;
    cJSON *all = limits_of((char *[]){"fluxd", "--model", "m", "--queue-len", "7", NULL});
    const cJSON *row, *other, *data = cJSON_GetObjectItem(all, "data");
    cJSON_ArrayForEach(row, data)
    {
        const char *name = cJSON_GetObjectItem(row, "name")->valuestring;
        const cJSON *key = cJSON_GetObjectItem(row, "key");
        assert_true(cJSON_IsNull(key) || strlen(key->valuestring) == strlen(name));
        assert_true(*cJSON_GetObjectItem(row, "meaning")->valuestring != '\0');
        assert_true(cJSON_IsString(cJSON_GetObjectItem(row, "unit")));
        for (other = row->next; other; other = other->next)
            assert_string_not_equal(name, cJSON_GetObjectItem(other, "name")->valuestring);
    }
    assert_true(value_of(all, "queue_len", "value") == 7 && value_of(all, "queue_len", "default") == 512);
    assert_true(value_of(all, "json_fields", "value") == JSON_FIELDS_MAX);
    assert_true(value_of(all, "json_open_keys", "value") == JSON_KEYS_MAX);
    cJSON_Delete(all);
}

/* The bound told is the bound kept: so many fields pass, one more does not. */
static void the_fields_of_a_body_end_at_the_limit(void **st)
{
    (void)st;
    for (int over = 0; over < 2; over++) {
        struct strbuf b;
        struct json_in in;
        struct err_note note;
        strbuf_init(&b);
        for (int i = 0; i < JSON_FIELDS_MAX + over; i++) strbuf_printf(&b, "%c\"f%d\":1", i ? ',' : '{', i);
        strbuf_putc(&b, '}');
        const enum err e = json_in_open(&in, b.data, b.len, NULL, &note);
        assert_int_equal(e, over ? ERR_INVALID_VALUE : OK);
        if (!e) json_in_close(&in);
        strbuf_fini(&b);
    }
}

/* Whatever the settings, the bound of the body's values and that of the rendered text lie above what they
 * allow. */
static void a_fixed_bound_never_hides_a_setting(void **st)
{
    (void)st;
    static const char *const value[] = {"1",      "1000",    "499999",  "500000",
                                        "999999", "1000000", "1000001", "1000000000"};
    for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
        cJSON *all = limits_of(
            (char *[]){"fluxd", "--model", "m", "--max-detokenize-ids", (char *)(uintptr_t)value[i], NULL});
        assert_true(value_of(all, "json_values", "value") > value_of(all, "max_detokenize_ids", "value") + 1);
        assert_true(value_of(all, "json_values", "value") > value_of(all, "allowed_token_ids", "value") + 1);
        assert_true(value_of(all, "json_values", "value") >= JSON_NODES_MAX);
        cJSON_Delete(all);
    }
    static const char *const flag[] = {"--max-text-bytes", "--max-tokenize-bytes", "--max-model-len"};
    static const char *const of[] = {"max_text_bytes", "max_tokenize_bytes", "max_model_len"};
    for (int i = 0; i < 3; i++) {
        cJSON *all = limits_of(
            (char *[]){"fluxd", "--model", "m", (char *)(uintptr_t)flag[i], i < 2 ? "1G" : "16777216", NULL});
        assert_true(value_of(all, i < 2 ? "chat_prompt_bytes" : "json_values", "value") >
                    value_of(all, of[i], "value") + 1);
        cJSON_Delete(all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_limit_stands_once_with_its_meaning),
        cmocka_unit_test(a_fixed_bound_never_hides_a_setting),
        cmocka_unit_test(the_fields_of_a_body_end_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
