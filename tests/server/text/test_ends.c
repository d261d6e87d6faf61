/* ends: which tokens end a turn by their text. */
#include "server/text/ends.h"

#include <string.h>

#include "server/text/tokenizer.h"
#include "tests/base/cm.h"

static struct tokenizer *vocabulary(const char *const *piece, const uint8_t *kind, int n)
{
    size_t len[16];
    struct tokenizer *t;
    struct err_note note = {0};
    for (int i = 0; i < n; i++) len[i] = strlen(piece[i]);
    const struct tokenizer_src src = {.n_piece = n,
                                      .piece = piece,
                                      .piece_len = len,
                                      .kind = kind,
                                      .pre = "gpt-2",
                                      .bos_id = -1,
                                      .eos_id = -1,
                                      .unk_id = -1};
    if (tokenizer_new(&t, &src, &note) != OK) fail_msg("%s", note.text);
    return t;
}

static void special_and_added_tokens_end_turns_and_text_does_not(void **state)
{
    (void)state;
    static const char *const piece[] = {"a",    "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<end_of_turn>",
                                        "</s>", "<|end|>",    "<|im_end|>x"};
    static const uint8_t kind[] = {TOKEN_NORMAL,  TOKEN_SPECIAL, TOKEN_SPECIAL, TOKEN_ADDED,
                                   TOKEN_SPECIAL, TOKEN_NORMAL,  TOKEN_UNUSED,  TOKEN_SPECIAL};
    struct tokenizer *t = vocabulary(piece, kind, 8);
    int32_t id[16] = {4, 2}; /* the file's own */
    const int n = ends_add(t, id, 2, 16);
    assert_int_equal(n, 4);
    assert_int_equal(id[0], 4);
    assert_int_equal(id[1], 2);
    assert_int_equal(id[2], 1);
    assert_int_equal(id[3], 3);
    assert_int_equal(ends_add(t, id, n, 16), n);
    assert_int_equal(ends_add(t, id, 2, 3), 3);
    tokenizer_free(t);
}

static void markers_are_those_that_can_be_nothing_else(void **state)
{
    (void)state;
    assert_true(ends_is_marker("<|im_end|>", 10));
    assert_true(ends_is_marker("<end_of_turn>", 13));
    assert_false(ends_is_marker("</s>", 4));
    assert_false(ends_is_marker("<|im_end|>", 9));
    assert_false(ends_is_marker("<|im_start|>", 12));
    assert_false(ends_is_marker("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_and_added_tokens_end_turns_and_text_does_not),
        cmocka_unit_test(markers_are_those_that_can_be_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
