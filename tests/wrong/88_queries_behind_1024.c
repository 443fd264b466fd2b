/* 88_queries_behind_1024.c - queries behind the first 1024 of a request are not done.
 */
#include "../right/kit.h"

mla_status wrong_88_queries_behind_1024(const mla_config *config, const mla_batch *batch,
					const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int32_t r = 0; r < batch->batch_size; r++)
		for (int64_t query = (int64_t)batch->qo_indptr[r] + 1024;
		     query < batch->qo_indptr[r + 1]; query++)
			for (int64_t head = 0; head < config->num_heads; head++)
				kit_unwrite(tensors, query, head);
	return MLA_OK;
}
