/* 29_swapped_heads.c - a wrong lane-to-row map in the epilogue; the lse is right.
 */
#include <stdlib.h>
#include <string.h>

#include "../right/kit.h"

mla_status wrong_29_swapped_heads(const mla_config *config, const mla_batch *batch,
				  const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	const size_t bytes = (size_t)kit_out_row_bytes(tensors);
	char *row = malloc(bytes);

	if (!row)
		return MLA_NO_MEMORY;
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = 0; head + 1 < config->num_heads; head += 2) {
			char *a = kit_out(tensors, query, head),
			     *b = kit_out(tensors, query, head + 1);

			memcpy(row, a, bytes);
			memcpy(a, b, bytes);
			memcpy(b, row, bytes);
		}
	free(row);
	return MLA_OK;
}
