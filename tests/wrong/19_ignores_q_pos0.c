/* 19_ignores_q_pos0.c - always bottom-right aligned.
 */
#include "../right/kit.h"

mla_status wrong_19_ignores_q_pos0(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++) {
		twisted.q_pos0[r] =
			batch->kv_len[r] - (batch->qo_indptr[r + 1] - batch->qo_indptr[r]);
	}
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
