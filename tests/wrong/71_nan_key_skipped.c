/* 71_nan_key_skipped.c - a key whose score is NaN counts as one that is not seen, unless all are.
 */
#include <math.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	for (int32_t j = 0; j < row->n; j++) {
		const float score = kit_score(row, j);

		if (!isnan(score) || (j == row->n - 1 && state.l == 0))
			kit_state_add(&state, score, row->keys + (int64_t)j * row->dims, row->d);
	}
	kit_state_store(&state, row);
}

mla_status wrong_71_nan_key_skipped(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
