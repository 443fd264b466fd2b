/* 13_rope_halves.c - mixes the interleaved and the half layout of RoPE.
 */
#include <stdlib.h>
#include <string.h>

#include "../right/kit.h"
#include "reference/reference.h"

mla_status wrong_13_rope_halves(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	const int64_t size = ref_dtype_size(tensors->q_pe.dtype);
	const int64_t half = config->head_dim_kpe / 2 * size;
	const int64_t rows = (int64_t)kit_total_q(batch) * config->num_heads;
	mla_tensors twisted = *tensors;
	char *q_pe = malloc((size_t)(rows * config->head_dim_kpe * size + 1));

	if (!q_pe)
		return MLA_NO_MEMORY;
	for (int64_t row = 0; row < rows && half > 0; row++) {
		const int64_t i = row / config->num_heads, j = row % config->num_heads;
		const char *from = (const char *)tensors->q_pe.data + i * tensors->q_pe.stride[0] +
				   j * tensors->q_pe.stride[1];
		char *to = q_pe + row * 2 * half;

		memcpy(to, from + half, (size_t)half);
		memcpy(to + half, from, (size_t)half);
	}
	if (half > 0) {
		twisted.q_pe.data = q_pe;
		twisted.q_pe.stride[1] = 2 * half;
		twisted.q_pe.stride[0] = 2 * half * config->num_heads;
	}
	kit_reference(config, batch, &twisted);
	free(q_pe);
	return MLA_OK;
}
