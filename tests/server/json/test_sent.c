/* sent: numbers of the tree as they were sent. */
#include "tests/base/cm.h"

#include <stdio.h>

#include "server/json/in.h"

static void a_number_of_the_tree_is_what_its_text_says(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum json_number kind;
        int64_t value;
    } t[] = {{"0", JSON_NUMBER_INT, 0},
             {"-0", JSON_NUMBER_INT, 0},
             {"2.0", JSON_NUMBER_FLOAT, 0},
             {"1e2", JSON_NUMBER_FLOAT, 0},
             {"1E2", JSON_NUMBER_FLOAT, 0},
             {"9007199254740993", JSON_NUMBER_INT, 9007199254740993},
             {"9223372036854775807", JSON_NUMBER_INT, INT64_MAX},
             {"-9223372036854775808", JSON_NUMBER_INT, INT64_MIN},
             {"9223372036854775808", JSON_NUMBER_WIDE, 0},
             {"123456789012345678901234567890", JSON_NUMBER_WIDE, 0}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
        for (int slim = 0; slim < 2; slim++) {
            struct json_in in;
            struct err_note note;
            char body[256];
            int64_t v = 0;
            snprintf(body, sizeof body,
                     "{\"a 1\\\"2\\\\\":[\"3\",{\"x\":-4,\"5\":[true,%s]}],\"ids\":%s,\"z\":%s}", t[i].text,
                     slim ? "[7,8,9]" : "[]", t[i].text);
            assert_int_equal(json_in_open(&in, body, strlen(body), NULL, &note), OK);
            const cJSON *five = in.root->child->child->next->child->next;
            assert_int_equal(json_in_number(&in, five->child->next, &v), t[i].kind);
            assert_int_equal(v, t[i].value);
            assert_int_equal(json_in_number(&in, in.root->child->next->next, &v), t[i].kind);
            assert_int_equal(v, t[i].value);
            assert_int_equal(json_in_number(&in, five->prev, &v), JSON_NUMBER_INT);
            assert_int_equal(v, -4);
            json_in_close(&in);
        }
}

/* What a reader makes itself has no text: its value counts, wherever its valueint points. */
static void a_number_of_another_tree_is_its_value(void **state)
{
    (void)state;
    struct json_in in;
    struct err_note note;
    const char *body = "{\"a\":{\"b\":[12345,0.5]}}";
    assert_int_equal(json_in_open(&in, body, strlen(body), NULL, &note), OK);
    const double t[] = {0, 5, 6, 7, 12345, -3, 1e9, 1e300};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        cJSON *made = cJSON_CreateNumber(t[i]);
        int64_t v = 0;
        assert_non_null(made);
        assert_int_equal(json_in_number(&in, made, &v), t[i] > 1e15 ? JSON_NUMBER_FLOAT : JSON_NUMBER_INT);
        assert_true(t[i] > 1e15 || (double)v == t[i]);
        cJSON_Delete(made);
    }
    cJSON *copy = cJSON_Duplicate(in.root, true);
    int64_t v;
    assert_non_null(copy);
    assert_int_equal(json_in_number(&in, copy->child->child->child->next, &v), JSON_NUMBER_FLOAT);
    assert_int_equal(json_in_number(&in, copy->child->child->child, &v), JSON_NUMBER_INT);
    assert_int_equal(v, 12345);
    cJSON_Delete(copy);
    json_in_close(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_of_the_tree_is_what_its_text_says),
        cmocka_unit_test(a_number_of_another_tree_is_its_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
