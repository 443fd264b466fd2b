/* 74_slot_9_bits.c - slots of a page cut down to 9 bits.
 */
#include "../right/kit.h"

static int64_t which(const mla_config *config, const int32_t *pages, int64_t key)
{
	(void)pages;
	return key / config->page_size * config->page_size + (key % config->page_size & 0x1ff);
}

mla_status wrong_74_slot_9_bits(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	return kit_reference_of(config, batch, tensors, which);
}
