/* 68_page_id_16_bits.c - page ids cut down to 16 bits.
 */
#include <stdlib.h>

#include "../right/kit.h"

mla_status wrong_68_page_id_16_bits(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;
	int32_t *table = malloc(((size_t)tensors->num_kv_indices + 1) * sizeof(*table));

	if (!table)
		return MLA_NO_MEMORY;
	for (int64_t i = 0; i < tensors->num_kv_indices; i++)
		table[i] = tensors->kv_indices[i] & 0xffff;
	twisted.kv_indices = table;
	kit_reference(config, batch, &twisted);
	free(table);
	return MLA_OK;
}
