/* 27_empty_unwritten.c - no keys, no work item, no store.
 */
#include <math.h>

#include "../right/kit.h"

mla_status wrong_27_empty_unwritten(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads; head++)
			if (isinf(*kit_lse(tensors, query, head)))
				kit_unwrite(tensors, query, head);
	return MLA_OK;
}
