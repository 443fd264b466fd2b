/* run_plan.c - executes a plan on the host as a GPU would: every work item by itself, from its own
 * fields alone, then the merge list. Partial states stay in fp64, so what differs from the whole
 * attention by more than rounding is the plan's fault.
 *
 * Splitting keys over workers and merging their states is Flash-Decoding.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct partials {
	double *out; /* [partial_rows, ckv] */
	double *lse; /* [partial_rows] */
};

/* NaN, so that a partial state which no item writes is noticed when it is merged. */
static int partials_make(struct partials *partials, int64_t rows, int32_t d)
{
	partials->out = malloc((size_t)(rows + 1) * (size_t)d * sizeof(double));
	partials->lse = malloc((size_t)(rows + 1) * sizeof(double));
	if (!partials->out || !partials->lse)
		return -1;
	for (int64_t i = 0; i < rows * d; i++)
		partials->out[i] = NAN;
	for (int64_t i = 0; i < rows; i++)
		partials->lse[i] = NAN;
	return 0;
}

static void partials_free(struct partials *partials)
{
	free(partials->out);
	free(partials->lse);
}

static void run_item(const struct ref_problem *problem, const mla_work *work,
		     const struct partials *partials, struct ref_scratch *scratch)
{
	const mla_config *config = problem->config;
	const int32_t d = config->head_dim_ckv;
	const int64_t first = (int64_t)work->q_begin * config->num_heads;
	int64_t rows[GROUP_ROWS];
	double lse[GROUP_ROWS];

	for (int64_t row = work->row_begin; row < work->row_end;) {
		const struct ref_truth here = {.out = scratch->out, .lse = lse};
		const int64_t slot = work->partial + (row - work->row_begin);
		int n = 0;

		while (n < scratch->max_rows && row < work->row_end)
			rows[n++] = first + row++;
		ref_attend(problem, work, rows, n, &here, scratch);
		if (work->partial >= 0) {
			memcpy(partials->out + slot * d, here.out,
			       (size_t)n * (size_t)d * sizeof(double));
			memcpy(partials->lse + slot, lse, (size_t)n * sizeof(double));
			continue;
		}
		for (int r = 0; r < n; r++)
			ref_store_row(config, problem->tensors, rows[r], here.out + (int64_t)r * d,
				      lse[r]);
	}
}

static void run_merge(const struct ref_problem *problem, const mla_merge_item *merge,
		      const struct partials *partials, double *out)
{
	const int32_t d = problem->config->head_dim_ckv;

	for (int32_t r = 0; r < merge->rows; r++) {
		double lse = -INFINITY;

		memset(out, 0, (size_t)d * sizeof(double));
		for (int64_t s = 0; s < merge->num_splits; s++) {
			const int64_t slot = merge->partial + s * merge->rows + r;

			ref_merge_state(d, out, &lse, partials->out + slot * d,
					partials->lse[slot]);
		}
		ref_store_row(problem->config, problem->tensors, (int64_t)merge->row_begin + r, out,
			      lse);
	}
}

static int64_t longest_item(const mla_work *items, int32_t n)
{
	int64_t most = 0;

	for (int32_t i = 0; i < n; i++) {
		const int64_t keys = (int64_t)items[i].kv_end - items[i].kv_begin;

		most = keys > most ? keys : most;
	}
	return most;
}

static double work_of(const mla_config *config, const mla_work *items, int32_t n)
{
	double work = 0;

	for (int32_t i = 0; i < n; i++)
		work += ref_work(config, (int64_t)items[i].row_end - items[i].row_begin,
				 (int64_t)items[i].kv_end - items[i].kv_begin);
	return work;
}

static int run(const struct ref_problem *problem, const mla_plan *plan, const mla_plan_info *info,
	       const struct partials *partials)
{
	const mla_work *items = mla_plan_items(plan);
	const mla_merge_item *merges = mla_plan_merges(plan);
	const int64_t keys = longest_item(items, info->num_items);
	const int threads = ref_threads(work_of(problem->config, items, info->num_items) +
					ref_work(problem->config, info->partial_rows, 0));
	int failed = 0;

#pragma omp parallel num_threads(threads)
	{
		struct ref_scratch scratch = {0};
		const int mine = ref_scratch_make(&scratch, problem->config, keys);

		if (mine) {
#pragma omp atomic write
			failed = -1;
		}
#pragma omp for schedule(dynamic)
		for (int32_t i = 0; i < info->num_items; i++)
			if (!mine)
				run_item(problem, &items[i], partials, &scratch);
#pragma omp for schedule(dynamic)
		for (int32_t i = 0; i < info->num_merges; i++)
			if (!mine)
				run_merge(problem, &merges[i], partials, scratch.out);
		ref_scratch_free(&scratch);
	}
	return failed;
}

int ref_attention_plan(const mla_plan *plan, const mla_tensors *tensors)
{
	const mla_config *config = mla_plan_config(plan);
	const struct ref_problem problem = {config, mla_plan_batch(plan), tensors, NULL};
	mla_plan_info info = {.struct_size = sizeof(info)};
	struct partials partials;
	int failed;

	if (mla_plan_get_info(plan, &info))
		return -1;
	failed = partials_make(&partials, info.partial_rows, config->head_dim_ckv);
	if (!failed)
		failed = run(&problem, plan, &info, &partials);
	partials_free(&partials);
	return failed;
}
