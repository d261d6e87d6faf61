/* forward: the transformer, written once over the table of ops. A call is a set of spans: runs of rows of
 * sequences, all of one phase. Decode rows are spans of one row. The result of a row does not depend on the
 * other rows of the call. */
#ifndef FLUXD_ENGINE_FORWARD_H
#define FLUXD_ENGINE_FORWARD_H

#include <stdbool.h>

#include "engine/state.h"

struct span {
    struct batch_seq *seq;
    const struct batch_piece *piece; /* NULL: a decode row */
    int pos0, n;                     /* positions [pos0, pos0 + n) */
    int row0;                        /* its first row in the call's buffers */
};

/* Pieces of the batch from `first` on that can share a call, into e->span: same layers, other sequences,
 * together no more rows than the workspace. Returns how many, at least one. */
int forward_group(struct engine *e, const struct batch *b, int first);

/* Residual rows of the spans into memory.x: embeddings, or what the layer below left in the streams. */
void forward_begin(struct engine *e, const struct span *span, int n_span, int layer0);
/* memory.x through layers [layer0, layer1). Decides OPEN route bits where a span begins its prompt. */
void forward_layers(struct engine *e, const struct span *span, int n_span, int layer0, int layer1);
/* Logits of n rows of memory.x, and what sampling makes of them. Any n. */
void forward_sample(struct engine *e, int n, const int *row, const struct sample_row *sample,
                    struct sample_out *out, bool decode);

#endif
