/* 33_clears_cache.c - clears the rest of each last page, so that its own over-reads do no harm.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_33_clears_cache(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int32_t n = batch->kv_len[r], slot = n % config->page_size;
		const int32_t entry = batch->kv_indptr[r] + n / config->page_size;

		if (slot > 0)
			memset((char *)tensors->ckv.data +
				       tensors->kv_indices[entry] * tensors->ckv.stride[0] +
				       slot * tensors->ckv.stride[1],
			       0, (size_t)config->head_dim_ckv);
	}
	return MLA_OK;
}
