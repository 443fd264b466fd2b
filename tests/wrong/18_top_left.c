/* 18_top_left.c - query i sees keys 0 .. i, as in a prefill from an empty cache.
 */
#include "../right/kit.h"

mla_status wrong_18_top_left(const mla_config *config, const mla_batch *batch,
			     const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++) {
		twisted.q_pos0[r] = 0;
	}
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
