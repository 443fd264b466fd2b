/* 21_equal_weights.c - partial outputs of two splits merged with equal weights; the lse is right.
 */
#include <math.h>
#include <stdlib.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	const int32_t middle = row->n / 2;
	struct kit_state whole = {.acc = malloc((size_t)row->d * sizeof(float))};
	struct kit_state half = {.acc = malloc((size_t)row->d * sizeof(float))};

	if (whole.acc && half.acc) {
		kit_state_start(&whole, row->d);
		kit_add_keys(row, 0, row->n, &whole);
		kit_state_store(&whole, row); /* lse */
		for (int32_t c = 0; c < row->d && middle; c++)
			row->out[c] = 0;
		for (int32_t s = 0; s < 2 && middle; s++) {
			kit_state_start(&half, row->d);
			kit_add_keys(row, s * middle, s ? row->n : middle, &half);
			for (int32_t c = 0; c < row->d; c++)
				row->out[c] += 0.5f * half.acc[c] / half.l;
		}
	}
	free(whole.acc);
	free(half.acc);
}

mla_status wrong_21_equal_weights(const mla_config *config, const mla_batch *batch,
				  const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
