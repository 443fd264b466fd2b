/* 04_reversed.c - f32, keys from the newest to the oldest, one by one.
 */
#include "kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	for (int32_t j = row->n - 1; j >= 0; j--) {
		const float *key = row->keys + (int64_t)j * row->dims;

		kit_state_add(&state, kit_score(row, j), key, row->d);
	}
	kit_state_store(&state, row);
}

mla_status right_04_reversed(const mla_config *config, const mla_batch *batch,
			     const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
