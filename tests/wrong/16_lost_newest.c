/* 16_lost_newest.c - j < position instead of j <= position.
 */
#include "../right/kit.h"

mla_status wrong_16_lost_newest(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++) {
		if (config->causal)
			twisted.q_pos0[r]--;
		else if (twisted.kv_len[r] > 0)
			twisted.kv_len[r]--;
	}
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
