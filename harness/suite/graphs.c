/* graphs.c - a captured graph outlives its plan, and an upload does not reach the run in front of
 * it.
 */
#include <stdio.h>

#include "suite/internal.h"

enum { REPLANS = 100 /* of one captured graph */ };

struct replan {
	int32_t qo_indptr[SUITE_BASE_REQUESTS + 1], kv_len[SUITE_BASE_REQUESTS];
	mla_batch batch;
};

/* Another batch within the capacity of base: every length is redrawn, zero included; the requests
 * keep their pages. */
static void redraw(const struct mla_case *base, uint64_t *state, struct replan *r)
{
	const mla_batch *b = &base->batch;

	r->batch = *b;
	r->batch.batch_size = 1 + (int32_t)suite_draw(state, (uint32_t)b->batch_size);
	r->qo_indptr[0] = 0;
	for (int32_t i = 0; i < r->batch.batch_size; i++) {
		const int32_t qo_len = b->qo_indptr[i + 1] - b->qo_indptr[i];

		r->qo_indptr[i + 1] =
			r->qo_indptr[i] + (int32_t)suite_draw(state, (uint32_t)qo_len + 1);
		r->kv_len[i] = (int32_t)suite_draw(state, (uint32_t)b->kv_len[i] + 1);
	}
	r->batch.qo_indptr = r->qo_indptr;
	r->batch.kv_len = r->kv_len;
}

/* ---- one captured graph, many plans -----------------------------------------------------------
 */

static bool replay(struct trial *t, uint64_t *state, int n, char *why, size_t size)
{
	struct mla_case c = *t->c;
	struct replan again;
	char detail[512] = "";
	bool right;

	redraw(t->c, state, &again);
	c.batch = again.batch;
	right = !check_device_repoison(&t->device) && !trial_upload(t, &again.batch) &&
		!rig_replay(&t->rig) && trial_right(t, &c, detail, sizeof(detail));
	if (!right)
		snprintf(why, size, "re-plan %d: %.400s", n, trial_reason(detail));
	return right;
}

static bool replans(struct trial *t, char *why, size_t size)
{
	uint64_t state = SUITE_SEED;
	const bool captured =
		!trial_upload(t, &t->c->batch) && !rig_capture(&t->rig, &t->device.device);
	int done = 0;

	while (captured && done < REPLANS && replay(t, &state, done, why, size))
		done++;
	if (done == REPLANS)
		snprintf(why, size, "%d re-plans replayed, all right", done);
	return done == REPLANS;
}

/* ---- plan, run, plan, run ---------------------------------------------------------------------
 */

/* Two batches uploaded and run back to back with no wait in between: the first must not see the
 * second's plan. Both write the same outputs; the first's are kept by an out tensor of its own. */
static bool back_to_back(struct trial *t, char *why, size_t size)
{
	mla_tensors second = t->device.device;
	struct replan again;
	uint64_t state = 5;
	void *out;
	bool right;

	redraw(t->c, &state, &again);
	if (gpu_alloc(&out, (size_t)second.out.stride[0] * (size_t)second.out.extent[0]))
		return false;
	second.out.data = out;
	second.lse.data = NULL;
	right = !trial_upload(t, &t->c->batch) && !rig_run(&t->rig, &t->device.device) &&
		!trial_upload(t, &again.batch) && !rig_run(&t->rig, &second) &&
		trial_right(t, t->c, why, size);
	gpu_free(out);
	return right;
}

void suite_graphs(const struct suite_context *x)
{
	struct mla_case c = {0};

	if (!suite_make_base(x, "graphs", &c))
		return;
	suite_each_kernel(x, &c, "graph, re-planned", 0, replans);
	suite_each_kernel(x, &c, "graph, re-planned, fixed split", 256, replans);
	suite_each_kernel(x, &c, "plan, run, plan, run without a wait", 0, back_to_back);
	case_free(&c);
}
