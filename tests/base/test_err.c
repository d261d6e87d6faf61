#include "tests/base/cm.h"

#include <stdio.h>

#include "base/err.h"

static void every_error_has_a_full_row(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        enum err e = (enum err)i;
        assert_in_range(err_status(e), 200, 599);
        assert_true(err_text(e)[0] != '\0');
        assert_true(err_name(e)[0] != '\0');
        if (e == OK) continue;
        assert_true(err_status(e) >= 400);
        assert_true(err_type(e)[0] != '\0');
        assert_true(err_code(e)[0] != '\0');
        for (int j = 0; j < i; j++) assert_string_not_equal(err_code(e), err_code((enum err)j));
    }
}

static void rows_stand_at_their_own_index(void **state)
{
    (void)state;
    assert_int_equal(OK, 0);
    assert_int_equal(err_status(OK), 200);
    assert_int_equal(err_status(ERR_QUEUE_FULL), 429);
    assert_string_equal(err_type(ERR_QUEUE_FULL), "rate_limit_error");
    assert_string_equal(err_code(ERR_CONTEXT_LENGTH), "context_length_exceeded");
    assert_string_equal(err_name(ERR_INVALID_JSON), "ERR_INVALID_JSON");
    assert_string_equal(err_text(ERR_LOADING), "the model is loading");
}

static enum err outside = ERR_COUNT;
static void ask_outside(void) { err_status(outside); }

static void a_code_outside_the_list_is_a_bug(void **state)
{
    (void)state;
    assert_check_fails(ask_outside, "ERR_COUNT");
}

static void set_fills_the_note_and_returns_the_code(void **state)
{
    (void)state;
    struct err_note note;
    memset(&note, 'x', sizeof note);
    assert_int_equal(err_set(&note, ERR_INVALID_VALUE, "top_p", "%s is %d", "it", 7), ERR_INVALID_VALUE);
    assert_int_equal(note.code, ERR_INVALID_VALUE);
    assert_string_equal(note.param, "top_p");
    assert_string_equal(note.text, "it is 7");

    assert_int_equal(err_set(&note, ERR_NOMEM, NULL, "none"), ERR_NOMEM);
    assert_string_equal(note.param, "");
    assert_int_equal(err_set(NULL, ERR_IO, "p", "no one asks"), ERR_IO);
}

static void arguments_may_be_the_notes_own_strings(void **state)
{
    (void)state;
    struct err_note note;
    err_set(&note, ERR_IO, "inner", "cause");
    err_set(&note, ERR_MODEL_FILE, note.param, "reading %s: %s", note.param, note.text);
    assert_string_equal(note.param, "inner");
    assert_string_equal(note.text, "reading inner: cause");
    err_set(&note, ERR_MODEL_FILE, note.text + 8, "%s", note.param);
    assert_string_equal(note.param, "inner: cause");
    assert_string_equal(note.text, "inner");
    err_set(&note, ERR_MODEL_FILE, note.param + 7, "%s/%s", note.text, note.text);
    assert_string_equal(note.param, "cause");
    assert_string_equal(note.text, "inner/inner");
}

/* A text of `pad` letters, then one character of the given bytes, then more than fits. */
static void check_cut(size_t pad, const char *character, bool stays)
{
    struct err_note note;
    char long_text[2048];
    memset(long_text, 'a', pad);
    int n = snprintf(long_text + pad, sizeof long_text - pad, "%s%0900d", character, 0);
    assert_true(n > 900);

    err_set(&note, ERR_IO, long_text, "%s", long_text);
    size_t room = sizeof note.text - 1, len = strlen(note.text);
    assert_int_equal(len, stays ? room : pad);
    assert_memory_equal(note.text, long_text, len);
}

static void a_cut_falls_between_characters(void **state)
{
    (void)state;
    static const char *const chars[] = {"\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    const size_t room = sizeof((struct err_note *)0)->text - 1;
    for (size_t i = 0; i < sizeof chars / sizeof *chars; i++) {
        size_t len = strlen(chars[i]);
        for (size_t inside = 0; inside <= len; inside++) {
            check_cut(room - inside, chars[i], inside == len || inside == 0);
        }
    }
    /* what is no UTF-8 cannot be cut right; it must only stay within the buffer */
    check_cut(room - 5, "\x80\x80\x80\x80\x80", true);
    check_cut(room - 1, "\x80", true);
}

static void a_long_param_is_cut_too(void **state)
{
    (void)state;
    struct err_note note;
    char param[300];
    memset(param, 'p', sizeof param);
    const size_t room = sizeof note.param - 1;
    memcpy(param + room - 1, "\xC3\xA4", 2);
    param[sizeof param - 1] = '\0';
    err_set(&note, ERR_IO, param, "t");
    assert_int_equal(strlen(note.param), room - 1);
}

static void a_text_that_just_fits_is_whole(void **state)
{
    (void)state;
    struct err_note note;
    const int room = (int)sizeof note.text - 1;
    err_set(&note, ERR_IO, NULL, "%*s\xC3\xA4", room - 2, "");
    assert_int_equal(strlen(note.text), room);
    assert_memory_equal(note.text + room - 2, "\xC3\xA4", 3);
}

static void what_an_operator_reads_is_one_line(void **state)
{
    (void)state;
    static const enum err ours[] = {ERR_CONFIG, ERR_MODEL_FILE, ERR_IO};
    struct err_note note;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        err_set(&note, ours[i], "dir/a\nb", "%s", "dir/a\nb\x1b[31m\x7f: \xC3\xA4");
        assert_string_equal(note.param, "dir/a?b");
        assert_string_equal(note.text, "dir/a?b?[31m?: \xC3\xA4");
    }
    err_set(&note, ERR_TEMPLATE, NULL, "two\nlines"); /* a client's are as they are */
    assert_string_equal(note.text, "two\nlines");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_a_full_row),
        cmocka_unit_test(rows_stand_at_their_own_index),
        cmocka_unit_test(a_code_outside_the_list_is_a_bug),
        cmocka_unit_test(set_fills_the_note_and_returns_the_code),
        cmocka_unit_test(arguments_may_be_the_notes_own_strings),
        cmocka_unit_test(a_cut_falls_between_characters),
        cmocka_unit_test(a_long_param_is_cut_too),
        cmocka_unit_test(a_text_that_just_fits_is_whole),
        cmocka_unit_test(what_an_operator_reads_is_one_line),
    };
    return cmocka_run_group_tests_name("base/err", tests, NULL, NULL);
}
