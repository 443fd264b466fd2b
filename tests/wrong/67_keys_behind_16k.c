/* 67_keys_behind_16k.c - keys behind the first 16384 of a request.
 */
#include "../right/kit.h"

mla_status wrong_67_keys_behind_16k(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++)
		twisted.kv_len[r] = batch->kv_len[r] < 16384 ? batch->kv_len[r] : 16384;
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
