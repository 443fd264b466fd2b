/* 05_scaled_query.c - sm_scale * log2(e) multiplied into the query, in f32, before the dot
 * products.
 */
#include <stdlib.h>

#include "kit.h"

static void attend_scaled(const struct kit_row *row, const float *q)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	for (int32_t j = 0; j < row->n; j++) {
		const float *key = row->keys + (int64_t)j * row->dims;

		kit_state_add(&state, kit_dot(q, key, row->dims) * 0.69314718f, key, row->d);
	}
	kit_state_store(&state, row);
}

static void attend(const struct kit_row *row)
{
	float *q = malloc((size_t)row->dims * sizeof(*q));

	for (int32_t i = 0; q && i < row->dims; i++)
		q[i] = row->q[i] * (row->scale * 1.44269504f);
	if (q)
		attend_scaled(row, q);
	free(q);
}

mla_status right_05_scaled_query(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
