/* place: where a server listens, or is found, as an operator writes it: numeric addresses (IPv6 with or
 * without brackets), names, and unix:/path, separated by commas. Pure. */
#ifndef FLUXD_SERVER_HTTP_PLACE_H
#define FLUXD_SERVER_HTTP_PLACE_H

#include <stdbool.h>

#include "base/err.h"

enum { PLACE_NAME_BYTES = 256, PLACES_MOST = 16 };

struct place {
    bool is_path;                /* of a unix socket */
    char name[PLACE_NAME_BYTES]; /* without unix: and brackets */
};

/* The next place of the list; false at its end. */
bool place_next(const char **list, struct place *out);

const char *
place_reach(const struct place *p); /* where a server is found that listens there: everywhere is here too */

/* ERR_CONFIG says what is wrong with which part. */
enum err place_check_list(const char *list, struct err_note *note);
enum err place_check_mode(const char *octal, struct err_note *note); /* --socket-mode */
int place_mode(const char *octal);                                   /* of a checked one */

#endif
