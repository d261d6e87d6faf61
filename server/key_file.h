/* key_file: the API keys that an operator gives: a file of lines, and the variable FLUXD_API_KEY. */
#ifndef FLUXD_SERVER_KEY_FILE_H
#define FLUXD_SERVER_KEY_FILE_H

#include "base/err.h"
#include "server/http/account.h"

/* path "" and variable NULL are none. All or nothing; ERR_CONFIG names the file and its line. A file that
 * holds no key is one too: it would open the server to all. Free with key_list_free. */
enum err key_file_read(struct key_list *out, const char *path, const char *variable, struct err_note *note);
void key_list_free(struct key_list *l);

#endif
