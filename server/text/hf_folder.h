/* hf_folder: a vocabulary as a Hugging Face tokenizer folder, for client programs that want one where the
 * model is a GGUF file: tokenizer.json and tokenizer_config.json. */
#ifndef FLUXD_SERVER_TEXT_HF_FOLDER_H
#define FLUXD_SERVER_TEXT_HF_FOLDER_H

#include "base/err.h"
#include "base/strbuf.h"
#include "server/text/assets.h"

/* ERR_MODEL_FILE: a vocabulary that these files cannot say (sentencepiece's). ERR_NOMEM. */
enum err hf_tokenizer_json(const struct text_assets *t, struct strbuf *out, struct err_note *note);
void hf_tokenizer_config_json(const struct text_assets *t, struct strbuf *out);

/* Both, in dir, which is made if it is not there. A file that is there already is left alone: ERR_CONFIG. */
enum err hf_folder_write(const struct text_assets *t, const char *dir, struct err_note *note);

#endif
