/* account: the tensors that may stay unread, as a table. A star stands for any run of characters. */
#include "engine/account.h"

#include "base/log.h"

enum when { ALWAYS, TIED, ROUTED };

static const struct {
    const char *name;
    enum when when;
} of_no_use[] = {
    {"*.rotary_emb.inv_freq", ALWAYS}, /* follows from the configuration; Llama 2's first files have it */
    {"rotary_emb.inv_freq", ALWAYS},
    {"blk.*.attn_rot_embd.weight", ALWAYS}, /* the same in old GGUF files */
    {"lm_head.weight", TIED},               /* a copy of the embeddings */
    {"*.attn_mask_log_alphas", ROUTED},     /* of training alone, as the next */
    {"*sparsity_lambda*", ROUTED},
    {"*.mask_allocator.*", ROUTED}, /* with a router file, or without sparse layers */
};

static bool fits(const char *name, const char *star)
{
    for (; *star != '*'; name++, star++)
        if (*name != *star || !*star) return !*name && !*star;
    for (star++;; name++) {
        if (fits(name, star)) return true;
        if (!*name) return false;
    }
}

static bool is_of_no_use(const char *name, const struct spec *s)
{
    const bool on[] = {[ALWAYS] = true, [TIED] = s->tied == 1, [ROUTED] = s->family->router};
    for (size_t i = 0; i < sizeof of_no_use / sizeof *of_no_use; i++)
        if (on[of_no_use[i].when] && fits(name, of_no_use[i].name)) return true;
    return false;
}

enum err account_check(const struct source *src, const struct spec *s, struct err_note *note)
{
    struct source_name t;
    const char *first = NULL;
    int n = 0;
    for (int at = 0; source_unused(src, &at, &t);) {
        if (!is_of_no_use(t.name, s))
            return err_set(note, ERR_MODEL_FILE, source_path(src),
                           "%s: tensor %s: the %s family has no such tensor, and answers without it would be "
                           "wrong",
                           t.path, t.name, s->family->name);
        if (n++ == 0) first = t.name;
    }
    if (n) log_line(LOG_INFO, "tensors of no use", "n=%d first=%s", n, first);
    return OK;
}
