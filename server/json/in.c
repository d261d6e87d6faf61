/* in: see in.h. The door (scan, tree) and the walk over a table of rows. Values are read by value.c (one of
 * them) and list.c (many of them); path.c keeps the path that errors are told under. */
#include "server/json/in.h"

#include <float.h>
#include <string.h>

#include "base/check.h"
#include "server/json/value.h"

static const struct {
    size_t size; /* of the target */
    json_value_reader *read;
} reader[JSON_N_TYPE] = {
#define READER_ROW(type, target, name) [type] = {.size = sizeof(target), .read = json_value_##name},
    JSON_TYPE_LIST(READER_ROW)
#undef READER_ROW
};

/* ---- the door ---- */

/* The body with every top-level array of numbers put as one element of its shape. */
static void put_without_numbers(struct strbuf *out, const char *body, size_t n, const struct json_scan *scan)
{
    size_t done = 0;
    for (size_t i = 0; i < scan->n_field; i++) {
        const struct json_field *f = &scan->field[i];
        if (f->shape != JSON_SHAPE_OTHER) {
            strbuf_put(out, body + done, f->value.begin - done);
            strbuf_puts(out, f->shape == JSON_SHAPE_NUMBERS ? "[0]" : "[[0]]");
            done = f->value.end;
        }
    }
    strbuf_put(out, body + done, n - done);
}

static bool has_numbers(const struct json_scan *scan)
{
    for (size_t i = 0; i < scan->n_field; i++) {
        if (scan->field[i].shape != JSON_SHAPE_OTHER) {
            return true;
        }
    }
    return false;
}

enum err json_in_open(struct json_in *in, const char *body, size_t n, const struct json_limits *lim,
                      struct err_note *note)
{
    memset(in, 0, sizeof *in);
    struct strbuf *text = &in->slim;
    strbuf_init(text);
    in->note = note;
    in->body = body;
    in->n_body = n;
    arena_init(&in->mem, 0);
    enum err e = json_scan(&in->scan, body, n, lim, note);
    if (e != OK) {
        goto fail;
    }
    if (in->scan.kind != JSON_KIND_OBJECT) {
        e = json_in_fail(in, ERR_INVALID_TYPE, NULL, "must be a JSON object");
        goto fail;
    }
    const char *tree = body;
    if (has_numbers(&in->scan)) {
        put_without_numbers(text, body, n, &in->scan);
        tree = text->data;
        n = text->len;
    }
    /* the scan accepts only what cJSON accepts, so what is left to fail is memory */
    in->root = strbuf_failed(text) ? NULL : cJSON_ParseWithLength(tree, n);
    if (in->root == NULL) {
        e = json_nomem_fail(in);
        goto fail;
    }
    json_in_locate(in);
    return OK;

fail:
    json_in_close(in);
    return e;
}

void json_in_close(struct json_in *in)
{
    cJSON_Delete(in->made);
    cJSON_Delete(in->root);
    strbuf_fini(&in->slim);
    arena_fini(&in->mem);
    json_scan_fini(&in->scan);
    memset(in, 0, sizeof *in);
}

bool json_in_keep(struct json_in *in, cJSON *tree)
{
    if (!in->made) in->made = cJSON_CreateArray();
    if (in->made && tree && cJSON_AddItemToArray(in->made, tree)) return true;
    cJSON_Delete(tree);
    return false;
}

/* ---- tables ---- */

/* Mistakes in the row itself. */
static void check_row(const struct json_row *row)
{
    const enum json_type t = row->type;
    CHECK(t < JSON_N_TYPE);
    const bool stores = !(row->flags & JSON_NO_TARGET) && t != JSON_IGNORE && t != JSON_REJECT;
    CHECK(row->size == (stores ? reader[t].size : 0));
    if (t == JSON_INT || t == JSON_INT32 || t == JSON_INTS || t == JSON_PROMPTS || t == JSON_PAIRS) {
        CHECK(row->min < row->max);
        CHECK(t == JSON_INT || (row->min >= INT32_MIN && row->max <= INT32_MAX));
    }
    if (t == JSON_FLOAT || t == JSON_DOUBLE || t == JSON_PAIRS) {
        CHECK(row->fmin < row->fmax);
        CHECK(t == JSON_DOUBLE || (row->fmin >= -(double)FLT_MAX && row->fmax <= (double)FLT_MAX));
    }
    CHECK(t != JSON_WORD || row->words != NULL);
    CHECK(t != JSON_ANY || (row->min >= INT32_MIN && row->max <= INT32_MAX));
}

static enum err read_row(struct json_in *in, const cJSON *obj, const struct json_row *row, void *target)
{
    const struct json_value v = {
        .node = cJSON_GetObjectItemCaseSensitive(obj, row->name),
        .field = obj == in->root ? json_scan_find(&in->scan, row->name) : NULL,
    };
    if (v.node == NULL) {
        return row->flags & JSON_REQUIRED ? json_in_fail(in, ERR_MISSING_FIELD, row->name, "is required")
                                          : OK;
    }
    if (cJSON_IsNull(v.node)) {
        return row->flags & (JSON_REQUIRED | JSON_NOT_NULL)
                   ? json_in_fail(in, ERR_INVALID_TYPE, row->name, "must not be null")
                   : OK;
    }
    return reader[row->type].read(in, row, &v, row->size != 0 ? (char *)target + row->at : NULL);
}

enum err json_in_read(struct json_in *in, const cJSON *obj, const struct json_row *row, void *target)
{
    if (!cJSON_IsObject(obj)) {
        return json_type_fail(in, NULL, "an object", obj);
    }
    for (; row->name != NULL; row++) {
        check_row(row);
        const enum err e = read_row(in, obj, row, target);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

const cJSON *json_in_get(const cJSON *obj, const char *name)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(obj, name);
    return node == NULL || cJSON_IsNull(node) ? NULL : node;
}
