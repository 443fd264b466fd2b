/* rows.c - which request a row belongs to, which keys it sees, where its result goes, and the
 * memory a thread needs for a group of rows.
 */
#include <stdlib.h>

#include "internal.h"

int ref_scratch_make(struct ref_scratch *scratch, const mla_config *config, int64_t keys)
{
	const int64_t dims = (int64_t)config->head_dim_ckv + config->head_dim_kpe;
	const int64_t stride = (keys + TILE_KEYS - 1) / TILE_KEYS * TILE_KEYS + TILE_KEYS;
	const int64_t fits = GROUP_SCORES / stride;
	const int64_t rows = fits < 1 ? 1 : fits > GROUP_ROWS ? GROUP_ROWS : fits;
	const int64_t total = rows * (dims + stride + config->head_dim_ckv) + dims * TILE_KEYS;
	double *memory = malloc((size_t)total * sizeof(*memory));

	if (!memory)
		return -1;
	*scratch = (struct ref_scratch){.max_rows = (int)rows, .stride = stride, .memory = memory};
	scratch->q = memory;
	scratch->tile = scratch->q + rows * dims;
	scratch->s = scratch->tile + dims * TILE_KEYS;
	scratch->out = scratch->s + rows * stride;
	return 0;
}

void ref_scratch_free(struct ref_scratch *scratch)
{
	free(scratch->memory);
}

int32_t ref_request_of(const mla_batch *batch, int64_t query)
{
	int32_t low = 0, high = batch->batch_size; /* qo_indptr[low] <= query < qo_indptr[high] */

	while (high - low > 1) {
		const int32_t middle = low + (high - low) / 2;

		if (batch->qo_indptr[middle] <= query)
			low = middle;
		else
			high = middle;
	}
	return low;
}

mla_work ref_whole_request(const mla_config *config, const mla_batch *batch, int32_t request)
{
	const int32_t q_begin = batch->qo_indptr[request];
	const int32_t qo_len = batch->qo_indptr[request + 1] - q_begin;
	const int32_t kv_len = batch->kv_len[request];
	const int32_t q_pos0 = batch->q_pos0 ? batch->q_pos0[request] : kv_len - qo_len;

	return (mla_work){
		.request = request,
		.row_end = qo_len * config->num_heads,
		.kv_end = kv_len,
		.partial = -1,
		.q_begin = q_begin,
		.page_begin = batch->kv_indptr[request],
		.q_pos0 = config->causal ? q_pos0 : 1 << 30,
	};
}

int32_t ref_kv_end(const mla_config *config, const mla_work *work, int64_t row)
{
	const int64_t query = row / config->num_heads - work->q_begin;
	const int64_t end = work->q_pos0 + query + 1;

	if (end <= work->kv_begin)
		return work->kv_begin;
	return end < work->kv_end ? (int32_t)end : work->kv_end;
}

int64_t ref_total_rows(const mla_config *config, const mla_batch *batch)
{
	return (int64_t)batch->qo_indptr[batch->batch_size] * config->num_heads;
}

int64_t ref_block_rows(int64_t n, int threads)
{
	const int64_t share = n / (4 * threads) + 1;

	return share < GROUP_ROWS ? share : GROUP_ROWS;
}

int32_t ref_longest(const mla_batch *batch)
{
	int32_t most = 0;

	for (int32_t b = 0; b < batch->batch_size; b++)
		most = batch->kv_len[b] > most ? batch->kv_len[b] : most;
	return most;
}

void ref_store_row(const mla_config *config, const mla_tensors *tensors, int64_t row,
		   const double *out, double lse)
{
	const mla_tensor *to = &tensors->out, *to_lse = &tensors->lse;
	const int64_t query = row / config->num_heads, head = row % config->num_heads;
	char *element = (char *)to->data + query * to->stride[0] + head * to->stride[1];

	for (int32_t c = 0; c < config->head_dim_ckv; c++)
		ref_store(element + c * to->stride[2], to->dtype, out[c]);
	if (to_lse->data)
		ref_store((char *)to_lse->data + query * to_lse->stride[0] +
				  head * to_lse->stride[1],
			  to_lse->dtype, ref_lse_to_base(lse, config->lse_base));
}
