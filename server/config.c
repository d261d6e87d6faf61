/* config: settings from flags, environment, file and defaults, by one table. Loop thread, at start. */
#include "server/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/distance.h"
#include "server/config_table.h"
#include "server/http/origin.h"
#include "server/http/peer.h"
#include "server/http/place.h"
#include "server/json/out.h"
#include "server/key_file.h"
#include "base/utf8.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    INI_LINE_MAX = 198 /* the reader's line is 200 with its end */
};

#define AT(field) offsetof(struct config, field)
#define ROW_NUMBER(k, lim, f, u, d, lo, hi, h)                                                               \
    {.kind = (k),                                                                                            \
     .limit = (lim),                                                                                         \
     .field = #f,                                                                                            \
     .at = AT(f),                                                                                            \
     .unit = (u),                                                                                            \
     .def = (d),                                                                                             \
     .min = (double)(lo),                                                                                    \
     .max = (double)(hi),                                                                                    \
     .help = (h)},
static const struct setting setting[] = {
#define GROUP(title)  {.kind = KIND_GROUP, .field = (title)},
#define TEXT(f, d, h) {.kind = KIND_TEXT, .field = #f, .at = AT(f), .unit = "", .def = (d), .help = (h)},
#define W(f, w)       "|" #w
#define WORD(f, d, w, h)                                                                                     \
    {.kind = KIND_WORD, .field = #f, .at = AT(f), .unit = "", .def = (d), .words = "" w + 1, .help = (h)},
#define INT(f, u, d, lo, hi, h)        ROW_NUMBER(KIND_INT, false, f, u, d, lo, hi, h)
#define SIZE(f, u, d, lo, hi, h)       ROW_NUMBER(KIND_SIZE, false, f, u, d, lo, hi, h)
#define REAL(f, u, d, lo, hi, h)       ROW_NUMBER(KIND_REAL, false, f, u, d, lo, hi, h)
#define LIMIT_INT(f, u, d, lo, hi, h)  ROW_NUMBER(KIND_INT, true, f, u, d, lo, hi, h)
#define LIMIT_SIZE(f, u, d, lo, hi, h) ROW_NUMBER(KIND_SIZE, true, f, u, d, lo, hi, h)
#include "server/config.def"
};
enum { N_SETTING = sizeof setting / sizeof *setting };

const struct setting *config_table(int *n)
{
    *n = N_SETTING;
    return setting;
}

enum source { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

struct loader {
    struct config *config;
    struct err_note *note;
    enum source from[N_SETTING];
    const char *file;
    enum err err;
};

/* --- names */

void config_flag(const struct setting *s, char name[64])
{
    size_t i = 0;
    for (; s->field[i]; i++) name[i] = s->field[i] == '_' ? '-' : s->field[i];
    name[i] = '\0';
}

void config_variable(const struct setting *s, char name[64])
{
    size_t n = (size_t)snprintf(name, 64, "FLUXD_");
    for (size_t i = 0; s->field[i]; i++) name[n++] = (char)toupper((unsigned char)s->field[i]);
    name[n] = '\0';
}

/* Name of n characters, with '-' between words. */
static int find_flag(const char *p, size_t n)
{
    for (int i = 0; i < N_SETTING; i++) {
        if (setting[i].kind == KIND_GROUP) continue;
        char name[64];
        config_flag(&setting[i], name);
        if (strlen(name) == n && !memcmp(name, p, n)) return i;
    }
    return -1;
}

/* " (did you mean --x?)", or "" when nothing is near. */
static const char *hint(const char *p, size_t n, void (*name_of)(const struct setting *, char[64]),
                        const char *before, char out[96])
{
    int best = 4;
    out[0] = '\0';
    for (int i = 0; i < N_SETTING; i++) {
        char name[64];
        if (setting[i].kind == KIND_GROUP) continue;
        name_of(&setting[i], name);
        int d = distance(p, n, name, strlen(name));
        if (d >= best) continue;
        best = d;
        snprintf(out, 96, " (did you mean %s%s?)", before, name);
    }
    return out;
}

/* --- values */

static enum err refuse(struct loader *l, int i, const char *value, const char *why)
{
    char flag[64], variable[64], from[160];
    config_flag(&setting[i], flag);
    config_variable(&setting[i], variable);
    switch (l->from[i]) {
    case FROM_FILE:
        snprintf(from, sizeof from, "key %s in %.80s", flag, l->file);
        break;
    case FROM_ENVIRONMENT:
        snprintf(from, sizeof from, "variable %s", variable);
        break;
    case FROM_FLAG:
        snprintf(from, sizeof from, "flag --%s", flag);
        break;
    case FROM_DEFAULT:
        snprintf(from, sizeof from, "default");
        break;
    }
    char name[72];
    snprintf(name, sizeof name, "--%s", flag);
    return err_set(l->note, ERR_CONFIG, name, "\"%.60s\" %s (from %s)", value, why, from);
}

/* Which of the words it is; -1: none. */
static int word_index(const char *value, const char *words)
{
    const size_t n = strlen(value);
    for (int i = 0;; i++) {
        const size_t len = strcspn(words, "|");
        if (len == n && !memcmp(words, value, n)) return i;
        if (!words[len]) return -1;
        words += len + 1;
    }
}

static enum err put_word(struct loader *l, int i, const char *value)
{
    char why[192];
    const int at = word_index(value, setting[i].words);
    if (at >= 0) {
        memcpy((char *)l->config + setting[i].at, &at, sizeof at); /* an enum, which is as wide as an int */
        return OK;
    }
    snprintf(why, sizeof why, "is none of %s", setting[i].words);
    return refuse(l, i, value, why);
}

/* Digits, for a size perhaps K, M or G. False: not a number. Too large for 64 bits counts as out of bounds.
 */
static bool read_whole(const char *value, bool size, double *approx, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || isspace((unsigned char)*value) || *value == '+') return false;
    int shift = 0;
    if (size && *end && strchr("KMG", *end)) shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 30, end++;
    if (*end) return false;
    bool over = errno == ERANGE || v > INT64_MAX >> shift || v < INT64_MIN >> shift;
    *approx = over ? (v > 0 ? 1e300 : -1e300) : (double)v * (double)(INT64_C(1) << shift);
    *out = over ? 0 : v * (INT64_C(1) << shift);
    return true;
}

static enum err put_number(struct loader *l, int i, const char *value)
{
    const struct setting *s = &setting[i];
    double approx = 0;
    int64_t whole = 0;
    if (s->kind == KIND_REAL) {
        char *end;
        approx = strtod(value, &end);
        if (end == value || *end || isspace((unsigned char)*value))
            return refuse(l, i, value, "is not a number");
    } else if (!read_whole(value, s->kind == KIND_SIZE, &approx, &whole)) {
        return refuse(l, i, value,
                      s->kind == KIND_SIZE ? "is not a whole number of bytes, like 1048576 or 64M"
                                           : "is not a whole number");
    }
    if (!(approx >= s->min && approx <= s->max)) {
        char why[96];
        snprintf(why, sizeof why, "is not in %.15g..%.15g", s->min, s->max);
        return refuse(l, i, value, why);
    }
    char *field = (char *)l->config + s->at;
    if (s->kind == KIND_REAL)
        *(double *)(void *)field = approx;
    else
        *(int64_t *)(void *)field = whole;
    return OK;
}

static enum err put(struct loader *l, int i, const char *value)
{
    const struct setting *s = &setting[i];
    if (s->kind == KIND_INT || s->kind == KIND_SIZE || s->kind == KIND_REAL) return put_number(l, i, value);
    if (s->kind == KIND_WORD) return put_word(l, i, value);
    char **field = (char **)(void *)((char *)l->config + s->at), *copy = strdup(value);
    if (!copy) return err_set(l->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    free(*field);
    *field = copy;
    return OK;
}

/* A value counts when nothing of a higher rank has set the same. Of flags the last one counts, so that a
 * command line can be added to; twice in the file is a mistake. */
static enum err offer(struct loader *l, int i, const char *value, enum source from)
{
    if (l->from[i] == from && from == FROM_FILE)
        return refuse(l, i, value, "is a second value for one setting");
    if (l->from[i] > from) return OK;
    l->from[i] = from;
    return put(l, i, value);
}

/* --- sources */

static enum err read_file(const char *path, const char *what, char **out, struct err_note *note)
{
    FILE *f = fopen(path, "re");
    if (!f) return err_set(note, ERR_CONFIG, what, "cannot open %.150s: %s", path, strerror(errno));
    char *text = calloc(1, FILE_BYTES_MAX + 2);
    size_t n = text ? fread(text, 1, FILE_BYTES_MAX + 1, f) : 0;
    bool bad = !text || ferror(f) != 0;
    fclose(f);
    if (!bad && n <= FILE_BYTES_MAX && !memchr(text, '\0', n)) {
        *out = text;
        return OK;
    }
    free(text);
    return err_set(note, ERR_CONFIG, what, "%.150s is not a text file of at most %d bytes", path,
                   FILE_BYTES_MAX);
}

static int on_file_key(void *arg, const char *section, const char *name, const char *value)
{
    struct loader *l = arg;
    char near[96];
    if (l->err) return 1;
    if (*section) {
        l->err = err_set(l->note, ERR_CONFIG, "--config",
                         "%.150s has a section [%.40s]; there are no sections", l->file, section);
        return 1;
    }
    int i = find_flag(name, strlen(name));
    if (i < 0)
        l->err = err_set(l->note, ERR_CONFIG, "--config", "%.120s: no setting is called \"%.40s\"%s", l->file,
                         name, hint(name, strlen(name), config_flag, "", near));
    else
        l->err = offer(l, i, value, FROM_FILE);
    return 1;
}

static enum err load_file(struct loader *l, const char *path)
{
    char *text = NULL;
    enum err e = read_file(path, "--config", &text, l->note);
    if (e) return e;
    l->file = path;
    int line = 1;
    for (const char *p = text; *p && !e; line++) {
        size_t n = strcspn(p, "\n");
        if (n > INI_LINE_MAX)
            e = err_set(l->note, ERR_CONFIG, "--config", "%.150s line %d is longer than %d bytes", path, line,
                        INI_LINE_MAX);
        p += n + (p[n] == '\n');
    }
    if (!e) {
        int bad = ini_parse_string(text, on_file_key, l);
        e = l->err;
        if (!e && bad != 0)
            e = err_set(l->note, ERR_CONFIG, "--config", "%.150s line %d is not \"key = value\"", path, bad);
    }
    free(text);
    return e;
}

static bool starts_with(const char *s, const char *head) { return !strncmp(s, head, strlen(head)); }

/* Kubernetes gives every container variables about the services of its namespace: FLUXD_SERVICE_HOST,
 * FLUXD_SERVICE_PORT..., FLUXD_PORT_8000_TCP... and FLUXD_PORT=tcp://10.0.0.1:8000 where one is called fluxd.
 * They are nobody's settings. */
static bool is_service_link(const char *variable)
{
    return starts_with(variable, "FLUXD_SERVICE_HOST=") || starts_with(variable, "FLUXD_SERVICE_PORT") ||
           starts_with(variable, "FLUXD_PORT_") ||
           (starts_with(variable, "FLUXD_PORT=") && strstr(variable, "://"));
}

/* FLUXD_CONFIG and FLUXD_API_KEY are no rows of the table. */
static enum err load_environment(struct loader *l, char *const *environ)
{
    for (; *environ; environ++) {
        const char *eq = strchr(*environ, '=');
        if (!eq || !starts_with(*environ, "FLUXD_") || is_service_link(*environ)) continue;
        if (starts_with(*environ, "FLUXD_CONFIG=") || starts_with(*environ, "FLUXD_API_KEY=")) continue;
        size_t n = (size_t)(eq - *environ);
        int i = 0;
        for (; i < N_SETTING; i++) {
            char name[64];
            if (setting[i].kind == KIND_GROUP) continue;
            config_variable(&setting[i], name);
            if (strlen(name) == n && !memcmp(name, *environ, n)) break;
        }
        char near[96];
        if (i == N_SETTING)
            return err_set(l->note, ERR_CONFIG, "environment", "no setting belongs to the variable %.*s%s",
                           (int)(n < 60 ? n : 60), *environ, hint(*environ, n, config_variable, "", near));
        enum err e = offer(l, i, eq + 1, FROM_ENVIRONMENT);
        if (e) return e;
    }
    return OK;
}

static const char *variable(char *const *environ, const char *name)
{
    size_t n = strlen(name);
    for (; *environ; environ++)
        if (!strncmp(*environ, name, n) && (*environ)[n] == '=') return *environ + n + 1;
    return NULL;
}

static enum err take_folder(struct loader *l, const char *folder)
{
    if (!folder || !*folder) return err_set(l->note, ERR_CONFIG, "--write-tokenizer", "needs a folder");
    free(l->config->write_tokenizer);
    l->config->write_tokenizer = strdup(folder);
    return l->config->write_tokenizer ? OK : err_set(l->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
}

/* --name value or --name=value. */
static enum err load_flags(struct loader *l, int argc, char *const *argv, const char **file)
{
    for (int a = 1; a < argc; a++) {
        const char *arg = argv[a];
        char near[96];
        if (!strcmp(arg, "--check-health")) continue;
        if (!strcmp(arg, "--write-tokenizer")) {
            enum err e = take_folder(l, argv[++a]);
            if (e) return e;
            continue;
        }
        if (!starts_with(arg, "--"))
            return err_set(l->note, ERR_CONFIG, "command line",
                           "\"%.60s\" is not a flag (a model is given as --model PATH)", arg);
        size_t n = strcspn(arg + 2, "=");
        bool is_config = n == 6 && !memcmp(arg + 2, "config", 6);
        int i = is_config ? 0 : find_flag(arg + 2, n);
        const char *value = arg[2 + n] == '=' ? arg + 2 + n + 1 : a + 1 < argc ? argv[a + 1] : NULL;
        if (i < 0 && n == 7 && !memcmp(arg + 2, "api-key", 7))
            return err_set(
                l->note, ERR_CONFIG, "--api-key",
                "a key on the command line is seen by every user: use --api-key-file or FLUXD_API_KEY");
        if (i < 0)
            return err_set(l->note, ERR_CONFIG, "command line", "no flag is called \"%.60s\"%s", arg,
                           hint(arg + 2, n, config_flag, "--", near));
        if (!value) return err_set(l->note, ERR_CONFIG, arg, "needs a value");
        if (arg[2 + n] != '=') a++;
        enum err e = OK;
        if (is_config)
            *file = value;
        else
            e = offer(l, i, value, FROM_FLAG);
        if (e) return e;
    }
    return OK;
}

/* --- all together */

static enum err check_whole(const struct config *c, struct err_note *note)
{
    if (!*c->model)
        return err_set(note, ERR_CONFIG, "--model", "is needed: a GGUF file or a model directory");
    if (strlen(c->served_model_name) >= MODEL_ID_BYTES ||
        !utf8_valid(c->served_model_name, strlen(c->served_model_name)))
        return err_set(note, ERR_CONFIG, "--served-model-name", "must be UTF-8 of fewer than %d bytes",
                       MODEL_ID_BYTES);
    if (c->prefill_chunk_tokens % 128)
        return err_set(note, ERR_CONFIG, "--prefill-chunk-tokens", "%lld is not a multiple of 128",
                       (long long)c->prefill_chunk_tokens);
    if (c->step_timeout_ms && c->step_timeout_ms < 500)
        return err_set(note, ERR_CONFIG, "--step-timeout-ms",
                       "must be 0 or at least 500 ms: so long the engine may rest between steps");
    if (c->max_bodies_bytes < c->max_body_bytes)
        return err_set(note, ERR_CONFIG, "--max-bodies-bytes", "is smaller than --max-body-bytes");
    if (c->client_bodies_bytes && c->client_bodies_bytes < c->max_body_bytes)
        return err_set(note, ERR_CONFIG, "--client-bodies-bytes",
                       "is smaller than --max-body-bytes; 0 is half of --max-bodies-bytes");
    enum err e = place_check_list(c->host, note);
    if (!e) e = place_check_mode(c->socket_mode, note);
    struct peer_nets nets;
    if (!e) e = peer_nets_read(&nets, c->trusted_proxies, note);
    if (!e) e = origin_check_hosts(c->allowed_hosts, note);
    return e ? e : origin_check_pages(c->cors_origins, note);
}

static bool asked(int argc, char *const *argv, const char *flag)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], flag)) return true;
    return false;
}

enum err config_load(struct config *c, enum config_ask *ask, int argc, char *const *argv,
                     char *const *environ, struct err_note *note)
{
    memset(c, 0, sizeof *c);
    *ask = asked(argc, argv, "--help") || asked(argc, argv, "-h") ? CONFIG_HELP
           : asked(argc, argv, "--version")                       ? CONFIG_VERSION
           : asked(argc, argv, "--print-defaults")                ? CONFIG_PRINT_DEFAULTS
           : asked(argc, argv, "--print-settings")                ? CONFIG_PRINT_SETTINGS
           : asked(argc, argv, "--print-man")                     ? CONFIG_PRINT_MAN
           : asked(argc, argv, "--check-health")                  ? CONFIG_CHECK_HEALTH
           : asked(argc, argv, "--write-tokenizer")               ? CONFIG_WRITE_TOKENIZER
                                                                  : CONFIG_SERVE;
    if (*ask != CONFIG_SERVE && *ask != CONFIG_CHECK_HEALTH && *ask != CONFIG_WRITE_TOKENIZER) return OK;

    struct loader l = {.config = c, .note = note};
    const char *file = variable(environ, "FLUXD_CONFIG");
    enum err e = OK;
    for (int i = 0; i < N_SETTING && !e; i++)
        if (setting[i].kind != KIND_GROUP) e = put(&l, i, setting[i].def);
    if (!e) e = load_flags(&l, argc, argv, &file);
    if (!e) e = load_environment(&l, environ);
    if (!e && file) e = load_file(&l, file);
    if (!e && *ask != CONFIG_CHECK_HEALTH) e = check_whole(c, note);
    if (!e && *ask == CONFIG_SERVE)
        e = key_file_read(&c->keys, c->api_key_file, variable(environ, "FLUXD_API_KEY"), note);
    if (e) config_fini(c);
    return e;
}

void config_fini(struct config *c)
{
    for (int i = 0; i < N_SETTING; i++)
        if (setting[i].kind == KIND_TEXT) free(*(char **)(void *)((char *)c + setting[i].at));
    key_list_free(&c->keys);
    free(c->write_tokenizer);
    memset(c, 0, sizeof *c);
}

void config_limits(const struct config *c, struct json_out *o)
{
    for (int i = 0; i < N_SETTING; i++) {
        const struct setting *s = &setting[i];
        if (!s->limit) continue;
        char flag[64];
        int64_t def = 0;
        double approx;
        CHECK(read_whole(s->def, true, &approx, &def));
        config_flag(s, flag);
        json_out_object(o, NULL);
        json_out_text(o, "name", s->field);
        json_out_text(o, "key", flag); /* the flag without its --, and the key in the file */
        json_out_int(o, "value", *(const int64_t *)(const void *)((const char *)c + s->at));
        json_out_int(o, "default", def);
        json_out_text(o, "unit", s->unit);
        json_out_text(o, "meaning", s->help);
        json_out_end(o);
    }
}
