/* Laws of a choice that is written piece by piece: its pieces together are the choice written at once, and
 * none is longer than what was asked for and one item. */
#include "tests/server/mini_model.h"

#include "server/api/answer.h"

enum { MOST_TOKENS = 300, MOST_IDS = 500, ITEM_BYTES = 4096, TEXT_BYTES = 700 };

static struct mini mini;
static uint64_t random_state;
static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

struct world {
    struct answer_choice c;
    struct sample_out before[MOST_TOKENS], token[MOST_TOKENS];
    int32_t id[MOST_IDS], prompt_id[MOST_IDS];
    int32_t before_offset[MOST_TOKENS], offset[MOST_TOKENS];
};

static void draw_tokens(struct sample_out *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s[i] = (struct sample_out){.id = (int32_t)below(MINI_VOCAB), .logprob = -(float)below(1000) / 7};
        s[i].n_top = (int32_t)below(SAMPLE_TOP_MAX + 1);
        for (int k = 0; k < s[i].n_top; k++) {
            s[i].top_id[k] = (int32_t)((below(MINI_VOCAB / 32) * 32 + (uint32_t)k) % MINI_VOCAB);
            s[i].top_logprob[k] = -(float)below(1000) / 3;
        }
    }
}

static void draw(struct world *w)
{
    static const char text[] = "It \"was\"\n\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80 \x01 so";
    *w = (struct world){.c = {.index = (int)below(9),
                              .text = text,
                              .n_text = below(sizeof text),
                              .finish = below(2) ? "stop" : NULL,
                              .scored = below(4) > 0,
                              .first_null = below(2)}};
    if (below(2)) {
        w->c.echo = text;
        w->c.n_echo = sizeof text - 1;
    }
    if (w->c.scored) {
        w->c.before = w->before;
        w->c.n_before = below(2) ? below(MOST_TOKENS) : 0;
        w->c.token = w->token;
        w->c.n_token = below(MOST_TOKENS);
        w->c.before_offset = w->before_offset;
        w->c.offset = w->offset;
        w->c.n_echo_char = (int32_t)below(1 << 20);
        w->c.most_top = (int)below(SAMPLE_TOP_MAX + 1);
        w->c.ids_for_names = below(2);
        for (int i = 0; i < MOST_TOKENS; i++) w->before_offset[i] = w->offset[i] = (int32_t)below(1 << 20);
        draw_tokens(w->before, w->c.n_before);
        draw_tokens(w->token, w->c.n_token);
    }
    if (below(2)) {
        w->c.id = w->id;
        w->c.n_id = below(MOST_IDS);
    }
    if (below(2)) {
        w->c.prompt_id = w->prompt_id;
        w->c.n_prompt_id = below(MOST_IDS);
    }
    for (int i = 0; i < MOST_IDS; i++) w->id[i] = w->prompt_id[i] = (int32_t)below(1 << 20);
}

/* What stands around a choice in an answer. */
static void open_around(struct json_out *o, struct strbuf *out)
{
    json_out_init(o, out);
    json_out_array(o, NULL);
}

static void pieces_make_the_whole(void **state)
{
    (void)state;
    static const size_t most[] = {1, 7, 100, 1000, 20000};
    static struct world w;
    for (int round = 0; round < 60; round++) {
        const enum answer_form form = (enum answer_form)below(ANSWER_N_FORM);
        struct strbuf whole, pieces, piece;
        struct json_out o;
        draw(&w);
        strbuf_init(&whole);
        strbuf_init(&pieces);
        strbuf_init(&piece);
        open_around(&o, &whole);
        answer_choice(&o, mini.tokenizer, form, &w.c);
        json_out_end(&o);

        struct answer_cursor at = {.part = 0};
        const size_t n = most[round % (int)(sizeof most / sizeof *most)];
        open_around(&o, &piece);
        for (bool over = false; !over;) {
            over = answer_choice_next(&o, mini.tokenizer, form, &w.c, &at, n);
            if (over) json_out_end(&o);
            assert_true(over || piece.len >= n);
            assert_true(piece.len <= n + ITEM_BYTES + TEXT_BYTES);
            strbuf_put(&pieces, piece.data, piece.len);
            strbuf_clear(&piece);
        }
        assert_int_equal(pieces.len, whole.len);
        assert_memory_equal(pieces.data, whole.data, whole.len);
        strbuf_fini(&whole);
        strbuf_fini(&pieces);
        strbuf_fini(&piece);
    }
}

int main(void)
{
    mini_open(&mini);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_make_the_whole),
    };
    const int failed = cmocka_run_group_tests_name("server/api/answer", tests, NULL, NULL);
    mini_close(&mini);
    return failed;
}
