/* prep_text: see prep_text.h. Shapes as vLLM's. */
#include "server/prep_text.h"

#include "server/json_out.h"

static void write_tokens(const struct prep_env *env, const struct params *p, const struct token_vec *ids, struct strbuf *answer)
{
    struct json_out o;
    json_out_init(&o, answer);
    json_out_object(&o, NULL);
    json_out_int(&o, "count", (int64_t)ids->n);
    json_out_int(&o, "max_model_len", env->model->max_len);
    json_out_array(&o, "tokens");
    for (size_t i = 0; i < ids->n; i++)
        json_out_int(&o, NULL, ids->id[i]);
    json_out_end(&o);
    if (p->return_token_strs)
        json_out_array(&o, "token_strs");
    else
        json_out_null(&o, "token_strs");
    for (size_t i = 0; p->return_token_strs && i < ids->n; i++) {
        size_t      n;
        const char *s = tokenizer_bytes(env->chat.tokenizer, ids->id[i], &n);
        json_out_string(&o, NULL, s, n);
    }
    if (p->return_token_strs)
        json_out_end(&o);
    json_out_end(&o);
}

enum err prep_tokenize(const struct prep_env *env, const struct params *p, struct json_in *in, struct strbuf *answer)
{
    struct token_vec ids = {0};
    enum err         e = OK;
    if (p->messages) {
        struct chat_prompt_env chat = env->chat;
        chat.text_bytes_most = 0; /* tokens are counted here, however many */
        e = chat_prompt_tokens(&chat, p, in, &ids, NULL);
    } else {
        const struct json_prompt *text = &p->prompt.v[0];
        e = !text->text.p ? json_in_fail(in, ERR_INVALID_TYPE, "prompt", "must be a string")
                          : tokenizer_encode(env->chat.tokenizer, text->text.p, text->text.n,
                                             TOKENIZE_SPECIAL | (p->add_special ? TOKENIZE_ADD : 0), &ids, in->note);
    }
    if (!e)
        write_tokens(env, p, &ids, answer);
    token_vec_fini(&ids);
    return !e && strbuf_failed(answer) ? err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM)) : e;
}

enum err prep_detokenize(const struct prep_env *env, const struct params *p, struct json_in *in, struct strbuf *answer)
{
    struct strbuf text;
    strbuf_init(&text);
    for (size_t i = 0; i < p->tokens.n; i++) {
        size_t      n;
        const char *s = tokenizer_bytes(env->chat.tokenizer, p->tokens.v[i], &n);
        strbuf_put(&text, s, n);
    }
    struct json_out o;
    json_out_init(&o, answer);
    json_out_object(&o, NULL);
    json_out_string(&o, "prompt", text.data ? text.data : "", text.len);
    json_out_end(&o);
    const bool failed = strbuf_failed(&text) || strbuf_failed(answer);
    strbuf_fini(&text);
    return failed ? err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM)) : OK;
}
