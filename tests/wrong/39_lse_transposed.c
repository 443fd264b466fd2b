/* 39_lse_transposed.c - heads outside, queries inside; the output is right.
 */
#include <stdlib.h>

#include "../right/kit.h"

mla_status wrong_39_lse_transposed(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	const int64_t queries = kit_total_q(batch), heads = config->num_heads;
	float *lse = malloc((size_t)(queries * heads + 1) * sizeof(*lse));

	if (!lse)
		return MLA_NO_MEMORY;
	for (int64_t query = 0; query < queries; query++)
		for (int64_t head = 0; head < heads; head++)
			lse[head * queries + query] = *kit_lse(tensors, query, head);
	for (int64_t i = 0; i < queries * heads; i++)
		*kit_lse(tensors, i / heads, i % heads) = lse[i];
	free(lse);
	return MLA_OK;
}
