/* host.c - the public doors of the CPU reference: check everything, then call reference/. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "lib/error.h"
#include "lib/geometry.h"
#include "lib/internal.h"
#include "reference/reference.h"

/* Every id that the batch uses. */
static mla_status check_ids(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors)
{
	const int64_t num_pages = tensors->ckv.extent[0];

	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int64_t first = batch->kv_indptr[r];
		const int64_t used = geometry_pages(config, batch->kv_len[r]);

		for (int64_t i = first; i < first + used; i++)
			if (tensors->kv_indices[i] < 0 || tensors->kv_indices[i] >= num_pages)
				return mla_fail(MLA_INVALID,
						"kv_indices[%" PRId64
						"] = %d is out of range: request "
						"%d uses it, the cache has %" PRId64 " pages",
						i, tensors->kv_indices[i], r, num_pages);
	}
	return MLA_OK;
}

mla_status mla_check_pages_host(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	mla_status status = mla_check_problem(config, batch);

	if (!status)
		status = mla_check_table(batch, tensors);
	return status ? status : check_ids(config, batch, tensors);
}

static mla_status check_all(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors)
{
	mla_status status = mla_check_problem(config, batch);

	if (status)
		return status;

	const int32_t n = batch->batch_size;
	const int64_t pages = n ? batch->kv_indptr[n] : 0;
	const struct mla_expect expect = {
		.config = config,
		.queries = n ? batch->qo_indptr[n] : 0,
		.pages = pages,
		.later = pages,
		.reads = mla_batch_reads(batch),
		.reason = " (this batch)",
		.batch = batch,
		.scratch_bytes = -1,
	};

	status = mla_check_tensors(&expect, tensors);
	return status ? status : check_ids(config, batch, tensors);
}

/* Rows whose fp64 results are held at a time. */
enum { CHUNK = 4096 };

mla_status mla_reference(const mla_config *config, const mla_batch *batch,
			 const mla_tensors *tensors)
{
	const mla_status status = check_all(config, batch, tensors);

	if (status || batch->batch_size == 0)
		return status;

	const int64_t total = (int64_t)batch->qo_indptr[batch->batch_size] * config->num_heads;
	int64_t *rows = malloc(CHUNK * sizeof(*rows));
	double *out = malloc((size_t)CHUNK * config->head_dim_ckv * sizeof(*out));
	double *lse = malloc(CHUNK * sizeof(*lse));
	const struct ref_truth truth = {.out = out, .lse = lse};
	bool have = rows && out && lse;

	for (int64_t first = 0; have && first < total; first += CHUNK) {
		const int64_t n = total - first < CHUNK ? total - first : CHUNK;

		for (int64_t k = 0; k < n; k++)
			rows[k] = first + k;
		have = !ref_attention(config, batch, tensors, rows, n, &truth);
		for (int64_t k = 0; have && k < n; k++)
			ref_store_row(config, tensors, rows[k], out + k * config->head_dim_ckv,
				      lse[k]);
	}
	free(rows);
	free(out);
	free(lse);
	return have ? MLA_OK : mla_fail(MLA_NO_MEMORY, "no memory for %d rows in fp64", CHUNK);
}

mla_status mla_reference_plan(const mla_plan *plan, const mla_tensors *tensors)
{
	if (!plan || !mla_plan_batch(plan))
		return mla_fail(MLA_INVALID, "%s",
				plan ? "the plan has no batch: call mla_plan_build"
				     : "plan is NULL");

	const mla_status status = check_all(mla_plan_config(plan), mla_plan_batch(plan), tensors);

	if (status)
		return status;
	if (ref_attention_plan(plan, tensors))
		return mla_fail(MLA_NO_MEMORY, "no memory for the partial states of the plan");
	return MLA_OK;
}

/* No sum is exp(+inf). On the GPU nobody can look: there it makes the row NaN. */
static mla_status check_states(const mla_merge_args *args)
{
	const mla_tensor *t = &args->states_lse;

	for (int64_t s = 0; s < args->states.extent[0]; s++)
		for (int64_t row = 0; row < args->states.extent[1]; row++) {
			const char *at = (const char *)t->data + s * t->stride[0];

			if (ref_load(at + row * t->stride[1], t->dtype) == INFINITY)
				return mla_fail(MLA_INVALID,
						"states_lse[%" PRId64 ", %" PRId64
						"] is inf, expected a finite number, or -inf for a "
						"state that saw no key",
						s, row);
		}
	return MLA_OK;
}

mla_status mla_merge_host(const mla_merge_args *args)
{
	mla_status status = mla_check_merge_args(args);

	if (!status)
		status = check_states(args);
	if (!status)
		ref_merge(args);
	return status;
}
