/* 80_idle_without_keys.c - a batch without a key is left alone.
 */
#include "../right/kit.h"

mla_status wrong_80_idle_without_keys(const mla_config *config, const mla_batch *batch,
				      const mla_tensors *tensors)
{
	for (int32_t r = 0; r < batch->batch_size; r++)
		if (batch->kv_len[r] > 0)
			return kit_reference(config, batch, tensors);
	return MLA_OK;
}
