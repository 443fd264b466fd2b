/* 07_dropped_last_tile.c - keys rounded down to whole tiles of 64.
 */
#include "../right/kit.h"

mla_status wrong_07_dropped_last_tile(const mla_config *config, const mla_batch *batch,
				      const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++) /* q_pos0 stays, the causal bound with it */
		twisted.kv_len[r] = batch->kv_len[r] / 64 * 64;
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
