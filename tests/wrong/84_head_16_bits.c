/* 84_head_16_bits.c - heads from 65536 on are not done.
 */
#include "../right/kit.h"

mla_status wrong_84_head_16_bits(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 65536; head < config->num_heads; head++)
			kit_unwrite(tensors, query, head);
	return MLA_OK;
}
