/* mha.c - textbook multi-head attention, which MLA is before absorption: every cached latent is
 * expanded to a key and a value for each head,
 *
 *     k[h,j] = W_UK[h] ckv[j] | kpe[j]        v[h,j] = W_UV[h] ckv[j]
 *     out[i,h] = sum_j softmax_j(sm_scale * (q_nope | q_pe)[i,h] . k[h,j]) * v[h,j]
 *
 * The expanded keys and values of DeepSeek-V3 are 57 times the cache: what absorb.c avoids.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct mha {
	struct ref_problem problem;
	const mla_tensor *q_nope, *w_uk, *w_uv;
	int32_t nope, dv; /* columns of an expanded key without its rope part, and of a value */
	double *out;      /* [total_q, H, dv] */
	double *lse;      /* [total_q, H] */
};

/* One head's keys and values of one request. */
struct expanded {
	double *k;    /* [tiles, nope + kpe, TILE_KEYS] */
	double *v;    /* [keys, dv] */
	double *w;    /* [nope or dv, ckv] weights of the head */
	double *tile; /* [ckv + kpe, TILE_KEYS] latents */
	double *vt;   /* [dv, TILE_KEYS] */
	double *q;    /* [nope + kpe] */
	double *s;    /* [tiles, TILE_KEYS] */
	void *memory;
};

static int expanded_make(struct expanded *x, const struct mha *mha, int64_t keys)
{
	const mla_config *config = mha->problem.config;
	const int64_t padded = (keys + TILE_KEYS - 1) / TILE_KEYS * TILE_KEYS;
	const int64_t d = config->head_dim_ckv, r = config->head_dim_kpe;
	const int64_t nope = mha->nope, dv = mha->dv;
	const int64_t weights = (nope > dv ? nope : dv) * d;
	const int64_t total =
		padded * (nope + r + dv + 1) + weights + (d + r + dv) * TILE_KEYS + nope + r;
	double *memory = malloc((size_t)total * sizeof(*memory));

	if (!memory)
		return -1;
	x->memory = memory;
	x->k = memory;
	x->v = x->k + padded * (nope + r);
	x->s = x->v + padded * dv;
	x->w = x->s + padded;
	x->tile = x->w + weights;
	x->vt = x->tile + (d + r) * TILE_KEYS;
	x->q = x->vt + dv * TILE_KEYS;
	return 0;
}

/* w[head] as doubles */
static void load_weights(const mla_tensor *w, int64_t head, double *out)
{
	for (int64_t i = 0; i < w->extent[1]; i++)
		ref_load_row(ref_at(w, head, i), w->dtype, w->extent[2], out + i * w->extent[2]);
}

static void expand_keys(const struct mha *mha, const mla_work *work, int32_t end, int32_t head,
			struct expanded *x)
{
	const int32_t d = mha->problem.config->head_dim_ckv;
	const int32_t r = mha->problem.config->head_dim_kpe;
	double *k = x->k;

	load_weights(mha->w_uk, head, x->w);
	for (int32_t first = 0; first < end; first += TILE_KEYS) {
		ref_gather_keys(&mha->problem, work, first,
				end - first < TILE_KEYS ? end - first : TILE_KEYS, x->tile);
		ref_scores(mha->nope, d, x->w, x->tile, 1, k, TILE_KEYS);
		k += (int64_t)mha->nope * TILE_KEYS;
		memcpy(k, x->tile + (int64_t)d * TILE_KEYS, (size_t)r * TILE_KEYS * sizeof(double));
		k += (int64_t)r * TILE_KEYS;
	}
}

static void expand_values(const struct mha *mha, const mla_work *work, int32_t end, int32_t head,
			  struct expanded *x)
{
	const int32_t d = mha->problem.config->head_dim_ckv, dv = mha->dv;

	load_weights(mha->w_uv, head, x->w);
	for (int32_t first = 0; first < end; first += TILE_KEYS) {
		const int n = end - first < TILE_KEYS ? end - first : TILE_KEYS;

		ref_gather_keys(&mha->problem, work, first, n, x->tile);
		ref_scores(dv, d, x->w, x->tile, 1, x->vt, TILE_KEYS);
		for (int j = 0; j < n; j++)
			for (int32_t c = 0; c < dv; c++)
				x->v[(int64_t)(first + j) * dv + c] =
					x->vt[(int64_t)c * TILE_KEYS + j];
	}
}

/* One query of one head over its first `end` keys. */
static void attend(const struct mha *mha, int64_t query, int32_t head, int32_t end,
		   struct expanded *x)
{
	const mla_config *config = mha->problem.config;
	const mla_tensor *pe = &mha->problem.tensors->q_pe;
	const int32_t dims = mha->nope + config->head_dim_kpe;
	const int64_t row = query * config->num_heads + head;
	double *out = mha->out + row * mha->dv;
	struct ref_softmax softmax;

	ref_load_row(ref_at(mha->q_nope, query, head), mha->q_nope->dtype, mha->nope, x->q);
	if (config->head_dim_kpe > 0)
		ref_load_row(ref_at(pe, query, head), pe->dtype, config->head_dim_kpe,
			     x->q + mha->nope);
	for (int32_t first = 0; first < end; first += TILE_KEYS)
		ref_scores(1, dims, x->q, x->k + (int64_t)first * dims, config->sm_scale,
			   x->s + first, TILE_KEYS);
	softmax = ref_softmax(x->s, end);
	memset(out, 0, (size_t)mha->dv * sizeof(*out));
	ref_accumulate(end, mha->dv, x->s, x->v, out);
	for (int32_t c = 0; c < mha->dv; c++)
		out[c] = softmax.l == 0 ? 0 : out[c] / softmax.l;
	mha->lse[row] = softmax.lse;
}

static int attend_head(const struct mha *mha, int32_t request, int32_t head)
{
	const mla_config *config = mha->problem.config;
	const mla_work work = ref_whole_request(config, mha->problem.batch, request);
	const int64_t first = work.q_begin, last = mha->problem.batch->qo_indptr[request + 1];
	struct expanded x;
	int32_t most;

	if (first == last)
		return 0;
	most = ref_kv_end(config, &work, (last - 1) * config->num_heads);
	if (expanded_make(&x, mha, most))
		return -1;
	expand_keys(mha, &work, most, head, &x);
	expand_values(mha, &work, most, head, &x);
	for (int64_t query = first; query < last; query++)
		attend(mha, query, head, ref_kv_end(config, &work, query * config->num_heads), &x);
	free(x.memory);
	return 0;
}

/* Keys and values are expanded once for all queries of a head. */
static double work_of(const struct mha *mha)
{
	const mla_config *config = mha->problem.config;
	const mla_batch *batch = mha->problem.batch;
	const double expand = (double)config->head_dim_ckv * (mha->nope + mha->dv + 8);
	double work = 0;

	for (int32_t b = 0; b < batch->batch_size; b++) {
		const int32_t queries = batch->qo_indptr[b + 1] - batch->qo_indptr[b];

		work += (batch->kv_len[b] + 8.0) * config->num_heads *
			(expand + (double)queries * (mha->nope + config->head_dim_kpe + mha->dv));
	}
	return work;
}

int ref_mha(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
	    const mla_tensor *q_nope, const mla_tensor *w_uk, const mla_tensor *w_uv, double *out,
	    double *lse)
{
	const struct mha mha = {
		.problem = {config, batch, tensors, NULL},
		.q_nope = q_nope,
		.w_uk = w_uk,
		.w_uv = w_uv,
		.nope = (int32_t)w_uk->extent[1],
		.dv = (int32_t)w_uv->extent[1],
		.out = out,
		.lse = lse,
	};
	const int threads = ref_threads(work_of(&mha));
	int failed = 0;

#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
	for (int32_t request = 0; request < batch->batch_size; request++)
		for (int32_t head = 0; head < config->num_heads; head++)
			if (attend_head(&mha, request, head)) {
#pragma omp atomic write
				failed = -1;
			}
	return failed;
}
