/* prep_text: see prep_text.h. */
#include "server/api/prep_text.h"

#include "server/json/out.h"

/* What fits is written here; of a longer answer the rest waits for its reader. */
static enum err begin(struct ask *a, enum text_answer_kind kind, const struct prep_env *env,
                      struct token_vec *ids, struct json_in *in)
{
    a->rest = text_answer_new(kind, env->chat.tokenizer, env->model->max_len, ids);
    bool more = a->rest != NULL;
    while (more && !strbuf_failed(&a->answer) && a->answer.len < TEXT_ANSWER_WHOLE_BYTES)
        more = text_answer_next(a->rest, &a->answer);
    if (!a->rest || strbuf_failed(&a->answer))
        return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
    if (!more) {
        text_answer_free(a->rest);
        a->rest = NULL;
    }
    return OK;
}

enum err prep_tokenize(const struct prep_env *env, const struct params *p, struct json_in *in, struct ask *a)
{
    struct chat_prompt_env chat = env->chat;
    chat.text_bytes_most = 0; /* tokens are counted here, more than the model takes too */
    chat.tokenize_bytes_most = env->tokenize_bytes_most;
    struct token_vec ids = {0};
    const struct json_prompt *text = p->messages ? NULL : &p->prompt.v[0];
    enum err e = OK;
    if (!text)
        e = chat_prompt_tokens(&chat, p, in, &ids, NULL);
    else if (!text->text.p)
        e = json_in_fail(in, ERR_INVALID_TYPE, "prompt", "must be a string");
    else
        e = chat_prompt_may_fit(&chat, p, in, "prompt", text->text.n);
    if (!e && text)
        e = tokenizer_encode(chat.tokenizer, text->text.p, text->text.n,
                             TOKENIZE_SPECIAL | (p->add_special ? TOKENIZE_ADD : 0), &ids, in->note);
    if (!e)
        return begin(a, p->return_token_strs ? TEXT_ANSWER_IDS_AND_TEXTS : TEXT_ANSWER_IDS, env, &ids, in);
    token_vec_fini(&ids);
    return e;
}

/* The ids of a chat's prompt, more than the model takes too. */
static enum err count_ids(const struct prep_env *env, const struct params *p, struct json_in *in,
                          struct token_vec *ids)
{
    struct chat_prompt_env chat = env->chat;
    chat.text_bytes_most = 0;
    chat.tokenize_bytes_most = env->tokenize_bytes_most;
    return chat_prompt_tokens(&chat, p, in, ids, NULL);
}

static enum err told(const struct ask *a, struct json_in *in)
{
    return strbuf_failed(&a->answer) ? err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM)) : OK;
}

enum err prep_count(const struct prep_env *env, const struct params *p, struct json_in *in, struct ask *a,
                    const char *object)
{
    struct token_vec ids = {0};
    struct json_out o;
    enum err e = count_ids(env, p, in, &ids);
    if (!e) {
        json_out_init(&o, &a->answer);
        json_out_object(&o, NULL);
        if (object) json_out_text(&o, "object", object);
        json_out_int(&o, "input_tokens", (int64_t)ids.n);
        json_out_end(&o);
        e = told(a, in);
    }
    token_vec_fini(&ids);
    return e;
}

enum err prep_render(const struct prep_env *env, const struct params *p, struct json_in *in, struct ask *a)
{
    struct token_vec ids = {0};
    struct json_out o;
    struct strbuf text;
    strbuf_init(&text);
    enum err e = count_ids(env, p, in, &ids);
    for (size_t i = 0; !e && i < ids.n; i++) {
        size_t n;
        const char *s = tokenizer_bytes(env->chat.tokenizer, ids.id[i], &n);
        strbuf_put(&text, s, n);
    }
    if (!e) {
        json_out_init(&o, &a->answer);
        json_out_object(&o, NULL);
        json_out_text(&o, "object", "chat.completion.render");
        json_out_text(&o, "model", env->model_id);
        json_out_string(&o, "prompt", text.data ? text.data : "", text.len);
        json_out_int(&o, "prompt_tokens", (int64_t)ids.n);
        json_out_int(&o, "max_model_len", env->model->max_len);
        json_out_end(&o);
        if (strbuf_failed(&text)) a->answer.failed = true;
        e = told(a, in);
    }
    strbuf_fini(&text);
    token_vec_fini(&ids);
    return e;
}

enum err prep_detokenize(const struct prep_env *env, const struct params *p, struct json_in *in,
                         struct ask *a)
{
    if (p->tokens.n > env->detokenize_ids_most)
        return json_in_fail(in, ERR_INVALID_VALUE, "tokens",
                            "has %zu ids, above the %zu of --max-detokenize-ids: send them in parts",
                            p->tokens.n, env->detokenize_ids_most);
    struct token_vec ids = {0};
    for (size_t i = 0; i < p->tokens.n; i++)
        if (!token_vec_push(&ids, p->tokens.v[i])) {
            token_vec_fini(&ids);
            return err_set(in->note, ERR_NOMEM, NULL, "%s", err_text(ERR_NOMEM));
        }
    return begin(a, TEXT_ANSWER_TEXT, env, &ids, in);
}
