/* limits: see limits.h. Over a fixed one is 400, always: the same request would fail again. */
#include "server/api/limits.h"

#include <string.h>

#include "server/api/chat_calls.h"
#include "server/api/chat_prompt.h"
#include "server/json/keys.h"
#include "server/json/out.h"
#include "server/jinja/jinja.h"

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Twice what is taken, so that one that asks for too much is told so by its own name. */
int64_t limits_json_values(const struct config *c)
{
    const int64_t ids = larger(larger(c->max_detokenize_ids, c->max_model_len), ALLOWED_IDS_MOST / 2);
    return larger(JSON_NODES_MAX, 2 * ids + JSON_FIELDS_MAX);
}

/* The text that a body brings, and as much of the template's. */
int64_t limits_chat_prompt_bytes(const struct config *c)
{
    return larger(TMPL_MAX_OUTPUT_BYTES, 2 * larger(c->max_text_bytes, c->max_tokenize_bytes));
}

static const struct {
    const char *name;
    int64_t value;
    const char *unit, *meaning;
} fixed[] = {
    {"json_depth", JSON_DEPTH_MAX, "", "arrays and objects inside each other in a body"},
    {"json_values", JSON_NODES_MAX, "", "values of all kinds in a body, token ids in arrays included"},
    {"json_fields", JSON_FIELDS_MAX, "", "fields of a body at its top level"},
    {"json_open_keys", JSON_KEYS_MAX, "", "keys in all the objects of a body that are open at one place"},
    {"json_number_chars", JSON_NUMBER_CHARS_MAX, "characters", "one number in a body"},
    {"n", CHOICES_MOST, "", "answers to one prompt"},
    {"prompts", PROMPTS_MOST, "", "prompts of one completion"},
    {"messages", MESSAGES_MOST, "", "messages of one chat"},
    {"message_name_bytes", MESSAGE_NAME_BYTES_MOST, "bytes", "name or tool_call_id of a message"},
    {"message_tool_calls", MESSAGE_CALLS_MOST, "", "tool_calls of a message"},
    {"tools", TOOLS_MOST, "", "tools of one chat"},
    {"tool_name_bytes", TOOL_NAME_BYTES, "bytes", "name of a tool"},
    {"chat_template_kwargs", KWARGS_MOST, "", "chat_template_kwargs of one chat"},
    {"chat_template_kwarg_bytes", KWARG_BYTES_MOST, "bytes", "a string in chat_template_kwargs"},
    {"chat_prompt_bytes", TMPL_MAX_OUTPUT_BYTES, "bytes",
     "text that the chat template makes of the messages"},
    {"stop", STOP_MOST, "", "stop strings"},
    {"stop_bytes", STOP_BYTES_MOST, "bytes", "one stop string"},
    {"stop_token_ids", STOP_IDS_MOST, "", "ids in stop_token_ids"},
    {"allowed_token_ids", ALLOWED_IDS_MOST, "", "ids in allowed_token_ids"},
    {"logit_bias", LOGIT_BIAS_MOST, "", "tokens in logit_bias"},
    {"logprobs", SAMPLE_TOP_MAX, "", "logprobs of a completion"},
    {"top_logprobs", SAMPLE_TOP_MAX, "", "top_logprobs of a chat"},
    {"name_bytes", NAME_BYTES_MOST, "bytes", "model, user, or cache_salt"},
    {"metadata", METADATA_MOST, "", "members of metadata"},
};

static int64_t value_of(const struct config *c, size_t i)
{
    static const struct {
        const char *name;
        int64_t (*of)(const struct config *c);
    } moved[] = {{"json_values", limits_json_values}, {"chat_prompt_bytes", limits_chat_prompt_bytes}};
    for (size_t k = 0; k < sizeof moved / sizeof *moved; k++)
        if (!strcmp(moved[k].name, fixed[i].name)) return moved[k].of(c);
    return fixed[i].value;
}

static void write_fixed(const struct config *c, struct json_out *o, size_t i)
{
    json_out_object(o, NULL);
    json_out_text(o, "name", fixed[i].name);
    json_out_null(o, "key");
    json_out_int(o, "value", value_of(c, i));
    json_out_int(o, "default", fixed[i].value);
    json_out_text(o, "unit", fixed[i].unit);
    json_out_text(o, "meaning", fixed[i].meaning);
    json_out_end(o);
}

void limits_write(const struct config *c, struct strbuf *out)
{
    struct json_out o;
    json_out_init(&o, out);
    json_out_object(&o, NULL);
    json_out_text(&o, "object", "list");
    json_out_array(&o, "data");
    config_limits(c, &o);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) write_fixed(c, &o, i);
    json_out_end(&o);
    json_out_end(&o);
}
