/* starve: which calls can be made to fail; see starve_app.c and torture_calls.c. */
#ifndef FLUXD_TESTS_SERVER_STARVE_H
#define FLUXD_TESTS_SERVER_STARVE_H

#include <stdbool.h>
#include <stdint.h>

enum starve_call { CALL_MEMORY, CALL_FILE, CALL_MAP, CALL_SOCKET, CALL_THREAD, CALL_POLL, CALL_UV };
enum { STARVE_FRAMES = 6 };

/* Notes the call that frame (__builtin_frame_address(0)) stands in; whether it has to fail. */
bool starve_fails(enum starve_call kind, void *const *frame);

#endif
