/* path: where in a body the reader stands, and errors told under it. See in.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "server/json/in.h"

/* Appends ".what", or "what" where nothing stands before it or it is an index. */
static void path_add(char *path, size_t size, const char *what)
{
    const size_t at = strlen(path);
    snprintf(path + at, size - at, "%s%s", at == 0 || what[0] == '[' ? "" : ".", what);
}

size_t json_in_enter(struct json_in *in, const char *fmt, ...)
{
    char part[sizeof in->path];
    const size_t mark = strlen(in->path);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(part, sizeof part, fmt, ap);
    va_end(ap);
    path_add(in->path, sizeof in->path, part);
    return mark;
}

void json_in_leave(struct json_in *in, size_t mark)
{
    CHECK(mark <= strlen(in->path));
    in->path[mark] = '\0';
}

enum err json_in_fail(struct json_in *in, enum err e, const char *name, const char *fmt, ...)
{
    char param[sizeof in->path];
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(param, sizeof param, "%s", in->path);
    if (name != NULL) {
        path_add(param, sizeof param, name);
    }
    return err_set(in->note, e, param, "%s %s", param[0] != '\0' ? param : "the body", text);
}
