/* 35_fp8_weights.c - weights rounded as an fp8 (e4m3) tensor core would have them.
 */
#include <math.h>

#include "../right/kit.h"

/* To 4 significant bits, to nearest. */
static float round_to_fp8(float p)
{
	int exponent;
	const float mantissa = frexpf(p, &exponent);

	return ldexpf(nearbyintf(mantissa * 16) / 16, exponent);
}

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
		l = l * rescale + p;
		p = round_to_fp8(p);
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] = row->out[c] * rescale + p * key[c];
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = m + logf(l);
}

mla_status wrong_35_fp8_weights(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
