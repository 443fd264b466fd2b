/* 75_page_once.c - a page that the request had among the 16 before is left out.
 */
#include "../right/kit.h"

static int64_t which(const mla_config *config, const int32_t *pages, int64_t key)
{
	const int64_t page = key / config->page_size;

	for (int64_t i = page > 16 ? page - 16 : 0; i < page; i++)
		if (pages[i] == pages[page])
			return -1;
	return key;
}

mla_status wrong_75_page_once(const mla_config *config, const mla_batch *batch,
			      const mla_tensors *tensors)
{
	return kit_reference_of(config, batch, tensors, which);
}
