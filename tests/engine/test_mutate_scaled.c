/* Quantised checkpoints that lie, each form of them: scales that are missing or no scales, zero points and
 * orders of groups that cannot be, tensors of another type or shape, and configurations that say something
 * else than the tensors. Every one is refused by one line that names the directory and the tensor or key. */
#include "tests/engine/mutate_dir.h"

#include <math.h>

#include "kernels/quant.h"

enum { EACH = 200, NAME_MOST = 96 };

/* A tensor of the file, found in its header's text. */
struct place {
    char name[NAME_MOST];
    char type[12];
    size_t entry, n_entry; /* of its text: "name":{...} */
    size_t data, n_data;
};

static const struct file *weights_file(void) { return &file[1]; }

static size_t data_start(const struct file *f)
{
    uint64_t n;
    memcpy(&n, f->data, 8);
    return 8 + (size_t)n;
}

static struct place place_at(const struct file *f, size_t at)
{
    struct place p = {.entry = at};
    const char *text = f->data + at, *v;
    snprintf(p.name, sizeof p.name, "%.*s", (int)strcspn(text + 1, "\""), text + 1);
    p.n_entry = (size_t)(strchr(text, '}') - text) + 1;
    v = strstr(text, "\"dtype\":\"") + 9;
    snprintf(p.type, sizeof p.type, "%.*s", (int)strcspn(v, "\""), v);
    v = strstr(text, "\"data_offsets\":[") + 16;
    char *end;
    const size_t from = strtoul(v, &end, 10);
    p.data = data_start(f) + from;
    p.n_data = strtoul(end + 1, NULL, 10) - from;
    return p;
}

/* The i-th tensor whose name ends like this; false: there are fewer. */
static bool find_place(const struct file *f, const char *tail, int i, struct place *out)
{
    const char *end = f->data + data_start(f);
    char key[NAME_MOST];
    snprintf(key, sizeof key, "%s\":{", tail);
    for (const char *p = f->data + 8; (p = memmem(p, (size_t)(end - p), key, strlen(key))); p++) {
        if (i-- > 0) continue;
        while (*p != '"') p--;
        *out = place_at(f, (size_t)(p - f->data));
        return true;
    }
    return false;
}

static int n_done;

/* f with n bytes at `at` replaced: refused, and the refusal has `names` in it. */
static void must_refuse(const struct file *f, size_t at, size_t n, const void *by, size_t n_by,
                        const char *names, const char *what)
{
    static char text[1 << 18];
    struct err_note note = {0};
    size_t all = 0;
    memcpy(text, f->data, at);
    memcpy(text + at, by, n_by);
    memcpy(text + at + n_by, f->data + at + n, f->n - at - n);
    write_bytes(f->path, text, f->n - n + n_by);
    for (int i = 0; i < n_file; i++) all += file[i].n;
    watch_begin();
    const enum err e = load_dir(&note);
    watch_end();
    if (e == OK) fail_msg("%s: %s was accepted", dir, what);
    assert_refusal(&note, dir, names, what);
    if (watch.most > 2 * (long long)all + SLACK)
        fail_msg("%s: a block of %lld bytes", what, (long long)watch.most);
    restore(f);
    n_done++;
}

/* Element i of a tensor becomes a number. */
static void put_number(const struct place *p, size_t i, float v, const char *what)
{
    char by[4];
    size_t n = 2;
    const uint32_t u = f32_bits(v);
    uint16_t h = (uint16_t)(u >> 16); /* BF16 */
    if (strcmp(p->type, "F32") == 0) memcpy(by, &v, n = 4);
    if (strcmp(p->type, "F16") == 0) h = isnan(v) ? 0x7e00 : isinf(v) ? 0x7c00 : v < 0 ? 0xbc00 : 0;
    if (n == 2) memcpy(by, &h, 2);
    must_refuse(weights_file(), p->data + i * n, n, by, n, p->name, what);
}

/* --- mutators: do one mutation with the random number r; false: the form has no such thing */

static bool pick(const char *tail, uint32_t r, struct place *p)
{
    int n = 0;
    while (find_place(weights_file(), tail, n, p)) n++;
    return n && find_place(weights_file(), tail, (int)(r % (uint32_t)n), p);
}

static const char
    *const scale_tails[] = {".weight_scale", ".weight_scale_inv", ".scales"},
           *const one_tails[] = {".input_scale", ".input_scale_ub", "attn.k_scale", "attn.v_scale"},
           *const code_tails[] = {".weight_packed", ".qweight"},
           *const zero_tails[] = {".qzeros", ".weight_zero_point"}, *const order_tails[] = {".g_idx"};

#define PICK(tails, r, p) pick_of(tails, sizeof tails / sizeof *tails, r, p)
static bool pick_of(const char *const *tails, size_t n, uint32_t r, struct place *p)
{
    for (size_t i = 0; i < n; i++)
        if (pick(tails[(i + r) % n], r >> 3, p)) return true;
    return false;
}

static bool bad_scale(uint32_t r)
{
    static const float bad[] = {NAN, INFINITY, -1};
    struct place p;
    if (!PICK(scale_tails, r, &p)) return false;
    const size_t n = p.n_data / (strcmp(p.type, "F32") == 0 ? 4 : 2);
    put_number(&p, r / 64 % n, bad[r % 3], "a scale that is none");
    return true;
}

static bool bad_input_scale(uint32_t r)
{
    static const float bad[] = {NAN, INFINITY, -1, 0};
    struct place p;
    if (!PICK(one_tails, r, &p)) return false;
    put_number(&p, 0, bad[r % 4], "a scale of inputs, keys or values that is none");
    return true;
}

/* Any tensor of codes or beside them is gone: its name is another. */
static bool lost_tensor(uint32_t r)
{
    static const char *const *const tails[] = {scale_tails, code_tails, zero_tails, order_tails, one_tails};
    static const size_t n_tail[] = {3, 2, 2, 1, 4};
    struct place p;
    char by[2] = "#";
    if (!pick_of(tails[r % 5], n_tail[r % 5], r >> 4, &p)) return false;
    const size_t at = 1 + r / 32 % strlen(p.name);
    must_refuse(weights_file(), p.entry + at, 1, by, 1, "tensor", "a tensor of another name");
    return true;
}

static bool other_type(uint32_t r)
{
    static const char *const types[][2] = {{"\"I32\"", "\"F32\""},         {"\"I32\"", "\"U32\""},
                                           {"\"F8_E4M3\"", "\"F8_E5M2\""}, {"\"F8_E4M3\"", "\"U8\"     "},
                                           {"\"BF16\"", "\"I16\" "},       {"\"F16\"", "\"I16\""},
                                           {"\"F32\"", "\"I32\""},         {"\"I64\"", "\"U64\""}};
    const struct file *f = weights_file();
    const char *const *t = types[r % (sizeof types / sizeof *types)];
    char key[32];
    int n = 0;
    snprintf(key, sizeof key, "\"dtype\":%s", t[0]);
    const char *end = f->data + data_start(f), *p = f->data;
    while ((p = memmem(p, (size_t)(end - p), key, strlen(key)))) p++, n++;
    if (!n) return false;
    n = (int)(r / 16 % (uint32_t)n);
    for (p = f->data; (p = memmem(p, (size_t)(end - p), key, strlen(key))) && n--;) p++;
    must_refuse(f, (size_t)(p - f->data) + 8, strlen(t[0]), t[1], strlen(t[1]), "tensor",
                "a tensor of another type");
    return true;
}

/* [a,b] becomes [b,a] where they differ, [a] becomes [1,a] with the header as long as before: blanks at its
 * end make room. */
static bool other_shape(uint32_t r)
{
    static const char *const *const tails[] = {scale_tails, code_tails, zero_tails, order_tails};
    static const size_t n_tail[] = {3, 2, 2, 1};
    struct place p;
    const struct file *f = weights_file();
    if (!pick_of(tails[r % 4], n_tail[r % 4], r >> 4, &p)) return false;
    const char *shape = strstr(f->data + p.entry, "\"shape\":[") + 9;
    char *end, by[48];
    const unsigned long a = strtoul(shape, &end, 10), b = *end == ',' ? strtoul(end + 1, &end, 10) : 0;
    const size_t at = (size_t)(shape - f->data), len = (size_t)(end - shape);
    if (*end != ']' || !b || a == b) return false;
    snprintf(by, sizeof by, "%lu,%lu", b, a);
    assert_int_equal(strlen(by), len);
    must_refuse(f, at, len, by, len, p.name, "a tensor of another shape");
    return true;
}

/* Symmetric GPTQ: every zero point is 8, stored as 7. */
static bool bad_zero(uint32_t r)
{
    struct place p;
    const struct file *f = weights_file();
    if (!strstr(file[0].data, "\"sym\": true") || !pick(".qzeros", r, &p)) return false;
    const size_t at = p.data + r / 8 % p.n_data;
    const char by = (char)(f->data[at] ^ (char)(r & 1 ? (1 + r / 2 % 15) : (1 + r / 2 % 15) << 4));
    must_refuse(f, at, 1, &by, 1, "zero point", "a zero point out of range");
    return true;
}

/* Another group, none at all, or one that is not there. */
static bool bad_order(uint32_t r)
{
    struct place p;
    const struct file *f = weights_file();
    int32_t v;
    if (!pick(".g_idx", r, &p)) return false;
    const size_t at = p.data + r / 8 % (p.n_data / 4) * 4;
    memcpy(&v, f->data + at, 4);
    const int32_t by[] = {v + 1, v - 1, INT32_MAX, INT32_MIN, -1 - v, v ^ 0x100};
    must_refuse(f, at, 4, &by[r % 6], 4, "order", "an order that is none");
    return true;
}

static bool bad_said_shape(uint32_t r)
{
    struct place p;
    const struct file *f = weights_file();
    if (!pick(".weight_shape", r, &p)) return false;
    const size_t at = p.data + r / 8 % p.n_data;
    const char by = (char)(f->data[at] ^ (char)(1 << r % 8));
    must_refuse(f, at, 1, &by, 1, "weight_shape", "a shape that is said and not had");
    return true;
}

/* A value of quantization_config becomes one that the tensors, or the format, do not allow. */
static bool bad_key(uint32_t r)
{
    static const struct {
        const char *key, *by[8];
    } keys[] = {
        {"\"group_size\": ", {"0", "16", "33", "96", "256", "-2", "\"32\"", "1e300"}},
        {"\"bits\": ", {"2", "3", "8", "0", "-4", "4.5", "\"4\"", "null"}},
        {"\"num_bits\": ", {"2", "3", "16", "0", "-8", "4.5", "\"8\"", "null"}},
        {"\"quant_method\": ", {"\"gguf\"", "\"\"", "1", "null", "[]", "{}", "\"bitsandbytes\"", "true"}},
        {"\"type\": ", {"\"double\"", "\"\"", "1", "null", "[]", "{}", "\"INT\"", "true"}},
        {"\"strategy\": ", {"\"rows\"", "\"\"", "1", "\"block\"", "[]", "{}", "\"group_\"", "true"}},
        {"\"symmetric\": ", {"1", "\"true\"", "[]", "{}", "0", "1.5", "\"\"", "-1"}},
        {"\"format\": ",
         {"\"marlin-24\"", "\"int-quantized\"", "1", "\"dense\"", "[]", "{}", "\"\"", "true"}},
        {"\"quantization_status\": ",
         {"\"frozen\"", "\"\"", "1", "false", "[]", "{}", "\"initialized\"", "true"}},
        {"\"config_groups\": ",
         {"4, \"a\": ", "[], \"a\": ", "{}, \"a\": ", "null, \"a\": ", "true, \"a\": ", "\"\", \"a\": ",
          "{\"g\": 1}, \"a\": ", "{\"g\": {}}, \"a\": "}},
        {"\"version\": ", {"\"gemv\"", "\"marlin\"", "1", "\"\"", "[]", "{}", "true", "\"gemv_fast\""}},
        {"\"zero_point\": ", {"false", "1", "\"true\"", "[]", "{}", "0", "\"\"", "-1"}},
        {"\"checkpoint_format\": ", {"\"marlin\"", "1", "\"\"", "[]", "{}", "true", "\"gptq_v3\"", "0"}},
        {"\"desc_act\": ", {"1", "\"true\"", "[]", "{}", "0", "1.5", "\"\"", "-1"}},
        {"\"sym\": ", {"1", "\"true\"", "[]", "{}", "0", "1.5", "\"\"", "-1"}},
        {"\"activation_scheme\": ", {"\"none\"", "1", "\"\"", "[]", "{}", "true", "\"Static\"", "0"}},
        {"\"fmt\": ", {"\"e5m2\"", "1", "\"\"", "[]", "{}", "true", "\"E4M3\"", "0"}},
        {"\"weight_block_size\": ",
         {"[64, 64], \"a\": ", "[128], \"a\": ", "[128, 128, 128], \"a\": ", "128, \"a\": ", "[], \"a\": ",
          "{}, \"a\": ", "[128, 64], \"a\": ", "[\"128\", 128], \"a\": "}},
        {"\"modules_to_not_convert\": ",
         {"1, \"a\": ", "\"x\", \"a\": ", "{}, \"a\": ", "[1], \"a\": ", "[\"(\"], \"a\": ",
          "[\"model\"], \"a\": ", "[\"_proj\"], \"a\": ", "[\"\"], \"a\": "}},
        {"\"ignore\": ",
         {"1, \"a\": ", "\"x\", \"a\": ", "{}, \"a\": ", "[1], \"a\": ", "[\"re:(\"], \"a\": ",
          "[\"re:(((((((a*)*)*)*)*)*)*)*x\", \"re:.*\"], \"a\": ", "[\"Linear\"], \"a\": ",
          "[\"\"], \"a\": "}},
        {"\"targets\": ",
         {"1, \"a\": ", "\"x\", \"a\": ", "{}, \"a\": ", "[1], \"a\": ", "[\"re:(\"], \"a\": ",
          "[\"Embedding\"], \"a\": ", "[], \"a\": ", "[\"\"], \"a\": "}},
        {"\"quantization_config\": {",
         {"\"x\": 1,", "\"x\": [0],", "\"x\": \"y\",", "\"x\": {},", "\"b\\u0000\": 1,", "\"a\": 0,",
          "\"dynamo\": {},", "\"\": true,"}},
    };
    const size_t i = r % (sizeof keys / sizeof *keys);
    const char *key = keys[i].key, *by = keys[i].by[r / 64 % 8];
    const char *from = strstr(file[0].data, "\"quantization_config\""), *p = strstr(from, key);
    if (!p) return false;
    for (const char *next; r >> 12 & 1 && (next = strstr(p + 1, key));) p = next; /* the last one */
    p += strlen(key);
    const bool adds = strchr(by, ':') || key[strlen(key) - 1] == '{';
    must_refuse(&file[0], (size_t)(p - file[0].data), adds ? 0 : strcspn(p, ",\n"), by, strlen(by), NULL, by);
    return true;
}

static bool (*const mutators[])(uint32_t) = {bad_scale,  bad_input_scale, lost_tensor,
                                             other_type, other_shape,     bad_zero,
                                             bad_order,  bad_said_shape,  bad_key};

/* Every kind of mutation in turn, so that no form is done with one alone. */
static void refuse_all(const char *name)
{
    static const char *const files[] = {"config.json", "model.safetensors", NULL};
    uint32_t seed = mutate_seed(77);
    int kinds = 0;
    copy_model(name, files);
    assert_int_equal(load_dir(NULL), OK); /* what oneDNN makes at its first use stays out of the count */
    n_done = 0;
    bool had[sizeof mutators / sizeof *mutators] = {0};
    for (size_t i = 0; n_done < EACH; i++) {
        const size_t m = i % (sizeof mutators / sizeof *mutators);
        if (mutators[m](mutate_next(&seed))) had[m] = true;
    }
    for (size_t m = 0; m < sizeof mutators / sizeof *mutators; m++) kinds += had[m];
    assert_int_equal(load_dir(NULL), OK);
    printf("%s: %d refused, %d kinds of mutation\n", name, n_done, kinds);
    assert_true(kinds >= 4);
    drop_model();
}

#define FORM(name)                                                                                           \
    static void broken_##name##_is_refused(void **state)                                                     \
    {                                                                                                        \
        (void)state;                                                                                         \
        refuse_all(#name);                                                                                   \
    }
#define FORMS(X)                                                                                             \
    X(fp8_channel)                                                                                           \
    X(fp8_tensor)                                                                                            \
    X(fp8_block) X(fp8_static) X(fbgemm) X(awq) X(gptq) X(gptq_order) X(packed) X(packed_zeros) X(mixed)
FORMS(FORM)

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST_ROW(name) cmocka_unit_test(broken_##name##_is_refused),
        FORMS(TEST_ROW)};
    return run_mutations(tests, sizeof tests / sizeof *tests);
}
