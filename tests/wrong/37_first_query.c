/* 37_first_query.c - a stride of 0 where a request has several queries.
 */
#include <stdlib.h>
#include <string.h>

#include "../right/kit.h"

mla_status wrong_37_first_query(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	const mla_tensor *q = &tensors->q_nope;
	const size_t bytes = (size_t)(q->extent[2] * q->stride[2]);
	const int64_t heads = config->num_heads, row = heads * (int64_t)bytes;
	mla_tensors twisted = *tensors;
	char *copy = malloc((size_t)(kit_total_q(batch) * row) + 1);

	if (!copy)
		return MLA_NO_MEMORY;
	for (int32_t r = 0; r < batch->batch_size; r++)
		for (int64_t i = batch->qo_indptr[r]; i < batch->qo_indptr[r + 1]; i++)
			for (int64_t h = 0; h < heads; h++)
				memcpy(copy + i * row + h * (int64_t)bytes,
				       (const char *)q->data + batch->qo_indptr[r] * q->stride[0] +
					       h * q->stride[1],
				       bytes);
	twisted.q_nope.data = copy;
	twisted.q_nope.stride[0] = row;
	twisted.q_nope.stride[1] = (int64_t)bytes;
	kit_reference(config, batch, &twisted);
	free(copy);
	return MLA_OK;
}
