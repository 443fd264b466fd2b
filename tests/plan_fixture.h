/* plan_fixture.h - what the tests of plans share: repeatable random numbers, ragged batches that
 * own their arrays, and the traits of a plausible kernel.
 */
#ifndef MLA_PLAN_FIXTURE_H
#define MLA_PLAN_FIXTURE_H

#include <stdint.h>
#include <stdlib.h>

#include "device/known.h"
#include "mla.h"
#include "proof/plan_check.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* splitmix64: one word of state, the same numbers everywhere. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Uniform in [low, high]. */
static inline int64_t random_in(uint64_t *state, int64_t low, int64_t high)
{
	return low + (int64_t)(random_next(state) % (uint64_t)(high - low + 1));
}

/* Any of the values. */
#define RANDOM_OF(state, ...)                                                                      \
	((const int32_t[]){                                                                        \
		__VA_ARGS__}[random_next(state) % COUNT(((const int32_t[]){__VA_ARGS__}))])

/* A batch that owns its arrays; view points into them. */
struct ragged {
	int32_t *qo_indptr, *kv_indptr, *kv_len, *q_pos0;
	mla_batch view;
};

/* All requests start empty: qo_len and kv_len 0. Ends the test if memory runs out. */
static inline struct ragged ragged_new(int32_t requests)
{
	size_t n = (size_t)requests + 1;
	struct ragged r = {
		.qo_indptr = calloc(n, sizeof(int32_t)),
		.kv_indptr = calloc(n, sizeof(int32_t)),
		.kv_len = calloc(n, sizeof(int32_t)),
		.q_pos0 = calloc(n, sizeof(int32_t)),
	};

	if (!r.qo_indptr || !r.kv_indptr || !r.kv_len || !r.q_pos0)
		abort();
	r.view = (mla_batch){.struct_size = sizeof(mla_batch),
			     .batch_size = requests,
			     .qo_indptr = r.qo_indptr,
			     .kv_indptr = r.kv_indptr,
			     .kv_len = r.kv_len};
	return r;
}

/* Sets request i; to be called for i = 0, 1, ... in order. */
static inline void ragged_set(struct ragged *r, int32_t i, int64_t qo_len, int64_t kv_len,
			      int32_t page_size)
{
	r->qo_indptr[i + 1] = (int32_t)(r->qo_indptr[i] + qo_len);
	r->kv_indptr[i + 1] = (int32_t)(r->kv_indptr[i] + (kv_len + page_size - 1) / page_size);
	r->kv_len[i] = (int32_t)kv_len;
}

/* The same lengths for every request. */
static inline struct ragged ragged_uniform(int32_t requests, int64_t qo_len, int64_t kv_len,
					   int32_t page_size)
{
	struct ragged r = ragged_new(requests);

	for (int32_t i = 0; i < requests; i++)
		ragged_set(&r, i, qo_len, kv_len, page_size);
	return r;
}

static inline void ragged_free(struct ragged *r)
{
	free(r->qo_indptr);
	free(r->kv_indptr);
	free(r->kv_len);
	free(r->q_pos0);
}

static inline mla_config fixture_config(int32_t num_heads, int32_t causal)
{
	return (mla_config){.struct_size = sizeof(mla_config),
			    .num_heads = num_heads,
			    .head_dim_ckv = 512,
			    .head_dim_kpe = 64,
			    .page_size = 64,
			    .causal = causal,
			    .out_dtype = MLA_BF16,
			    .sm_scale = 0.1352337788608801};
}

static inline mla_traits fixture_traits(int32_t tile_rows, int32_t kv_granule)
{
	return (mla_traits){.struct_size = sizeof(mla_traits),
			    .tile_rows = tile_rows,
			    .kv_granule = kv_granule,
			    .ctas_per_sm = 1,
			    .ctas_per_worker = 1,
			    .item_cost = 64,
			    .merge = MLA_MERGE_SEPARATE,
			    .align = 16};
}

/* The capacity that exactly holds the batch; its max_requests is 0 if the batch is invalid. */
static inline mla_capacity fixture_capacity(const mla_config *config, const mla_batch *batch)
{
	mla_capacity capacity = {.struct_size = sizeof capacity};

	mla_capacity_of(config, batch, &capacity);
	return capacity;
}

#endif
