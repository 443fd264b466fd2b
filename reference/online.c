/* online.c - the same attention in one pass: the running maximum of the online softmax
 * (arXiv:1805.02867), as FlashAttention (arXiv:2205.14135) and every kernel here use it.
 *
 *     m' = max(m, scores of the tile)
 *     l  = l * exp(m - m') + sum_j exp(score[j] - m')
 *     acc = acc * exp(m - m') + sum_j exp(score[j] - m') * ckv[j]
 *
 * No score is kept: memory does not grow with the keys.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct state {
	double m, l;
	double *acc; /* [ckv] */
};

/* Takes n scores s and their values v in; s is overwritten. */
static void update(struct state *row, int n, int32_t d, double *s, const double *v)
{
	double m = row->m, shift, scale;

	for (int j = 0; j < n; j++)
		m = ref_max(m, s[j]);
	shift = m == -INFINITY ? 0 : m; /* all -inf so far: nothing weighs anything */
	scale = exp(row->m - shift);
	row->l *= scale;
	for (int j = 0; j < n; j++) {
		s[j] = exp(s[j] - shift);
		row->l += s[j];
	}
	for (int32_t c = 0; c < d; c++)
		row->acc[c] *= scale;
	ref_accumulate(n, d, s, v, row->acc);
	row->m = m;
}

static void finish(const struct ref_problem *problem, int64_t packed_row, struct state *row)
{
	const mla_config *config = problem->config;

	for (int32_t c = 0; c < config->head_dim_ckv; c++)
		row->acc[c] = row->l == 0 ? 0 : row->acc[c] / row->l;
	ref_store_row(config, problem->tensors, packed_row, row->acc,
		      row->l == 0 ? -INFINITY : row->m + log(row->l));
}

/* n <= max_rows rows of one request. values: memory for a second tile, [TILE_KEYS, ckv]. */
static void attend_online(const struct ref_problem *problem, const mla_work *work,
			  const int64_t *rows, int n, struct ref_scratch *scratch, double *values)
{
	const mla_config *config = problem->config;
	const int32_t d = config->head_dim_ckv, dims = d + config->head_dim_kpe;
	const int32_t end = ref_kv_end(config, work, rows[n - 1]);
	struct state state[GROUP_ROWS];

	for (int r = 0; r < n; r++)
		state[r] = (struct state){-INFINITY, 0, scratch->out + (int64_t)r * d};
	memset(scratch->out, 0, (size_t)n * (size_t)d * sizeof(double));
	ref_gather_q(problem, rows, n, scratch->q);

	for (int32_t first = 0; first < end; first += TILE_KEYS) {
		const int keys = end - first < TILE_KEYS ? end - first : TILE_KEYS;

		ref_gather_keys(problem, work, first, keys, scratch->tile);
		ref_gather_values(problem, work, first, keys, values);
		ref_scores(n, dims, scratch->q, scratch->tile, config->sm_scale, scratch->s,
			   scratch->stride);
		for (int r = 0; r < n; r++) {
			const int32_t left = ref_kv_end(config, work, rows[r]) - first;

			if (left > 0)
				update(&state[r], left < keys ? left : keys, d,
				       scratch->s + r * scratch->stride, values);
		}
	}
	for (int r = 0; r < n; r++)
		finish(problem, rows[r], &state[r]);
}

/* Packed rows begin .. end - 1 of the batch, at most GROUP_ROWS, request by request. */
static void online_block(const struct ref_problem *problem, int64_t begin, int64_t end,
			 struct ref_scratch *scratch, double *values)
{
	const mla_config *config = problem->config;
	int64_t rows[GROUP_ROWS];

	for (int64_t row = begin; row < end;) {
		const int32_t request = ref_request_of(problem->batch, row / config->num_heads);
		const mla_work work = ref_whole_request(config, problem->batch, request);
		const int64_t last = (int64_t)work.q_begin * config->num_heads + work.row_end;
		int n = 0;

		while (row < end && row < last)
			rows[n++] = row++;
		attend_online(problem, &work, rows, n, scratch, values);
	}
}

int ref_attention_online(const mla_config *config, const mla_batch *batch,
			 const mla_tensors *tensors)
{
	const struct ref_problem problem = {config, batch, tensors, NULL};
	const int64_t n = ref_total_rows(config, batch);
	const int threads = ref_threads(ref_work(config, n, ref_longest(batch)));
	const int64_t block = ref_block_rows(n, threads);
	int failed = 0;

#pragma omp parallel num_threads(threads)
	{
		struct ref_scratch scratch = {0};
		double *values = malloc((size_t)config->head_dim_ckv * TILE_KEYS * sizeof(*values));
		const int mine = values ? ref_scratch_make(&scratch, config, TILE_KEYS) : -1;

		if (mine) {
#pragma omp atomic write
			failed = -1;
		}
#pragma omp for schedule(dynamic)
		for (int64_t k = 0; k < n; k += block)
			if (!mine)
				online_block(&problem, k, k + block < n ? k + block : n, &scratch,
					     values);
		ref_scratch_free(&scratch);
		free(values);
	}
	return failed;
}
