/* ends: the texts, by the model families that end turns with them. Only special and added tokens count: what
 * is written like one but is text ends nothing. */
#include "server/text/ends.h"

#include <string.h>

#include "server/text/tokenizer.h"

static const char *const ends[] = {
    "<|im_end|>",      /* ChatML: Qwen, SmolLM2, Yi, ... */
    "<|eot_id|>",      /* Llama 3: turn */
    "<|eom_id|>",      /* Llama 3: message before a tool's answer */
    "<|end_of_text|>", /* Llama 3: text; Granite */
    "<|eot|>",         /* Llama 4 */
    "<|eom|>",
    "<|end|>",               /* Phi-3 */
    "<|endoftext|>",         /* GPT-2, Qwen */
    "<end_of_turn>",         /* Gemma */
    "<|END_OF_TURN_TOKEN|>", /* Command R */
    "<|end_of_turn|>",       /* OpenChat */
    "<end_of_utterance>",    /* SmolVLM */
    "<\xef\xbd\x9c"
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", /* DeepSeek */
    "</s>",                                               /* Llama 2, Mistral */
};

bool ends_is_marker(const char *text, size_t n)
{
    for (size_t i = 0; i + 1 < sizeof ends / sizeof *ends; i++) /* the last one is struck text in HTML too */
        if (strlen(ends[i]) == n && memcmp(ends[i], text, n) == 0) return true;
    return false;
}

int ends_add(const struct tokenizer *t, int32_t *id, int n, int most)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends && n < most; i++) {
        const int32_t end = tokenizer_find(t, ends[i], strlen(ends[i]));
        bool known = end < 0 || !tokenizer_is_whole(t, end);
        for (int k = 0; k < n; k++) known |= id[k] == end;
        if (!known) id[n++] = end;
    }
    return n;
}
