/* 90_rope_nan_as_zero.c - a NaN in q_pe counts as 0.
 */
#include <math.h>
#include <stdlib.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};
	struct kit_row twisted = *row;
	float *q = malloc((size_t)row->dims * sizeof(*q));

	for (int32_t i = 0; q && i < row->dims; i++)
		q[i] = i >= row->d && isnan(row->q[i]) ? 0 : row->q[i];
	twisted.q = q;
	kit_state_start(&state, row->d);
	if (q)
		kit_add_keys(&twisted, 0, row->n, &state);
	kit_state_store(&state, row);
	free(q);
}

mla_status wrong_90_rope_nan_as_zero(const mla_config *config, const mla_batch *batch,
				     const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
