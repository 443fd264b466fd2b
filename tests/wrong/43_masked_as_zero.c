/* 43_masked_as_zero.c - the last tile of 64 is padded with zero keys that keep their score 0
 * instead of -inf.
 */
#include <math.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	kit_add_keys(row, 0, row->n, &state);
	state.l += (float)((64 - row->n % 64) % 64) * expf(-state.m);
	kit_state_store(&state, row);
}

mla_status wrong_43_masked_as_zero(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
