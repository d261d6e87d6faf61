/* truncation: the oldest turns of a conversation go, as few as must; what is left is whole. */
#include <stdio.h>

#include "tests/server/mini_model.h"

static struct mini mini;

static int open_mini(void **st)
{
    (void)st;
    mini_open(&mini);
    mini.env.clamp_max_tokens = true;
    return 0;
}

static int close_mini(void **st)
{
    (void)st;
    mini_close(&mini);
    return 0;
}

/* n turns behind a system text, each a call, its result and an answer; the prompt as text. */
static struct ask *long_talk(int n, const char *truncation, int room, char *text, size_t cap)
{
    struct strbuf b;
    struct err_note note = {0};
    struct ask *a;
    strbuf_init(&b);
    strbuf_printf(&b, "{\"instructions\":\"S\",\"truncation\":\"%s\",\"max_output_tokens\":%d,\"input\":[",
                  truncation, room);
    for (int i = 0; i < n; i++)
        strbuf_printf(&b,
                      "%s{\"role\":\"user\",\"content\":\"q%02d\"},"
                      "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},"
                      "{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"r%02d\"}",
                      i ? "," : "", i, i);
    strbuf_puts(&b, "]}");
    const enum err e = prep_run(&a, &mini.env, API_RESPONSES, b.data, b.len, &note);
    strbuf_fini(&b);
    if (e) {
        assert_int_equal(e, ERR_CONTEXT_LENGTH);
        assert_string_equal(note.param, "input");
        return NULL;
    }
    size_t at = 0;
    for (int i = 0; i < a->prompt[0].n && at + 1 < cap; i++)
        if (a->prompt[0].id[i] >= MINI_BYTE) text[at++] = (char)(a->prompt[0].id[i] - MINI_BYTE);
    text[at] = '\0';
    return a;
}

static void the_oldest_turns_go_and_no_more_than_must(void **st)
{
    (void)st;
    char text[MINI_LEN + 1], again[MINI_LEN + 1], word[16];
    assert_null(long_talk(40, "disabled", 8, text, sizeof text));
    for (int room = 1; room < 400; room += 57) {
        struct ask *a = long_talk(40, "auto", room, text, sizeof text);
        assert_non_null(a);
        const int n = a->prompt[0].n, left = a->n_left_out, want = room < MINI_LEN / 2 ? room : MINI_LEN / 2;
        assert_true(n <= MINI_LEN - want && left > 0 && left % 3 == 0);
        assert_non_null(strstr(text, "system\nS"));
        for (int i = 0; i < 40; i++) { /* those that are left are whole, in order */
            for (const char *of = "qr"; *of; of++) {
                snprintf(word, sizeof word, "%c%02d", *of, i);
                assert_int_equal(strstr(text, word) != NULL, i >= left / 3);
            }
        }
        ask_free(a);
        a = long_talk(40 - left / 3 + 1, "auto", room, again, sizeof again); /* one more would not fit */
        assert_int_equal(a->n_left_out, 3);
        ask_free(a);
        a = long_talk(1, "auto", room, text, sizeof text);
        assert_int_equal(a->n_left_out, 0);
        ask_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest t[] = {cmocka_unit_test(the_oldest_turns_go_and_no_more_than_must)};
    return cmocka_run_group_tests(t, open_mini, close_mini);
}
