/* rig.h - a kernel of the ladder on tensors in device memory: its plan, its scratch, its stream,
 * and a graph of a run. It knows no case and judges nothing.
 *
 *     rig_open -> rig_upload -> rig_run, or rig_capture -> rig_replay -> rig_close
 *                  ^---- for each new batch ----'
 *
 * All is queued in the rig's stream and waited for with gpu_sync(rig_stream(rig)).
 */
#ifndef MLA_DEVICE_RIG_H
#define MLA_DEVICE_RIG_H

#include "device/gpu.h"

/* What rigs that take turns have in common. The stream is whose it was; scratch serves the rig that
 * needs most. */
struct rig_shared {
	mla_stream stream;
	void *scratch;
	int64_t scratch_bytes; /* the most that a rig which was opened needs */
};

/* Zeroed: closed. */
struct rig {
	mla_plan *plan;
	int64_t scratch_bytes; /* of this plan */
	struct gpu_graph *graph;
	struct rig_shared own, *shared; /* shared NULL: its own */
};

/* Makes and prepares a plan for batches up to this one. config: fixed_split is planned with.
 * shared NULL: a stream and scratch of its own, which holds NaN. Else the stream is there, and
 * scratch follows with rig_share once all are open. On failure: closed. */
mla_status rig_open(struct rig *rig, const char *kernel, const mla_config *config,
		    const mla_batch *batch, struct rig_shared *shared);
void rig_close(struct rig *rig);

/* Scratch for the rigs that were opened with it, and back again. */
mla_status rig_share(struct rig_shared *shared);
void rig_unshare(struct rig_shared *shared);

mla_stream rig_stream(const struct rig *rig);
/* Given tensors with the rig's scratch. */
mla_tensors rig_tensors(const struct rig *rig, const mla_tensors *tensors);

/* Contents of scratch must not matter: NaN. Waits. */
mla_status rig_poison(const struct rig *rig);
/* Builds the plan and sends it. tensors: their page ids are checked in between, which waits for the
 * stream; NULL: they are not, and nothing is waited for. */
mla_status rig_upload(struct rig *rig, const mla_batch *batch, const mla_tensors *tensors);
mla_status rig_run(const struct rig *rig, const mla_tensors *tensors);

/* Records a run as the rig's graph: once, nothing runs. Replays follow the plan that was uploaded
 * last. */
mla_status rig_capture(struct rig *rig, const mla_tensors *tensors);
mla_status rig_replay(const struct rig *rig);

#endif
