/* variants.c - the CPU implementations: the same attention computed in different ways, so that an
 * idea (running maximum, split keys, absorption) is shown right before a kernel uses it.
 */
#include "check/variants.h"

#include <stdlib.h>

#include "check/internal.h"
#include "device/known.h"
#include "lib/error.h"

static int64_t rows_of(const mla_config *config, const mla_batch *batch)
{
	const int32_t n = batch->batch_size;

	return n > 0 ? (int64_t)batch->qo_indptr[n] * config->num_heads : 0;
}

/* Two passes, the exact maximum first: what the truth does, rounded once to the output's dtype. */
static mla_status run_absorbed(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	const int64_t rows = rows_of(config, batch), d = config->head_dim_ckv;
	const struct ref_truth truth = {.out = check_array(rows, d), .lse = check_array(rows, 1)};
	const bool done = truth.out && truth.lse &&
			  !ref_attention(config, batch, tensors, NULL, rows, &truth);

	for (int64_t row = 0; done && row < rows; row++)
		ref_store_row(config, tensors, row, truth.out + row * d, truth.lse[row]);
	free(truth.out);
	free(truth.lse);
	return done ? MLA_OK : mla_fail(MLA_NO_MEMORY, "no memory for the fp64 outputs");
}

/* A plan for a pretended small GPU: 16 workers share the batch, so that requests are split and
 * their partial states merged. */
static mla_status run_split_k(const mla_config *config, const mla_batch *batch,
			      const mla_tensors *tensors)
{
	const mla_device device = known_with_sms(8);
	mla_traits traits = {.struct_size = sizeof(traits),
			     .tile_rows = 16,
			     .kv_granule = 64,
			     .ctas_per_sm = 2,
			     .ctas_per_worker = 1,
			     .item_cost = 16,
			     .merge = MLA_MERGE_SEPARATE,
			     .align = 1};
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_plan *plan = NULL;
	mla_status status = mla_capacity_of(config, batch, &capacity);

	if (config->fixed_split > 0) /* the CPU splits anywhere */
		traits.kv_granule = config->fixed_split;
	if (!status)
		status = mla_plan_create_for_traits(&traits, config, &device, &capacity, &plan);
	if (!status)
		status = mla_plan_build(plan, batch);
	if (!status)
		status = mla_reference_plan(plan, tensors);
	mla_plan_destroy(plan);
	return status;
}

const struct variant variants[] = {
	{"absorbed", "two passes over the keys, exact maximum first, fp64: the truth itself",
	 run_absorbed},
	{"online", "one pass over the keys with a running maximum, fp64", mla_reference},
	{"split-k", "keys split by a plan, partial states merged, fp64", run_split_k},
};
const int variants_count = sizeof(variants) / sizeof(variants[0]);
