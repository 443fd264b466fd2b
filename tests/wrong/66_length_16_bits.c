/* 66_length_16_bits.c - kv_len as an int16: none from 32768 on, and again from 65536 on.
 */
#include "../right/kit.h"

mla_status wrong_66_length_16_bits(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++)
		twisted.kv_len[r] = (int16_t)batch->kv_len[r] < 0 ? 0 : (int16_t)batch->kv_len[r];
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
