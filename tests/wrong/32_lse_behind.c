/* 32_lse_behind.c - the lse of a row that does not exist.
 */
#include "../right/kit.h"

mla_status wrong_32_lse_behind(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	const int64_t last = kit_total_q(batch) - 1;

	if (last >= 0)
		kit_lse(tensors, last, config->num_heads - 1)[1] = 0;
	return MLA_OK;
}
