/* 70_clamped_scores.c - scores are clamped to -1000 .. 1000.
 */
#include <math.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};

	kit_state_start(&state, row->d);
	for (int32_t j = 0; j < row->n; j++) {
		const float score = kit_score(row, j);

		kit_state_add(&state, fminf(fmaxf(score, -1000), 1000),
			      row->keys + (int64_t)j * row->dims, row->d);
	}
	kit_state_store(&state, row);
}

mla_status wrong_70_clamped_scores(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
