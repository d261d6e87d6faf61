/* crowd: connections that wait for their clients, by address, and which of them gives way where there is no
 * room for one more. Pure: no socket, no clock. Loop thread only.
 *
 * Who has sent a whole request waits no more, so it never gives way. Of those that wait, one of the address
 * with the most goes: nobody takes all places from the others. Of that address it is the one that
 * loses least: first one that is between requests or has sent nothing in all its grace, then the one whose
 * grace ends first, or has ended first. Among addresses with as many, the first end of a grace decides. So a
 * newcomer stays at least until its grace is over, or as many others have come after it as there are places
 * that wait. */
#ifndef FLUXD_SERVER_HTTP_CROWD_H
#define FLUXD_SERVER_HTTP_CROWD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "server/http/peer.h"

/* What a connection waits for. Between requests a client knows that it may be closed; all others have the
 * same grace, since whatever had more would be what an attacker sends. */
enum crowd_for { CROWD_NEXT, CROWD_FIRST, CROWD_HEAD, CROWD_BODY, N_CROWD };
enum { CROWD_GRACE_MS = 1000 };

struct crowd_group;

struct crowd_member {
    struct list node; /* in its group, while it waits */
    struct crowd_group *group;
    enum crowd_for what;
    int64_t until_ns; /* its grace */
    bool waits, served;
};

struct crowd {
    struct crowd_group **bucket; /* [n_bucket], a power of two */
    struct crowd_group **heap;   /* [n_heap] those with somebody who waits, who gives way first on top */
    unsigned n_bucket;
    int n_heap, n_group, room, n_served;
    uint8_t key[16];
};

bool crowd_init(struct crowd *w, int n_most); /* n_most: about so many members; false: no memory */
void crowd_fini(struct crowd *w);             /* all have left */

/* who NULL: an address of its own. False: no memory. A member that moves and finds no memory stays. */
bool crowd_enter(struct crowd *w, struct crowd_member *m, const struct peer_who *who);
bool crowd_move(struct crowd *w, struct crowd_member *m, const struct peer_who *who);
void crowd_leave(struct crowd *w, struct crowd_member *m); /* of one that never entered: nothing */

void crowd_wait(struct crowd *w, struct crowd_member *m, enum crowd_for what, int64_t now_ns);
void crowd_go_on(struct crowd *w,
                 struct crowd_member *m); /* what it waited for is there, maybe not read yet */
void crowd_serve(struct crowd *w, struct crowd_member *m); /* its request is whole */

struct crowd_member *crowd_first(const struct crowd *w,
                                 int64_t now_ns); /* who gives way first; NULL: nobody waits */
int crowd_served(const struct crowd_member *m);   /* those of its address whose requests are whole */

#endif
