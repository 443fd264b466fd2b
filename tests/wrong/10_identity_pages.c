/* 10_identity_pages.c - takes the cache for contiguous: page i of the batch is page i of the pool.
 */
#include <stdlib.h>

#include "../right/kit.h"

mla_status wrong_10_identity_pages(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;
	const int64_t entries = tensors->num_kv_indices;
	int32_t *pages = malloc(((size_t)entries + 1) * sizeof(*pages));

	if (!pages)
		return MLA_NO_MEMORY;
	for (int64_t i = 0; i < entries; i++)
		pages[i] = (int32_t)(i % tensors->ckv.extent[0]);
	twisted.kv_indices = pages;
	kit_reference(config, batch, &twisted);
	free(pages);
	return MLA_OK;
}
