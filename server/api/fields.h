/* fields: how tables of fields are written, and those that stand in files of their own. Pure. */
#ifndef FLUXD_SERVER_API_FIELDS_H
#define FLUXD_SERVER_API_FIELDS_H

#include <math.h>

#include "server/api/params.h"

/* A row of the tables: F(name, type, member, more members of the row ...). */
#define F(field, kind, member, ...)                                                                          \
    {                                                                                                        \
        .name = field, .type = kind, JSON_AT(struct params, member), __VA_ARGS__                             \
    }
#define CHECKED(field, kind, ...)                                                                            \
    {                                                                                                        \
        .name = field, .type = kind, .flags = JSON_NO_TARGET, __VA_ARGS__                                    \
    }
#define IGNORED(field)                                                                                       \
    {                                                                                                        \
        .name = field, .type = JSON_IGNORE                                                                   \
    }
#define REJECTED(field, ...)                                                                                 \
    {                                                                                                        \
        .name = field, .type = JSON_REJECT, .neutral = NAN, __VA_ARGS__                                      \
    } /* no number asks for nothing */
#define REJECTED_BUT(field, number)                                                                          \
    {                                                                                                        \
        .name = field, .type = JSON_REJECT, .neutral = number                                                \
    } /* this one does */

extern const struct json_row messages_fields[]; /* POST /v1/messages, but for max_tokens: */
extern const struct json_row max_tokens_field[], max_tokens_option[]; /* required; not so, to count tokens */
extern const struct json_row responses_fields[];                      /* POST /v1/responses */
extern const struct json_row extension_fields[];                      /* ours, in both */

#endif
