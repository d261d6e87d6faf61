/* Laws of the tokenizer on a vocabulary of one's own: all 256 bytes, a few merges, special and added tokens.
 */
#include "tests/base/cm.h"

#include "server/text/tokenizer.h"

#define N_BYTE 256

struct vocab {
    char letter[N_BYTE][3];
    const char *piece[N_BYTE + 32], *merge[32];
    size_t piece_len[N_BYTE + 32], merge_len[32];
    uint8_t kind[N_BYTE + 32];
    struct tokenizer_src src;
};

static int32_t add_piece(struct vocab *v, const char *text, enum token_kind kind)
{
    int i = v->src.n_piece++;
    v->piece[i] = text;
    v->piece_len[i] = strlen(text);
    v->kind[i] = (uint8_t)kind;
    return i;
}

static void add_merge(struct vocab *v, const char *text)
{
    int i = v->src.n_merge++;
    v->merge[i] = text;
    v->merge_len[i] = strlen(text);
}

/* Ids 0..255 are the bytes, in order. */
static void vocab_init(struct vocab *v)
{
    *v = (struct vocab){0};
    v->src = (struct tokenizer_src){
        .piece = v->piece,
        .piece_len = v->piece_len,
        .kind = v->kind,
        .merge = v->merge,
        .merge_len = v->merge_len,
        .pre = "gpt-2",
        .bos_id = -1,
        .eos_id = -1,
        .unk_id = -1,
    };
    unsigned next = 0x100;
    for (unsigned b = 0; b < N_BYTE; b++) {
        bool own = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        unsigned c = own ? b : next++;
        char *p = v->letter[b];
        if (c < 0x80) {
            p[0] = (char)c;
        } else {
            p[0] = (char)(0xC0 | c >> 6);
            p[1] = (char)(0x80 | (c & 0x3F));
        }
        add_piece(v, p, TOKEN_NORMAL);
    }
}

static struct tokenizer *open_vocab(const struct vocab *v)
{
    struct tokenizer *t = NULL;
    struct err_note note = {0};
    if (tokenizer_new(&t, &v->src, &note) != OK) fail_msg("%s: %s", note.param, note.text);
    return t;
}

static void assert_refused(const struct vocab *v, const char *param, const char *text)
{
    struct tokenizer *t = (void *)1;
    struct err_note note = {0};
    assert_int_equal(tokenizer_new(&t, &v->src, &note), ERR_MODEL_FILE);
    assert_null(t);
    assert_string_equal(note.param, param);
    if (!strstr(note.text, text)) fail_msg("\"%s\" does not say \"%s\"", note.text, text);
}

static void assert_ids(const struct tokenizer *t, const char *text, size_t n, int flags, const int32_t *want,
                       size_t n_want)
{
    struct token_vec v = {0};
    struct err_note note = {0};
    assert_int_equal(tokenizer_encode(t, text, n, flags, &v, &note), OK);
    assert_int_equal(v.n, n_want);
    for (size_t i = 0; i < n_want; i++) assert_int_equal(v.id[i], want[i]);
    token_vec_fini(&v);
}
#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof(const int32_t[]){__VA_ARGS__} / sizeof(int32_t)

static void the_earliest_merge_goes_first_and_the_leftmost_of_equals(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t bc = add_piece(&v, "bc", TOKEN_NORMAL), ab = add_piece(&v, "ab", TOKEN_NORMAL);
    int32_t abc = add_piece(&v, "abc", TOKEN_NORMAL), aa = add_piece(&v, "aa", TOKEN_NORMAL);
    add_merge(&v, "b c");
    add_merge(&v, "a b");
    add_merge(&v, "ab c");
    add_merge(&v, "a a");
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "abc", 3, 0, IDS('a', bc)); /* "b c" ranks before "a b", and "a bc" is no merge */
    assert_ids(t, "abab", 4, 0, IDS(ab, ab));
    assert_ids(t, "aaa", 3, 0, IDS(aa, 'a'));
    assert_ids(t, "aaaab", 5, 0, IDS(aa, 'a', ab));
    (void)abc;
    tokenizer_free(t);
}

static void of_equal_merges_the_last_counts(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t bc = add_piece(&v, "bc", TOKEN_NORMAL);
    add_piece(&v, "ab", TOKEN_NORMAL);
    add_merge(&v, "a b");
    add_merge(&v, "b c");
    add_merge(&v, "a b");
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "abc", 3, 0, IDS('a', bc));
    tokenizer_free(t);
}

static void whole_pieces_go_before_merges_where_the_model_says_so(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t word = add_piece(&v, "xyz", TOKEN_NORMAL), spaced = add_piece(&v, "\xC4\xA0xyz", TOKEN_NORMAL);
    add_piece(&v, "qqq", TOKEN_SPECIAL);
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "xyz xyz", 7, 0, IDS('x', 'y', 'z', ' ', 'x', 'y', 'z'));
    tokenizer_free(t);
    v.src.ignore_merges = true;
    t = open_vocab(&v);
    assert_ids(t, "xyz xyz", 7, 0, IDS(word, spaced));
    assert_ids(t, "qqq", 3, 0, IDS('q', 'q', 'q'));
    tokenizer_free(t);
}

static void pieces_end_where_the_pattern_says(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t n12 = add_piece(&v, "12", TOKEN_NORMAL), a1 = add_piece(&v, "a1", TOKEN_NORMAL);
    add_merge(&v, "1 2");
    add_merge(&v, "a 1");
    (void)a1;
    static const struct {
        const char *pre;
        bool keeps_digits;
    } row[] = {{"gpt-2", true},  {"default", true}, {"llama-bpe", true},
               {"llama3", true}, {"smollm", false}, {"qwen2", false}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        v.src.pre = row[i].pre;
        struct tokenizer *t = open_vocab(&v);
        if (row[i].keeps_digits)
            assert_ids(t, "a12", 3, 0, IDS('a', n12));
        else
            assert_ids(t, "a12", 3, 0, IDS('a', '1', '2'));
        tokenizer_free(t);
    }
    static const char *const pattern[] = {"[0-9]", "[a-z0-9]+"};
    v.src.pre = NULL;
    v.src.pattern = pattern + 1;
    v.src.n_pattern = 1;
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "a12", 3, 0, IDS('a', n12));
    tokenizer_free(t);
    v.src.pattern = pattern;
    v.src.n_pattern = 2;
    t = open_vocab(&v);
    assert_ids(t, "a12", 3, 0, IDS('a', '1', '2'));
    tokenizer_free(t);
}

static void steps_need_no_pattern_of_their_own(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t n12 = add_piece(&v, "12", TOKEN_NORMAL), dots = add_piece(&v, "..", TOKEN_NORMAL),
            ab = add_piece(&v, "ab", TOKEN_NORMAL);
    add_merge(&v, "1 2");
    add_merge(&v, ". .");
    add_merge(&v, "a b");
    const char *pattern[] = {"b.", ""};
    uint8_t split[] = {SPLIT_DIGITS, SPLIT_WORDS};
    v.src.pattern = pattern;
    v.src.split = split;
    v.src.n_pattern = 2;
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "ab..12", 6, 0, IDS(ab, dots, '1', '2'));
    tokenizer_free(t);
    split[0] = SPLIT_DIGIT_RUNS;
    t = open_vocab(&v);
    assert_ids(t, "ab..12", 6, 0, IDS(ab, dots, n12));
    tokenizer_free(t);
    split[0] = SPLIT_LITERAL; /* the point is no wildcard */
    t = open_vocab(&v);
    assert_ids(t, "ab..12abc", 9, 0, IDS('a', 'b', '.', '.', n12, ab, 'c'));
    tokenizer_free(t);
    split[0] = SPLIT_WORDS + 1;
    assert_refused(&v, "pre_tokenizer", "unknown kind");
}

static void tokens_swallow_white_space_where_they_say_so(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t l = add_piece(&v, "<l>", TOKEN_ADDED), r = add_piece(&v, "<r>", TOKEN_SPECIAL),
            x = add_piece(&v, "<x>", TOKEN_ADDED);
    uint8_t trait[N_BYTE + 32] = {0};
    trait[l] = TOKEN_LSTRIP;
    trait[r] = TOKEN_RSTRIP;
    v.src.trait = trait;
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "a \n\xE3\x80\x80\xC2\xA0<l> b", 13, 0, IDS('a', l, ' ', 'b'));
    assert_ids(t, "a <r> \t\xE2\x80\xA8\xC2\x85 <l>b", 17, TOKENIZE_SPECIAL, IDS('a', ' ', r, l, 'b'));
    assert_ids(t, "a <r> b", 7, 0, IDS('a', ' ', '<', 'r', '>', ' ', 'b'));
    assert_ids(t, "  <l>", 5, 0, IDS(l));
    assert_ids(t, "<r>  ", 5, TOKENIZE_SPECIAL, IDS(r));
    assert_ids(t, " <x> ", 5, 0, IDS(' ', x, ' '));
    tokenizer_free(t);
}

static void normalized_tokens_come_after_the_others_and_in_normal_text(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t long_one = add_piece(&v, "<a><b", TOKEN_ADDED), b = add_piece(&v, "<b>", TOKEN_ADDED),
            s = add_piece(&v, "<s>", TOKEN_SPECIAL);
    int32_t accent = add_piece(&v, "e\xCC\x81!", TOKEN_ADDED);
    uint8_t trait[N_BYTE + 32] = {0};
    v.src.trait = trait;
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "<a><b>", 6, 0, IDS(long_one, '>'));
    tokenizer_free(t);
    trait[long_one] = trait[s] = trait[accent] = TOKEN_NORMALIZED;
    t = open_vocab(&v);
    assert_ids(t, "<a><b>", 6, 0, IDS('<', 'a', '>', b));
    const struct tokenizer_span guard[] = {{3, 6}}; /* spans hold in the second pass too */
    struct token_vec out = {0};
    assert_int_equal(tokenizer_encode_guarded(t, "<s><s><b><s>", 12, TOKENIZE_SPECIAL, guard, 1, &out, NULL),
                     OK);
    const int32_t want[] = {s, '<', 's', '>', b, s};
    assert_int_equal(out.n, sizeof want / sizeof want[0]);
    assert_memory_equal(out.id, want, sizeof want);
    token_vec_fini(&out);
    tokenizer_free(t);
    v.src.nfc = true;
    t = open_vocab(&v);
    assert_ids(t, "\xC3\xA9!", 3, 0, IDS(accent));
    assert_ids(t, "e\xCC\x81!", 4, 0, IDS(accent));
    assert_ids(t, "<s>", 3, TOKENIZE_SPECIAL, IDS(s));
    tokenizer_free(t);
}

static void a_merge_may_say_where_it_parts(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    add_piece(&v, "a ", TOKEN_NORMAL);
    add_piece(&v, " b", TOKEN_NORMAL);
    add_piece(&v, "a b", TOKEN_NORMAL);
    add_merge(&v, "a  b");
    assert_refused(&v, "tokenizer.ggml.merges", "two ways");
    uint32_t at[] = {2};
    v.src.merge_at = at;
    for (at[0] = 1; at[0] <= 2; at[0]++) tokenizer_free(open_vocab(&v));
    assert_refused(&v, "tokenizer.ggml.merges", "not in the vocabulary"); /* at 3 nothing is left */
    at[0] = UINT32_MAX;
    assert_refused(&v, "tokenizer.ggml.merges", "not in the vocabulary");
}

static void special_tokens_count_only_where_asked(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t end = add_piece(&v, "<e>", TOKEN_SPECIAL), tool = add_piece(&v, "<t>", TOKEN_ADDED);
    add_piece(&v, "<u>", TOKEN_UNUSED);
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "a<e><t>", 7, TOKENIZE_SPECIAL, IDS('a', end, tool));
    assert_ids(t, "a<e><t>", 7, 0, IDS('a', '<', 'e', '>', tool));
    assert_ids(t, "<u>", 3, TOKENIZE_SPECIAL, IDS('<', 'u', '>'));
    assert_true(tokenizer_is_special(t, end));
    assert_false(tokenizer_is_special(t, tool));
    assert_false(tokenizer_is_special(t, -1));
    assert_false(tokenizer_is_special(t, 1000000));
    assert_int_equal(tokenizer_find(t, "<e>", 3), end);
    assert_int_equal(tokenizer_find(t, "<e", 2), -1);
    tokenizer_free(t);
}

static void guarded_text_never_becomes_a_special_token(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    int32_t end = add_piece(&v, "<e>", TOKEN_SPECIAL), tool = add_piece(&v, "<t>", TOKEN_ADDED);
    struct tokenizer *t = open_vocab(&v);
    static const char text[] = "<e><e><t>x<<e>";
    const struct tokenizer_span guard[] = {{3, 9}, {10, 11}};
    struct token_vec out = {0};
    assert_int_equal(tokenizer_encode_guarded(t, text, strlen(text), TOKENIZE_SPECIAL, guard, 2, &out, NULL),
                     OK);
    const int32_t want[] = {end, '<', 'e', '>', tool, 'x', '<', end};
    assert_int_equal(out.n, sizeof want / sizeof want[0]);
    assert_memory_equal(out.id, want, sizeof want);
    out.n = 0; /* a span that covers a part is enough */
    assert_int_equal(tokenizer_encode_guarded(t, "<e>", 3, TOKENIZE_SPECIAL, &(struct tokenizer_span){2, 3},
                                              1, &out, NULL),
                     OK);
    assert_int_equal(out.n, 3);
    token_vec_fini(&out);
    tokenizer_free(t);
}

static void bos_and_eos_come_where_asked(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    v.src.bos_id = add_piece(&v, "<b>", TOKEN_SPECIAL);
    v.src.eos_id = add_piece(&v, "<e>", TOKEN_SPECIAL);
    v.src.add_bos = v.src.add_eos = true;
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "a", 1, TOKENIZE_ADD, IDS(v.src.bos_id, 'a', v.src.eos_id));
    assert_ids(t, "", 0, TOKENIZE_ADD, IDS(v.src.bos_id, v.src.eos_id));
    assert_ids(t, "a", 1, 0, IDS('a'));
    assert_int_equal(tokenizer_bos(t), v.src.bos_id);
    assert_int_equal(tokenizer_eos(t), v.src.eos_id);
    tokenizer_free(t);
}

static void every_byte_comes_back(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    struct tokenizer *t = open_vocab(&v);
    static const char text[] =
        "\0a\0\0 \x01\x7F\xC2\x80\xC3\xBF\xE2\x80\xA8\xEF\xBF\xBF\xF0\x9F\x91\x8D\xF4\x8F\xBF\xBF\r\n\t ";
    struct token_vec out = {0};
    assert_int_equal(tokenizer_encode(t, text, sizeof text - 1, 0, &out, NULL), OK);
    assert_int_equal(out.n, sizeof text - 1);
    for (size_t i = 0; i < out.n; i++) {
        size_t n;
        const char *b = tokenizer_bytes(t, out.id[i], &n);
        assert_int_equal(n, 1);
        assert_int_equal(b[0], text[i]);
    }
    size_t n = 1;
    assert_string_equal(tokenizer_bytes(t, -1, &n), "");
    assert_int_equal(n, 0);
    assert_string_equal(tokenizer_bytes(t, tokenizer_n_piece(t), &n), "");
    assert_int_equal(n, 0);
    token_vec_fini(&out);
    tokenizer_free(t);
}

/* As the package does without an unknown token. A control token is never made from text. */
static void bytes_without_a_piece_are_dropped_or_unknown(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    v.piece[1] = "(gone)";
    v.piece_len[1] = 6;
    int32_t ab = add_piece(&v, "==", TOKEN_NORMAL), unk = add_piece(&v, "<unk>", TOKEN_NORMAL);
    int32_t special = add_piece(&v, "<s>", TOKEN_SPECIAL);
    add_merge(&v, "= =");
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "=\x01=", 3, 0, IDS(ab)); /* neighbours by then */
    assert_ids(t, "\x01", 1, 0, NULL, 0);
    tokenizer_free(t);
    v.src.unk_id = unk;
    t = open_vocab(&v);
    assert_ids(t, "=\x01=", 3, 0, IDS('=', unk, '='));
    tokenizer_free(t);
    v.src.unk_id = special;
    t = open_vocab(&v);
    assert_ids(t, "=\x01=", 3, 0, IDS(ab));
    tokenizer_free(t);
}

static void a_failed_encode_leaves_the_vector_alone(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    struct tokenizer *t = open_vocab(&v);
    struct token_vec out = {0};
    assert_true(token_vec_push(&out, 7));
    assert_int_equal(tokenizer_encode(t, "abc\xFF", 4, 0, &out, NULL), ERR_INVALID_UTF8);
    assert_int_equal(out.n, 1);
    assert_int_equal(out.id[0], 7);
    token_vec_fini(&out);
    tokenizer_free(t);
}

static void merges_of_missing_pieces_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"a zz", "zz a", "a b", "ab", "", " ", "a ", " a", "a  b", "a b c"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct vocab v;
        vocab_init(&v);
        add_merge(&v, bad[i]);
        assert_refused(&v, "tokenizer.ggml.merges", "not in the vocabulary");
    }
}

static void merges_of_pieces_with_spaces_are_read_where_they_are_clear(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    add_piece(&v, "a ", TOKEN_NORMAL);
    add_piece(&v, "a b", TOKEN_NORMAL);
    add_merge(&v, "a  b"); /* "a " + "b"; there is no " b" */
    struct tokenizer *t = open_vocab(&v);
    tokenizer_free(t);
    add_piece(&v, " b", TOKEN_NORMAL);
    assert_refused(&v, "tokenizer.ggml.merges", "two ways");
}

static void a_refusal_names_the_file_where_there_is_one(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    v.src.file = "dir/tokenizer.json";
    add_merge(&v, "a zz");
    assert_refused(&v, "dir/tokenizer.json", "dir/tokenizer.json: tokenizer.ggml.merges: merge 0");
    static const char *const pattern[] = {"[a-z]+"};
    v.src.pattern = pattern;
    v.src.n_pattern = 1;
    assert_refused(&v, "dir/tokenizer.json", "dir/tokenizer.json: model.merges: merge 0");
}

static void merges_into_special_tokens_are_refused(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    add_piece(&v, "ab", TOKEN_SPECIAL);
    add_merge(&v, "a b");
    assert_refused(&v, "tokenizer.ggml.merges", "special");
}

static void bad_vocabularies_are_refused(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    v.src.pre = "no-such-pre";
    assert_refused(&v, "tokenizer.ggml.pre", "no-such-pre");
    v.src.pre = NULL;
    assert_refused(&v, "tokenizer.ggml.pre", "unknown");
    v.src.pre = "gpt-2";
    v.src.add_bos = true;
    assert_refused(&v, "tokenizer.ggml.bos_token_id", "-1");
    v.src.bos_id = v.src.n_piece;
    assert_refused(&v, "tokenizer.ggml.bos_token_id", "256");
    v.src.bos_id = 0;
    v.kind[5] = 9;
    assert_refused(&v, "tokenizer.ggml.token_type", "token 5");
    v.kind[5] = TOKEN_NORMAL;
    char *huge = test_malloc(2001);
    memset(huge, 'x', 2000);
    huge[2000] = '\0';
    add_piece(&v, huge, TOKEN_SPECIAL);
    assert_refused(&v, "tokenizer.ggml.tokens", "2000 bytes");
    v.src.n_piece = 0;
    assert_refused(&v, "tokenizer.ggml.tokens", "empty");
    test_free(huge);
}

static void bad_patterns_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *why;
    } bad[] = {
        {"(", "compile"},
        {"[a", "compile"},
        {"\\p{Q}", "compile"},
        {"a*", "empty"},
        {"", "empty"},
        {"x?|y*", "empty"},
        {"(?=a)", "empty"},
        {"(a+)+$", "too long"},
        {"(a|aa)+$", "too long"},
        {"(\\p{L}+\\s?)+$", "too long"},
        {"(\\p{L}\\p{L})+:|b", "too long"},
        /* read differently by the two libraries */
        {"a\\C", "escape"},
        {"\\w+", "escape"},
        {"a|\\h", "escape"},
        {"(a)\\1", "escape"},
        {"\\Ka", "escape"},
        {"\\v", "\\v"},
        {"a\\b", "escape"},
        {"[a-z&&[^b]]", "class"},
        {"[[:alpha:]]", "class"},
        {"[]a]", "class"},
        {"(?m:.)", "options"},
        {"(?i)a", "options"},
        {"\\p{Han}+", "general category"},
        {"[\\P{Nonsense}]", "general category"},
        {"a{,3}", "repetition"},
        {"a{2}+", "repetition"},
        {"a{1,2}?", "repetition"},
        {"a{x}", "brace"},
        {"a{", "brace"},
        {"a\\", "compile"},
        {"(?<x>a)", "name"},
        {"(?P<x>a)", "name"},
        {"(*UTF)a", "verb"},
        {"(?#a)", "options"},
        {"(?R)", "options"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct vocab v;
        vocab_init(&v);
        v.src.pattern = &bad[i].pattern;
        v.src.n_pattern = 1;
        assert_refused(&v, "pre_tokenizer", bad[i].why);
    }
}

static void text_is_normalised_first(void **state)
{
    (void)state;
    struct vocab v;
    vocab_init(&v);
    v.src.nfc = true;
    struct tokenizer *t = open_vocab(&v);
    assert_ids(t, "e\xCC\x81", 3, 0, IDS(0xC3, 0xA9));
    tokenizer_free(t);
    v.src.nfc = false;
    t = open_vocab(&v);
    assert_ids(t, "e\xCC\x81", 3, 0, IDS('e', 0xCC, 0x81));
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_earliest_merge_goes_first_and_the_leftmost_of_equals),
        cmocka_unit_test(of_equal_merges_the_last_counts),
        cmocka_unit_test(whole_pieces_go_before_merges_where_the_model_says_so),
        cmocka_unit_test(pieces_end_where_the_pattern_says),
        cmocka_unit_test(steps_need_no_pattern_of_their_own),
        cmocka_unit_test(tokens_swallow_white_space_where_they_say_so),
        cmocka_unit_test(normalized_tokens_come_after_the_others_and_in_normal_text),
        cmocka_unit_test(a_merge_may_say_where_it_parts),
        cmocka_unit_test(special_tokens_count_only_where_asked),
        cmocka_unit_test(guarded_text_never_becomes_a_special_token),
        cmocka_unit_test(bos_and_eos_come_where_asked),
        cmocka_unit_test(every_byte_comes_back),
        cmocka_unit_test(bytes_without_a_piece_are_dropped_or_unknown),
        cmocka_unit_test(a_failed_encode_leaves_the_vector_alone),
        cmocka_unit_test(merges_of_missing_pieces_are_refused),
        cmocka_unit_test(merges_of_pieces_with_spaces_are_read_where_they_are_clear),
        cmocka_unit_test(a_refusal_names_the_file_where_there_is_one),
        cmocka_unit_test(merges_into_special_tokens_are_refused),
        cmocka_unit_test(bad_vocabularies_are_refused),
        cmocka_unit_test(bad_patterns_are_refused),
        cmocka_unit_test(text_is_normalised_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
