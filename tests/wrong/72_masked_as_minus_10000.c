/* 72_masked_as_minus_10000.c - keys that a query does not see score -10000 instead of nothing at
 * all.
 */
#include <math.h>

#include "../right/kit.h"

enum { MASKED = -10000 };

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	kit_add_keys(row, 0, row->n, &state);
	if (row->n < row->kv_len)
		kit_state_add(&state, MASKED, row->keys + (int64_t)row->n * row->dims, row->d);
	kit_state_store(&state, row);
}

mla_status wrong_72_masked_as_minus_10000(const mla_config *config, const mla_batch *batch,
					  const mla_tensors *tensors)
{
	kit_run(config, batch, tensors, attend);
	return MLA_OK;
}
