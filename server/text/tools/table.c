/* table: the rows. Each is what the family's own chat template renders. */
#include <string.h>

#include "server/text/tools/tools.h"

#define NO_OBJECT .name_key = "", .args_key = ""
#define NO_NAME   .name_open = "", .name_close = ""
#define NO_TAGS   .key_open = "", .key_close = "", .value_close = "", .args_close = ""
#define NO_FRAME  .section_open = "", .section_close = ""
#define THINK     .think_open = "<think>", .think_close = "</think>"

const struct tool_format tool_formats[] = {
    /* Qwen 2.5, Qwen 3, Hermes, SmolLM3 and many more */
    {.name = "hermes",
     .style = TOOL_OBJECT,
     NO_FRAME,
     .call_open = "<tool_call>\n",
     .call_close = "\n</tool_call>",
     .between = "\n",
     .name_key = "name",
     .args_key = "arguments",
     NO_NAME,
     NO_TAGS,
     THINK},
    /* Qwen3-Coder */
    {.name = "qwen3_coder",
     .style = TOOL_TAGGED,
     NO_FRAME,
     .call_open = "<tool_call>\n",
     .call_close = "</tool_call>",
     .between = "\n",
     NO_OBJECT,
     .name_open = "<function=",
     .name_close = ">\n",
     .key_open = "<parameter=",
     .key_close = ">\n",
     .value_close = "\n</parameter>\n",
     .args_close = "</function>\n",
     THINK},
    /* Llama 3.1 and 3.2; the mark of the built-in interpreter may stand in front */
    {.name = "llama3_json",
     .style = TOOL_OBJECT,
     .bare = true,
     .section_open = "<|python_tag|>",
     .section_close = "",
     .call_open = "",
     .call_close = "",
     .between = "; ",
     .name_key = "name",
     .args_key = "parameters",
     NO_NAME,
     NO_TAGS,
     THINK},
    /* Llama 3.2 and 4 */
    {.name = "pythonic",
     .style = TOOL_PYTHON,
     .list = true,
     .bare = true,
     .section_open = "<|python_start|>",
     .section_close = "<|python_end|>",
     .call_open = "",
     .call_close = "",
     .between = ", ",
     NO_OBJECT,
     NO_NAME,
     NO_TAGS,
     THINK},
    /* Mistral up to 2024 */
    {.name = "mistral",
     .style = TOOL_OBJECT,
     .list = true,
     .id = TOOL_ID_NINE,
     .section_open = "[TOOL_CALLS]",
     .section_close = "",
     .call_open = "",
     .call_close = "",
     .between = ", ",
     .name_key = "name",
     .args_key = "arguments",
     NO_NAME,
     NO_TAGS,
     .think_open = "[THINK]",
     .think_close = "[/THINK]"},
    /* Mistral since 2025: Devstral, Magistral, Ministral 3 */
    {.name = "mistral_args",
     .style = TOOL_NAMED,
     .id = TOOL_ID_NINE,
     NO_FRAME,
     .call_open = "[TOOL_CALLS]",
     .call_close = "",
     .between = "",
     NO_OBJECT,
     .name_open = "",
     .name_close = "[ARGS]",
     NO_TAGS,
     .think_open = "[THINK]",
     .think_close = "[/THINK]"},
    /* Mistral Small 3.2 */
    {.name = "mistral_id",
     .style = TOOL_NAMED,
     .id = TOOL_ID_NINE,
     NO_FRAME,
     .call_open = "[TOOL_CALLS]",
     .call_close = "",
     .between = "",
     NO_OBJECT,
     .name_open = "",
     .name_close = "[CALL_ID]\2[ARGS]",
     NO_TAGS,
     .think_open = "[THINK]",
     .think_close = "[/THINK]"},
    /* DeepSeek V3, R1 and their 0324 and 0528 */
    {.name = "deepseek_v3",
     .style = TOOL_NAMED,
     .section_open = "<｜tool▁calls▁begin｜>",
     .section_close = "<｜tool▁calls▁end｜>",
     .call_open = "<｜tool▁call▁begin｜>",
     .call_close = "\n```<｜tool▁call▁end｜>",
     .between = "\n",
     NO_OBJECT,
     .name_open = "function<｜tool▁sep｜>",
     .name_close = "\n```json\n",
     NO_TAGS,
     THINK},
    /* DeepSeek V3.1 */
    {.name = "deepseek_v31",
     .style = TOOL_NAMED,
     .section_open = "<｜tool▁calls▁begin｜>",
     .section_close = "<｜tool▁calls▁end｜>",
     .call_open = "<｜tool▁call▁begin｜>",
     .call_close = "<｜tool▁call▁end｜>",
     .between = "",
     NO_OBJECT,
     .name_open = "",
     .name_close = "<｜tool▁sep｜>",
     NO_TAGS,
     THINK},
    /* GLM 4.5 and 4.6 */
    {.name = "glm45",
     .style = TOOL_TAGGED,
     NO_FRAME,
     .call_open = "<tool_call>",
     .call_close = "</tool_call>",
     .between = "\n",
     NO_OBJECT,
     .name_open = "",
     .name_close = "\n",
     .key_open = "<arg_key>",
     .key_close = "</arg_key>\n<arg_value>",
     .value_close = "</arg_value>\n",
     .args_close = "",
     THINK},
    {.name = "kimi_k2",
     .style = TOOL_NAMED,
     .id = TOOL_ID_INDEX,
     .section_open = "<|tool_calls_section_begin|>",
     .section_close = "<|tool_calls_section_end|>",
     .call_open = "<|tool_call_begin|>",
     .call_close = "<|tool_call_end|>",
     .between = "",
     NO_OBJECT,
     .name_open = "functions.",
     .name_close = ":\1<|tool_call_argument_begin|>",
     NO_TAGS,
     THINK},
    /* gpt-oss; what stands between <|channel|> or <|start|> and <|message|> is read by channel.c */
    {.name = "harmony",
     .style = TOOL_CHANNEL,
     .section_open = "",
     .section_close = "",
     .call_open = "<|start|>assistant<|channel|>commentary to=functions.",
     .call_close = "<|call|>",
     .between = "",
     NO_OBJECT,
     .name_open = "",
     .name_close = " <|constrain|>json<|message|>",
     NO_TAGS,
     .think_open = "<|channel|>analysis<|message|>",
     .think_close = "<|end|>"},
    /* SmolLM2 1.7B */
    {.name = "smollm",
     .style = TOOL_OBJECT,
     .list = true,
     .section_open = "<tool_call>",
     .section_close = "</tool_call>",
     .call_open = "",
     .call_close = "",
     .between = ", ",
     .name_key = "name",
     .args_key = "arguments",
     NO_NAME,
     NO_TAGS,
     THINK},
    {.name = NULL},
};

bool tool_format_marks(const struct tool_format *f, bool calls, const char *p, size_t n)
{
    static const char *const channel[] = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>",
                                          "<|end|>",   "<|call|>",    "<|return|>"};
    const char *const mark[] = {f->think_open, f->think_close, f->section_open, f->section_close,
                                f->call_open,  f->call_close,  f->name_open,    f->name_close,
                                f->key_open,   f->key_close,   f->value_close,  f->args_close};
    if (n == 0) return false;
    for (size_t i = 0; i < (calls ? sizeof mark / sizeof *mark : 2); i++)
        if (memmem(mark[i], strlen(mark[i]), p, n)) return true;
    for (size_t i = 0; f->style == TOOL_CHANNEL && i < sizeof channel / sizeof *channel; i++)
        if (strlen(channel[i]) == n && !memcmp(channel[i], p, n)) return true;
    return false;
}

const struct tool *tool_set_find(const struct tool_set *s, const char *name, size_t n)
{
    for (int i = 0; s && i < s->n; i++)
        if (s->tool[i].n_name == n && !memcmp(s->tool[i].name, name, n)) return &s->tool[i];
    return NULL;
}
