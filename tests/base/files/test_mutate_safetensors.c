/* safetensors files that lie: every word of a good header is dropped, doubled and replaced, the file is cut
 * at every boundary, lengths and offsets go wild. Each file is refused by one line that names it, or is read
 * and then sound; no block of memory is larger than twice the file. */
#include "tests/engine/mutate.h"

#include "engine/router_load.h"
#include "base/files/safetensors.h"
#include "tests/engine/hash_router.h"

enum { WORD_MOST = 1024, TEXT_MOST = 8192, DATA = 4096, SLACK = 16384, HEAD = 16, LAYERS = 2 };

struct word {
    size_t at, n;
};

static char path[32]; /* of a file in memory: there are thousands */
static int fd;
static char good[TEXT_MOST]; /* the header */
static char data[DATA];
static size_t n_data;
static struct word word[WORD_MOST];
static int n_word;

/* Words of JSON: strings, numbers and marks. */
static void cut_words(void)
{
    for (size_t i = 0, n; good[i]; i += n) {
        if (good[i] == '"')
            n = (size_t)(strchr(good + i + 1, '"') - good) - i + 1;
        else
            n = strspn(good + i, "0123456789") ? strspn(good + i, "0123456789") : 1;
        assert_true(n_word < WORD_MOST);
        word[n_word++] = (struct word){i, n};
    }
}

static void make_good(void)
{
    static const struct {
        const char *name, *type, *shape;
        size_t bytes;
    } t[] = {{"model.embed.weight", "F32", "[8,16]", 512},
             {"a", "BF16", "[4,2]", 16},
             {"b", "F16", "[3,1,5]", 30},
             {"empty", "F32", "[0,7]", 0},
             {"scalar", "I64", "[]", 8},
             {"model.layers.0.w", "F16", "[16,16]", 512},
             {"model.layers.1.w", "F16", "[16,16]", 512},
             {"bits", "U8", "[7]", 7}};
    size_t n =
        (size_t)snprintf(good, sizeof good, "{\"__metadata__\":{\"format\":\"pt\",\"pool_size\":\"150.0\"}");
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        n += (size_t)snprintf(good + n, sizeof good - n,
                              ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", t[i].name,
                              t[i].type, t[i].shape, n_data, n_data + t[i].bytes);
        n_data += t[i].bytes;
    }
    snprintf(good + n, sizeof good - n, "}");
    for (size_t i = 0; i < n_data; i++) data[i] = (char)i;
}

static size_t write_file(const char *text, size_t n, uint64_t claimed, size_t n_bytes)
{
    if (ftruncate(fd, 0) || pwrite(fd, &claimed, 8, 0) != 8 || pwrite(fd, text, n, 8) != (ssize_t)n ||
        pwrite(fd, data, n_bytes, (off_t)(8 + n)) != (ssize_t)n_bytes)
        fail_msg("the test's file cannot be written");
    return 8 + n + n_bytes;
}

static void assert_sound(const struct safetensors *s, int64_t file_bytes)
{
    char byte;
    for (int i = 0; i < safetensors_n_tensor(s); i++) {
        const struct safetensors_tensor *t = safetensors_at(s, i);
        int64_t n = 1;
        for (int d = 0; d < t->n_dim; d++) n *= t->shape[d];
        assert_true(n == t->n_elem && t->offset >= 8 && t->n_bytes >= 0 &&
                    t->offset + t->n_bytes <= file_bytes);
        assert_ptr_equal(safetensors_find(s, t->name), t);
        if (t->n_bytes) assert_int_equal(safetensors_read(s, t, t->n_bytes - 1, 1, &byte, NULL), OK);
        for (int j = 0; j < i; j++) {
            const struct safetensors_tensor *o = safetensors_at(s, j);
            assert_true(o->offset + o->n_bytes <= t->offset || t->offset + t->n_bytes <= o->offset);
        }
    }
}

/* True: the file was accepted (and is sound). */
static bool try_file(size_t file_bytes, const char *what)
{
    struct safetensors *s = NULL;
    struct err_note note = {0};
    watch_begin();
    enum err e = safetensors_open(&s, path, &note);
    watch_end();
    if (watch.most > 2 * (long long)file_bytes + SLACK)
        fail_msg("%s: a block of %lld bytes for a file of %zu", what, (long long)watch.most, file_bytes);
    if (e == OK)
        assert_sound(s, (int64_t)file_bytes);
    else {
        assert_null(s);
        assert_refusal(&note, path, NULL, what);
    }
    safetensors_close(s);
    return e == OK;
}

static bool try_text(const char *text, const char *what)
{
    return try_file(write_file(text, strlen(text), strlen(text), n_data), what);
}

static void the_good_file_is_read(void **state)
{
    (void)state;
    assert_true(try_text(good, "the good file"));
    assert_true(watch.most > 100);
}

static void cuts_at_every_boundary_are_refused(void **state)
{
    (void)state;
    char what[64];
    size_t n = strlen(good);
    for (int i = 0; i < n_word; i++)
        for (int k = 0; k < 2; k++) {
            size_t cut = word[i].at + (k ? word[i].n / 2 : 0);
            snprintf(what, sizeof what, "header cut at %zu", cut);
            assert_false(try_file(write_file(good, cut, n, 0), what));        /* the file ends there */
            assert_false(try_file(write_file(good, cut, cut, n_data), what)); /* the header ends there */
        }
    for (size_t cut = 0; cut < n_data; cut++) assert_false(try_file(write_file(good, n, n, cut), "data cut"));
    for (size_t cut = 0; cut < 8; cut++) {
        if (ftruncate(fd, (off_t)cut)) fail_msg("the test's file cannot be cut");
        assert_false(try_file(cut, "length cut"));
    }
    assert_false(try_file(write_file(good, n, n, n_data + 1), "bytes after the end"));
}

static void wild_header_lengths_are_refused(void **state)
{
    (void)state;
    size_t n = strlen(good);
    const uint64_t wild[] = {
        0,         1,          2,          n - 1,      n + 1,     n + n_data, n + n_data + 1, 100000000,
        100000001, 1ull << 31, 1ull << 32, 1ull << 62, INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++)
        assert_false(try_file(write_file(good, n, wild[i], n_data), "wild header length"));
}

/* The header with one word replaced by `by` (n times). */
static const char *with(int w, const char *by, size_t n_by, int times)
{
    static char text[TEXT_MOST * 2];
    size_t n = word[w].at;
    memcpy(text, good, n);
    for (int i = 0; i < times; i++, n += n_by) memcpy(text + n, by, n_by);
    strcpy(text + n, good + word[w].at + word[w].n);
    return text;
}

/* An empty tensor's other dimension may be any. */
static bool is_free(int w) { return strncmp(good + word[w].at - 2, "0,7]", 4) == 0; }

/* No word may go, double or change its kind: what is left out is structure, a size or a name. */
static void words_that_go_double_or_change_are_refused_or_sound(void **state)
{
    (void)state;
    static const char *const wild[] = {"0",
                                       "1",
                                       "-1",
                                       "01",
                                       "1.0",
                                       "1e3",
                                       "4294967296",
                                       "4611686018427387904",
                                       "9223372036854775807",
                                       "9223372036854775808",
                                       "18446744073709551615",
                                       "18446744073709551616",
                                       "99999999999999999999999999",
                                       "null",
                                       "true",
                                       "[",
                                       "]",
                                       "{",
                                       "}",
                                       ":",
                                       ",",
                                       "[]",
                                       "{}",
                                       "\"",
                                       "\"\"",
                                       "\"F32\"",
                                       "\"F64\"",
                                       "\"Q4\"",
                                       "\"a\"",
                                       "\"\\u0000\"",
                                       "\"\\n\"",
                                       "\"\\ud800\"",
                                       "\"\xff\"",
                                       "\"\x01\"",
                                       "[[[[[[[[[[[[[[[[",
                                       "\"__metadata__\"",
                                       "\"shape\"",
                                       " ",
                                       ""};
    int accepted = 0, refused = 0;
    char what[160];
    for (int w = 0; w < n_word; w++) {
        const char *self = good + word[w].at;
        bool is_mark = word[w].n == 1 && !(*self >= '0' && *self <= '9');
        if (try_text(with(w, self, word[w].n, 2), "a doubled word") && !is_free(w))
            fail_msg("word %d doubled was accepted", w);
        for (size_t k = 0; k < sizeof wild / sizeof *wild; k++) {
            if (strlen(wild[k]) == word[w].n && memcmp(wild[k], self, word[w].n) == 0) continue;
            snprintf(what, sizeof what, "%.*s at %zu becomes %s", (int)(word[w].n > 60 ? 60 : word[w].n),
                     self, word[w].at, wild[k]);
            bool ok = try_text(with(w, wild[k], strlen(wild[k]), 1), what);
            if (ok && is_mark) fail_msg("%s: was accepted", what);
            accepted += ok;
            refused += !ok;
        }
    }
    printf("%d refused, %d read\n", refused, accepted);
    assert_true(refused > 200 && accepted > 0);
}

/* Each string becomes each other one: names twice, types and keys exchanged. Each number comes a little too
 * large or small. */
static void exchanged_words_are_refused_or_sound(void **state)
{
    (void)state;
    char what[96], number[24];
    for (int a = 0; a < n_word; a++) {
        for (int b = a % 3; b < n_word && good[word[a].at] == '"'; b += 3)
            if (good[word[b].at] == '"')
                try_text(with(a, good + word[b].at, word[b].n, 1), "exchanged strings");
        if (good[word[a].at] < '0' || good[word[a].at] > '9') continue;
        for (int d = -2; d <= 2; d++) {
            long v = strtol(good + word[a].at, NULL, 10) + d;
            snprintf(number, sizeof number, "%ld", v);
            snprintf(what, sizeof what, "number at %zu becomes %s", word[a].at, number);
            if (try_text(with(a, number, strlen(number), 1), what) && d) assert_true(is_free(a));
        }
    }
}

static void random_bytes_in_the_header_are_refused_or_sound(void **state)
{
    (void)state;
    uint32_t seed = mutate_seed(11);
    char text[TEXT_MOST];
    size_t n = strlen(good);
    for (int i = 0; i < 1500; i++) {
        memcpy(text, good, n);
        for (int k = 0; k <= i % 3; k++) text[mutate_next(&seed) % n] = (char)mutate_next(&seed);
        try_file(write_file(text, n, n, n_data), "random bytes");
    }
}

/* As many tensors as a header can name: the table of them stays within the bound too. */
static void many_tensors_take_no_more_than_they_are(void **state)
{
    (void)state;
    static char text[1 << 20];
    for (int many = 60; many <= 9000; many = many * 5 / 4) {
        size_t n = 0;
        for (int i = 0; i < many; i++)
            n += (size_t)snprintf(text + n, sizeof text - n,
                                  "%c\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                                  i ? ',' : '{', i);
        text[n++] = '}';
        assert_true(try_file(write_file(text, n, n, 0), "many tensors"));
        memset(text, '{', n);
        assert_false(try_file(write_file(text, n, n, 0), "many braces"));
    }
}

static void router_files_that_lie_are_refused(void **state)
{
    (void)state;
    const float bias[LAYERS] = {0.5f, -0.5f};
    struct spec spec = {.n_layer = LAYERS, .head = HEAD};
    static char file[1 << 18];
    uint32_t seed = mutate_seed(12);
    uint64_t n_head;
    int loaded = 0, refused = 0;
    hash_router_write(path, 9, LAYERS, 2, HEAD, bias,
                      "{\"pool_size\":\"150\"}"); /* the same file: fd stays good */
    ssize_t n = pread(fd, file, sizeof file, 0);
    assert_true(n > 8 && n < (ssize_t)sizeof file);
    memcpy(&n_head, file, 8);
    for (int i = 0; i < 1000; i++) {
        struct routers r = {0};
        struct err_note note = {0};
        size_t at = i ? mutate_next(&seed) % (8 + n_head) : 0;
        char was = file[at], to = (char)(i ? "0123456789,:[]{}\"abF\x7f\xff "[mutate_next(&seed) % 24] : was);
        if (pwrite(fd, &to, 1, (off_t)at) != 1) fail_msg("the test's file cannot be written");
        watch_begin();
        enum err e = routers_load(&r, path, &spec, &note);
        watch_end();
        assert_true(watch.most <= 2 * (long long)n + SLACK);
        if (e == OK)
            routers_free(&r);
        else
            assert_refusal(&note, path, NULL, "router file");
        if (i == 0) assert_int_equal(e, OK);
        loaded += e == OK;
        refused += e != OK;
        if (pwrite(fd, &was, 1, (off_t)at) != 1) fail_msg("the test's file cannot be written");
    }
    printf("%d refused, %d loaded\n", refused, loaded);
    assert_true(refused > 500);
}

/* A file with one bias, for a model whose routers would take 700 MB. */
static void a_router_file_without_its_tensors_takes_no_room_for_them(void **state)
{
    (void)state;
    static const char head[] =
        "{\"model.layers.0.self_attn.mask_allocator.cls_router_head_agnostic.4.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    struct spec spec = {.n_layer = 64, .head = 256};
    struct routers r;
    struct err_note note = {0};
    size_t n = write_file(head, sizeof head - 1, sizeof head - 1, 8);
    watch_begin();
    enum err e = routers_load(&r, path, &spec, &note);
    watch_end();
    assert_int_equal(e, ERR_MODEL_FILE);
    assert_refusal(&note, path, "cls_feat_extractor.0.weight", "a router file of one bias");
    assert_true(watch.most <= 2 * (long long)n + SLACK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_good_file_is_read),
        cmocka_unit_test(cuts_at_every_boundary_are_refused),
        cmocka_unit_test(wild_header_lengths_are_refused),
        cmocka_unit_test(words_that_go_double_or_change_are_refused_or_sound),
        cmocka_unit_test(exchanged_words_are_refused_or_sound),
        cmocka_unit_test(random_bytes_in_the_header_are_refused_or_sound),
        cmocka_unit_test(many_tensors_take_no_more_than_they_are),
        cmocka_unit_test(router_files_that_lie_are_refused),
        cmocka_unit_test(a_router_file_without_its_tensors_takes_no_room_for_them),
    };
    if ((fd = memfd_create("fluxd-mutate", MFD_CLOEXEC)) < 0) return 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    make_good();
    cut_words();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    close(fd);
    return failed;
}
