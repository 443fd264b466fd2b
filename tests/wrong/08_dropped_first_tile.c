/* 08_dropped_first_tile.c - the loop over tiles starts at the second one.
 */
#include "../right/kit.h"

mla_status wrong_08_dropped_first_tile(const mla_config *config, const mla_batch *batch,
				       const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++) {
		if (batch->kv_len[r] > 64)
			kit_batch_drop_front(config, &twisted, r, 64);
	}
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
