/* 46_nan_unwritten.c - what was there before may happen to be NaN.
 */
#include <math.h>

#include "../right/kit.h"

mla_status wrong_46_nan_unwritten(const mla_config *config, const mla_batch *batch,
				  const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads; head++)
			if (isnan(*kit_lse(tensors, query, head)))
				kit_unwrite(tensors, query, head);
	return MLA_OK;
}
