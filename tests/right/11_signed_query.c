/* 11_signed_query.c - the sign of the scale goes into the query, its size into the exponent; the
 * maximum is that of the signed dot products.
 */
#include <math.h>

#include "kit.h"

static float signed_dot(const struct kit_row *row, int32_t key)
{
	return copysignf(1, row->scale) *
	       kit_dot(row->q, row->keys + (int64_t)key * row->dims, row->dims);
}

static void attend(const struct kit_row *row)
{
	const float size = fabsf(row->scale);
	float m = -INFINITY, l = 0;

	for (int32_t j = 0; j < row->n; j++)
		m = fmaxf(m, signed_dot(row, j));
	for (int32_t j = 0; j < row->n; j++) {
		const float p = expf((signed_dot(row, j) - m) * size);

		l += p;
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] += p * row->keys[(int64_t)j * row->dims + c];
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = m * size + logf(l);
}

mla_status right_11_signed_query(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
