/* 41_first_length.c - takes the batch for a uniform one.
 */
#include "../right/kit.h"

mla_status wrong_41_first_length(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 1; r < batch->batch_size; r++)
		if (twisted.kv_len[r] > batch->kv_len[0])
			twisted.kv_len[r] = batch->kv_len[0];
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
