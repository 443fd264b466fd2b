/* 03_seven_splits.c - seven partial states of unequal length (some may be empty), each normalised,
 * merged in f32 by their lse.
 */
#include <math.h>
#include <stdlib.h>

#include "kit.h"

enum { SPLITS = 7 };

static void attend(const struct kit_row *row)
{
	struct kit_state part = {.acc = malloc((size_t)row->d * sizeof(float))};
	struct kit_state merged = {.acc = malloc((size_t)row->d * sizeof(float))};

	if (part.acc && merged.acc) {
		kit_state_start(&merged, row->d);
		for (int32_t s = 0; s < SPLITS; s++) {
			/* 1 + 2 + ... + 7 = 28 */
			kit_state_start(&part, row->d);
			kit_add_keys(row, (int32_t)((int64_t)row->n * s * (s + 1) / 56),
				     (int32_t)((int64_t)row->n * (s + 1) * (s + 2) / 56), &part);
			if (part.l == 0)
				continue;
			for (int32_t c = 0; c < row->d; c++)
				part.acc[c] /= part.l;
			/* A state counts like one key with its lse as score. */
			kit_state_add(&merged, part.m + logf(part.l), part.acc, row->d);
		}
		kit_state_store(&merged, row);
	}
	free(part.acc);
	free(merged.acc);
}

mla_status right_03_seven_splits(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
