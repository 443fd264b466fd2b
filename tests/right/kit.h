/* kit.h - what the samples of tests/right and tests/wrong are made of: functions with the signature
 * of mla_reference, each a small attention in f32 or a twist of the reference.
 */
#ifndef MLA_TESTS_KIT_H
#define MLA_TESTS_KIT_H

#include "mla.h"

/* ---- an attention of one's own: one packed row, f32 ------------------------------------------ */

struct kit_row {
	const mla_config *config;
	int32_t n;         /* keys seen, >= 1: rows that see nothing are done by the kit */
	int32_t kv_len;    /* keys of the request: those from n on are not seen */
	int32_t d, dims;   /* head_dim_ckv; head_dim_ckv + head_dim_kpe */
	float scale;       /* sm_scale */
	const float *q;    /* [dims] */
	const float *keys; /* [kv_len, dims]; the first d of a key are its value */
	float *out;        /* [d] to be filled; the kit rounds it once, to out_dtype */
	float *lse;        /* to be filled, natural log */
};
typedef void (*kit_attend)(const struct kit_row *row);

/* Calls attend for every packed row and stores what it gives. */
mla_status kit_run(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
		   kit_attend attend);

float kit_score(const struct kit_row *row, int32_t key);  /* q . key * scale, f32 */
float kit_dot(const float *a, const float *b, int32_t n); /* in order, f32 */
float kit_round(float value, int32_t dtype);              /* to nearest even */

/* A running softmax in f32 over keys taken one by one. acc [d] */
struct kit_state {
	float m, l;
	float *acc;
};
void kit_state_start(struct kit_state *state, int32_t d);
void kit_state_add(struct kit_state *state, float score, const float *value, int32_t d);
/* Keys begin .. end - 1, in order. */
void kit_add_keys(const struct kit_row *row, int32_t begin, int32_t end, struct kit_state *state);
void kit_state_store(const struct kit_state *state, const struct kit_row *row);

/* ---- twists of the reference ----------------------------------------------------------------- */

/* The reference without its checks: takes batches and page tables that are wrong on purpose. */
mla_status kit_reference(const mla_config *config, const mla_batch *batch,
			 const mla_tensors *tensors);

/* A copy of a batch that may be changed, q_pos0 filled in. */
struct kit_batch {
	mla_batch view;
	int32_t *qo_indptr, *kv_indptr, *kv_len, *q_pos0;
};
int kit_batch_copy(const mla_batch *batch, struct kit_batch *copy);
void kit_batch_free(struct kit_batch *copy);
/* Drops the first `keys` keys (rounded down to pages) of a request; the others stay where they are
 * for the causal bound. Returns how many were dropped. */
int32_t kit_batch_drop_front(const mla_config *config, struct kit_batch *copy, int32_t request,
			     int32_t keys);

/* The reference with page ids of which only the mask's bits are left. */
mla_status kit_reference_masked(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors, int32_t mask);

/* Stands in for a key of a request: another one of it, or none (-1). pages: the request's. */
typedef int64_t (*kit_key)(const mla_config *config, const int32_t *pages, int64_t key);
/* The reference on the keys that `which` names, in this order. */
mla_status kit_reference_of(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors, kit_key which);

int32_t kit_total_q(const mla_batch *batch);
/* Keys that a query, counted inside its request, sees. */
int32_t kit_seen(const mla_config *config, const mla_batch *batch, int32_t request, int64_t query);
/* A tensor taken for a contiguous one: the strides that it would have. */
mla_tensor kit_packed(const mla_tensor *tensor);
/* Addresses of an output row and an lse. */
void *kit_out(const mla_tensors *tensors, int64_t query, int64_t head);
float *kit_lse(const mla_tensors *tensors, int64_t query, int64_t head);
int64_t kit_out_row_bytes(const mla_tensors *tensors);
/* The row's outputs as if they had never been written. */
void kit_unwrite(const mla_tensors *tensors, int64_t query, int64_t head);

#endif
