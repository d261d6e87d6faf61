/* anthropic: see anthropic.h. {"type": "error", "error": {"type", "message"}, "request_id"}; what OpenAI's
 * object says beside that (param, code) stays in the error, where clients skip it. */
#include "server/api/anthropic.h"

#include "server/json/out.h"

static const char *type_of(enum err e)
{
    static const struct {
        int status;
        const char *type;
    } row[] = {
        {401, "authentication_error"}, {403, "permission_error"}, {404, "not_found_error"},
        {413, "request_too_large"},    {429, "rate_limit_error"}, {500, "api_error"},
        {503, "overloaded_error"},     {504, "timeout_error"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i].status == err_status(e)) return row[i].type;
    return "invalid_request_error";
}

static void write_error(struct strbuf *out, const struct err_note *note, const char *request_id)
{
    struct json_out o;
    json_out_init(&o, out);
    json_out_object(&o, NULL);
    json_out_text(&o, "type", "error");
    json_out_object(&o, "error");
    json_out_text(&o, "type", type_of(note->code));
    json_out_text(&o, "message", note->text[0] ? note->text : err_text(note->code));
    json_out_text(&o, "param", note->param[0] ? note->param : NULL);
    json_out_text(&o, "code", err_code(note->code));
    json_out_end(&o);
    json_out_text(&o, "request_id", request_id);
    json_out_end(&o);
}

static void write_frame(struct strbuf *out, const struct err_note *note, const char *request_id)
{
    strbuf_puts(out, "event: error\ndata: ");
    write_error(out, note, request_id);
    strbuf_puts(out, "\n\n");
}

const struct http_dialect anthropic_dialect = {
    .object = write_error, .frame = write_frame, .id_header = "request-id"};
