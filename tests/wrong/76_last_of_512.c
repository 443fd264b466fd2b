/* 76_last_of_512.c - rows that see whole tiles of 512 keys lose the last key.
 */
#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	kit_add_keys(row, 0, row->n % 512 ? row->n : row->n - 1, &state);
	kit_state_store(&state, row);
}

mla_status wrong_76_last_of_512(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
