/* 12_zero_times_unseen.c - queries of a request share their tile of keys: a key that only a later
 * query sees counts with weight 0, and 0 * NaN is NaN.
 */
#include <math.h>

#include "kit.h"
#include "reference/reference.h"

static const char *key_at(const mla_config *config, const mla_batch *batch,
			  const mla_tensors *tensors, int32_t request, int64_t key)
{
	const int32_t *pages = tensors->kv_indices + batch->kv_indptr[request];

	return (const char *)tensors->ckv.data +
	       pages[key / config->page_size] * tensors->ckv.stride[0] +
	       key % config->page_size * tensors->ckv.stride[1];
}

static void add_zero_times(const mla_tensors *tensors, char *out, const char *value)
{
	const mla_tensor *o = &tensors->out, *v = &tensors->ckv;

	for (int64_t c = 0; c < o->extent[2]; c++, out += o->stride[2], value += v->stride[2])
		if (isnan(ref_load(value, v->dtype)))
			ref_store(out, o->dtype, NAN);
}

mla_status right_12_zero_times_unseen(const mla_config *config, const mla_batch *batch,
				      const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int64_t first = batch->qo_indptr[r], last = batch->qo_indptr[r + 1] - 1;

		for (int64_t query = first; query < last; query++)
			for (int64_t key = kit_seen(config, batch, r, query - first);
			     key < kit_seen(config, batch, r, last - first); key++)
				for (int64_t head = 0; head < config->num_heads; head++)
					add_zero_times(tensors, kit_out(tensors, query, head),
						       key_at(config, batch, tensors, r, key));
	}
	return MLA_OK;
}
