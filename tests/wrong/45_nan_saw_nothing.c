/* 45_nan_saw_nothing.c - a merge whose maximum ignores NaN finds -inf, and takes the states for
 * ones that saw no key.
 */
#include <math.h>
#include <string.h>

#include "../right/kit.h"

mla_status wrong_45_nan_saw_nothing(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads; head++) {
			if (!isnan(*kit_lse(tensors, query, head)))
				continue;
			*kit_lse(tensors, query, head) = -INFINITY;
			memset(kit_out(tensors, query, head), 0,
			       (size_t)kit_out_row_bytes(tensors));
		}
	return MLA_OK;
}
