/* 06_two_passes.c - maximum and sum first; then P / l, rounded to the type of the values.
 */
#include <math.h>

#include "kit.h"

static void attend(const struct kit_row *row)
{
	float m = -INFINITY, l = 0;

	for (int32_t j = 0; j < row->n; j++)
		m = fmaxf(m, kit_score(row, j));
	for (int32_t j = 0; j < row->n; j++)
		l += expf(kit_score(row, j) - m);
	for (int32_t j = 0; j < row->n; j++) {
		const float *value = row->keys + (int64_t)j * row->dims;
		const float p = kit_round(expf(kit_score(row, j) - m) / l, row->config->ckv_dtype);

		for (int32_t c = 0; c < row->d; c++)
			row->out[c] += p * value[c];
	}
	*row->lse = m + logf(l); /* cppcheck-suppress invalidFunctionArg ; n >= 1, so l >= 1 */
}

mla_status right_06_two_passes(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
