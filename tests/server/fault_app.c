/* fault_app: the whole server with the real engine, whose steps can be made to fail. It is linked with
 * --wrap=engine_step, so every step of the scheduler comes by here. Engine thread only.
 *
 * A prompt of token ids FAULT_MARK, FAULT_MARK, kind, argument, ... brings a fault about once it has been read and 2 tokens
 * of its answer are drawn:
 *   1  the device is lost
 *   2  the logits of this sequence are NaN
 *   3  one step takes argument * 100 ms */
#include <stdatomic.h>
#include <unistd.h>

#include "engine/engine.h"

enum { FAULT_MARK = 4242, FAULT_LOST = 1, FAULT_NAN, FAULT_SLOW, AFTER_TOK = 2 };

enum err __real_engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note);
enum err __wrap_engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note);

static int fault_of(const struct batch_row *r)
{
    const struct batch_seq *s = r->seq;
    return s->n_prompt >= 4 && s->tok[0] == FAULT_MARK && s->tok[1] == FAULT_MARK && r->pos == s->n_prompt + AFTER_TOK - 1 ? s->tok[2] : 0;
}

enum err __wrap_engine_step(struct engine *e, const struct batch *b, struct step_out *out, struct err_note *note)
{
    for (int i = 0; i < b->n_row; i++) {
        if (fault_of(&b->row[i]) == FAULT_LOST)
            return err_set(note, ERR_DEVICE, NULL, "the device was lost in a test");
        if (fault_of(&b->row[i]) == FAULT_SLOW)
            usleep(100000u * (unsigned)b->row[i].seq->tok[3]);
    }
    const enum err failed = __real_engine_step(e, b, out, note);
    for (int i = 0; !failed && i < b->n_row; i++)
        if (fault_of(&b->row[i]) == FAULT_NAN)
            out->row[i].bad = true;
    return failed;
}
