/* size.c - sums of a batch's lengths, its limits, and the bytes of its inputs. */
#include "case/size.h"

#include <inttypes.h>

#include "base/memory.h"
#include "lib/error.h"
#include "lib/geometry.h"
#include "reference/reference.h"

mla_status case_size_of(const mla_config *config, int32_t batch_size, const int32_t *qo_len,
			const int32_t *kv_len, struct case_size *size)
{
	*size = (struct case_size){0};
	for (int32_t r = 0; r < batch_size; r++) {
		size->queries += qo_len[r];
		size->pages += geometry_pages(config, kv_len[r]);
	}
	if (size->queries > INT32_MAX || size->pages > INT32_MAX)
		return mla_fail(MLA_INVALID,
				"the batch has more queries or pages than 32 bits count: %" PRId64
				" queries, %" PRId64 " pages",
				size->queries, size->pages);
	return MLA_OK;
}

int64_t case_tensor_bytes(int32_t dtype, int32_t ndim, const int64_t *extent)
{
	int64_t bytes = ref_dtype_size(dtype);

	for (int32_t i = 0; i < ndim; i++)
		bytes = memory_product(bytes, extent[i]);
	return bytes;
}

int64_t case_input_bytes(const mla_config *config, const struct case_size *size, int64_t num_pages)
{
	const struct {
		int32_t dtype;
		int64_t extent[3];
	} tensors[] = {
		{config->q_dtype, {size->queries, config->num_heads, config->head_dim_ckv}},
		{config->q_dtype, {size->queries, config->num_heads, config->head_dim_kpe}},
		{config->ckv_dtype, {num_pages, config->page_size, config->head_dim_ckv}},
		{config->kpe_dtype, {num_pages, config->page_size, config->head_dim_kpe}},
		{MLA_F32, {1, 1, size->pages}}, /* 32 bits per page of the index */
	};
	int64_t bytes = 0;

	for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++)
		bytes = memory_sum(bytes,
				   case_tensor_bytes(tensors[i].dtype, 3, tensors[i].extent));
	return bytes;
}
