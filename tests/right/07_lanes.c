/* 07_lanes.c - as a CUDA-core kernel sums: 32 lanes per dot product, added up as a tree; keys dealt
 * to 4 warps, each with a running state of its own, merged at the end.
 */
#include <math.h>
#include <stdlib.h>

#include "kit.h"

enum { LANES = 32, WARPS = 4 };

static float warp_dot(const float *a, const float *b, int32_t n)
{
	float lane[LANES] = {0};

	for (int32_t i = 0; i < n; i++)
		lane[i % LANES] += a[i] * b[i];
	for (int32_t step = LANES / 2; step > 0; step /= 2)
		for (int32_t i = 0; i < step; i++)
			lane[i] += lane[i + step];
	return lane[0];
}

static void merge(const struct kit_row *row, const struct kit_state *warps)
{
	float m = -INFINITY, l = 0;

	for (int32_t w = 0; w < WARPS; w++)
		m = fmaxf(m, warps[w].m);
	for (int32_t w = 0; w < WARPS; w++) {
		const float weight = expf(warps[w].m - m); /* 0 for a warp without keys */

		l += weight * warps[w].l;
		for (int32_t c = 0; c < row->d; c++)
			row->out[c] += weight * warps[w].acc[c];
	}
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] /= l;
	*row->lse = m + logf(l);
}

static void attend(const struct kit_row *row)
{
	float *memory = malloc((size_t)row->d * WARPS * sizeof(*memory));
	struct kit_state warps[WARPS];

	if (!memory)
		return;
	for (int32_t w = 0; w < WARPS; w++) {
		warps[w].acc = memory + (int64_t)w * row->d;
		kit_state_start(&warps[w], row->d);
		for (int32_t j = w; j < row->n; j += WARPS) {
			const float *key = row->keys + (int64_t)j * row->dims;

			kit_state_add(&warps[w], warp_dot(row->q, key, row->dims) * row->scale, key,
				      row->d);
		}
	}
	merge(row, warps);
	free(memory);
}

mla_status right_07_lanes(const mla_config *config, const mla_batch *batch,
			  const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
