/* chat_value: JSON as values of chat templates. Strings come from outside. Pure; any thread. */
#ifndef FLUXD_SERVER_API_CHAT_VALUE_H
#define FLUXD_SERVER_API_CHAT_VALUE_H

#include "server/jinja/jinja.h"
#include "server/json/in.h"

struct chat_values {
    struct arena *mem;
    struct json_in *in; /* the request that nodes are from */
    bool too_wide;      /* an integer of more than 64 bits was met: it would not be told as it was sent */
};

/* A node of the request's tree. NULL: out of memory. The scan bounds the depth. */
struct tmpl_value *chat_value(struct chat_values *v, const cJSON *node);
/* A JSON object as a text: numbers as they stand, keys in their order. NULL: the text is none (a duplicate
 * key, an integer of more than 64 bits, or not an object), or out of memory. */
struct tmpl_value *chat_value_parse(struct arena *mem, const char *json, size_t n);

#endif
