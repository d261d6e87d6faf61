/* reuse: what a sequence in prefill and the prefix cache do for each other. A prompt that begins like one
 * before it goes on behind that one's pages, as if it had computed them: its router still decides every bit,
 * and where a bit comes out otherwise than the pages were written under, the prompt begins again. Engine
 * thread only; everything is harmless without a cache. */
#ifndef FLUXD_SCHEDULER_REUSE_H
#define FLUXD_SCHEDULER_REUSE_H

#include "scheduler/apply.h"

/* The cursor to where the prompt begins. room: pages that are promised to nobody. */
void reuse_begin(struct sched_core *k, struct seq *s, int room);
void reuse_begin_again(struct sched_core *k, struct seq *s, int room); /* the engine says that it strayed */

/* Whether this waiting request will go on behind pages of an equal prompt, once those are there. */
bool reuse_would(const struct sched_core *k, const struct request *r);

void reuse_note(struct sched_core *k, struct seq *s, const struct plan_piece *q); /* this was computed */
void reuse_commit(struct sched_core *k, struct seq *s);                           /* all of the prompt was */
void reuse_leave(struct sched_core *k, struct seq *s);

/* plan_promise, for one that may hold another's pages in layers which its prefill has not reached. */
int reuse_promise(const struct sched_core *k, const struct seq *s, int n_tok);

#endif
