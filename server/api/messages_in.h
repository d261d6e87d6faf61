/* messages_in: the messages of POST /v1/messages (Anthropic's blocks) as the chat has them, so that one way
 * leads from messages to a prompt. Pure; any thread. */
#ifndef FLUXD_SERVER_API_MESSAGES_IN_H
#define FLUXD_SERVER_API_MESSAGES_IN_H

#include "server/api/params.h"

/* Puts p->messages (and p->system before them) in the chat's shape, in memory of `in`. drop: beginnings of
 * lines, separated by commas; lines at the head of the system text that begin so are left out, n_dropped
 * counts them. Refusals name the client's own field. */
enum err messages_in(struct params *p, struct json_in *in, const char *drop, int *n_dropped);

#endif
