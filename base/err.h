/* err: the one list of everything that can go wrong, with what a client sees of it.
 * Every fallible function returns enum err; details for people travel in struct err_note. */
#ifndef FLUXD_BASE_ERR_H
#define FLUXD_BASE_ERR_H

/* X(name, HTTP status, OpenAI "type", OpenAI "code", default text) */
#define ERR_LIST(X)                                                                                          \
    X(OK, 200, "", "", "ok")                                                                                 \
    X(ERR_INVALID_REQUEST, 400, "invalid_request_error", "invalid_request", "the request is malformed")      \
    X(ERR_INVALID_JSON, 400, "invalid_request_error", "invalid_json", "the body is not valid JSON")          \
    X(ERR_INVALID_UTF8, 400, "invalid_request_error", "invalid_utf8", "the body is not valid UTF-8")         \
    X(ERR_DUPLICATE_KEY, 400, "invalid_request_error", "duplicate_key", "duplicate key in one object")       \
    X(ERR_INVALID_TYPE, 400, "invalid_request_error", "invalid_type", "a field has the wrong type")          \
    X(ERR_INVALID_VALUE, 400, "invalid_request_error", "invalid_value",                                      \
      "a field has a value out of its range")                                                                \
    X(ERR_MISSING_FIELD, 400, "invalid_request_error", "missing_required_parameter",                         \
      "a required field is missing")                                                                         \
    X(ERR_UNSUPPORTED, 400, "invalid_request_error", "unsupported_parameter",                                \
      "this field or value is not supported")                                                                \
    X(ERR_CONTEXT_LENGTH, 400, "invalid_request_error", "context_length_exceeded",                           \
      "the prompt and the answer do not fit the model's context")                                            \
    X(ERR_KV_CAPACITY, 400, "invalid_request_error", "kv_capacity_exceeded",                                 \
      "the request can never fit the KV memory of this server")                                              \
    X(ERR_TEMPLATE, 400, "invalid_request_error", "invalid_messages",                                        \
      "the chat template refused the messages")                                                              \
    X(ERR_PREVIOUS_RESPONSE, 400, "invalid_request_error", "previous_response_not_found",                    \
      "there is no such response to go on from")                                                             \
    X(ERR_UNAUTHORIZED, 401, "invalid_request_error", "invalid_api_key", "a valid API key is required")      \
    X(ERR_FORBIDDEN, 403, "invalid_request_error", "forbidden", "this request is not allowed from there")    \
    X(ERR_MODEL_NOT_FOUND, 404, "invalid_request_error", "model_not_found", "no such model")                 \
    X(ERR_RESPONSE_NOT_FOUND, 404, "invalid_request_error", "response_not_found", "no such response")        \
    X(ERR_UNKNOWN_URL, 404, "invalid_request_error", "unknown_url", "no such path")                          \
    X(ERR_METHOD, 405, "invalid_request_error", "method_not_allowed", "this path does not take this method") \
    X(ERR_TIMEOUT, 408, "invalid_request_error", "request_timeout", "the request was not received in time")  \
    X(ERR_TOO_LARGE, 413, "invalid_request_error", "request_too_large", "the request is too large")          \
    X(ERR_MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type",                                \
      "the body must be application/json")                                                                   \
    X(ERR_EXPECTATION, 417, "invalid_request_error", "expectation_failed",                                   \
      "this expectation is not supported")                                                                   \
    X(ERR_HEADER_SIZE, 431, "invalid_request_error", "headers_too_large",                                    \
      "the request line and headers are too large")                                                          \
    X(ERR_QUEUE_FULL, 429, "rate_limit_error", "queue_full", "the queue is full, try again later")           \
    X(ERR_KEY_LIMIT, 429, "rate_limit_error", "key_limit_reached", "this API key is at its limit")           \
    X(ERR_CANCELLED, 499, "server_error", "cancelled", "the client left")                                    \
    X(ERR_INTERNAL, 500, "server_error", "internal_error", "internal error")                                 \
    X(ERR_NAN, 500, "server_error", "model_output_invalid",                                                  \
      "the model gave no finite output for this request")                                                    \
    X(ERR_DEVICE, 500, "server_error", "device_failure", "the device failed")                                \
    X(ERR_NOMEM, 503, "server_error", "out_of_memory", "out of memory")                                      \
    X(ERR_LOADING, 503, "server_error", "loading", "the model is loading")                                   \
    X(ERR_DRAINING, 503, "server_error", "shutting_down", "the server is shutting down")                     \
    X(ERR_OVERLOAD, 503, "server_error", "overloaded", "the server is at its limit, try again later")        \
    X(ERR_DEADLINE, 504, "server_error", "deadline_exceeded",                                                \
      "the request took longer than this server allows")                                                     \
    X(ERR_HTTP_VERSION, 505, "invalid_request_error", "http_version_not_supported",                          \
      "only HTTP/1.1 and HTTP/1.0 are supported")                                                            \
    X(ERR_CONFIG, 500, "server_error", "configuration", "bad configuration")                                 \
    X(ERR_MODEL_FILE, 500, "server_error", "model_file", "bad model file")                                   \
    X(ERR_IO, 500, "server_error", "io", "input/output error")

enum err {
#define ERR_ENUM(name, status, type, code, text) name,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
        ERR_COUNT
};

/* Leaves the function with what went wrong. */
#define TRY(x)                                                                                               \
    do {                                                                                                     \
        enum err try_err_ = (x);                                                                             \
        if (try_err_ != OK) return try_err_;                                                                 \
    } while (0)

/* What a person is told. param names the field, flag or file at fault; empty when there is none. */
struct err_note {
    enum err code;
    char param[96];
    char text[320];
};

int err_status(enum err e);       /* HTTP status */
const char *err_type(enum err e); /* OpenAI error.type */
const char *err_code(enum err e); /* OpenAI error.code */
const char *err_text(enum err e); /* default message */
const char *err_name(enum err e); /* "ERR_INVALID_JSON", for logs */

/* Fills note (which may be NULL) and returns e, so that `return err_set(note, ERR_X, "field", "...")` reads
 * as one thought. Text is cut at the buffer's end on a UTF-8 boundary; where it is for an operator
 * (configuration, model file, input/output) it is one line. param may be NULL. */
enum err err_set(struct err_note *note, enum err e, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
