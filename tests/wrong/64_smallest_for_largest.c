/* 64_smallest_for_largest.c - the maximum is taken before the scale: of a negative one it is the
 * smallest score, and weights overflow.
 */
#include <math.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	float m = -INFINITY, l = 0;

	for (int32_t j = 0; j < row->n; j++)
		m = fmaxf(m, kit_dot(row->q, row->keys + (int64_t)j * row->dims, row->dims));
	m *= row->scale;
	for (int32_t j = 0; j < row->n; j++) {
		const float p = expf(kit_score(row, j) - m);

		l += p;
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] += p * row->keys[(int64_t)j * row->dims + c];
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = m + logf(l);
}

mla_status wrong_64_smallest_for_largest(const mla_config *config, const mla_batch *batch,
					 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
