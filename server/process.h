/* process: what the kernel says about this process (any thread), and what is settled with it before anything
 * is opened (main, alone). */
#ifndef FLUXD_SERVER_PROCESS_H
#define FLUXD_SERVER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct process_use {
    double cpu_s, start_s; /* start: seconds since the epoch */
    int64_t resident_bytes, virtual_bytes, open_fds, max_fds;
};

void process_look(struct process_use *out); /* fields that cannot be read are 0 */
int64_t process_resident_bytes(void);

/* Where a standard file is closed, the next one opened would take its number, and the log would be written
 * into a socket: /dev/null takes its place. False: that cannot be opened. */
bool process_hold_standard_files(void);
/* Starts the program anew with threads that spin less while they wait for each other; returns where that is
 * done or cannot be. */
void process_spin_less(char **argv);
/* Signals that mean nothing are ignored; as many files may be open as the hard limit says. */
void process_settle(void);
/* Whether n more files can be opened now. */
bool process_can_open(int n);

#endif
