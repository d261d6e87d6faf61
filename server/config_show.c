/* config_show: the table of settings for people: --help, configs/default.conf, docs/settings.md and the man
 * page. A test holds the three files equal to what is printed here. */
#include "server/config.h"

#include <string.h>

#include "server/config_table.h"

static const char usage[] = "fluxd --model PATH [--name value | --name=value]...";

/* What a command line can ask for instead of serving. */
static const struct {
    const char *flag, *help;
} command[] = {
    {"--check-health [--host A] [--port N]", "exit with 0 if the server there is healthy and ready"},
    {"--write-tokenizer DIR --model PATH",
     "write the model's tokenizer as a Hugging Face folder, for clients that want one"},
    {"--help", "print every setting"},
    {"--version", "print the version"},
    {"--print-defaults", "print a configuration file with every default"},
    {"--print-settings", "print the table of settings as Markdown"},
    {"--print-man", "print the man page"},
};
enum { N_COMMAND = sizeof command / sizeof *command };

static const char *def_of(const struct setting *s) { return *s->def ? s->def : "none"; }

/* Bounds of a number, with its unit. */
static void put_bounds(struct strbuf *out, const struct setting *s)
{
    if (s->max < 9e18)
        strbuf_printf(out, "%.15g..%.15g", s->min, s->max);
    else
        strbuf_printf(out, "from %.15g", s->min);
    if (*s->unit) strbuf_printf(out, " %s", s->unit);
}

static bool is_number(const struct setting *s)
{
    return s->kind == KIND_INT || s->kind == KIND_REAL || s->kind == KIND_SIZE;
}

/* "[default; bounds]" */
static void put_range(struct strbuf *out, const struct setting *s)
{
    strbuf_printf(out, "[%s", def_of(s));
    if (s->kind == KIND_WORD) strbuf_printf(out, "; %s", s->words);
    if (is_number(s)) strbuf_puts(out, "; "), put_bounds(out, s);
    strbuf_puts(out, "]");
}

void config_help(struct strbuf *out)
{
    strbuf_printf(
        out,
        "fluxd: an OpenAI-compatible inference server with attention routed per request and layer\n\n"
        "usage: %s\n",
        usage);
    for (int i = 0; i < N_COMMAND; i++)
        strbuf_printf(out, "       fluxd %-38s %s\n", command[i].flag, command[i].help);
    strbuf_puts(
        out, "\nA flag --a-b is also the variable FLUXD_A_B, and the key a-b in the file that --config or\n"
             "FLUXD_CONFIG names. Flag > environment > file > default. Sizes take K, M or G.\n");
    int n;
    const struct setting *s = config_table(&n);
    for (int i = 0; i < n; i++, s++) {
        char flag[64];
        if (s->kind == KIND_GROUP) {
            strbuf_printf(out, "\n%s\n", s->field);
            continue;
        }
        config_flag(s, flag);
        strbuf_printf(out, "  --%-24s %s\n  %-26s ", flag, s->help, "");
        put_range(out, s);
        strbuf_puts(out, "\n");
    }
}

/* Lines of a comment, cut at blanks: the file's reader takes no long ones. */
static void put_comment(struct strbuf *out, const char *text)
{
    enum { COLUMNS = 110 };
    while (*text) {
        size_t n = strlen(text), cut = n;
        if (n > COLUMNS)
            for (cut = COLUMNS; cut > 0 && text[cut] != ' ';) cut--;
        if (cut == 0) cut = strcspn(text, " ");
        strbuf_printf(out, "# %.*s\n", (int)cut, text);
        text += cut + strspn(text + cut, " ");
    }
}

void config_defaults(struct strbuf *out)
{
    strbuf_puts(
        out,
        "# Every setting of fluxd with its default. A line without # takes effect: fluxd --config FILE.\n"
        "# This file is made by: fluxd --print-defaults\n");
    int n;
    const struct setting *s = config_table(&n);
    for (int i = 0; i < n; i++, s++) {
        char flag[64];
        if (s->kind == KIND_GROUP) {
            strbuf_printf(out, "\n# --- %s\n", s->field);
            continue;
        }
        config_flag(s, flag);
        struct strbuf said;
        strbuf_init(&said);
        strbuf_printf(&said, "%s ", s->help);
        put_range(&said, s);
        strbuf_puts(out, "\n");
        if (said.data) put_comment(out, said.data);
        strbuf_fini(&said);
        strbuf_printf(out, "#%s = %s\n", flag, s->def);
    }
}

/* --- Markdown */

/* Text in a cell of a table. */
static void put_cell(struct strbuf *out, const char *text)
{
    for (; *text; text++) strbuf_printf(out, strchr("|<*_", *text) ? "\\%c" : "%c", *text);
}

/* "a|b" as "`a`, `b`" */
static void put_words(struct strbuf *out, const char *words)
{
    for (;;) {
        int n = (int)strcspn(words, "|");
        strbuf_printf(out, "`%.*s`", n, words);
        words += n;
        if (!*words++) return;
        strbuf_puts(out, ", ");
    }
}

void config_settings(struct strbuf *out)
{
    strbuf_puts(
        out,
        "# Settings\n\n"
        "Made from `server/config.def` by `fluxd --print-settings`; a test holds both equal.\n\n"
        "A setting `a-b` is the flag `--a-b`, the variable `FLUXD_A_B` and the key `a-b` of the file that\n"
        "`--config` or `FLUXD_CONFIG` names. The first of flag, variable, file and default that names it counts.\n"
        "Sizes take K, M or G (times 1024). Settings in **bold** are limits: `GET /v1/limits` shows them.\n");
    int n;
    const struct setting *s = config_table(&n);
    for (int i = 0; i < n; i++, s++) {
        char flag[64];
        if (s->kind == KIND_GROUP) {
            strbuf_printf(out, "\n## %s\n\n| setting | default | values | meaning |\n|---|---|---|---|\n",
                          s->field);
            continue;
        }
        config_flag(s, flag);
        strbuf_printf(out, s->limit ? "| **`%s`** | %s | " : "| `%s` | %s | ", flag, def_of(s));
        if (s->kind == KIND_WORD) put_words(out, s->words);
        if (s->kind == KIND_TEXT) strbuf_puts(out, "text");
        if (is_number(s)) put_bounds(out, s);
        strbuf_puts(out, " | ");
        put_cell(out, s->help);
        strbuf_puts(out, " |\n");
    }
}

/* --- man */

/* Text of a man page: what troff would read as its own is escaped. */
static void put_roff(struct strbuf *out, const char *text)
{
    if (*text == '.' || *text == '\'') strbuf_puts(out, "\\&");
    for (; *text; text++)
        if (*text == '-')
            strbuf_puts(out, "\\-");
        else if (*text == '\\')
            strbuf_puts(out, "\\e");
        else
            strbuf_printf(out, "%c", *text);
}

static void put_item(struct strbuf *out, const char *head, const char *flag, const char *text)
{
    strbuf_printf(out, ".TP\n%s", head);
    put_roff(out, flag);
    strbuf_puts(out, "\n");
    put_roff(out, text);
    strbuf_puts(out, "\n");
}

static const char man_head[] =
    ".\\\" Made from server/config.def by: fluxd \\-\\-print\\-man\n"
    ".TH FLUXD 1\n"
    ".SH NAME\n"
    "fluxd \\- OpenAI\\-compatible inference server with attention routed per request and layer\n"
    ".SH SYNOPSIS\n"
    ".B fluxd\n"
    "\\-\\-model PATH [\\-\\-NAME VALUE | \\-\\-NAME=VALUE]...\n"
    ".SH DESCRIPTION\n"
    "fluxd loads one language model and answers completions and chat completions over HTTP, on a GPU or on the\n"
    "CPU. A setting \\-\\-a\\-b is also the variable FLUXD_A_B and the key a\\-b of the file that \\-\\-config\n"
    "or FLUXD_CONFIG names. The first of flag, variable, file and default that names it counts. Sizes take K, M\n"
    "or G.\n"
    ".SH COMMANDS\n";

static const char man_tail[] =
    ".SH EXIT STATUS\n"
    ".TP\n0\nclean end\n"
    ".TP\n2\nusage or configuration\n"
    ".TP\n3\nmodel files\n"
    ".TP\n4\nsocket\n"
    ".TP\n70\ndevice or internal failure, or too few threads or open files allowed\n"
    ".SH SIGNALS\n"
    "SIGTERM and SIGINT end the server after running answers are sent; the second one ends it at once.\n"
    "SIGHUP reads the file of API keys again.\n";

void config_man(struct strbuf *out)
{
    strbuf_puts(out, man_head);
    for (int i = 0; i < N_COMMAND; i++) put_item(out, ".B ", command[i].flag, command[i].help);
    int n;
    const struct setting *s = config_table(&n);
    for (int i = 0; i < n; i++, s++) {
        char flag[64];
        if (s->kind == KIND_GROUP) {
            strbuf_printf(out, ".SH SETTINGS: %s\n", s->field);
            continue;
        }
        config_flag(s, flag);
        put_item(out, ".B \\-\\-", flag, s->help);
        struct strbuf range;
        strbuf_init(&range);
        put_range(&range, s);
        if (range.data) strbuf_puts(out, ".br\n"), put_roff(out, range.data), strbuf_puts(out, "\n");
        strbuf_fini(&range);
    }
    strbuf_puts(out, man_tail);
}
