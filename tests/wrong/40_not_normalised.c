/* 40_not_normalised.c - output not divided by l: a partial state stored as if it were final.
 */
#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	kit_add_keys(row, 0, row->n, &state);
	kit_state_store(&state, row);
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] *= state.l;
}

mla_status wrong_40_not_normalised(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
