/* work.c - counts what a case costs: pairs of a row and a key, and bytes that have to move.
 */
#include "case/work.h"

#include <stdlib.h>

#include "lib/error.h"
#include "lib/geometry.h"
#include "reference/reference.h"

double case_multiply_adds(const struct mla_case *c)
{
	double pairs = 0;

	for (int32_t r = 0; r < c->batch.batch_size; r++) {
		const int64_t qo_len = c->batch.qo_indptr[r + 1] - c->batch.qo_indptr[r];

		for (int64_t i = 0; i < qo_len; i++)
			pairs += (double)geometry_seen(&c->config, &c->batch, r, i);
	}
	return pairs * c->config.num_heads *
	       (2.0 * c->config.head_dim_ckv + c->config.head_dim_kpe);
}

/* Cache slots that some query sees, a slot of a shared page counted once. */
static mla_status count_slots(const struct mla_case *c, int64_t *slots)
{
	const int64_t num_pages = c->tensors.ckv.extent[0];
	int32_t *used = calloc((size_t)num_pages + 1, sizeof(*used));

	if (!used)
		return mla_fail(MLA_NO_MEMORY, "no memory to count the case's work");
	geometry_mark(&c->config, &c->batch, c->tensors.kv_indices, GEOMETRY_SEEN, used);
	*slots = 0;
	for (int64_t page = 0; page < num_pages; page++)
		*slots += used[page];
	free(used);
	return MLA_OK;
}

mla_status case_work_of(const struct mla_case *c, struct case_work *work)
{
	const mla_config *config = &c->config;
	int64_t slots = 0;
	const mla_status status = count_slots(c, &slots);

	if (status)
		return status;

	const double rows = (double)case_total_q(c) * config->num_heads;
	const double slot = (double)config->head_dim_ckv * ref_dtype_size(config->ckv_dtype) +
			    (double)config->head_dim_kpe * ref_dtype_size(config->kpe_dtype);
	const double q = ((double)config->head_dim_ckv + config->head_dim_kpe) *
			 ref_dtype_size(config->q_dtype);
	const double out = (double)config->head_dim_ckv * ref_dtype_size(config->out_dtype) + 4;

	work->multiply_adds = case_multiply_adds(c);
	work->flop = 2 * work->multiply_adds;
	work->bytes = (double)slots * slot + rows * (q + out);
	return MLA_OK;
}

const char *const case_limit_names[] = {
	[CASE_LIMIT_UNKNOWN] = "",
	[CASE_LIMIT_BYTES] = "bytes",
	[CASE_LIMIT_FLOP] = "flop",
};

struct case_bound case_bound_of(const struct case_work *work, const struct case_ceilings *ceilings)
{
	const double read = ceilings->read_gbs > 0 ? work->bytes / ceilings->read_gbs * 1e-3 : 0;
	const double compute = ceilings->tflops > 0 ? work->flop / ceilings->tflops * 1e-6 : 0;

	if (read <= 0 && compute <= 0)
		return (struct case_bound){0};
	return read >= compute ? (struct case_bound){read, CASE_LIMIT_BYTES}
			       : (struct case_bound){compute, CASE_LIMIT_FLOP};
}
