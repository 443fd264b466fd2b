/* 12_whole_tiles_of_rows.c - rows that do not fill a tile are never stored.
 */
#include "../right/kit.h"

mla_status wrong_12_whole_tiles_of_rows(const mla_config *config, const mla_batch *batch,
					const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int64_t first = batch->qo_indptr[r];
		const int64_t rows = (batch->qo_indptr[r + 1] - first) * config->num_heads;

		for (int64_t row = rows / 64 * 64; row < rows; row++)
			kit_unwrite(tensors, first + row / config->num_heads,
				    row % config->num_heads);
	}
	return MLA_OK;
}
