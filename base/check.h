/* check: what only a bug can break. On in release builds; never used on what a client or a file can send. */
#ifndef FLUXD_BASE_CHECK_H
#define FLUXD_BASE_CHECK_H

__attribute__((noreturn, cold)) void check_failed(const char *file, int line, const char *what);

#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))

#endif
