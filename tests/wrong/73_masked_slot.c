/* 73_masked_slot.c - the slot is the key & (page_size - 1), which only a power of two allows.
 */
#include "../right/kit.h"

static int64_t which(const mla_config *config, const int32_t *pages, int64_t key)
{
	const int64_t page = key / config->page_size, slot = key % config->page_size;

	(void)pages;
	return page * config->page_size + (slot & (config->page_size - 1));
}

mla_status wrong_73_masked_slot(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	return kit_reference_of(config, batch, tensors, which);
}
