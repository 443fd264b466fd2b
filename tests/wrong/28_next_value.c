/* 28_next_value.c - P multiplies the value one slot further on.
 */
#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	for (int32_t j = 0; j < row->n; j++) {
		const int32_t next = j + 1 < row->n ? j + 1 : j;

		kit_state_add(&state, kit_score(row, j), row->keys + (int64_t)next * row->dims,
			      row->d);
	}
	kit_state_store(&state, row);
}

mla_status wrong_28_next_value(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
