/* 62_whole_eights.c - columns of out behind the last whole chunk of eight stay zero.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_62_whole_eights(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	const int64_t size = tensors->out.stride[2], tail = config->head_dim_ckv % 8;

	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads; head++)
			memset((char *)kit_out(tensors, query, head) +
				       (config->head_dim_ckv - tail) * size,
			       0, (size_t)(tail * size));
	return MLA_OK;
}
