/* attention.c - the truth: absorbed MLA over the paged cache, in fp64, two passes.
 *
 *     pass 1   score[j] = sm_scale * (q_nope . ckv[j] + q_pe . kpe[j])    for all keys seen
 *              m = max score,  p[j] = exp(score[j] - m),  l = sum p
 *     pass 2   out = sum_j p[j] * ckv[j] / l,  lse = m + log l
 *
 * Infinities and NaN of the inputs go where arithmetic takes them. A key that a row does not see
 * takes no part in that row's arithmetic: not even as 0 * value.
 */
#include <math.h>
#include <string.h>

#include "internal.h"

struct ref_softmax ref_softmax(double *s, int64_t n)
{
	struct ref_softmax row = {.lse = -INFINITY};
	double m = -INFINITY, shift, weighted = 0;

	for (int64_t j = 0; j < n; j++) {
		m = ref_max(m, s[j]);
		row.max_score = ref_max(row.max_score, fabs(s[j]));
	}
	shift = m == -INFINITY ? 0 : m; /* all -inf: exp(-inf - 0) = 0, not exp(-inf + inf) */
	for (int64_t j = 0; j < n; j++) {
		const double x = s[j] - shift;

		s[j] = exp(x);
		row.l += s[j];
		if (s[j]) /* 0 * -inf is not an entropy */
			weighted += s[j] * x;
	}
	if (row.l == 0)
		return row;
	row.lse = m + log(row.l);
	row.tokens = exp(log(row.l) - weighted / row.l); /* entropy = log l - sum p (s - m) */
	return row;
}

/* Where in the truth's arrays row k is. */
static struct ref_truth truth_at(const struct ref_truth *truth, int64_t k, int32_t d)
{
	return (struct ref_truth){
		.out = truth->out ? truth->out + k * d : NULL,
		.lse = truth->lse ? truth->lse + k : NULL,
		.sum_abs = truth->sum_abs ? truth->sum_abs + k * d : NULL,
		.tokens = truth->tokens ? truth->tokens + k : NULL,
		.max_score = truth->max_score ? truth->max_score + k : NULL,
	};
}

/* A group: rows that share tiles. end[r] is rising, because a later query sees more keys. */
struct group {
	const struct ref_problem *problem;
	const mla_work *work;
	int n;
	int32_t end[GROUP_ROWS]; /* first key not seen */
	struct ref_scratch *scratch;
};

/* Rows before this one do not see key `first` or anything after it. */
static int first_row(const struct group *g, int32_t first)
{
	int r = 0;

	while (r < g->n && g->end[r] <= first)
		r++;
	return r;
}

static void pass_scores(const struct group *g)
{
	const mla_config *config = g->problem->config;
	const struct ref_scratch *scratch = g->scratch;
	const int32_t begin = g->work->kv_begin, end = g->end[g->n - 1];
	const int dims = config->head_dim_ckv + config->head_dim_kpe;

	for (int32_t first = begin; first < end; first += TILE_KEYS) {
		const int n = end - first < TILE_KEYS ? end - first : TILE_KEYS;
		const int r = first_row(g, first);

		ref_gather_keys(g->problem, g->work, first, n, scratch->tile);
		ref_scores(g->n - r, dims, scratch->q + (int64_t)r * dims, scratch->tile,
			   config->sm_scale, scratch->s + r * scratch->stride + (first - begin),
			   scratch->stride);
	}
}

/* sums[r] += sum_j p[j] * v[j] over the n keys of the tile from `first` that row r sees. */
static void add_values(const struct group *g, int32_t first, int n, double *sums)
{
	const int32_t d = g->problem->config->head_dim_ckv;

	for (int r = first_row(g, first); r < g->n; r++) {
		const int32_t left = g->end[r] - first;
		const double *p = g->scratch->s + r * g->scratch->stride;

		ref_accumulate(left < n ? left : n, d, p + (first - g->work->kv_begin),
			       g->scratch->tile, sums + (int64_t)r * d);
	}
}

static void pass_values(const struct group *g, double *out, double *sum_abs)
{
	const int32_t d = g->problem->config->head_dim_ckv;
	const int32_t end = g->end[g->n - 1];
	double *v = g->scratch->tile;

	for (int32_t first = g->work->kv_begin; first < end; first += TILE_KEYS) {
		const int n = end - first < TILE_KEYS ? end - first : TILE_KEYS;

		ref_gather_values(g->problem, g->work, first, n, v);
		if (out)
			add_values(g, first, n, out);
		if (!sum_abs)
			continue;
		for (int64_t i = 0; i < (int64_t)n * d; i++)
			v[i] = fabs(v[i]);
		add_values(g, first, n, sum_abs);
	}
}

static void normalise(const double *l, int n, int32_t d, double *sums)
{
	for (int r = 0; r < n; r++)
		for (int32_t c = 0; c < d; c++)
			sums[(int64_t)r * d + c] = l[r] == 0 ? 0 : sums[(int64_t)r * d + c] / l[r];
}

static void attend_group(struct group *g, const int64_t *rows, const struct ref_truth *truth)
{
	const int32_t d = g->problem->config->head_dim_ckv;
	const size_t bytes = (size_t)g->n * (size_t)d * sizeof(double);
	double l[GROUP_ROWS];

	ref_gather_q(g->problem, rows, g->n, g->scratch->q);
	pass_scores(g);
	for (int r = 0; r < g->n; r++) {
		const struct ref_softmax row = ref_softmax(g->scratch->s + r * g->scratch->stride,
							   g->end[r] - g->work->kv_begin);

		l[r] = row.l;
		if (truth->lse)
			truth->lse[r] = row.lse;
		if (truth->tokens)
			truth->tokens[r] = row.tokens;
		if (truth->max_score)
			truth->max_score[r] = row.max_score;
	}
	if (truth->out)
		memset(truth->out, 0, bytes);
	if (truth->sum_abs)
		memset(truth->sum_abs, 0, bytes);
	pass_values(g, truth->out, truth->sum_abs);
	if (truth->out)
		normalise(l, g->n, d, truth->out);
	if (truth->sum_abs)
		normalise(l, g->n, d, truth->sum_abs);
}

void ref_attend(const struct ref_problem *problem, const mla_work *work, const int64_t *rows,
		int64_t n, const struct ref_truth *truth, struct ref_scratch *scratch)
{
	struct group g = {.problem = problem, .work = work, .scratch = scratch};

	for (int64_t k = 0; k < n; k += g.n) {
		const struct ref_truth here = truth_at(truth, k, problem->config->head_dim_ckv);

		g.n = n - k < scratch->max_rows ? (int)(n - k) : scratch->max_rows;
		for (int r = 0; r < g.n; r++)
			g.end[r] = ref_kv_end(problem->config, work, rows[k + r]);
		attend_group(&g, rows + k, &here);
	}
}

/* Rows begin .. end - 1 of the list (of all rows if NULL), request by request. */
static void attend_block(const struct ref_problem *problem, const int64_t *list, int64_t begin,
			 int64_t end, const struct ref_truth *truth, struct ref_scratch *scratch)
{
	const mla_config *config = problem->config;
	int64_t rows[GROUP_ROWS];

	for (int64_t k = begin; k < end;) {
		const int64_t row = list ? list[k] : k;
		const int32_t request = ref_request_of(problem->batch, row / config->num_heads);
		const mla_work work = ref_whole_request(config, problem->batch, request);
		const int64_t last = (int64_t)work.q_begin * config->num_heads + work.row_end;
		const struct ref_truth here = truth_at(truth, k, config->head_dim_ckv);
		int n = 0;

		while (k + n < end && (list ? list[k + n] : k + n) < last) {
			rows[n] = list ? list[k + n] : k + n;
			n++;
		}
		ref_attend(problem, &work, rows, n, &here, scratch);
		k += n;
	}
}

static int attention(const struct ref_problem *problem, const int64_t *rows, int64_t n,
		     const struct ref_truth *truth)
{
	const int32_t longest = ref_longest(problem->batch);
	const int threads = ref_threads(ref_work(problem->config, n, longest));
	const int64_t block = ref_block_rows(n, threads);
	int failed = 0;

#pragma omp parallel num_threads(threads)
	{
		struct ref_scratch scratch = {0};
		const int mine = ref_scratch_make(&scratch, problem->config, longest);

		if (mine) {
#pragma omp atomic write
			failed = -1;
		}
#pragma omp for schedule(dynamic)
		for (int64_t k = 0; k < n; k += block)
			if (!mine)
				attend_block(problem, rows, k, k + block < n ? k + block : n, truth,
					     &scratch);
		ref_scratch_free(&scratch);
	}
	return failed;
}

int ref_attention(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
		  const int64_t *rows, int64_t n, const struct ref_truth *truth)
{
	const struct ref_problem problem = {config, batch, tensors, NULL};

	return attention(&problem, rows, n, truth);
}

int ref_attention_absorbed(const mla_config *config, const mla_batch *batch,
			   const mla_tensors *tensors, const double *q_nope, const int64_t *rows,
			   int64_t n, const struct ref_truth *truth)
{
	const struct ref_problem problem = {config, batch, tensors, q_nope};

	return attention(&problem, rows, n, truth);
}
