/* 69_head_8_bits.c - heads from 256 on repeat the first ones.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_69_head_8_bits(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 256; head < config->num_heads; head++) {
			memcpy(kit_out(tensors, query, head), kit_out(tensors, query, head % 256),
			       (size_t)kit_out_row_bytes(tensors));
			*kit_lse(tensors, query, head) = *kit_lse(tensors, query, head % 256);
		}
	return MLA_OK;
}
