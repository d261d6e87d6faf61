/* Laws of long answers: their pieces together are the answer written at once, each piece is small, and what
 * waits holds no more than its ids. */
#include "tests/server/mini_model.h"

#include "server/json/out.h"
#include "server/api/prep_text.h"
#include "server/api/text_answer.h"

static struct mini mini;

static uint64_t random_state;
static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static void put_bytes(struct token_vec *v, const char *text)
{
    for (; *text; text++) assert_true(token_vec_push(v, MINI_BYTE + (uint8_t)*text));
}

/* Characters of all lengths, broken ones, special tokens, what JSON escapes. */
static void draw(struct token_vec *v, size_t n)
{
    static const char *const part[] = {
        "a",  "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "\xF0\x9F", "\xE4", "\xC3", "\x80", "\"", "\\",
        "\n", "\x01",     "\xFF"};
    while (v->n < n) {
        if (below(8) == 0)
            assert_true(token_vec_push(v, (int32_t)below(MINI_BYTE)));
        else
            put_bytes(v, part[below(sizeof part / sizeof part[0])]);
    }
}

static void write_at_once(enum text_answer_kind kind, const struct token_vec *ids, struct strbuf *out)
{
    struct json_out o;
    size_t n;
    json_out_init(&o, out);
    json_out_object(&o, NULL);
    if (kind == TEXT_ANSWER_TEXT) {
        struct strbuf all;
        strbuf_init(&all);
        for (size_t i = 0; i < ids->n; i++) {
            const char *s = tokenizer_bytes(mini.tokenizer, ids->id[i], &n);
            strbuf_put(&all, s, n);
        }
        json_out_string(&o, "prompt", all.data ? all.data : "", all.len);
        strbuf_fini(&all);
        json_out_end(&o);
        return;
    }
    json_out_int(&o, "count", (int64_t)ids->n);
    json_out_int(&o, "max_model_len", MINI_LEN);
    json_out_array(&o, "tokens");
    for (size_t i = 0; i < ids->n; i++) json_out_int(&o, NULL, ids->id[i]);
    json_out_end(&o);
    if (kind == TEXT_ANSWER_IDS) {
        json_out_null(&o, "token_strs");
    } else {
        json_out_array(&o, "token_strs");
        for (size_t i = 0; i < ids->n; i++) {
            const char *s = tokenizer_bytes(mini.tokenizer, ids->id[i], &n);
            json_out_string(&o, NULL, s, n);
        }
        json_out_end(&o);
    }
    json_out_end(&o);
}

static void pieces_together_are_the_answer_written_at_once(void **state)
{
    (void)state;
    static const size_t length[] = {0, 1, 2, 3, 50, 4095, 4096, 4097, 16384, 70001};
    random_state = 3;
    for (size_t i = 0; i < sizeof length / sizeof length[0]; i++) {
        for (enum text_answer_kind kind = TEXT_ANSWER_IDS; kind <= TEXT_ANSWER_TEXT; kind++) {
            struct token_vec ids = {0};
            struct strbuf want, got;
            strbuf_init(&want);
            strbuf_init(&got);
            draw(&ids, length[i]);
            write_at_once(kind, &ids, &want);
            struct text_answer *a = text_answer_new(kind, mini.tokenizer, MINI_LEN, &ids);
            assert_non_null(a);
            assert_null(ids.id);
            for (bool more = true; more;) {
                const size_t before = got.len;
                more = text_answer_next(a, &got);
                assert_true(got.len - before <=
                            TEXT_ANSWER_PIECE_BYTES + 6 * 4200); /* what is joined at once, escaped */
                assert_true(got.len > before || !more);
            }
            assert_int_equal(got.len, want.len);
            assert_memory_equal(got.data, want.data, want.len);
            text_answer_free(a);
            strbuf_fini(&want);
            strbuf_fini(&got);
        }
    }
}

static void what_waits_holds_its_ids_alone(void **state)
{
    (void)state;
    struct token_vec ids = {0};
    for (int i = 0; i < 1000000; i++) assert_true(token_vec_push(&ids, MINI_IM_START));
    struct text_answer *a = text_answer_new(TEXT_ANSWER_TEXT, mini.tokenizer, MINI_LEN, &ids);
    assert_non_null(a);
    assert_true(text_answer_bytes(a) <= 4 * 1000000 + 16384);
    text_answer_free(a);
}

/* --- how much of it prep writes, and what it refuses --- */

static struct ask *accept_body(enum api_endpoint endpoint, const char *body, size_t n)
{
    struct ask *a;
    struct err_note note = {0};
    if (prep_run(&a, &mini.env, endpoint, body, n, &note)) fail_msg("%s: %s", note.param, note.text);
    return a;
}

static void refuse(enum api_endpoint endpoint, const char *body, size_t n, const char *param,
                   const char *setting)
{
    struct ask *a;
    struct err_note note = {0};
    assert_int_equal(prep_run(&a, &mini.env, endpoint, body, n, &note), ERR_INVALID_VALUE);
    assert_string_equal(note.param, param);
    if (!strstr(note.text, setting)) fail_msg("\"%s\" does not name %s", note.text, setting);
}

static void put_ids(struct strbuf *b, size_t n)
{
    strbuf_clear(b);
    strbuf_puts(b, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++) strbuf_puts(b, i ? ",1" : "1");
    strbuf_puts(b, "]}");
}

static void put_prompt(struct strbuf *b, size_t n, const char *field)
{
    strbuf_clear(b);
    strbuf_puts(b, field);
    for (size_t i = 0; i < n; i++) strbuf_putc(b, ' ');
    strbuf_puts(b, field[2] == 'm' ? "\"}]}" : "\"}");
}

static void limits_are_held_to_the_byte_and_the_id_and_named(void **state)
{
    (void)state;
    struct strbuf b;
    strbuf_init(&b);
    const size_t ids = mini.env.detokenize_ids_most, bytes = mini.env.tokenize_bytes_most;
    put_ids(&b, ids);
    ask_free(accept_body(API_DETOKENIZE, b.data, b.len));
    put_ids(&b, ids + 1);
    refuse(API_DETOKENIZE, b.data, b.len, "tokens", "--max-detokenize-ids");
    put_prompt(&b, bytes, "{\"prompt\":\"");
    ask_free(accept_body(API_TOKENIZE, b.data, b.len));
    put_prompt(&b, bytes + 1, "{\"prompt\":\"");
    refuse(API_TOKENIZE, b.data, b.len, "prompt", "--max-tokenize-bytes");
    put_prompt(&b, bytes,
               "{\"messages\":[{\"role\":\"user\",\"content\":\""); /* what the template adds is text too */
    refuse(API_TOKENIZE, b.data, b.len, "messages", "--max-tokenize-bytes");
    strbuf_fini(&b);
}

static void an_answer_holds_one_begin_however_long_it_is(void **state)
{
    (void)state;
    struct strbuf b;
    strbuf_init(&b);
    put_prompt(&b, mini.env.tokenize_bytes_most, "{\"prompt\":\"");
    struct ask *a = accept_body(API_TOKENIZE, b.data, b.len);
    assert_non_null(a->rest);
    assert_true(a->answer.len <= TEXT_ANSWER_WHOLE_BYTES + TEXT_ANSWER_PIECE_BYTES + 64);
    ask_free(a);
    put_prompt(&b, 1000, "{\"prompt\":\"");
    a = accept_body(API_TOKENIZE, b.data, b.len);
    assert_null(a->rest);
    assert_int_equal(a->answer.data[a->answer.len - 1], '}');
    ask_free(a);
    strbuf_fini(&b);
}

int main(void)
{
    mini_open(&mini);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_together_are_the_answer_written_at_once),
        cmocka_unit_test(what_waits_holds_its_ids_alone),
        cmocka_unit_test(limits_are_held_to_the_byte_and_the_id_and_named),
        cmocka_unit_test(an_answer_holds_one_begin_however_long_it_is),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mini_close(&mini);
    return failed;
}
