/* 34_zero_times_junk.c - weights of masked keys are 0, but 0 * NaN is not.
 */
#include "../right/kit.h"
#include "reference/reference.h"

static void add_zero_times(const mla_tensors *tensors, char *out, const char *value)
{
	const mla_tensor *o = &tensors->out, *v = &tensors->ckv;

	for (int64_t c = 0; c < o->extent[2]; c++, out += o->stride[2], value += v->stride[2])
		ref_store(out, o->dtype, ref_load(out, o->dtype) + 0 * ref_load(value, v->dtype));
}

mla_status wrong_34_zero_times_junk(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int32_t n = batch->kv_len[r], slot = n % config->page_size;
		const int32_t entry = batch->kv_indptr[r] + n / config->page_size;

		for (int64_t query = batch->qo_indptr[r]; query < batch->qo_indptr[r + 1] && slot;
		     query++)
			for (int64_t head = 0; head < config->num_heads; head++)
				add_zero_times(tensors, kit_out(tensors, query, head),
					       (const char *)tensors->ckv.data +
						       tensors->kv_indices[entry] *
							       tensors->ckv.stride[0] +
						       slot * tensors->ckv.stride[1]);
	}
	return MLA_OK;
}
