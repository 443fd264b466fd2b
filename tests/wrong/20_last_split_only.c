/* 20_last_split_only.c - each split stores to out, the last one wins.
 */
#include "../right/kit.h"

mla_status wrong_20_last_split_only(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++) {
		kit_batch_drop_front(config, &twisted, r, batch->kv_len[r] / 2);
	}
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
