/* 93_nan_where_nothing_is_seen.c - a NaN query that sees no key gives NaN.
 */
#include <math.h>
#include <stdbool.h>

#include "../right/kit.h"
#include "reference/reference.h"

mla_status wrong_93_nan_where_nothing_is_seen(const mla_config *config, const mla_batch *batch,
					      const mla_tensors *tensors)
{
	const mla_tensor *q = &tensors->q_nope;

	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads; head++) {
			const char *row =
				(const char *)q->data + query * q->stride[0] + head * q->stride[1];
			bool nan = false;

			for (int32_t c = 0; c < config->head_dim_ckv; c++)
				nan |= isnan(ref_load(row + c * q->stride[2], q->dtype));
			if (nan && isinf(*kit_lse(tensors, query, head)))
				*kit_lse(tensors, query, head) = NAN;
		}
	return MLA_OK;
}
