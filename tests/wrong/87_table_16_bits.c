/* 87_table_16_bits.c - where a request begins in the page table, cut down to 16 bits.
 */
#include "../right/kit.h"

mla_status wrong_87_table_16_bits(const mla_config *config, const mla_batch *batch,
				  const mla_tensors *tensors)
{
	struct kit_batch twisted;

	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++)
		if (twisted.kv_indptr[r] > 0xffff)
			twisted.kv_len[r] = 0; /* the entry there may be of no page */
	twisted.view.q_pos0 = batch->q_pos0;
	kit_reference(config, &twisted.view, tensors);
	kit_batch_free(&twisted);
	return MLA_OK;
}
