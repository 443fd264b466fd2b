/* 02_one_nan.c - a comparison that forgets about NaN lets it pass.
 */
#include <math.h>

#include "../right/kit.h"
#include "reference/reference.h"

mla_status wrong_02_one_nan(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);

	const int64_t last = kit_total_q(batch) - 1;

	if (last >= 0)
		ref_store(kit_out(tensors, last, config->num_heads - 1), config->out_dtype, NAN);
	return MLA_OK;
}
