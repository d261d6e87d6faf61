/* prep: what a body may say. Every refusal names code and field; what is accepted arrives whole in the
 * requests. */
#include <stdio.h>

#include "tests/server/mini_model.h"

static struct mini mini;

static int open_mini(void **st)
{
    (void)st;
    mini_open(&mini);
    return 0;
}

static int close_mini(void **st)
{
    (void)st;
    mini_close(&mini);
    return 0;
}

static void expect_refusal(enum api_endpoint endpoint, const char *body, size_t n, enum err want,
                           const char *param)
{
    struct ask *a;
    struct err_note note = {0};
    const enum err e = prep_run(&a, &mini.env, endpoint, body, n, &note);
    if (e != want || note.code != want || strcmp(note.param, param) || !*note.text)
        fail_msg("%.200s gives %s \"%s\" (%s), not %s \"%s\"", body, err_name(e), note.param, note.text,
                 err_name(want), param);
    assert_null(a);
    assert_true(err_status(want) >= 400 && err_status(want) < 500);
}

static struct ask *accept_body(enum api_endpoint endpoint, const char *body)
{
    struct ask *a;
    struct err_note note = {0};
    if (prep_run(&a, &mini.env, endpoint, body, strlen(body), &note))
        fail_msg("%.200s gives \"%s\": %s", body, note.param, note.text);
    return a;
}

/* --- one field at a time --- */

#define P          "{\"prompt\":\"hi\","
#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define M          "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"

static const struct {
    enum api_endpoint endpoint;
    const char *body;
    enum err err;
    const char *param;
} refused[] = {
    /* B: JSON */
    {API_COMPLETIONS, "{}xyz", ERR_INVALID_JSON, ""},
    {API_COMPLETIONS, "{}{}", ERR_INVALID_JSON, ""},
    {API_COMPLETIONS, "[]", ERR_INVALID_TYPE, ""},
    {API_COMPLETIONS, "", ERR_INVALID_JSON, ""},
    {API_COMPLETIONS, "{\"prompt\":\"a\",\"stream\":true,\"stream\":false}", ERR_DUPLICATE_KEY, "stream"},
    {API_COMPLETIONS, "{\"prompt\":\"a\xff\"}", ERR_INVALID_UTF8, "prompt"},
    {API_COMPLETIONS, P "\"stop\":\"a\\u0000b\"}", ERR_INVALID_VALUE, "stop"},
    {API_COMPLETIONS, P "\"temperature\":1e999}", ERR_INVALID_VALUE, "temperature"},
    {API_COMPLETIONS, P "\"temperature\":-1e999}", ERR_INVALID_VALUE, "temperature"},
    {API_COMPLETIONS, P "\"temperature\":NaN}", ERR_INVALID_JSON, "temperature"},
    /* prompts */
    {API_COMPLETIONS, "{}", ERR_MISSING_FIELD, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":null}", ERR_INVALID_TYPE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":\"\"}", ERR_INVALID_VALUE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":[]}", ERR_INVALID_VALUE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":[[]]}", ERR_INVALID_VALUE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":7}", ERR_INVALID_TYPE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":[5,259]}", ERR_INVALID_VALUE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":[-1]}", ERR_INVALID_VALUE, "prompt[0]"},
    {API_COMPLETIONS, "{\"prompt\":[[5],[1.5]]}", ERR_INVALID_TYPE, "prompt[1][0]"},
    /* the model */
    {API_COMPLETIONS, P "\"model\":\"gpt-4\"}", ERR_MODEL_NOT_FOUND, "model"},
    {API_COMPLETIONS, P "\"model\":5}", ERR_INVALID_TYPE, "model"},
    {API_TOKENIZE, P "\"model\":\"gpt-4\"}", ERR_MODEL_NOT_FOUND, "model"},
    /* C02 .. C06: messages */
    {API_CHAT, "{}", ERR_MISSING_FIELD, "messages"},
    {API_CHAT, "{\"messages\":[]}", ERR_INVALID_VALUE, "messages"},
    {API_CHAT, "{\"messages\":\"hi\"}", ERR_INVALID_TYPE, "messages"},
    {API_CHAT, "{\"messages\":[7]}", ERR_INVALID_TYPE, "messages[0]"},
    {API_CHAT, "{\"messages\":[{}]}", ERR_MISSING_FIELD, "messages[0].role"},
    {API_CHAT, "{\"messages\":[{\"role\":\"king\",\"content\":\"a\"}]}", ERR_INVALID_VALUE,
     "messages[0].role"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\"}]}", ERR_MISSING_FIELD, "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", ERR_MISSING_FIELD,
     "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":5}]}", ERR_INVALID_TYPE, "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":{}}]}", ERR_INVALID_TYPE,
     "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", ERR_INVALID_VALUE,
     "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", ERR_MISSING_FIELD,
     "messages[0].content[0].text"},
    {API_CHAT,
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"file:///etc/passwd\"}}]}]}",
     ERR_UNSUPPORTED, "messages[0].content[1].type"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}]}",
     ERR_UNSUPPORTED, "messages[0].content[0].type"},
    {API_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]}",
     ERR_MISSING_FIELD, "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[{}]}]}",
     ERR_INVALID_VALUE, "messages[0].tool_calls"},
    {API_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[7]}]}",
     ERR_INVALID_TYPE, "messages[0].tool_calls[0]"},
    {API_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[{\"id\":\"x\"}]}]}",
     ERR_MISSING_FIELD, "messages[0].tool_calls[0].function"},
    {API_CHAT, "{\"messages\":[{\"role\":\"tool\",\"content\":\"a\"}]}", ERR_MISSING_FIELD,
     "messages[0].tool_call_id"},
    {API_CHAT, "{\"messages\":[{\"role\":\"tool\",\"content\":\"a\",\"tool_call_id\":\"x\"}]}",
     ERR_INVALID_VALUE, "messages[0].tool_call_id"},
    {API_CHAT,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\"}}]},{\"role\":\"tool\",\"content\":\"a\",\"tool_call_id\":\"y\"}]}",
     ERR_INVALID_VALUE, "messages[1].tool_call_id"},
    {API_CHAT, M "\"tools\":[{\"type\":\"function\"}]}", ERR_MISSING_FIELD, "tools[0].function"},
    {API_CHAT, M "\"tools\":[7]}", ERR_INVALID_TYPE, "tools[0]"},
    {API_CHAT, M "\"tools\":[{\"type\":\"web_search\"}]}", ERR_UNSUPPORTED, "tools[0].type"},
    {API_CHAT, M "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]}", ERR_INVALID_VALUE,
     "tools[0].function.name"},
    {API_CHAT, M "\"tools\":[" TOOL("a") "," TOOL("a") "]}", ERR_INVALID_VALUE, "tools[1].function.name"},
    {API_CHAT, M "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"parameters\":[]}}]}",
     ERR_INVALID_TYPE, "tools[0].function.parameters"},
    {API_CHAT, M "\"tools\":[" TOOL("a") "],\"tool_choice\":\"must\"}", ERR_INVALID_VALUE, "tool_choice"},
    {API_CHAT, M "\"tools\":[" TOOL("a") "],\"tool_choice\":7}", ERR_INVALID_TYPE, "tool_choice"},
    {API_CHAT,
     M "\"tools\":[" TOOL("a") "],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"b\"}}}",
     ERR_INVALID_VALUE, "tool_choice.function.name"},
    {API_CHAT,
     M "\"tools\":[" TOOL(
         "a") "],\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"auto\",\"tools\":[]}}}",
     ERR_INVALID_VALUE, "tool_choice.tools"},
    {API_CHAT, M "\"web_search_options\":{}}", ERR_UNSUPPORTED, "web_search_options"},
    {API_CHAT, M "\"guided_json\":\"{\"}", ERR_INVALID_VALUE, "guided_json"},
    {API_CHAT, M "\"guided_json\":7}", ERR_INVALID_TYPE, "guided_json"},
    {API_CHAT, M "\"guided_json\":{\"properties\":{\"a/b\":{\"format\":\"?\"}}}}", ERR_UNSUPPORTED,
     "guided_json/properties/a~1b/format"},
    {API_CHAT, M "\"structured_outputs\":{}}", ERR_MISSING_FIELD, "structured_outputs"},
    {API_CHAT, M "\"structured_outputs\":{\"regex\":\"a\",\"json_object\":true}}", ERR_INVALID_VALUE,
     "structured_outputs.json_object"},
    {API_CHAT, M "\"structured_outputs\":{\"regex\":\"a\"},\"response_format\":{\"type\":\"json_object\"}}",
     ERR_INVALID_VALUE, "structured_outputs.regex"},
    {API_CHAT, M "\"structured_outputs\":{\"regex\":\"(?<=a)b\"}}", ERR_UNSUPPORTED,
     "structured_outputs.regex"},
    {API_CHAT, M "\"structured_outputs\":{\"choice\":[]}}", ERR_INVALID_VALUE, "structured_outputs.choice"},
    {API_CHAT, M "\"structured_outputs\":{\"choice\":[\"a\",3]}}", ERR_INVALID_VALUE,
     "structured_outputs.choice"},
    {API_CHAT, M "\"structured_outputs\":{\"grammar\":\"root = 1\"}}", ERR_INVALID_VALUE,
     "structured_outputs.grammar"},
    {API_CHAT, M "\"structured_outputs\":{\"regex\":\"a\",\"whitespace_pattern\":\" \"}}", ERR_UNSUPPORTED,
     "structured_outputs.whitespace_pattern"},
    {API_CHAT, M "\"response_format\":{\"type\":\"json_schema\"}}", ERR_MISSING_FIELD,
     "response_format.json_schema"},
    {API_CHAT, M "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\"}}}",
     ERR_MISSING_FIELD, "response_format.json_schema.schema"},
    {API_CHAT, M "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":[]}}}",
     ERR_INVALID_TYPE, "response_format.json_schema.schema"},
    {API_CHAT, M "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":false}}}",
     ERR_INVALID_VALUE, "response_format.json_schema.schema"},
    {API_CHAT,
     M "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"strict\":1,\"schema\":true}}}",
     ERR_INVALID_TYPE, "response_format.json_schema.strict"},
    {API_CHAT, M "\"response_format\":{\"type\":\"grammar\"}}", ERR_INVALID_VALUE, "response_format.type"},
    {API_CHAT, M "\"do_sample\":false}", ERR_UNSUPPORTED, "do_sample"},
    {API_CHAT, M "\"continuous_usage_stats\":true}", ERR_INVALID_VALUE, "continuous_usage_stats"},
    {API_CHAT, M "\"continuous_usage_stats\":1}", ERR_INVALID_TYPE, "continuous_usage_stats"},
    {API_CHAT, M "\"chat_template\":\"{{ 1 }}\"}", ERR_UNSUPPORTED, "chat_template"},
    {API_CHAT, M "\"chat_template_kwargs\":{\"messages\":1}}", ERR_INVALID_VALUE,
     "chat_template_kwargs.messages"},
    {API_CHAT, M "\"chat_template_kwargs\":{\"shout\":[1]}}", ERR_UNSUPPORTED, "chat_template_kwargs.shout"},
    {API_CHAT, M "\"chat_template_kwargs\":[]}", ERR_INVALID_TYPE, "chat_template_kwargs"},
    {API_CHAT, M "\"add_generation_prompt\":true,\"continue_final_message\":true}", ERR_INVALID_VALUE,
     "continue_final_message"},
    {API_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"content\":\" \"}],\"continue_final_message\":true}",
     ERR_INVALID_VALUE, "continue_final_message"},
    /* C08, C16 */
    {API_COMPLETIONS, P "\"max_tokens\":1000000000}", ERR_CONTEXT_LENGTH, "max_tokens"},
    {API_COMPLETIONS, P "\"max_tokens\":511}", ERR_CONTEXT_LENGTH, "max_tokens"},
    {API_COMPLETIONS, P "\"max_tokens\":0}", ERR_INVALID_VALUE, "max_tokens"},
    {API_COMPLETIONS, P "\"max_tokens\":-1}", ERR_INVALID_VALUE, "max_tokens"},
    {API_CHAT, M "\"max_completion_tokens\":5000}", ERR_CONTEXT_LENGTH, "max_completion_tokens"},
    {API_CHAT, M "\"max_completion_tokens\":0}", ERR_INVALID_VALUE, "max_completion_tokens"},
    {API_CHAT, M "\"max_tokens\":5,\"max_completion_tokens\":6}", ERR_INVALID_VALUE, "max_tokens"},
    {API_COMPLETIONS, P "\"min_tokens\":6,\"max_tokens\":5}", ERR_INVALID_VALUE, "min_tokens"},
    {API_COMPLETIONS, P "\"min_tokens\":17}", ERR_INVALID_VALUE, "min_tokens"},
    {API_COMPLETIONS, P "\"n\":129}", ERR_INVALID_VALUE, "n"},
    {API_COMPLETIONS, P "\"n\":0}", ERR_INVALID_VALUE, "n"},
    {API_COMPLETIONS, "{\"prompt\":[\"a\",\"b\",\"c\"],\"n\":128}", ERR_INVALID_VALUE, "n"},
    {API_COMPLETIONS, P "\"n\":3,\"best_of\":2}", ERR_INVALID_VALUE, "best_of"},
    {API_COMPLETIONS, P "\"best_of\":3}", ERR_UNSUPPORTED, "best_of"},
    {API_COMPLETIONS, P "\"n\":2,\"best_of\":2,\"stream\":true}", ERR_INVALID_VALUE, "best_of"},
    /* C12, C14 */
    {API_COMPLETIONS, P "\"temperature\":-0.1}", ERR_INVALID_VALUE, "temperature"},
    {API_COMPLETIONS, P "\"temperature\":2.1}", ERR_INVALID_VALUE, "temperature"},
    {API_COMPLETIONS, P "\"top_p\":0}", ERR_INVALID_VALUE, "top_p"},
    {API_COMPLETIONS, P "\"top_p\":1.1}", ERR_INVALID_VALUE, "top_p"},
    {API_COMPLETIONS, P "\"top_k\":-2}", ERR_INVALID_VALUE, "top_k"},
    {API_COMPLETIONS, P "\"top_k\":3000000000}", ERR_INVALID_VALUE, "top_k"},
    {API_COMPLETIONS, P "\"min_p\":2}", ERR_INVALID_VALUE, "min_p"},
    {API_COMPLETIONS, P "\"presence_penalty\":2.5}", ERR_INVALID_VALUE, "presence_penalty"},
    {API_COMPLETIONS, P "\"frequency_penalty\":-3}", ERR_INVALID_VALUE, "frequency_penalty"},
    {API_COMPLETIONS, P "\"repetition_penalty\":0}", ERR_INVALID_VALUE, "repetition_penalty"},
    {API_COMPLETIONS, P "\"seed\":9223372036854775808}", ERR_INVALID_VALUE, "seed"},
    {API_COMPLETIONS, P "\"truncate_prompt_tokens\":0}", ERR_INVALID_VALUE, "truncate_prompt_tokens"},
    /* C18 */
    {API_COMPLETIONS, P "\"logit_bias\":{\"-1\":1}}", ERR_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, P "\"logit_bias\":{\"259\":1}}", ERR_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, P "\"logit_bias\":{\"AI\":1}}", ERR_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, P "\"logit_bias\":{\"1e9\":1}}", ERR_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, P "\"logit_bias\":{\"5\":101}}", ERR_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, P "\"logit_bias\":{\"5\":1e999}}", ERR_INVALID_VALUE, "logit_bias"},
    /* C20 */
    {API_CHAT, M "\"logprobs\":true,\"top_logprobs\":21}", ERR_INVALID_VALUE, "top_logprobs"},
    {API_CHAT, M "\"logprobs\":true,\"top_logprobs\":-1}", ERR_INVALID_VALUE, "top_logprobs"},
    {API_CHAT, M "\"logprobs\":true,\"top_logprobs\":1000000}", ERR_INVALID_VALUE, "top_logprobs"},
    {API_CHAT, M "\"top_logprobs\":2}", ERR_INVALID_VALUE, "top_logprobs"},
    {API_CHAT, M "\"logprobs\":2}", ERR_INVALID_TYPE, "logprobs"},
    {API_COMPLETIONS, P "\"logprobs\":21}", ERR_INVALID_VALUE, "logprobs"},
    {API_COMPLETIONS, P "\"prompt_logprobs\":21}", ERR_INVALID_VALUE, "prompt_logprobs"},
    {API_CHAT, M "\"prompt_logprobs\":-1}", ERR_INVALID_VALUE, "prompt_logprobs"},
    {API_COMPLETIONS, P "\"prompt_logprobs\":0,\"stream\":true}", ERR_INVALID_VALUE, "prompt_logprobs"},
    {API_COMPLETIONS, P "\"return_tokens_as_token_ids\":1}", ERR_INVALID_TYPE, "return_tokens_as_token_ids"},
    {API_COMPLETIONS, P "\"logprobs\":true}", ERR_INVALID_TYPE, "logprobs"},
    {API_COMPLETIONS, P "\"logprobs\":1,\"echo\":true,\"stream\":true,\"n\":2}", ERR_UNSUPPORTED, "n"},
    /* C22 */
    {API_COMPLETIONS, P "\"stop\":[]}", ERR_INVALID_VALUE, "stop"},
    {API_COMPLETIONS, P "\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", ERR_INVALID_VALUE, "stop"},
    {API_COMPLETIONS, P "\"stop\":\"\"}", ERR_INVALID_VALUE, "stop"},
    {API_COMPLETIONS, P "\"stop\":[\"a\",null]}", ERR_INVALID_TYPE, "stop[1]"},
    {API_COMPLETIONS, P "\"stop_token_ids\":[259]}", ERR_INVALID_VALUE, "stop_token_ids"},
    {API_COMPLETIONS, P "\"stop_token_ids\":[-1]}", ERR_INVALID_VALUE, "stop_token_ids[0]"},
    {API_COMPLETIONS, P "\"allowed_token_ids\":[]}", ERR_INVALID_VALUE, "allowed_token_ids"},
    {API_COMPLETIONS, P "\"allowed_token_ids\":[1000]}", ERR_INVALID_VALUE, "allowed_token_ids"},
    {API_COMPLETIONS, P "\"allowed_token_ids\":[2,5],\"stop_token_ids\":[5],\"min_tokens\":1}",
     ERR_INVALID_VALUE, "allowed_token_ids"},
    /* C24, C30 */
    {API_COMPLETIONS, P "\"stream\":\"true\"}", ERR_INVALID_TYPE, "stream"},
    {API_COMPLETIONS, P "\"stream_options\":{}}", ERR_INVALID_VALUE, "stream_options"},
    {API_COMPLETIONS, P "\"stream\":true,\"stream_options\":{\"include_usage\":1}}", ERR_INVALID_TYPE,
     "stream_options.include_usage"},
    {API_COMPLETIONS,
     P
     "\"metadata\":{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1}}",
     ERR_INVALID_VALUE, "metadata"},
    /* routes */
    {API_COMPLETIONS, P "\"route\":\"most\"}", ERR_INVALID_VALUE, "route"},
    {API_COMPLETIONS, P "\"route\":\"010\"}", ERR_INVALID_VALUE, "route"},
    {API_COMPLETIONS, P "\"route\":[0,1,0]}", ERR_INVALID_VALUE, "route"},
    {API_COMPLETIONS, P "\"route\":[0,1,0,1,1]}", ERR_INVALID_VALUE, "route"},
    {API_COMPLETIONS, P "\"route\":[]}", ERR_INVALID_VALUE, "route"},
    {API_COMPLETIONS, P "\"route\":[0,1,0,2]}", ERR_INVALID_VALUE, "route[3]"},
    {API_COMPLETIONS, P "\"route\":true}", ERR_INVALID_TYPE, "route"},
    {API_COMPLETIONS, P "\"route\":5}", ERR_INVALID_TYPE, "route"},
    {API_COMPLETIONS, P "\"route\":{}}", ERR_UNSUPPORTED, "route"},
    {API_COMPLETIONS, P "\"route\":{\"max_full_layers\":2}}", ERR_UNSUPPORTED, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":2,\"x\":1}}", ERR_UNSUPPORTED, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":null}}", ERR_INVALID_TYPE, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":\"2\"}}", ERR_INVALID_TYPE, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":true}}", ERR_INVALID_TYPE, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":[2]}}", ERR_INVALID_TYPE, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":1.5}}", ERR_INVALID_TYPE, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":-1}}", ERR_INVALID_VALUE, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":5}}", ERR_INVALID_VALUE, "route"},
    {API_COMPLETIONS, P "\"route\":{\"min_full_layers\":4294967297}}", ERR_INVALID_VALUE, "route"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"route\":{\"min_full_layers\":9}}",
     ERR_INVALID_VALUE, "route"},
    {API_ROUTE, P "\"route\":{\"min_full_layers\":5}}", ERR_INVALID_VALUE, "route"},
    /* what would change the answer and is not served */
    {API_COMPLETIONS, P "\"suffix\":\"end\"}", ERR_UNSUPPORTED, "suffix"},
    {API_COMPLETIONS, P "\"bad_words\":[\"a\",\"\"]}", ERR_INVALID_VALUE, "bad_words[1]"},
    {API_COMPLETIONS, P "\"use_beam_search\":true}", ERR_UNSUPPORTED, "use_beam_search"},
    {API_CHAT, M "\"response_format\":{}}", ERR_MISSING_FIELD, "response_format.type"},
    {API_CHAT, M "\"tool_choice\":\"required\"}", ERR_INVALID_VALUE, "tool_choice"},
    {API_CHAT, M "\"reasoning_effort\":\"huge\"}", ERR_INVALID_VALUE, "reasoning_effort"},
    {API_CHAT, M "\"echo\":true}", ERR_UNSUPPORTED, "echo"},
    {API_COMPLETIONS, P "\"max_new_tokens\":5}", ERR_UNSUPPORTED, "max_new_tokens"},
    {API_COMPLETIONS, P "\"typical_p\":0.5}", ERR_UNSUPPORTED, "typical_p"},
    {API_CHAT, M "\"grammar\":\"root ::= 1\"}", ERR_UNSUPPORTED, "grammar"},
    {API_CHAT, M "\"regex\":\"a+\"}", ERR_UNSUPPORTED, "regex"},
    /* the other endpoint's fields */
    {API_COMPLETIONS, P "\"top_logprobs\":2}", ERR_UNSUPPORTED, "top_logprobs"},
    {API_COMPLETIONS, P "\"messages\":[{\"role\":\"user\"}]}", ERR_UNSUPPORTED, "messages"},
    {API_COMPLETIONS, P "\"tools\":[{}]}", ERR_UNSUPPORTED, "tools"},
    {API_CHAT, M "\"prompt\":\"a\"}", ERR_UNSUPPORTED, "prompt"},
    /* /tokenize and /detokenize */
    {API_TOKENIZE, "{}", ERR_MISSING_FIELD, "prompt"},
    {API_TOKENIZE, "{\"prompt\":[5]}", ERR_INVALID_TYPE, "prompt"},
    {API_TOKENIZE, "{\"prompt\":\"a\",\"return_token_strs\":1}", ERR_INVALID_TYPE, "return_token_strs"},
    {API_DETOKENIZE, "{}", ERR_MISSING_FIELD, "tokens"},
    {API_DETOKENIZE, "{\"tokens\":[259]}", ERR_INVALID_VALUE, "tokens"},
    {API_DETOKENIZE, "{\"tokens\":\"a\"}", ERR_INVALID_TYPE, "tokens"},
};

static void wrong_fields_are_refused_by_name(void **st)
{
    (void)st;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        expect_refusal(refused[i].endpoint, refused[i].body, strlen(refused[i].body), refused[i].err,
                       refused[i].param);
}

/* B16: every field with every kind of value ends in an answer or in a refusal of that very field. */
static void any_kind_of_value_is_judged_under_its_name(void **st)
{
    static const char *const field[] = {
        "model",
        "request_id",
        "user",
        "metadata",
        "n",
        "max_tokens",
        "min_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "seed",
        "stop",
        "stop_token_ids",
        "allowed_token_ids",
        "ignore_eos",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "add_special_tokens",
        "truncate_prompt_tokens",
        "return_token_ids",
        "priority",
        "stream",
        "stream_options",
        "response_format",
        "route",
        "cache_salt",
        "suffix",
        "bad_words",
        "prompt_logprobs",
        "structured_outputs",
        "guided_json",
        "use_beam_search",
        "length_penalty",
        "best_of",
        "echo",
        "logprobs",
        "top_logprobs",
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "functions",
        "chat_template",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "typical_p",
        "n_predict",
        "ebnf",
        "lora_path",
        "messages",
        "reasoning_effort",
        "modalities",
        "audio",
        "unknown_field",
    };
    static const char *const value[] = {"null", "true",    "false",     "0",     "-1",
                                        "1.5",  "\"\"",    "[]",        "{}",    "\"x\"",
                                        "[1]",  "[\"x\"]", "{\"a\":1}", "1e308", "[[1]]"};
    (void)st;
    for (size_t f = 0; f < sizeof field / sizeof *field; f++)
        for (size_t v = 0; v < sizeof value / sizeof *value; v++)
            for (int chat = 0; chat < 2; chat++) {
                char body[256];
                struct ask *a;
                struct err_note note = {0};
                if (chat && !strcmp(field[f], "messages")) continue; /* it is there already */
                snprintf(body, sizeof body, "%s\"%s\":%s}", chat ? M : P, field[f], value[v]);
                const enum err e =
                    prep_run(&a, &mini.env, chat ? API_CHAT : API_COMPLETIONS, body, strlen(body), &note);
                ask_free(a);
                if (e && (err_status(e) / 100 != 4 || strncmp(note.param, field[f], strlen(field[f]))))
                    fail_msg("%s gives %s \"%s\" (%s)", body, err_name(e), note.param, note.text);
                if (!strcmp(value[v], "null") && e)
                    fail_msg("%s: null is absence, but it gives \"%s\"", body, note.text);
                if (!strcmp(field[f], "unknown_field") && e)
                    fail_msg("%s: a field that means nothing here is refused", body);
            }
}

static void values_beyond_their_size_are_refused(void **st)
{
    (void)st;
    struct strbuf b;
    strbuf_init(&b);
    strbuf_puts(&b, P "\"stop\":\"");
    for (int i = 0; i < 1 << 20; i++) strbuf_putc(&b, 'x');
    strbuf_puts(&b, "\"}");
    expect_refusal(API_COMPLETIONS, b.data, b.len, ERR_INVALID_VALUE, "stop");
    strbuf_clear(&b);
    strbuf_puts(&b, P "\"user\":\"");
    for (int i = 0; i < 1 << 20; i++) strbuf_putc(&b, 'x');
    strbuf_puts(&b, "\"}");
    expect_refusal(API_COMPLETIONS, b.data, b.len, ERR_INVALID_VALUE, "user");
    strbuf_clear(&b);
    strbuf_puts(&b, P "\"stop_token_ids\":[5");
    for (int i = 0; i < 10000; i++) strbuf_puts(&b, ",5");
    strbuf_puts(&b, "]}");
    expect_refusal(API_COMPLETIONS, b.data, b.len, ERR_INVALID_VALUE, "stop_token_ids");
    strbuf_clear(&b);
    strbuf_puts(&b, "{\"prompt\":\"hi\",\"logit_bias\":{\"0\":1");
    for (int i = 1; i < 3000; i++) strbuf_printf(&b, ",\"%d\":1", i);
    strbuf_puts(&b, "}}");
    expect_refusal(API_COMPLETIONS, b.data, b.len, ERR_INVALID_VALUE, "logit_bias");
    strbuf_clear(&b);
    strbuf_puts(&b, "{\"prompt\":\"");
    for (int i = 0; i < MINI_LEN; i++) strbuf_putc(&b, 'x');
    strbuf_puts(&b, "\"}");
    expect_refusal(API_COMPLETIONS, b.data, b.len, ERR_CONTEXT_LENGTH, "prompt");
    strbuf_fini(&b);
}

/* --- what is accepted --- */

static void defaults_are_openais(void **st)
{
    (void)st;
    struct ask *a = accept_body(API_COMPLETIONS, "{\"prompt\":\"hi<|im_end|>\"}");
    const struct request *r = a->request[0];
    assert_int_equal(ask_n_choice(a), 1);
    assert_int_equal(r->ask.n_prompt, 3); /* a raw prompt's special text counts */
    assert_int_equal(r->ask.prompt[2], MINI_IM_END);
    assert_int_equal(r->ask.max_new, 16);
    assert_true(r->ask.sample.temperature == 1 && r->ask.sample.top_p == 1 && r->ask.sample.min_p == 0 &&
                r->ask.sample.repetition == 1);
    assert_true(r->ask.sample.presence == 0 && r->ask.sample.frequency == 0 && r->ask.sample.top_k <= 0 &&
                r->ask.sample.n_top == 0);
    assert_int_equal(r->ask.n_stop_id, 1);
    assert_int_equal(r->ask.stop_id[0], MINI_IM_END);
    assert_int_equal(r->ask.route_ask, ROUTE_ASK_DEFAULT);
    assert_null(r->ask.prompt_out);
    assert_true(a->skip_special && !a->stream && !a->echo && !a->logprobs);
    ask_free(a);
    a = accept_body(API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    assert_int_equal(a->request[0]->ask.max_new, MINI_LEN - a->request[0]->ask.n_prompt);
    assert_false(a->request[0]->ask.max_new_given);
    ask_free(a);
}

/* Load generators send both names to either endpoint; other servers' fields that ask for nothing are
 * harmless. */
static void a_length_has_two_names(void **st)
{
    static const char *const body[] = {
        P "\"max_completion_tokens\":7}", P "\"max_tokens\":7,\"max_completion_tokens\":7}",
        P
        "\"max_tokens\":7,\"n_predict\":-1,\"typical_p\":1,\"mirostat\":0,\"grammar\":\"\",\"top_logprobs\":0}"};
    (void)st;
    for (size_t i = 0; i < sizeof body / sizeof *body; i++) {
        struct ask *a = accept_body(API_COMPLETIONS, body[i]);
        assert_int_equal(a->request[0]->ask.max_new, 7);
        ask_free(a);
    }
}

static void the_models_own_defaults_stand_between(void **st)
{
    (void)st;
    struct prep_env env = mini.env;
    struct ask *a;
    struct err_note note;
    env.gen_temperature = 0.25;
    env.gen_top_k = 7;
    const char *body = P "\"top_p\":0.5}";
    assert_int_equal(prep_run(&a, &env, API_COMPLETIONS, body, strlen(body), &note), OK);
    assert_true(a->request[0]->ask.sample.temperature == 0.25f && a->request[0]->ask.sample.top_p == 0.5f);
    assert_int_equal(a->request[0]->ask.sample.top_k, 7);
    ask_free(a);
}

static void every_field_arrives(void **st)
{
    (void)st;
    struct ask *a = accept_body(
        API_COMPLETIONS,
        "{\"model\":\"mini\",\"prompt\":[\"ab\",\"c\"],\"n\":2,\"best_of\":2,\"max_tokens\":5,\"min_tokens\":2,\"temperature\":0.5,\"top_p\":0.25,\"top_k\":3,"
        "\"min_p\":0.125,\"presence_penalty\":-1,\"frequency_penalty\":0.5,\"repetition_penalty\":1.5,\"logit_bias\":{\"7\":-100,\"9\":2.5},"
        "\"seed\":-3,\"stop\":[\"xy\",\"z\"],\"stop_token_ids\":[11],\"allowed_token_ids\":[5,7],\"ignore_eos\":true,"
        "\"include_stop_str_in_output\":true,\"skip_special_tokens\":false,\"echo\":true,\"logprobs\":4,\"return_token_ids\":true,"
        "\"priority\":-9,\"route\":\"0110\",\"request_id\":\"a b/\\u00e4\\r\\nX: y-1\",\"user\":\"u\",\"store\":true,\"suffix\":\"\",\"bad_words\":[],"
        "\"response_format\":{\"type\":\"text\"},\"tools\":[]}");
    assert_int_equal(a->n_prompt, 2);
    assert_int_equal(ask_n_choice(a), 4);
    for (int i = 0; i < 4; i++) {
        const struct request *r = a->request[i];
        assert_int_equal(r->ask.n_prompt, i < 2 ? 2 : 1);
        assert_int_equal(r->ask.prompt[0], MINI_BYTE + (i < 2 ? 'a' : 'c'));
        assert_int_equal(r->ask.max_new, 5);
        assert_true(r->ask.max_new_given);
        assert_int_equal(r->ask.min_new, 2);
        assert_true(r->ask.sample.temperature == 0.5f && r->ask.sample.top_p == 0.25f &&
                    r->ask.sample.min_p == 0.125f);
        assert_true(r->ask.sample.presence == -1 && r->ask.sample.frequency == 0.5f &&
                    r->ask.sample.repetition == 1.5f);
        assert_int_equal(r->ask.sample.top_k, 3);
        assert_int_equal(r->ask.sample.n_top, 4);
        assert_int_equal(r->ask.sample.n_bias, 2);
        assert_int_equal(r->ask.sample.bias_id[1], 9);
        assert_true(r->ask.sample.bias_value[0] == -100 && r->ask.sample.bias_value[1] == 2.5f);
        assert_int_equal(r->ask.sample.n_allow, 2);
        assert_true(r->ask.sample.seed == (uint64_t)-3 + (uint64_t)(i % 2));
        assert_int_equal(r->ask.n_stop_id, 1); /* ignore_eos: only the client's own */
        assert_int_equal(r->ask.stop_id[0], 11);
        assert_int_equal(r->ask.route_ask, ROUTE_ASK_MASK);
        assert_memory_equal(r->ask.route_mask, ((uint8_t[]){0, 1, 1, 0}), 4);
        assert_int_equal(r->ask.priority, -9);
        assert_true((r->ask.prompt_out != NULL) == (i % 2 == 0));
        assert_non_null(r->shared.use.route);
    }
    assert_int_equal(a->stop.n, 2);
    assert_string_equal(a->id, "a_b_____X__y-1");
    assert_true(a->include_stop && !a->skip_special && a->echo && a->return_token_ids && a->logprobs);
    assert_int_equal(a->prompt[0].n_text, 2);
    assert_memory_equal(a->prompt[0].text, "ab", 2);
    ask_free(a);
}

static void a_route_has_a_floor_of_full_layers(void **st)
{
    static const uint8_t plan[MINI_LAYERS] = {ROUTE_OPEN, ROUTE_SPARSE, ROUTE_FULL, ROUTE_SPARSE};
    (void)st;
    for (int n = 0; n <= MINI_LAYERS; n++)
        for (int endpoint = 0; endpoint < 2; endpoint++) {
            char body[128];
            snprintf(body, sizeof body, P "\"route\":{\"min_full_layers\":%d}}", n);
            struct ask *a = accept_body(endpoint ? API_ROUTE : API_COMPLETIONS, body);
            assert_int_equal(a->request[0]->ask.route_ask, ROUTE_ASK_MIN_FULL);
            assert_int_equal(a->request[0]->ask.route_min_full, n);
            ask_free(a);
        }
    mini.info.fixed_route = plan; /* two layers can never be full */
    ask_free(accept_body(API_COMPLETIONS, P "\"route\":{\"min_full_layers\":2}}"));
    static const char three[] = P "\"route\":{\"min_full_layers\":3}}";
    expect_refusal(API_COMPLETIONS, three, sizeof three - 1, ERR_INVALID_VALUE, "route");
    mini.info.fixed_route = NULL;
}

static void routes_by_word_string_and_array(void **st)
{
    static const struct {
        const char *route;
        enum route_ask ask;
        uint8_t mask[MINI_LAYERS];
    } cases[] = {
        {"\"auto\"", ROUTE_ASK_AUTO, {0}},           {"\"full\"", ROUTE_ASK_FULL, {0}},
        {"\"sparse\"", ROUTE_ASK_SPARSE, {0}},       {"\"1001\"", ROUTE_ASK_MASK, {1, 0, 0, 1}},
        {"[0,0,1,1]", ROUTE_ASK_MASK, {0, 0, 1, 1}}, {"null", ROUTE_ASK_DEFAULT, {0}},
    };
    (void)st;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[128];
        snprintf(body, sizeof body, P "\"route\":%s}", cases[i].route);
        struct ask *a = accept_body(API_COMPLETIONS, body);
        assert_int_equal(a->request[0]->ask.route_ask, cases[i].ask);
        if (cases[i].ask == ROUTE_ASK_MASK)
            assert_memory_equal(a->request[0]->ask.route_mask, cases[i].mask, MINI_LAYERS);
        ask_free(a);
    }
}

static void prompts_of_ids_and_echo_of_their_text(void **st)
{
    (void)st;
    struct ask *a =
        accept_body(API_COMPLETIONS, "{\"prompt\":[[75,76],[2,74]],\"echo\":true,\"max_tokens\":0}");
    assert_int_equal(a->n_prompt, 2);
    assert_true(a->scores);
    assert_int_equal(a->request[1]->ask.prompt[0], 2);
    assert_int_equal(a->request[0]->ask.max_new, 0);
    assert_non_null(a->request[0]->ask.prompt_out);
    assert_int_equal(a->prompt[0].n_text, 2);
    assert_memory_equal(a->prompt[0].text, "HI", 2);
    assert_int_equal(a->prompt[1].n_text, strlen("<|im_end|>G"));
    ask_free(a);
}

/* Long texts are refused by their bytes, unless they are cut or only counted. Of the mini model a token is a
 * byte. */
static void what_cannot_fit_is_not_tokenized(void **st)
{
    (void)st;
    char text[600], body[800];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    mini.env.chat.text_bytes_most = 300;
    snprintf(body, sizeof body, "{\"prompt\":\"%.300s\"}", text);
    ask_free(accept_body(API_COMPLETIONS, body));
    snprintf(body, sizeof body, "{\"prompt\":[\"a\",\"%.301s\"]}", text);
    expect_refusal(API_COMPLETIONS, body, strlen(body), ERR_CONTEXT_LENGTH, "prompt");
    snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"%.290s\"}]}", text);
    expect_refusal(API_CHAT, body, strlen(body), ERR_CONTEXT_LENGTH, "messages");
    ask_free(accept_body(API_TOKENIZE, body));
    snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"truncate_prompt_tokens\":5}", text);
    struct ask *a = accept_body(API_COMPLETIONS, body);
    assert_int_equal(a->request[0]->ask.n_prompt, 5);
    ask_free(a);
    snprintf(body, sizeof body, "{\"prompt\":\"%s\"}", text);
    ask_free(accept_body(API_TOKENIZE, body));
    mini.env.chat.text_bytes_most = 0;
}

static void truncation_keeps_the_end(void **st)
{
    (void)st;
    struct ask *a =
        accept_body(API_COMPLETIONS, "{\"prompt\":\"abcdef\",\"truncate_prompt_tokens\":2,\"echo\":true}");
    assert_int_equal(a->request[0]->ask.n_prompt, 2);
    assert_int_equal(a->request[0]->ask.prompt[0], MINI_BYTE + 'e');
    assert_memory_equal(a->prompt[0].text, "ef", 2);
    ask_free(a);
    struct strbuf b;
    strbuf_init(&b);
    strbuf_puts(&b, "{\"truncate_prompt_tokens\":-1,\"max_tokens\":12,\"prompt\":\"");
    for (int i = 0; i < 2 * MINI_LEN; i++) strbuf_putc(&b, 'x');
    strbuf_puts(&b, "\"}");
    a = accept_body(API_COMPLETIONS, b.data);
    assert_int_equal(a->request[0]->ask.n_prompt, MINI_LEN - 12);
    strbuf_fini(&b);
    ask_free(a);
}

static void small_numbers_stay_numbers(void **st)
{
    (void)st;
    struct ask *a = accept_body(
        API_COMPLETIONS,
        P "\"temperature\":1e-310,\"top_p\":1e-320,\"repetition_penalty\":1e-300,\"min_p\":1e-400}");
    const struct sample_row *s = &a->request[0]->ask.sample;
    assert_true(s->temperature >= 0 && s->temperature < 1e-5f);
    assert_true(s->top_p > 0 && s->repetition > 0 && s->min_p == 0);
    assert_true(isnormal(s->top_p) && isnormal(s->repetition));
    ask_free(a);
}

static void seeds(void **st)
{
    (void)st;
    struct ask *a = accept_body(API_COMPLETIONS, "{\"prompt\":[\"a\",\"a\"],\"n\":2}"),
               *b = accept_body(API_COMPLETIONS, "{\"prompt\":\"a\"}");
    for (int i = 1; i < 4; i++) assert_true(a->request[i]->ask.sample.seed != a->request[0]->ask.sample.seed);
    assert_true(a->request[0]->ask.sample.seed != b->request[0]->ask.sample.seed);
    ask_free(a);
    ask_free(b);
    struct prep_env env = mini.env;
    struct err_note note;
    env.seed = 5;
    assert_int_equal(prep_run(&a, &env, API_COMPLETIONS, "{\"prompt\":\"a\"}", 14, &note), OK);
    assert_int_equal(a->request[0]->ask.sample.seed, 5);
    ask_free(a);
}

static void parts_of_content_are_joined(void **st)
{
    (void)st;
    struct ask *a = accept_body(
        API_CHAT,
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}");
    struct ask *b = accept_body(API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\nb\"}]}");
    assert_int_equal(a->prompt[0].n, b->prompt[0].n);
    assert_memory_equal(a->prompt[0].id, b->prompt[0].id, (size_t)a->prompt[0].n * sizeof(int32_t));
    ask_free(a);
    ask_free(b);
}

static void templates_that_refuse_say_why(void **st)
{
    (void)st;
    struct prep_env env = mini.env;
    struct tmpl *t;
    struct ask *a;
    struct err_note note;
    const char src[] = "{{ raise_exception('roles must alternate') }}", body[] = M "\"n\":1}";
    assert_int_equal(tmpl_compile(&t, src, sizeof src - 1, &note), OK);
    env.chat.tmpl = t;
    assert_int_equal(prep_run(&a, &env, API_CHAT, body, sizeof body - 1, &note), ERR_TEMPLATE);
    assert_string_equal(note.param, "messages");
    assert_non_null(strstr(note.text, "roles must alternate"));
    env.chat.tmpl = NULL;
    assert_int_equal(prep_run(&a, &env, API_CHAT, body, sizeof body - 1, &note), ERR_UNSUPPORTED);
    tmpl_free(t);
}

static void tokenize_and_back(void **st)
{
    (void)st;
    struct ask *a = accept_body(API_TOKENIZE, "{\"prompt\":\"a<|im_end|>\",\"return_token_strs\":true}");
    assert_string_equal(
        a->answer.data,
        "{\"count\":2,\"max_model_len\":512,\"tokens\":[100,2],\"token_strs\":[\"a\",\"<|im_end|>\"]}");
    ask_free(a);
    a = accept_body(
        API_TOKENIZE,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"<|im_end|>\"}],\"add_generation_prompt\":false}");
    assert_non_null(strstr(a->answer.data, "\"token_strs\":null"));
    ask_free(a);
    a = accept_body(API_DETOKENIZE, "{\"tokens\":[100,2]}");
    assert_string_equal(a->answer.data, "{\"prompt\":\"a<|im_end|>\"}");
    ask_free(a);
    a = accept_body(API_DETOKENIZE, "{\"tokens\":[]}");
    assert_string_equal(a->answer.data, "{\"prompt\":\"\"}");
    ask_free(a);
}

/* What an echo's tokens begin at: code points of the returned text that end before them. */
static void offsets_of_an_echo_count_code_points(void **st)
{
    (void)st;
    static const struct {
        const char *prompt;
        int n, offset[8], n_char;
    } t[] = {
        {"\"a\xc3\xbcz\"", 4, {0, 1, 1, 2}, 3}, /* two bytes, two tokens, one character */
        {"\"\xf0\x9f\x98\x80"
         "b\"",
         5,
         {0, 0, 0, 0, 1},
         2},
        {"\"a<|im_end|>b\"", 3, {0, 1, 11}, 12},
        {"[100,198,191,103]", 4, {0, 1, 1, 2}, 3}, /* ids: a, two of one character, d */
        {"[100,198,103]", 3, {0, 1, 2}, 3},        /* half a character is one U+FFFD */
        {"[198,198,103]", 3, {0, 1, 2}, 3},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char body[160];
        snprintf(body, sizeof body, "{\"prompt\":%s,\"echo\":true,\"logprobs\":0}", t[i].prompt);
        struct ask *a = accept_body(API_COMPLETIONS, body);
        assert_int_equal(a->prompt[0].n, t[i].n);
        for (int k = 0; k < t[i].n; k++)
            if (a->prompt[0].offset[k] != t[i].offset[k])
                fail_msg("%s: token %d at %d", t[i].prompt, k, (int)a->prompt[0].offset[k]);
        assert_int_equal(a->prompt[0].n_char, t[i].n_char);
        ask_free(a);
    }
}

/* The prompt's scores: once for all choices, with as many alternatives as the more demanding field names. */
static void prompt_logprobs_are_asked_of_the_first_choice(void **st)
{
    (void)st;
    struct ask *a = accept_body(API_COMPLETIONS, P "\"n\":2,\"prompt_logprobs\":7,\"logprobs\":3}");
    assert_non_null(a->request[0]->ask.prompt_out);
    assert_null(a->request[1]->ask.prompt_out);
    assert_int_equal(a->request[0]->ask.prompt_top, 7);
    assert_int_equal(a->request[0]->ask.sample.n_top, 3);
    ask_free(a);
    a = accept_body(API_CHAT, M "\"prompt_logprobs\":0}");
    assert_non_null(a->request[0]->ask.prompt_out);
    assert_int_equal(a->prompt_logprobs, 0);
    ask_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_of_an_echo_count_code_points),
        cmocka_unit_test(prompt_logprobs_are_asked_of_the_first_choice),
        cmocka_unit_test(wrong_fields_are_refused_by_name),
        cmocka_unit_test(any_kind_of_value_is_judged_under_its_name),
        cmocka_unit_test(values_beyond_their_size_are_refused),
        cmocka_unit_test(defaults_are_openais),
        cmocka_unit_test(a_length_has_two_names),
        cmocka_unit_test(the_models_own_defaults_stand_between),
        cmocka_unit_test(every_field_arrives),
        cmocka_unit_test(routes_by_word_string_and_array),
        cmocka_unit_test(a_route_has_a_floor_of_full_layers),
        cmocka_unit_test(prompts_of_ids_and_echo_of_their_text),
        cmocka_unit_test(what_cannot_fit_is_not_tokenized),
        cmocka_unit_test(truncation_keeps_the_end),
        cmocka_unit_test(small_numbers_stay_numbers),
        cmocka_unit_test(seeds),
        cmocka_unit_test(parts_of_content_are_joined),
        cmocka_unit_test(templates_that_refuse_say_why),
        cmocka_unit_test(tokenize_and_back),
    };
    return cmocka_run_group_tests(tests, open_mini, close_mini);
}
