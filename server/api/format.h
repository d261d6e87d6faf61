/* format: what a request says its answer must be (response_format, structured_outputs, guided_*), checked as
 * far as no vocabulary is needed. Pure; any thread. */
#ifndef FLUXD_SERVER_API_FORMAT_H
#define FLUXD_SERVER_API_FORMAT_H

#include "server/api/constraint.h"
#include "server/json/in.h"

/* The fields of a body that say so. Memory is the json_in's. */
struct format_fields {
    const cJSON *response_format, *structured;
    struct json_any json; /* guided_json */
    struct json_str regex, grammar;
    const cJSON *choice;
    const cJSON *text, *output; /* of other dialects: objects whose member "format" says so */
};

struct format {
    enum constraint_kind kind; /* CONSTRAINT_NONE: whatever the model says */
    enum grammar_kind body;
    const char *text; /* [n] of the schema and so on: a part of the body, or the json_in's */
    size_t n;
    char name[64];      /* of the field that it stands in */
    bool no_free_space; /* --schema-whitespace any is not for this one */
};

/* At most one of all fields may constrain the answer. */
enum err format_read(struct format *f, const struct format_fields *from, struct json_in *in);

/* For a description: the tables of the objects. */
extern const struct json_row format_response_rows[], format_structured_rows[];

#endif
