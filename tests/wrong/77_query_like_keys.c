/* 77_query_like_keys.c - queries rounded to the dtype of the cache.
 */
#include <stdlib.h>
#include <string.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};
	struct kit_row twisted = *row;
	float *q = malloc((size_t)row->dims * sizeof(*q));

	for (int32_t i = 0; q && i < row->dims; i++)
		q[i] = kit_round(row->q[i], row->config->ckv_dtype);
	twisted.q = q;
	kit_state_start(&state, row->d);
	if (q)
		kit_add_keys(&twisted, 0, row->n, &state);
	kit_state_store(&state, row);
	free(q);
}

mla_status wrong_77_query_like_keys(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
