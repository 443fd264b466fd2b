/* limits.c - caches and strides beyond 2^31 bytes, no lse, and what mla_run must refuse.
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

/* ---- rows beyond 2^31 bytes, and no lse ---------------------------------------------------------
 */

/* Rows of queries and outputs, FAR bytes from query to query in one pool. */
enum { FAR_Q_NOPE, FAR_Q_PE, FAR_OUT, FAR_LSE, FAR_TENSORS };
static const int64_t far_stride = (int64_t)3 << 30, far_room = 1 << 20 /* of a query's rows */;

static void spread(mla_tensors *tensors, char *pool)
{
	mla_tensor *t[FAR_TENSORS] = {&tensors->q_nope, &tensors->q_pe, &tensors->out,
				      &tensors->lse};

	for (int i = 0; i < FAR_TENSORS; i++) {
		t[i]->data = pool + i * far_room;
		t[i]->stride[0] = far_stride;
	}
}

/* Queries to the pool, and poison to its outputs. */
static mla_status fill_far(const struct trial *t, const mla_tensors *far)
{
	const mla_tensors *host = &t->instance.host;
	mla_status status = MLA_OK;

	for (int64_t i = 0; i < case_total_q(t->c) && !status; i++) {
		const mla_tensor *nope = &host->q_nope, *pe = &host->q_pe;

		status = gpu_upload((char *)far->q_nope.data + i * far_stride,
				    (char *)nope->data + i * nope->stride[0],
				    (size_t)nope->stride[0]);
		if (!status)
			status = gpu_upload((char *)far->q_pe.data + i * far_stride,
					    (char *)pe->data + i * pe->stride[0],
					    (size_t)pe->stride[0]);
		if (!status)
			status = gpu_fill((char *)far->out.data + i * far_stride, POISON_BYTE,
					  (size_t)(2 * far_room));
	}
	return status ? status : gpu_sync(NULL);
}

static mla_status collect_far(struct trial *t, const mla_tensors *far)
{
	mla_status status = gpu_sync(rig_stream(&t->rig));
	const int64_t queries = case_total_q(t->c);
	const size_t out = t->out_bytes / (size_t)queries, lse = t->lse_bytes / (size_t)queries;

	for (int64_t i = 0; i < queries && !status; i++) {
		status = gpu_download((char *)t->out + i * (int64_t)out,
				      (char *)far->out.data + i * far_stride, out);
		if (!status)
			status = gpu_download((char *)t->lse + i * (int64_t)lse,
					      (char *)far->lse.data + i * far_stride, lse);
	}
	return status;
}

static bool far_rows(struct trial *t, char *why, size_t size)
{
	mla_tensors far = t->device.device;
	void *pool = NULL;
	const size_t bytes =
		(size_t)((case_total_q(t->c) - 1) * far_stride + FAR_TENSORS * far_room);
	bool ok = !gpu_alloc(&pool, bytes);

	spread(&far, pool);
	ok = ok && !fill_far(t, &far) && !trial_upload(t, &t->c->batch) &&
	     !rig_run(&t->rig, &far) && !collect_far(t, &far) &&
	     trial_judge(t, t->c, true, why, size);
	if (ok)
		snprintf(why, size, "rows up to 6 GiB apart");
	gpu_free(pool);
	return ok;
}

static bool no_lse(struct trial *t, char *why, size_t size)
{
	mla_tensors tensors = t->device.device;
	bool ok;

	tensors.lse.data = NULL;
	ok = !check_device_repoison(&t->device) && !trial_upload(t, &t->c->batch) &&
	     !rig_run(&t->rig, &tensors) && trial_collect(t, why, size) &&
	     trial_judge(t, t->c, false, why, size);
	for (size_t i = 0; ok && i < t->lse_bytes; i++)
		if (((const unsigned char *)t->lse)[i] != POISON_BYTE) {
			snprintf(why, size, "wrote a lse that was not asked for");
			ok = false;
		}
	return ok;
}

static void test_base(const struct suite_context *x, const char *name, int32_t fixed_split,
		      suite_trial_test test)
{
	static const int32_t qo_len[] = {1, 2}, kv_len[] = {300, 1000};
	const struct generate_spec spec = {
		.seed = SUITE_SEED + 8,
		.config = suite_deepseek(16),
		.batch_size = 2,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
	};
	struct mla_case c = {0};

	if (!suite_make_case(x, name, &spec, &c))
		return;
	suite_each_kernel(x, &c, name, fixed_split, test);
	case_free(&c);
}

/* Split and merged: the merge stores to out and lse as well. */
void suite_far_rows(const struct suite_context *x)
{
	if (gpu_free_bytes() < (size_t)7 << 30)
		suite_line(x->result, CHECK_SKIP, "far rows", "needs 7 GiB of free GPU memory");
	else
		test_base(x, "queries and outputs beyond 2^32 bytes", 128, far_rows);
}

void suite_no_lse(const struct suite_context *x)
{
	test_base(x, "no lse wanted", 0, no_lse);
	test_base(x, "no lse wanted, merged", 128, no_lse);
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
