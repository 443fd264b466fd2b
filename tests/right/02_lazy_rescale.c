/* 02_lazy_rescale.c - keeps an old maximum while scores exceed it by at most 8 binades: P may then
 * be as large as 256, and accumulators are rescaled rarely.
 */
#include <math.h>

#include "kit.h"

static void attend(const struct kit_row *row)
{
	float m = -INFINITY, l = 0;

	for (int32_t j = 0; j < row->n; j++) {
		const float *key = row->keys + (int64_t)j * row->dims;
		const float s = kit_score(row, j) * 1.44269504f;
		float p;

		if (s > m + 8) {
			const float rescale = exp2f(m - s);

			for (int32_t c = 0; c < row->d; c++)
				row->out[c] *= rescale;
			l *= rescale;
			m = s;
		}
		p = exp2f(s - m);
		l += p;
		p = kit_round(p, row->config->ckv_dtype);
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] += p * key[c];
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = (m + log2f(l)) * 0.69314718f;
}

mla_status right_02_lazy_rescale(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
