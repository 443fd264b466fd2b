/* geometry.c - pages, and which keys a query sees.
 */
#include "lib/geometry.h"

int64_t geometry_pages(const mla_config *config, int64_t keys)
{
	return (keys + config->page_size - 1) / config->page_size;
}

static int64_t queries_of(const mla_batch *batch, int32_t request)
{
	return batch->qo_indptr[request + 1] - batch->qo_indptr[request];
}

int64_t geometry_position(const mla_batch *batch, int32_t request)
{
	if (batch->q_pos0)
		return batch->q_pos0[request];
	return batch->kv_len[request] - queries_of(batch, request);
}

int64_t geometry_seen(const mla_config *config, const mla_batch *batch, int32_t request,
		      int64_t query)
{
	const int64_t kv_len = batch->kv_len[request];

	if (!config->causal)
		return kv_len;

	const int64_t end = geometry_position(batch, request) + query + 1;

	return end < 0 ? 0 : end < kv_len ? end : kv_len;
}

static int64_t keys_in_use(const mla_config *config, const mla_batch *batch,
			   enum geometry_reach reach, int32_t request)
{
	const int64_t queries = queries_of(batch, request);

	if (reach == GEOMETRY_KEPT)
		return batch->kv_len[request];
	if (queries == 0)
		return 0;
	return reach == GEOMETRY_QUERIED ? batch->kv_len[request]
					 : geometry_seen(config, batch, request, queries - 1);
}

void geometry_mark(const mla_config *config, const mla_batch *batch, const int32_t *kv_indices,
		   enum geometry_reach reach, int32_t *slots)
{
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int32_t *page = kv_indices + batch->kv_indptr[r];
		int64_t left = keys_in_use(config, batch, reach, r);

		for (; left > 0; left -= config->page_size, page++) {
			const int32_t here =
				left < config->page_size ? (int32_t)left : config->page_size;

			if (slots[*page] < here)
				slots[*page] = here;
		}
	}
}
