/* out: a streaming JSON writer into a strbuf. Commas and nesting are its business; strings may hold any bytes
 * (ill-formed UTF-8 becomes U+FFFD). Nothing here fails but the strbuf, whose failure is sticky. One owner.
 *
 *     struct json_out o;
 *     json_out_init(&o, &buf);
 *     json_out_object(&o, NULL);                           {
 *     json_out_text(&o, "object", "text_completion");        "object":"text_completion",
 *     json_out_int(&o, "created", clock_wall_s());           "created":1764000000,
 *     json_out_array(&o, "choices");                         "choices":[
 *     json_out_object(&o, NULL);                               {
 *     json_out_string(&o, "text", p, n);                         "text":"...",
 *     json_out_null(&o, "finish_reason");                        "finish_reason":null
 *     json_out_end(&o);                                        }
 *     json_out_end(&o);                                      ]
 *     json_out_end(&o);                                    }
 *
 * key: the member's name inside an object, NULL inside an array and at the top. A wrong one is a bug and is
 * CHECKed. */
#ifndef FLUXD_SERVER_JSON_OUT_H
#define FLUXD_SERVER_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"

enum { JSON_OUT_DEPTH_MAX = 64 };

struct json_out {
    struct strbuf *buf;
    int depth;
    uint64_t is_object, has_items; /* a bit per open container, the outermost lowest */
};

void json_out_init(struct json_out *o, struct strbuf *buf); /* appends to buf */

void json_out_object(struct json_out *o, const char *key);
void json_out_array(struct json_out *o, const char *key);
void json_out_end(struct json_out *o); /* closes the innermost object or array */

void json_out_string(struct json_out *o, const char *key, const char *s, size_t n); /* s may hold NUL bytes */
void json_out_text(struct json_out *o, const char *key, const char *s); /* NUL-terminated; NULL writes null */
void json_out_bool(struct json_out *o, const char *key, bool v);
void json_out_null(struct json_out *o, const char *key);
void json_out_int(struct json_out *o, const char *key, int64_t v);
void json_out_uint(struct json_out *o, const char *key, uint64_t v);
/* Finite. Floats: 9 digits: equal ones print equally and read back equal as floats. Doubles: the fewest of 15
 * to 17 digits that read back equal. */
void json_out_float(struct json_out *o, const char *key, float v);
void json_out_double(struct json_out *o, const char *key, double v);
/* n bytes that are one JSON value */
void json_out_raw(struct json_out *o, const char *key, const char *json, size_t n);

/* A string with its quotes, on its own (a Prometheus label or a log field need other rules). */
void json_out_quote(struct strbuf *buf, const char *s, size_t n);
void json_out_escape(struct strbuf *buf, const char *s, size_t n); /* without them: a part of one */

/* The OpenAI error object: {"error":{"message":..,"type":..,"param":..,"code":..}}, param null when empty. */
void json_out_error(struct strbuf *buf, const struct err_note *note);

#endif
