/* 01_tensor_core.c - as a tensor-core kernel rounds: tiles of 64 keys, scores in base 2, P rounded
 * to the type of the values, sums in f32, l summed from the unrounded P.
 */
#include <math.h>

#include "kit.h"

enum { TILE = 64 };

static void attend(const struct kit_row *row)
{
	const float scale = row->scale * 1.44269504f;
	float m = -INFINITY, l = 0;

	for (int32_t first = 0; first < row->n; first += TILE) {
		const int32_t n = row->n - first < TILE ? row->n - first : TILE;
		const float *keys = row->keys + (int64_t)first * row->dims;
		float s[TILE], m_old = m, rescale;

		for (int32_t j = 0; j < n; j++) {
			s[j] = kit_dot(row->q, keys + (int64_t)j * row->dims, row->dims) * scale;
			m = fmaxf(m, s[j]);
		}
		rescale = exp2f(m_old - m);
		l *= rescale;
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] *= rescale;
		for (int32_t j = 0; j < n; j++) {
			const float p = exp2f(s[j] - m);
			const float rounded = kit_round(p, row->config->ckv_dtype);

			l += p;
			for (int32_t c = 0; c < row->d; c++)
				row->out[c] += rounded * keys[(int64_t)j * row->dims + c];
		}
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = (m + log2f(l)) * 0.69314718f;
}

mla_status right_01_tensor_core(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
