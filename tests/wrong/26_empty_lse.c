/* 26_empty_lse.c - FlashMLA's convention, not ours.
 */
#include <math.h>

#include "../right/kit.h"

mla_status wrong_26_empty_lse(const mla_config *config, const mla_batch *batch,
			      const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads; head++)
			if (isinf(*kit_lse(tensors, query, head)))
				*kit_lse(tensors, query, head) = INFINITY;
	return MLA_OK;
}
