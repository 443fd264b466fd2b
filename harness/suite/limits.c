/* limits.c - caches beyond 2^31 bytes, and what mla_run must refuse.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "suite/internal.h"

/* ---- caches beyond 2^31 bytes -----------------------------------------------------------------
 */

/* The same case in a pool of which only the last pages are real: page offsets exceed 2^32 bytes. */
static bool far_pages(struct trial *t, char *why, size_t size)
{
	const mla_batch *batch = &t->c->batch;
	mla_tensors far = t->device.device;
	const int64_t shift = ((int64_t)5 << 30) / far.ckv.stride[0];
	const size_t cache = (size_t)(far.ckv.stride[0] * far.ckv.extent[0]);
	const size_t ids = (size_t)batch->kv_indptr[batch->batch_size];
	int32_t *moved = malloc(ids * sizeof(*moved));
	void *pool = NULL, *indices = NULL;
	const int64_t rope = (char *)far.kpe.data - (char *)far.ckv.data;
	bool ok = moved && !gpu_alloc(&pool, cache + (size_t)(shift * far.ckv.stride[0])) &&
		  !gpu_alloc(&indices, ids * sizeof(*moved));

	for (size_t i = 0; ok && i < ids; i++)
		moved[i] = t->instance.host.kv_indices[i] + (int32_t)shift;
	ok = ok && !gpu_upload((char *)pool + shift * far.ckv.stride[0], t->instance.host.ckv.data,
			       cache);
	ok = ok && !gpu_upload(indices, moved, ids * sizeof(*moved));
	far.ckv.data = pool;
	far.kpe.data = (char *)pool + rope;
	far.ckv.extent[0] += shift;
	far.kpe.extent[0] += shift;
	far.kv_indices = indices;
	ok = ok && !check_device_repoison(&t->device) && !trial_upload(t, batch) &&
	     !mla_check_pages(t->rig.plan, &far, rig_stream(&t->rig)) && !rig_run(&t->rig, &far) &&
	     trial_right(t, t->c, why, size);
	if (ok)
		snprintf(why, size, "pages beyond 5 GiB");
	gpu_free(pool);
	gpu_free(indices);
	free(moved);
	return ok;
}

void suite_far_pages(const struct suite_context *x)
{
	static const int32_t qo_len[] = {1, 2}, kv_len[] = {300, 1000};
	const struct generate_spec spec = {
		.seed = SUITE_SEED + 2,
		.config = suite_deepseek(16),
		.batch_size = 2,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
	};
	struct mla_case c = {0};

	if (gpu_free_bytes() < (size_t)6 << 30) {
		suite_line(x->result, CHECK_SKIP, "far pages", "needs 6 GiB of free GPU memory");
		return;
	}
	if (!suite_make_case(x, "far pages", &spec, &c))
		return;
	suite_each_kernel(x, &c, "cache beyond 2^32 bytes", 0, far_pages);
	case_free(&c);
}

/* ---- refusals ---------------------------------------------------------------------------------
 */

/* Each must be refused with its words, none may touch the GPU. */
static void refusals(const struct suite_context *x, const struct trial *t)
{
	mla_plan *plan = t->rig.plan;
	const mla_stream stream = rig_stream(&t->rig);
	const mla_tensors good = rig_tensors(&t->rig, &t->device.device);
	const mla_status early = mla_run(plan, &good, stream);
	const bool not_uploaded =
		early == MLA_INVALID && strstr(mla_last_error(), "mla_plan_upload");

	suite_report(x, t->kernel, "refuses to run before the upload",
		     not_uploaded ? CHECK_PASS : CHECK_FAIL, mla_last_error());

	const mla_status uploaded = mla_plan_upload(plan, stream);
	mla_tensors few = good, odd = good, typed = good, poor = good;

	few.q_nope.extent[0]--;
	odd.ckv.data = (char *)odd.ckv.data + 1;
	typed.out.dtype = MLA_F32;
	poor.scratch_bytes = -1;

	const struct {
		const char *name, *word;
		const mla_tensors *tensors;
	} bad[] = {
		{"too few queries", "q_nope: extent[0]", &few},
		{"misaligned cache", "ckv: address", &odd},
		{"another dtype", "out: dtype", &typed},
		{"too little scratch", "scratch", &poor},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const mla_status status = mla_run(plan, bad[i].tensors, stream);
		const bool refused =
			!uploaded && status == MLA_INVALID && strstr(mla_last_error(), bad[i].word);

		suite_report(x, t->kernel, bad[i].name, refused ? CHECK_PASS : CHECK_FAIL,
			     mla_last_error());
	}
}

void suite_refusals(const struct suite_context *x)
{
	struct mla_case c = {0};
	struct trial t;
	mla_status status;

	if (!suite_make_base(x, "refusals", &c))
		return;
	status = trial_make(&t, &c, x->kernels[x->num_kernels - 1], 0);
	if (!status)
		status = mla_plan_build(t.rig.plan, &c.batch);
	if (status)
		suite_line(x->result, check_outcome_of(status), "refusals", mla_last_error());
	else
		refusals(x, &t);
	trial_free(&t);
	case_free(&c);
}
