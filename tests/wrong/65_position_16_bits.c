/* 65_position_16_bits.c - q_pos0 cut down to 16 bits.
 */
#include "../right/kit.h"

mla_status wrong_65_position_16_bits(const mla_config *config, const mla_batch *batch,
				     const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++)
		twisted.q_pos0[r] = (int16_t)twisted.q_pos0[r];
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
