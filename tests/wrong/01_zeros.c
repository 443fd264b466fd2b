/* 01_zeros.c - an output buffer that was cleared and never filled.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_01_zeros(const mla_config *config, const mla_batch *batch,
			  const mla_tensors *tensors)
{
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head < config->num_heads; head++) {
			memset(kit_out(tensors, query, head), 0,
			       (size_t)kit_out_row_bytes(tensors));
			*kit_lse(tensors, query, head) = 0;
		}
	return MLA_OK;
}
