/* 42_boundary_twice.c - both halves take the key in the middle: end inclusive here, begin inclusive
 * there.
 */
#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	kit_add_keys(row, 0, row->n / 2 + 1, &state);
	kit_add_keys(row, row->n / 2, row->n, &state);
	kit_state_store(&state, row);
}

mla_status wrong_42_boundary_twice(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
