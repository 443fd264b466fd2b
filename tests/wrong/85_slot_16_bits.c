/* 85_slot_16_bits.c - slots cut down to 16 bits.
 */
#include "../right/kit.h"

static int64_t which(const mla_config *config, const int32_t *pages, int64_t key)
{
	const int64_t slot = key % config->page_size;

	(void)pages;
	return key - slot + (slot & 0xffff);
}

mla_status wrong_85_slot_16_bits(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_reference_of(config, batch, tensors, which);
}
