/* 81_columns_behind_512.c - columns of out behind the first 512 are not written.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_81_columns_behind_512(const mla_config *config, const mla_batch *batch,
				       const mla_tensors *tensors)
{
	const int64_t bytes = kit_out_row_bytes(tensors), size = bytes / config->head_dim_ckv;

	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads && bytes > 512 * size; head++)
			memset((char *)kit_out(tensors, query, head) + 512 * size, 0xff,
			       (size_t)(bytes - 512 * size));
	return MLA_OK;
}
