/* config: what the operator set. Flag > FLUXD_* environment > configuration file > default, all from
 * config.def. Read-only after config_load; any thread. */
#ifndef FLUXD_SERVER_CONFIG_H
#define FLUXD_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "server/http/account.h"

struct json_out;

enum { MODEL_ID_BYTES = 128 }; /* the name that clients use, with its NUL */

/* Words of settings, CONFIG_<field>_<word> as they are written: what config.def says, once. */
#define GROUP(title)
#define TEXT(field, def, help)
#define W(field, word)                CONFIG_##field##_##word,
#define WORD(field, def, words, help) enum config_##field{words};
#define INT(field, unit, def, min, max, help)
#define SIZE(field, unit, def, min, max, help)
#define REAL(field, unit, def, min, max, help)
#define LIMIT_INT  INT
#define LIMIT_SIZE SIZE
#include "server/config.def"
#undef TEXT
#undef W
#undef WORD
#undef INT
#undef SIZE
#undef REAL

struct config {
#define TEXT(field, def, help)                 char *field;
#define WORD(field, def, words, help)          enum config_##field field;
#define INT(field, unit, def, min, max, help)  int64_t field;
#define SIZE(field, unit, def, min, max, help) int64_t field;
#define REAL(field, unit, def, min, max, help) double field;
#include "server/config.def"
#undef GROUP
#undef TEXT
#undef WORD
#undef INT
#undef SIZE
#undef REAL
#undef LIMIT_INT
#undef LIMIT_SIZE
    char *write_tokenizer; /* folder of --write-tokenizer, or NULL */
    struct key_list keys;  /* from --api-key-file, then FLUXD_API_KEY */
};

enum config_ask {
    CONFIG_SERVE,
    CONFIG_HELP,
    CONFIG_VERSION,
    CONFIG_PRINT_DEFAULTS,
    CONFIG_PRINT_SETTINGS,
    CONFIG_PRINT_MAN,
    CONFIG_CHECK_HEALTH,
    CONFIG_WRITE_TOKENIZER
};

/* Reads all sources. environ ends with NULL. ERR_CONFIG: note.param names the setting, note.text says what is
 * wrong and where it came from. *ask tells what else the command line wants; then nothing but that has been
 * read. */
enum err config_load(struct config *c, enum config_ask *ask, int argc, char *const *argv,
                     char *const *environ, struct err_note *note);
void config_fini(struct config *c); /* fine on a config that failed to load */

void config_help(struct strbuf *out);     /* --help */
void config_defaults(struct strbuf *out); /* configs/default.conf */
void config_settings(struct strbuf *out); /* docs/settings.md */
void config_man(struct strbuf *out);      /* docs/fluxd.1 */
void config_limits(const struct config *c,
                   struct json_out *o); /* objects for /v1/limits, in the array that is open */

#endif
