/* 09_next_page.c - takes the page table's next entry, where there is one.
 */
#include <stdlib.h>
#include <string.h>

#include "../right/kit.h"

mla_status wrong_09_next_page(const mla_config *config, const mla_batch *batch,
			      const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;
	const int64_t entries = tensors->num_kv_indices;
	int32_t *pages = malloc(((size_t)entries + 1) * sizeof(*pages));

	if (!pages)
		return MLA_NO_MEMORY;
	memcpy(pages, tensors->kv_indices, (size_t)entries * sizeof(*pages));
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int32_t used = (batch->kv_len[r] + config->page_size - 1) / config->page_size;

		for (int32_t i = batch->kv_indptr[r]; i < batch->kv_indptr[r] + used - 1; i++)
			pages[i] = tensors->kv_indices[i + 1];
	}
	twisted.kv_indices = pages;
	kit_reference(config, batch, &twisted);
	free(pages);
	return MLA_OK;
}
