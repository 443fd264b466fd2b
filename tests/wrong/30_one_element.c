/* 30_one_element.c - a single element, the largest of the last row.
 */
#include <math.h>

#include "../right/kit.h"
#include "reference/reference.h"

mla_status wrong_30_one_element(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	const int64_t last = kit_total_q(batch) - 1, size = ref_dtype_size(config->out_dtype);

	if (last < 0)
		return MLA_OK;

	char *row = kit_out(tensors, last, config->num_heads - 1), *largest = row;

	for (int64_t c = 1; c < config->head_dim_ckv; c++)
		if (fabs(ref_load(row + c * size, config->out_dtype)) >
		    fabs(ref_load(largest, config->out_dtype)))
			largest = row + c * size;
	ref_store(largest, config->out_dtype, 1.05 * ref_load(largest, config->out_dtype));
	return MLA_OK;
}
