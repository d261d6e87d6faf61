/* loopmemory: libuv's allocator. Where memory is short libuv aborts, from inside functions that cannot fail;
 * the process ends with a line and an exit code of its own instead. Any thread. */
#ifndef FLUXD_SERVER_LOOPMEMORY_H
#define FLUXD_SERVER_LOOPMEMORY_H

void loopmemory_hold(int exit_code); /* before libuv is first used */

#endif
