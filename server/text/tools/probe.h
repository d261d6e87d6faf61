/* probe: what a chat template does of tools, found by rendering it: conversations that differ in one thing
 * are compared, and the row is the one whose calls stand in the difference. Once, at start. */
#ifndef FLUXD_SERVER_TEXT_TOOLS_PROBE_H
#define FLUXD_SERVER_TEXT_TOOLS_PROBE_H

#include "server/jinja/jinja.h"
#include "server/text/tools/tools.h"

struct tool_template {
    const struct tool_format *format; /* the first row where the template shows none */
    bool tools;                       /* it tells the model of the tools */
    bool calls;                       /* it renders past calls */
    bool system;                      /* it has system messages */
    bool args_as_text;                /* it takes arguments as a string */
};

/* t NULL: no template. ERR_NOMEM; a template that fails to render knows nothing. */
enum err tool_probe(struct tool_template *out, const struct tmpl *t);

#endif
