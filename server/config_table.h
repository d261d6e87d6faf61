/* config_table: one row for each setting, made from config.def. Private to config.c, which reads values, and
 * config_show.c, which prints the table for people. Constant; any thread. */
#ifndef FLUXD_SERVER_CONFIG_TABLE_H
#define FLUXD_SERVER_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum kind { KIND_GROUP, KIND_TEXT, KIND_WORD, KIND_INT, KIND_SIZE, KIND_REAL };

struct setting {
    enum kind kind;
    bool limit;
    const char *field; /* or the group's title */
    size_t at;         /* in struct config */
    const char *unit, *def, *words;
    double min, max;
    const char *help;
};

const struct setting *config_table(int *n);
void config_flag(const struct setting *s, char name[64]);     /* a_b -> a-b */
void config_variable(const struct setting *s, char name[64]); /* a_b -> FLUXD_A_B */

#endif
