/* check: the last words go through the log, because that is the one writer that a blocked stderr cannot
 * stop. */
#include "base/check.h"

#include <stdlib.h>

#include "base/log.h"

void check_failed(const char *file, int line, const char *what)
{
    log_line(LOG_ERROR, "check failed", "at=%s:%d what=%s", file, line, what);
    abort();
}
