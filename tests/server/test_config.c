/* config: the laws of settings. Run from the root of the tree, where configs/default.conf is. */
#include "tests/base/cm.h"

#include <stdio.h>

#include "server/api/limits.h"
#include "server/config_table.h"
#include "server/text/tools/tools.h"

struct loaded {
    struct config c;
    enum config_ask ask;
    struct err_note note;
    enum err e;
};

/* flags and variables are lists that end with NULL. */
static struct loaded load(char *const *flag, char *const *variable)
{
    struct loaded l = {.e = OK};
    char *argv[16] = {(char *)(uintptr_t) "fluxd"}, *none[] = {NULL};
    int argc = 1;
    while (flag && flag[argc - 1]) {
        argv[argc] = flag[argc - 1];
        argc++;
    }
    l.e = config_load(&l.c, &l.ask, argc, argv, variable ? variable : none, &l.note);
    return l;
}

#define LIST(...) ((char *[]){__VA_ARGS__, NULL})

static const char *write_file(const char *text)
{
    static char path[] = "/tmp/fluxd_test_config_XXXXXX";
    memcpy(path + sizeof path - 7, "XXXXXX", 6);
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    return path;
}

/* The file at this path holds exactly what `write` writes. */
static void assert_file_is_made_by(const char *path, void (*write)(struct strbuf *))
{
    struct strbuf b;
    strbuf_init(&b);
    write(&b);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = calloc(1, b.len + 2);
    size_t n = fread(text, 1, b.len + 1, f);
    fclose(f);
    assert_int_equal(n, b.len);
    assert_memory_equal(text, b.data, n);
    free(text);
    strbuf_fini(&b);
}

/* When one fails: make docs. */
static void printed_files_equal_the_table(void **state)
{
    (void)state;
    assert_file_is_made_by("configs/default.conf", config_defaults);
    assert_file_is_made_by("docs/settings.md", config_settings);
    assert_file_is_made_by("docs/fluxd.1", config_man);
}

/* Every setting and its help stands in every form. */
static void every_setting_is_shown_everywhere(void **state)
{
    (void)state;
    void (*const form[])(struct strbuf *) = {config_help, config_defaults, config_settings, config_man};
    int n;
    const struct setting *s = config_table(&n);
    for (size_t f = 0; f < sizeof form / sizeof *form; f++) {
        struct strbuf b;
        strbuf_init(&b);
        form[f](&b);
        for (int i = 0; i < n; i++) {
            char flag[64], roff[128];
            size_t k = 0;
            config_flag(&s[i], flag);
            for (const char *p = flag; *p; p++) {
                if (*p == '-' && form[f] == config_man) roff[k++] = '\\';
                roff[k++] = *p;
            }
            roff[k] = '\0';
            assert_non_null(strstr(b.data, s[i].kind == KIND_GROUP ? s[i].field : roff));
        }
        assert_null(strstr(b.data, "(null)"));
        strbuf_fini(&b);
    }
}

/* The file that operators copy is valid as it is: no line of it is too long for the reader. */
static void default_conf_can_be_loaded(void **state)
{
    (void)state;
    struct loaded l = load(LIST("--model", "m", "--config", "configs/default.conf"), NULL);
    assert_int_equal(l.e, OK);
    config_fini(&l.c);
}

/* Every line of default.conf without its # is accepted, and changes nothing. */
static void every_default_is_a_valid_value(void **state)
{
    (void)state;
    struct strbuf all, b;
    strbuf_init(&all);
    strbuf_init(&b);
    config_defaults(&all);
    for (char *line = strtok(all.data, "\n"); line; line = strtok(NULL, "\n"))
        if (line[0] == '#' && line[1] != ' ' && strncmp(line, "#model", 6) != 0)
            strbuf_printf(&b, "%s\n", line + 1);
    const char *path = write_file(b.data);
    struct loaded l = load(LIST("--model", "m", "--config", (char *)(uintptr_t)path), NULL),
                  d = load(LIST("--model", "m"), NULL);
    unlink(path);
    assert_int_equal(l.e, OK);
    struct strbuf limits[2];
    strbuf_init(&limits[0]);
    strbuf_init(&limits[1]);
    limits_write(&l.c, &limits[0]);
    limits_write(&d.c, &limits[1]);
    assert_string_equal(limits[0].data, limits[1].data);
    strbuf_fini(&limits[0]);
    strbuf_fini(&limits[1]);
    strbuf_fini(&all);
    strbuf_fini(&b);
    config_fini(&l.c);
    config_fini(&d.c);
}

static void flag_beats_variable_beats_file_beats_default(void **state)
{
    (void)state;
    char *file = (char *)(uintptr_t)write_file(
        "port = 1111\nqueue-len = 2222 ; why\n# a word\nmax-num-seqs = 33\nmodel = from-file\n");
    char **variable = LIST("FLUXD_PORT=4444", "FLUXD_QUEUE_LEN=5555", "HOME=/", "FLUXDX=1",
                           "FLUXD_SERVICE_HOST=10.0.0.1", "FLUXD_SERVICE_PORT_HTTP=8000",
                           "FLUXD_PORT_8000_TCP_ADDR=10.0.0.1", "FLUXD_PORT=tcp://10.0.0.1:8000");
    struct loaded l = load(LIST("--config", file, "--port=7777", "--port=6666"), variable);
    unlink(file);
    assert_int_equal(l.e, OK);
    assert_int_equal(l.c.port, 6666);
    assert_int_equal(l.c.queue_len, 5555);
    assert_int_equal(l.c.max_num_seqs, 33);
    assert_int_equal(l.c.idle_timeout_ms, 120000);
    assert_string_equal(l.c.model, "from-file");
    config_fini(&l.c);
}

static void sizes_take_suffixes(void **state)
{
    (void)state;
    struct loaded l = load(
        LIST("--model", "m", "--kv-pool-bytes", "3G", "--max-header-bytes=17K", "--itl-target-ms", "2.5"),
        NULL);
    assert_int_equal(l.e, OK);
    assert_true(l.c.kv_pool_bytes == INT64_C(3) << 30);
    assert_int_equal(l.c.max_header_bytes, 17 << 10);
    assert_true(l.c.itl_target_ms > 2.49 && l.c.itl_target_ms < 2.51);
    config_fini(&l.c);
}

/* What is wrong is said with the setting's name and where the value came from. */
static void mistakes_are_named(void **state)
{
    (void)state;
    const struct {
        char *flag[6], *variable[2];
        const char *file, *says[3];
    } row[] = {
        {.flag = {"--port", "70000"}, .says = {"--port", "70000", "flag --port"}},
        {.flag = {"--port", "8x"}, .says = {"--port", "8x", "not a whole number"}},
        {.flag = {"--port", ""}, .says = {"--port", "not a whole number"}},
        {.flag = {"--port", " 8"}, .says = {"--port", "not a whole number"}},
        {.flag = {"--port", "99999999999999999999"}, .says = {"--port", "not in"}},
        {.flag = {"--kv-pool-bytes", "9999999999G"}, .says = {"--kv-pool-bytes", "not in"}},
        {.flag = {"--itl-target-ms", "nan"}, .says = {"--itl-target-ms", "not in"}},
        {.flag = {"--prot=1"}, .says = {"command line", "--prot", "did you mean --port?"}},
        {.flag = {"--dtype", "fp16"}, .says = {"--dtype", "fp16", "auto|bf16|f32"}},
        {.flag = {"--dtype", "auto|bf16"}, .says = {"--dtype", "none of"}},
        {.flag = {"--model"}, .says = {"--model", "needs a value"}},
        {.flag = {"model.gguf"}, .says = {"command line", "not a flag"}},
        {.flag = {"--api-key", "x"}, .says = {"--api-key", "FLUXD_API_KEY"}},
        {.flag = {"--port", "1"}, .says = {"--model", "is needed"}},
        {.flag = {"--model", "m", "--prefill-chunk-tokens", "200"},
         .says = {"--prefill-chunk-tokens", "128"}},
        {.flag = {"--model", "m", "--sparse-kind", "none"}, .says = {"--sparse-kind", "triangle"}},
        {.flag = {"--model", "m", "--step-timeout-ms", "20"}, .says = {"--step-timeout-ms", "500"}},
        {.flag = {"--model", "m", "--gpu-memory-utilization", "1.5"}, .says = {"--gpu-memory-utilization"}},
        {.flag = {"--model", "m", "--retrieval-mode", "flex"}, .says = {"--retrieval-mode", "xattn"}},
        {.flag =
             {"--model", "m", "--served-model-name",
              "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"},
         .says = {"--served-model-name", "128"}},
        {.flag = {"--model", "m", "--served-model-name", "\xff"}, .says = {"--served-model-name", "UTF-8"}},
        {.variable = {"FLUXD_PORT=x"}, .says = {"--port", "variable FLUXD_PORT"}},
        {.variable = {"FLUXD_PROT=1"}, .says = {"environment", "FLUXD_PROT", "FLUXD_PORT?"}},
        {.file = "port = x\n", .says = {"--port", "key port in"}},
        {.file = "prot = 1\n", .says = {"--config", "prot", "did you mean port?"}},
        {.file = "port = 1\nport = 2\n", .says = {"--port", "second value"}},
        {.file = "[server]\nport = 1\n", .says = {"--config", "section [server]"}},
        {.file = "port\n", .says = {"--config", "line 1"}},
        {.file =
             "\n\nmodel = "
             "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
             "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\n",
         .says = {"--config", "line 3 is longer"}},
        {.variable = {"FLUXD_CONFIG=/does/not/exist"}, .says = {"--config", "/does/not/exist"}},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char *flag[8] = {NULL};
        int n = 0;
        for (; row[i].flag[n]; n++) flag[n] = row[i].flag[n];
        const char *path = row[i].file ? write_file(row[i].file) : NULL;
        if (path) {
            flag[n++] = (char *)(uintptr_t) "--config";
            flag[n] = (char *)(uintptr_t)path;
        }
        struct loaded l = load(flag, row[i].variable);
        if (path) unlink(path);
        char said[512];
        snprintf(said, sizeof said, "%s: %s", l.note.param, l.note.text);
        assert_int_equal(l.e, ERR_CONFIG);
        for (int k = 0; k < 3 && row[i].says[k]; k++)
            if (!strstr(said, row[i].says[k]))
                fail_msg("row %zu: \"%s\" is not in \"%s\"", i, row[i].says[k], said);
    }
}

static void keys_come_from_file_and_variable(void **state)
{
    (void)state;
    char *file = (char *)(uintptr_t)write_file("# keys\nalpha\r\n\nbeta");
    struct loaded l = load(LIST("--model", "m", "--api-key-file", file), LIST("FLUXD_API_KEY=gamma"));
    unlink(file);
    assert_int_equal(l.e, OK);
    assert_int_equal(l.c.keys.n, 3);
    assert_string_equal(l.c.keys.row[0].key, "alpha");
    assert_string_equal(l.c.keys.row[1].key, "beta");
    assert_string_equal(l.c.keys.row[2].key, "gamma");
    config_fini(&l.c);
}

static void no_mistake_with_keys_opens_the_server(void **state)
{
    (void)state;
    static const char *const text[] = {"", "# only words\n", "with space\n", "caf\xc3\xa9\n"};
    for (int i = 0; i < 4; i++) {
        char *file = (char *)(uintptr_t)write_file(text[i]);
        struct loaded l = load(LIST("--model", "m", "--api-key-file", file), NULL);
        unlink(file);
        assert_int_equal(l.e, ERR_CONFIG);
    }
    assert_int_equal(load(LIST("--model", "m", "--api-key-file", "/does/not/exist"), NULL).e, ERR_CONFIG);
    assert_int_equal(load(LIST("--model", "m"), LIST("FLUXD_API_KEY=")).e, ERR_CONFIG);
}

static void questions_need_no_model(void **state)
{
    (void)state;
    assert_int_equal(load(LIST("--help"), NULL).ask, CONFIG_HELP);
    assert_int_equal(load(LIST("--model", "x", "--version"), NULL).ask, CONFIG_VERSION);
    assert_int_equal(load(LIST("--print-defaults"), NULL).ask, CONFIG_PRINT_DEFAULTS);
    assert_int_equal(load(LIST("--print-settings"), NULL).ask, CONFIG_PRINT_SETTINGS);
    assert_int_equal(load(LIST("--print-man"), NULL).ask, CONFIG_PRINT_MAN);
    struct loaded l = load(LIST("--check-health", "--port", "99"), NULL);
    assert_true(l.e == OK && l.ask == CONFIG_CHECK_HEALTH && l.c.port == 99);
    config_fini(&l.c);
    l = load(LIST("--port", "98", "--check-health"), NULL);
    assert_true(l.e == OK && l.ask == CONFIG_CHECK_HEALTH && l.c.port == 98);
    config_fini(&l.c);
}

/* A word's place in its row is its value; those of --tool-format are the rows of the families' table. */
static void words_are_numbers(void **state)
{
    (void)state;
    struct loaded l =
        load(LIST("--model", "m", "--dtype", "f32", "--sparse-kind=triangle"), LIST("FLUXD_METRICS_OPEN=on"));
    assert_int_equal(l.e, OK);
    assert_int_equal(l.c.dtype, CONFIG_dtype_f32);
    assert_int_equal(l.c.sparse_kind, CONFIG_sparse_kind_triangle);
    assert_int_equal(l.c.metrics_open, CONFIG_metrics_open_on);
    assert_int_equal(l.c.route_policy, CONFIG_route_policy_order);
    assert_int_equal(l.c.vllm_metrics, CONFIG_vllm_metrics_off);
    config_fini(&l.c);
    int n = 0;
    for (const struct tool_format *f = tool_formats; f->name; f++, n++) {
        l = load(LIST("--model", "m", "--tool-format", (char *)(uintptr_t)f->name), NULL);
        assert_int_equal(l.e, OK);
        assert_int_equal(l.c.tool_format, CONFIG_tool_format_auto + 1 + n);
        config_fini(&l.c);
    }
    assert_int_equal(n, CONFIG_tool_format_smollm);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(printed_files_equal_the_table),
        cmocka_unit_test(every_setting_is_shown_everywhere),
        cmocka_unit_test(default_conf_can_be_loaded),
        cmocka_unit_test(every_default_is_a_valid_value),
        cmocka_unit_test(flag_beats_variable_beats_file_beats_default),
        cmocka_unit_test(sizes_take_suffixes),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(words_are_numbers),
        cmocka_unit_test(keys_come_from_file_and_variable),
        cmocka_unit_test(no_mistake_with_keys_opens_the_server),
        cmocka_unit_test(questions_need_no_model),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
