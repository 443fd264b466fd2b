/* 38_heads_modulo_64.c - two tiles of 64 rows, both stored from the first.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_38_heads_modulo_64(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 64; head < config->num_heads; head++) {
			memcpy(kit_out(tensors, query, head), kit_out(tensors, query, head % 64),
			       (size_t)kit_out_row_bytes(tensors));
			*kit_lse(tensors, query, head) = *kit_lse(tensors, query, head % 64);
		}
	return MLA_OK;
}
