/* 44_bf16_query.c - q * scale rounded to bf16 before the dot product.
 */
#include "../right/kit.h"

static float rounded_score(const struct kit_row *row, const float *key)
{
	float sum = 0;

	for (int32_t i = 0; i < row->dims; i++)
		sum += kit_round(row->q[i] * row->scale, MLA_BF16) * key[i];
	return sum;
}

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	for (int32_t j = 0; j < row->n; j++) {
		const float *key = row->keys + (int64_t)j * row->dims;

		kit_state_add(&state, rounded_score(row, key), key, row->d);
	}
	kit_state_store(&state, row);
}

mla_status wrong_44_bf16_query(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
