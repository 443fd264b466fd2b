/* kit.c - see kit.h.
 */
#include "kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reference/reference.h"

enum { SHARED_SCORES = 2000 }; /* that more than one thread is worth */

/* ---- rows ------------------------------------------------------------------------------------ */

static void load(const mla_tensor *t, int64_t i, int64_t j, float *values)
{
	const char *element = t->data;

	if (!element)
		return;
	element += i * t->stride[0] + j * t->stride[1];
	for (int64_t c = 0; c < t->extent[2]; c++, element += t->stride[2])
		values[c] = (float)ref_load(element, t->dtype);
}

/* The keys [0, kv_len) of a request as f32, or NULL. */
static float *load_keys(const mla_config *config, const mla_batch *batch,
			const mla_tensors *tensors, int32_t request)
{
	const int32_t d = config->head_dim_ckv, dims = d + config->head_dim_kpe;
	const int32_t n = batch->kv_len[request], page_size = config->page_size;
	const int32_t *pages = tensors->kv_indices + batch->kv_indptr[request];
	float *keys = malloc(((size_t)n * (size_t)dims + 1) * sizeof(*keys));

	for (int64_t key = 0; keys && key < n; key++) {
		const int64_t page = pages[key / page_size], slot = key % page_size;

		load(&tensors->ckv, page, slot, keys + key * dims);
		load(&tensors->kpe, page, slot, keys + key * dims + d);
	}
	return keys;
}

static void store_row(const mla_config *config, const mla_tensors *tensors, int64_t query,
		      int64_t head, const float *out, float lse)
{
	const int32_t size = ref_dtype_size(config->out_dtype);
	char *element = kit_out(tensors, query, head);

	for (int32_t c = 0; c < config->head_dim_ckv; c++, element += size)
		ref_store(element, config->out_dtype, out[c]);
	*kit_lse(tensors, query, head) =
		lse * (config->lse_base == MLA_LSE_BASE2 ? 1.44269504f : 1);
}

static int32_t first_position(const mla_batch *batch, int32_t request)
{
	const int32_t qo_len = batch->qo_indptr[request + 1] - batch->qo_indptr[request];

	return batch->q_pos0 ? batch->q_pos0[request] : batch->kv_len[request] - qo_len;
}

int32_t kit_seen(const mla_config *config, const mla_batch *batch, int32_t request, int64_t query)
{
	const int32_t kv_len = batch->kv_len[request];
	const int64_t seen = config->causal ? first_position(batch, request) + query + 1 : kv_len;

	return (int32_t)(seen < 0 ? 0 : seen < kv_len ? seen : kv_len);
}

/* memory: [dims + d] */
static void run_row(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
		    int32_t request, int64_t row, const float *keys, kit_attend attend,
		    float *memory)
{
	const int64_t query = row / config->num_heads, head = row % config->num_heads;
	const int64_t whole = batch->qo_indptr[request] + query;
	const int32_t d = config->head_dim_ckv, dims = d + config->head_dim_kpe;
	float lse = -INFINITY, *q = memory, *out = memory + dims;
	const struct kit_row job = {.config = config,
				    .n = kit_seen(config, batch, request, query),
				    .kv_len = batch->kv_len[request],
				    .d = d,
				    .dims = dims,
				    .scale = (float)config->sm_scale,
				    .q = q,
				    .keys = keys,
				    .out = out,
				    .lse = &lse};

	load(&tensors->q_nope, whole, head, q);
	load(&tensors->q_pe, whole, head, q + d);
	memset(out, 0, (size_t)d * sizeof(*out));
	if (job.n > 0)
		attend(&job);
	store_row(config, tensors, whole, head, out, lse);
}

static int run_request(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
		       int32_t request, kit_attend attend)
{
	const int64_t queries = batch->qo_indptr[request + 1] - batch->qo_indptr[request];
	const size_t dims = (size_t)(2 * config->head_dim_ckv + config->head_dim_kpe);
	float *keys = load_keys(config, batch, tensors, request);
	int failed = !keys;

	/* there may be a thousand small requests */
#pragma omp parallel if (queries * config->num_heads * batch->kv_len[request] > SHARED_SCORES)
	{
		float *memory = malloc(dims * sizeof(*memory));

		if (!memory)
#pragma omp atomic write
			failed = 1;
#pragma omp for
		for (int64_t row = 0; row < queries * config->num_heads; row++)
			if (memory && keys)
				run_row(config, batch, tensors, request, row, keys, attend, memory);
		free(memory);
	}
	free(keys);
	return failed;
}

mla_status kit_run(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
		   kit_attend attend)
{
	for (int32_t r = 0; r < batch->batch_size; r++)
		if (run_request(config, batch, tensors, r, attend))
			return MLA_NO_MEMORY;
	return MLA_OK;
}

float kit_dot(const float *a, const float *b, int32_t n)
{
	float sum = 0;

	for (int32_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

float kit_score(const struct kit_row *row, int32_t key)
{
	return kit_dot(row->q, row->keys + (int64_t)key * row->dims, row->dims) * row->scale;
}

float kit_round(float value, int32_t dtype)
{
	char element[4];

	ref_store(element, dtype, value);
	return (float)ref_load(element, dtype);
}

void kit_state_start(struct kit_state *state, int32_t d)
{
	state->m = -INFINITY;
	state->l = 0;
	memset(state->acc, 0, (size_t)d * sizeof(*state->acc));
}

void kit_state_add(struct kit_state *state, float score, const float *value, int32_t d)
{
	const float m = fmaxf(state->m, score);
	const float rescale = expf(state->m - m), p = expf(score - m);

	for (int32_t c = 0; c < d; c++)
		state->acc[c] = state->acc[c] * rescale + p * value[c];
	state->l = state->l * rescale + p;
	state->m = m;
}

void kit_add_keys(const struct kit_row *row, int32_t begin, int32_t end, struct kit_state *state)
{
	for (int32_t j = begin; j < end; j++)
		kit_state_add(state, kit_score(row, j), row->keys + (int64_t)j * row->dims, row->d);
}

void kit_state_store(const struct kit_state *state, const struct kit_row *row)
{
	for (int32_t c = 0; c < row->d; c++)
		row->out[c] = state->acc[c] / state->l;
	*row->lse = state->m + logf(state->l);
}

/* ---- twists of the reference ----------------------------------------------------------------- */

mla_status kit_reference(const mla_config *config, const mla_batch *batch,
			 const mla_tensors *tensors)
{
	ref_attention_online(config, batch, tensors);
	return MLA_OK;
}

int kit_batch_copy(const mla_batch *batch, struct kit_batch *copy)
{
	const size_t n = (size_t)batch->batch_size + 1;

	copy->view = *batch;
	copy->view.qo_indptr = copy->qo_indptr = calloc(n, sizeof(int32_t));
	copy->view.kv_indptr = copy->kv_indptr = calloc(n, sizeof(int32_t));
	copy->view.kv_len = copy->kv_len = calloc(n, sizeof(int32_t));
	copy->view.q_pos0 = copy->q_pos0 = calloc(n, sizeof(int32_t));
	if (!copy->qo_indptr || !copy->kv_indptr || !copy->kv_len || !copy->q_pos0) {
		kit_batch_free(copy);
		return -1;
	}
	for (int32_t r = 0; r < batch->batch_size; r++) {
		copy->qo_indptr[r + 1] = batch->qo_indptr[r + 1];
		copy->kv_indptr[r + 1] = batch->kv_indptr[r + 1];
		copy->kv_len[r] = batch->kv_len[r];
		copy->q_pos0[r] = first_position(batch, r);
	}
	return 0;
}

void kit_batch_free(struct kit_batch *copy)
{
	free(copy->qo_indptr);
	free(copy->kv_indptr);
	free(copy->kv_len);
	free(copy->q_pos0);
	memset(copy, 0, sizeof(*copy));
}

int32_t kit_batch_drop_front(const mla_config *config, struct kit_batch *copy, int32_t request,
			     int32_t keys)
{
	const int32_t pages = keys / config->page_size, dropped = pages * config->page_size;

	copy->kv_indptr[request] += pages;
	copy->kv_len[request] -= dropped;
	copy->q_pos0[request] -= dropped;
	return dropped;
}

/* A copy of the cache with one key per page, in order. */
struct gathered {
	mla_config config;
	mla_tensors tensors;
	int32_t *table;
	int64_t keys; /* so far */
};

static int make_copy(mla_tensor *tensor, int64_t keys)
{
	const int64_t row = tensor->extent[2] * tensor->stride[2];

	if (!tensor->data)
		return 0;
	tensor->data = malloc((size_t)(keys * row) + 1);
	tensor->extent[0] = keys;
	tensor->extent[1] = 1;
	tensor->stride[0] = tensor->stride[1] = row;
	return !tensor->data;
}

static void copy_key(const mla_tensor *from, const mla_tensor *to, int64_t page, int64_t slot,
		     int64_t key)
{
	if (from->data)
		memcpy((char *)to->data + key * to->stride[0],
		       (const char *)from->data + page * from->stride[0] + slot * from->stride[1],
		       (size_t)to->stride[0]);
}

static void gather(const mla_config *config, const mla_tensors *tensors, const int32_t *pages,
		   int64_t keys, kit_key which, struct gathered *g)
{
	for (int64_t key = 0; key < keys; key++) {
		const int64_t other = which(config, pages, key);

		if (other < 0)
			continue;

		const int64_t page = pages[other / config->page_size];
		const int64_t slot = other % config->page_size;

		copy_key(&tensors->ckv, &g->tensors.ckv, page, slot, g->keys);
		copy_key(&tensors->kpe, &g->tensors.kpe, page, slot, g->keys);
		g->table[g->keys] = (int32_t)g->keys;
		g->keys++;
	}
}

mla_status kit_reference_masked(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors, int32_t mask)
{
	mla_tensors twisted = *tensors;
	int32_t *table = malloc(((size_t)tensors->num_kv_indices + 1) * sizeof(*table));

	if (!table)
		return MLA_NO_MEMORY;
	for (int64_t i = 0; i < tensors->num_kv_indices; i++)
		table[i] = tensors->kv_indices[i] & mask;
	twisted.kv_indices = table;
	kit_reference(config, batch, &twisted);
	free(table);
	return MLA_OK;
}

mla_status kit_reference_of(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors, kit_key which)
{
	struct gathered g = {.config = *config, .tensors = *tensors};
	struct kit_batch twisted;
	int64_t keys = 0;
	int failed;

	for (int32_t r = 0; r < batch->batch_size; r++)
		keys += batch->kv_len[r];
	if (kit_batch_copy(batch, &twisted))
		return MLA_NO_MEMORY;
	g.config.page_size = 1;
	g.table = malloc((size_t)(keys + 1) * sizeof(*g.table));
	failed = !g.table;
	failed |= make_copy(&g.tensors.ckv, keys);
	failed |= make_copy(&g.tensors.kpe, keys);
	for (int32_t r = 0; r < batch->batch_size && !failed; r++) {
		twisted.kv_indptr[r] = (int32_t)g.keys;
		gather(config, tensors, tensors->kv_indices + batch->kv_indptr[r], batch->kv_len[r],
		       which, &g);
		twisted.kv_indptr[r + 1] = (int32_t)g.keys;
		twisted.kv_len[r] = (int32_t)g.keys - twisted.kv_indptr[r];
	}
	g.tensors.kv_indices = g.table;
	if (!failed)
		kit_reference(&g.config, &twisted.view, &g.tensors);
	free(g.table);
	free(g.tensors.ckv.data);
	free(g.tensors.kpe.data);
	kit_batch_free(&twisted);
	return failed ? MLA_NO_MEMORY : MLA_OK;
}

mla_tensor kit_packed(const mla_tensor *tensor)
{
	mla_tensor packed = *tensor;

	for (int32_t i = tensor->ndim - 2; i >= 0; i--)
		packed.stride[i] = packed.stride[i + 1] * tensor->extent[i + 1];
	return packed;
}

int32_t kit_total_q(const mla_batch *batch)
{
	return batch->batch_size ? batch->qo_indptr[batch->batch_size] : 0;
}

void *kit_out(const mla_tensors *tensors, int64_t query, int64_t head)
{
	const mla_tensor *t = &tensors->out;

	return (char *)t->data + query * t->stride[0] + head * t->stride[1];
}

float *kit_lse(const mla_tensors *tensors, int64_t query, int64_t head)
{
	static _Thread_local float nowhere[32]; /* where no lse is wanted */
	const mla_tensor *t = &tensors->lse;

	if (!t->data)
		return nowhere;
	return (float *)(void *)((char *)t->data + query * t->stride[0] + head * t->stride[1]);
}

int64_t kit_out_row_bytes(const mla_tensors *tensors)
{
	return tensors->out.extent[2] * ref_dtype_size(tensors->out.dtype);
}

void kit_unwrite(const mla_tensors *tensors, int64_t query, int64_t head)
{
	memset(kit_out(tensors, query, head), 0xff, (size_t)kit_out_row_bytes(tensors));
	memset(kit_lse(tensors, query, head), 0xff, sizeof(float));
}
