/* 23_l_not_rescaled.c - a new maximum rescales the sums, but not l.
 */
#include <math.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	float m = -INFINITY, l = 0;

	for (int32_t j = 0; j < row->n; j++) {
		const float *key = row->keys + (int64_t)j * row->dims;
		const float s = kit_score(row, j);
		const float m_old = m;
		float rescale, p;

		m = fmaxf(m, s);
		rescale = expf(m_old - m);
		p = expf(s - m);
		l += p;
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] = row->out[c] * rescale + p * key[c];
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = m + logf(l);
}

mla_status wrong_23_l_not_rescaled(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
