/* 25_lse_unscaled.c - the maximum enters the lse before it is scaled; the output is right.
 */
#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	kit_add_keys(row, 0, row->n, &state);
	kit_state_store(&state, row);
	*row->lse += state.m / row->scale - state.m;
}

mla_status wrong_25_lse_unscaled(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
