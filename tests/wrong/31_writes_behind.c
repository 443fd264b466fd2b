/* 31_writes_behind.c - a tile of rows that is stored whole.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_31_writes_behind(const mla_config *config, const mla_batch *batch,
				  const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	const int64_t last = kit_total_q(batch) - 1;

	if (last >= 0)
		memset((char *)kit_out(tensors, last, config->num_heads - 1) +
			       kit_out_row_bytes(tensors),
		       0, 64);
	return MLA_OK;
}
