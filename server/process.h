/* process: what the kernel says about this process. Any thread. */
#ifndef FLUXD_SERVER_PROCESS_H
#define FLUXD_SERVER_PROCESS_H

#include <stdint.h>

struct process_use {
    double cpu_s, start_s; /* start: seconds since the epoch */
    int64_t resident_bytes, virtual_bytes, open_fds, max_fds;
};

void process_look(struct process_use *out); /* fields that cannot be read are 0 */
int64_t process_resident_bytes(void);

#endif
