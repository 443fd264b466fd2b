/* 08_fp16_weights.c - P rounded to fp16 even where the values are bf16; f32 values keep P in f32.
 */
#include <math.h>

#include "kit.h"

static void attend(const struct kit_row *row)
{
	const int32_t dtype = row->config->ckv_dtype == MLA_F32 ? MLA_F32 : MLA_F16;
	float m = -INFINITY, l = 0;

	for (int32_t j = 0; j < row->n; j++) {
		const float *key = row->keys + (int64_t)j * row->dims;
		const float s = kit_score(row, j);
		const float m_old = m;
		float rescale, p;

		m = fmaxf(m, s);
		rescale = expf(m_old - m);
		p = expf(s - m);
		l = l * rescale + p;
		p = kit_round(p, dtype);
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] = row->out[c] * rescale + p * key[c];
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = m + logf(l);
}

mla_status right_08_fp16_weights(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
