/* internal: what the files of the scheduler share behind scheduler.h. Engine thread, but for the fields
 * between the threads. */
#ifndef FLUXD_SCHEDULER_INTERNAL_H
#define FLUXD_SCHEDULER_INTERNAL_H

#include "base/mailbox.h"
#include "scheduler/admit.h"
#include "scheduler/apply.h"
#include "scheduler/masks.h"
#include "scheduler/scheduler.h"
#include "scheduler/swap.h"

struct scheduler {
    struct scheduler_conf conf;
    const struct engine_info *info;
    struct sched_core core;
    struct scheduler_stats stats;
    struct cost cost;
    struct swap *swap;
    struct masks *masks;
    struct mailbox *inbox, *outbox;
    struct list waiting; /* requests, by priority, then arrival plus predicted time */
    struct list by_age;  /* the same, in the order in which they began to wait */
    int n_by_age;
    struct list parked; /* requests, in the order in which they were */
    int n_parked;
    int n_since_aged;             /* admissions since an overdue one's, counted to AGED_EVERY - 1 */
    uint32_t n_piece_step;        /* steps with pieces */
    struct seq *seq;              /* [max_seqs] */
    struct seq **slot;            /* [max_seqs] pointers into seq, for plan.c */
    uint8_t *route;               /* default route [L] */
    int64_t *layer_pages;         /* [L] scratch of admission */
    uint32_t *mask;               /* [max_seqs] masks */
    uint64_t turn;                /* admissions */
    int prefill_tok;              /* prompt tokens whose residual stream is held */
    double served_ms[ADMIT_KEYS]; /* predicted time given to each key, lifted when it comes back */
    int key_waiting[ADMIT_KEYS];
    double served_now;   /* of the key admitted last */
    double waiting_ms;   /* predicted time of all that wait */
    int64_t look_ns;     /* deadlines were last looked at */
    int64_t step_end_ns; /* of the step in the turn before; 0: there was none */
    /* one step's buffers */
    struct plan plan;
    struct batch batch;
    struct step_out out;
    /* between the threads */
    _Atomic int retry_s;
    _Atomic int64_t in_flight;
    atomic_bool draining;
    atomic_int stop; /* enum err + 1 once scheduler_stop was called */
};

/* --- queue.c: who waits, and who comes in */
void queue_put(struct scheduler *s, struct request *r); /* new from the inbox */
void queue_put_back(struct scheduler *s,
                    struct seq *q); /* preempted: goes before all of its priority that are new */
void queue_drop(struct scheduler *s, struct request *r); /* out of its list, for whatever reason */
void queue_admit(struct scheduler *s);
void queue_extend_promises(struct scheduler *s);
int queue_room(const struct scheduler *s); /* pages that are promised to nobody */
int queue_promised_new(const struct scheduler *s, const struct request *r);

/* Fewer pages for everybody from now on (or more, up to the engine's): the youngest make room, who can never
 * fit again ends. */
void queue_resize_pool(struct scheduler *s, int n_page);

/* --- park.c: who does not read gives way to who waits */
void park_look(struct scheduler *s); /* each turn, before admission */
struct seq *park_choose(const struct scheduler *s,
                        int lack); /* who is to give way, if all that may have `lack` pages; or NULL */
void park_add(struct scheduler *s, struct request *r);
void park_leave(struct scheduler *s, struct request *r); /* out of the list */
struct request *park_back(struct scheduler *s); /* one whose client reads again, out of the list; or NULL */

/* --- route_only.c: requests that ask for their route alone */
bool route_only_known(const struct scheduler *s,
                      const struct request *r); /* it is one, and none of its bits is open */
void route_only_end(struct scheduler *s, struct seq *q, struct request *r); /* q NULL: it had no slot */

/* --- deadline.c */
void deadline_end_late(struct scheduler *s);

/* --- accounting.c: gauges, and checks for tests */
void accounting_count(struct scheduler *s);
void accounting_check_quick(const struct scheduler *s); /* aborts unless sums agree */
void accounting_check(const struct scheduler *s); /* aborts unless every page is free once or owned once */

/* --- scheduler.c: one turn of the engine thread. */
enum turn { TURN_WORKED, TURN_IDLE, TURN_OVER };
enum turn scheduler_turn(struct scheduler *s, struct request *first,
                         enum err *err); /* first: taken from the inbox, or NULL */

#endif
