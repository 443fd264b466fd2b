/* truth.c - the truth of a case, and whether the case can tell a wrong scale at all.
 */
#include <math.h>
#include <stdlib.h>

#include "case/work.h"
#include "check/internal.h"
#include "lib/error.h"
#include "lib/geometry.h"

/* Rows that are recomputed with a wrong scale, and how wrong it is. */
enum { PROBE_ROWS = 16 };
static const double wrong_scale = 0.9;

/* n rows of total, evenly spread, first and last included, rising. */
static int64_t *spread_rows(int64_t n, int64_t total)
{
	int64_t *rows = malloc((size_t)n * sizeof(*rows));

	for (int64_t k = 0; rows && k < n; k++)
		rows[k] = n == 1 ? 0 : (int64_t)((double)k * (double)(total - 1) / (double)(n - 1));
	return rows;
}

double *check_array(int64_t rows, int64_t columns)
{
	return calloc((size_t)(rows * columns) + 1, sizeof(double));
}

static bool make_values(const struct mla_case *c, int64_t n, struct ref_truth *values)
{
	const int64_t d = c->config.head_dim_ckv;

	*values = (struct ref_truth){
		.out = check_array(n, d),
		.lse = check_array(n, 1),
		.sum_abs = check_array(n, d),
		.tokens = check_array(n, 1),
		.max_score = check_array(n, 1),
	};
	return values->out && values->lse && values->sum_abs && values->tokens && values->max_score;
}

/* ---- what inputs hold, and the bound of the lse --------------------------------------------- */

/* Adds the squares of row [i, j]; a tensor without data has none. */
static double squares(const mla_tensor *t, int64_t i, int64_t j)
{
	const char *element = t->data;
	double sum = 0;

	if (!element)
		return 0;
	element += i * t->stride[0] + j * t->stride[1];
	for (int64_t c = 0; c < t->extent[2]; c++, element += t->stride[2]) {
		const double value = ref_load(element, t->dtype);

		sum += value * value;
	}
	return sum;
}

struct check_keys check_keys_of(const struct mla_case *c, int32_t request)
{
	const int32_t *pages = c->tensors.kv_indices + c->batch.kv_indptr[request];
	const int64_t page_size = c->config.page_size, keys = c->batch.kv_len[request];
	const int64_t last = c->batch.qo_indptr[request + 1] - c->batch.qo_indptr[request] - 1;
	const int64_t seen = last < 0 ? 0 : geometry_seen(&c->config, &c->batch, request, last);
	const double values = (double)keys * (c->config.head_dim_ckv + c->config.head_dim_kpe + 64);
	const int threads = ref_threads(values);
	int64_t last_infinite = -1;
	double longest = 0;

#pragma omp parallel for reduction(max : longest, last_infinite) num_threads(threads)
	for (int64_t key = 0; key < keys; key++) {
		const int64_t page = pages[key / page_size], slot = key % page_size;
		const double sum =
			squares(&c->tensors.ckv, page, slot) + squares(&c->tensors.kpe, page, slot);

		if (isfinite(sum))
			longest = fmax(longest, sum);
		else if (key < seen && key > last_infinite)
			last_infinite = key;
	}
	return (struct check_keys){sqrt(longest), last_infinite};
}

double check_query_squares(const struct mla_case *c, int64_t query, int64_t head)
{
	return squares(&c->tensors.q_nope, query, head) + squares(&c->tensors.q_pe, query, head);
}

/* A score that is small because large products cancel is no more exact than a large one. */
static void find_bounds(const struct mla_case *c, struct check_truth *truth)
{
	const int64_t heads = c->config.num_heads;
	int32_t request = -1;
	struct check_keys keys = {0};

	for (int64_t k = 0; k < truth->n; k++) {
		const int64_t row = truth->rows ? truth->rows[k] : k, query = row / heads;

		if (request < 0 || query >= c->batch.qo_indptr[request + 1]) {
			while (query >= c->batch.qo_indptr[request + 1])
				request++;
			keys = check_keys_of(c, request);
		}

		const double q = sqrt(check_query_squares(c, query, row % heads));
		const double reach = CHECK_LSE_CANCEL * q * keys.longest * fabs(c->config.sm_scale);

		truth->lse_bound[k] = CHECK_LSE_ABS + CHECK_LSE_SUM * c->batch.kv_len[request] +
				      CHECK_LSE_REL * fmax(truth->values.max_score[k], reach);
		truth->may_be_nan[k] =
			keys.last_infinite >= geometry_seen(&c->config, &c->batch, request,
							    query - c->batch.qo_indptr[request]);
	}
}

/* ---- power ----------------------------------------------------------------------------------- */

/* The rows (indices into the truth, rising) that would show a wrong scale best: more than one key
 * counts, and scores are large. Returns how many. */
static int pick_probes(const struct check_truth *truth, int64_t probes[PROBE_ROWS])
{
	const double *score = truth->values.max_score;
	int n = 0, at;

	for (int64_t k = 0; k < truth->n; k++) {
		if (!(truth->values.tokens[k] > 1.01))
			continue;
		if (n == PROBE_ROWS) { /* drop the one with the smallest score */
			int weakest = 0;

			for (int i = 1; i < n; i++)
				if (score[probes[i]] < score[probes[weakest]])
					weakest = i;
			if (score[k] <= score[probes[weakest]])
				continue;
			for (n--, at = weakest; at < n; at++)
				probes[at] = probes[at + 1];
		}
		probes[n++] = k;
	}
	return n;
}

/* Would the bounds on the outputs alone reject these wrong values of row k? */
static bool is_rejected(const struct mla_case *c, const struct check_truth *truth, int64_t k,
			const double *wrong)
{
	const struct check_row row = check_row_of(truth, c->config.head_dim_ckv, k);

	for (int32_t i = 0; i < c->config.head_dim_ckv; i++)
		if (!(check_element_ratio(&c->config, &row, i, wrong[i]) <= 1))
			return true;
	return !(check_rms_ratio(&c->config, &row, wrong) <= 1);
}

/* false if memory ran out. */
static bool find_power(const struct mla_case *c, struct check_truth *truth)
{
	const int64_t d = c->config.head_dim_ckv;
	int64_t probes[PROBE_ROWS], rows[PROBE_ROWS];
	const int n = pick_probes(truth, probes);
	const struct ref_truth wrong = {.out = check_array(n, d)};
	mla_config config = c->config;
	bool found = wrong.out;

	truth->low_power = true;
	for (int i = 0; i < n; i++)
		rows[i] = truth->rows ? truth->rows[probes[i]] : probes[i];
	config.sm_scale *= wrong_scale;
	if (found && n > 0)
		found = !ref_attention(&config, &c->batch, &c->tensors, rows, n, &wrong);
	for (int i = 0; i < n && found && truth->low_power; i++)
		truth->low_power = !is_rejected(c, truth, probes[i], wrong.out + i * d);
	free(wrong.out);
	return found;
}

/* ---- the truth ------------------------------------------------------------------------------- */

/* Room for n rows; false if memory ran out. */
static bool make_room(const struct mla_case *c, int64_t total, struct check_truth *truth)
{
	if (truth->n < total) {
		truth->rows = spread_rows(truth->n, total);
		if (!truth->rows)
			return false;
	}
	truth->lse_bound = check_array(truth->n, 1);
	truth->may_be_nan = calloc((size_t)truth->n + 1, sizeof(*truth->may_be_nan));
	return truth->lse_bound && truth->may_be_nan && make_values(c, truth->n, &truth->values);
}

/* false if memory ran out. */
static bool find_values(const struct mla_case *c, struct check_truth *truth)
{
	return truth->n == 0 || !ref_attention(&c->config, &c->batch, &c->tensors, truth->rows,
					       truth->n, &truth->values);
}

mla_status check_truth_make(const struct mla_case *c, int64_t max_rows, struct check_truth *truth)
{
	const int64_t total = case_total_q(c) * c->config.num_heads;
	bool made;

	*truth = (struct check_truth){.n = max_rows > 0 && max_rows < total ? max_rows : total};
	made = make_room(c, total, truth) && find_values(c, truth);
	if (made) {
		find_bounds(c, truth);
		made = find_power(c, truth);
	}
	if (made)
		return MLA_OK;
	check_truth_free(truth);
	return mla_fail(MLA_NO_MEMORY, "no memory for the truth");
}

void check_truth_free(struct check_truth *truth)
{
	free(truth->rows);
	free(truth->lse_bound);
	free(truth->may_be_nan);
	free(truth->values.out);
	free(truth->values.lse);
	free(truth->values.sum_abs);
	free(truth->values.tokens);
	free(truth->values.max_score);
	*truth = (struct check_truth){0};
}

int64_t check_truth_rows(const struct mla_case *c)
{
	const double rows = (double)case_total_q(c) * c->config.num_heads;
	const double share = CHECK_CPU_BUDGET / case_multiply_adds(c);

	if (!(share < 1))
		return 0;
	return rows * share < 64 ? 64 : (int64_t)(rows * share);
}
