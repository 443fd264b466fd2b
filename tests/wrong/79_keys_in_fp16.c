/* 79_keys_in_fp16.c - keys held in fp16, whatever their dtype is.
 */
#include <stdlib.h>
#include <string.h>

#include "../right/kit.h"

static void attend(const struct kit_row *row)
{
	struct kit_state state = {.acc = row->out};
	float *key = malloc((size_t)row->dims * sizeof(*key));

	kit_state_start(&state, row->d);
	for (int32_t j = 0; key && j < row->n; j++) {
		memcpy(key, row->keys + (int64_t)j * row->dims, (size_t)row->dims * sizeof(*key));
		for (int32_t i = 0; i < row->dims; i++)
			key[i] = kit_round(key[i], MLA_F16);
		kit_state_add(&state, kit_dot(row->q, key, row->dims) * row->scale, key, row->d);
	}
	kit_state_store(&state, row);
	free(key);
}

mla_status wrong_79_keys_in_fp16(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	return kit_run(config, batch, tensors, attend);
}
