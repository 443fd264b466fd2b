/* bench_plan.c - how long does mla_plan_build take? It stands on the path of every decode step, so
 * a batch of 256 must not take more than 200 us of one core; exits 1 if it does.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>

#include "plan_fixture.h"

#define BOUND_US 200.0
#define REPEATS  1001
#define BATCHES  8 /* distinct ones in turn, so that no branch is learnt by heart */

static int order_doubles(const void *left, const void *right)
{
	const double *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

/* Processor time of this thread: what other programs of the machine do does not count. */
static double thread_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* Decode, 1 to 16K keys each. */
static struct ragged random_decode(uint64_t *rng, int32_t requests)
{
	struct ragged r = ragged_new(requests);

	for (int32_t i = 0; i < requests; i++)
		ragged_set(&r, i, 1, random_in(rng, 1, 16384), 64);
	return r;
}

/* Median of REPEATS builds in microseconds; below 0 if a build failed. */
static double median_build(mla_plan *plan, const struct ragged *batches)
{
	static double us[REPEATS];

	for (int i = 0; i < REPEATS; i++) {
		double begin = thread_us();

		if (mla_plan_build(plan, &batches[i % BATCHES].view) != MLA_OK)
			return -1;
		us[i] = thread_us() - begin;
	}
	qsort(us, REPEATS, sizeof us[0], order_doubles);
	return us[REPEATS / 2];
}

/* Prints one line; the median, or below 0 with a sentence on stderr. */
static double bench(int32_t requests)
{
	mla_config config = fixture_config(128, 1);
	mla_traits traits = fixture_traits(64, 64);
	mla_device device = known_gpus[0].device;
	mla_capacity capacity = {.struct_size = sizeof capacity,
				 .max_requests = requests,
				 .max_queries = requests,
				 .max_qo_len = 1,
				 .max_kv_len = 16384,
				 .max_kv_tokens = 16384LL * requests};
	mla_plan_info info = {.struct_size = sizeof info};
	struct ragged batches[BATCHES];
	mla_plan *plan = NULL;
	uint64_t rng = 1;
	double us = -1;

	for (int i = 0; i < BATCHES; i++)
		batches[i] = random_decode(&rng, requests);
	if (mla_plan_create_for_traits(&traits, &config, &device, &capacity, &plan) == MLA_OK)
		us = median_build(plan, batches);
	if (us < 0 || mla_plan_get_info(plan, &info) != MLA_OK)
		fprintf(stderr, "bench_plan: batch %d: %s\n", requests, mla_last_error());
	else
		printf("batch %4d: %8.2f us, %5d items, %4d merges, busiest worker %.3f x mean\n",
		       requests, us, info.num_items, info.num_merges,
		       (double)info.max_worker_cost / (double)info.mean_worker_cost);
	mla_plan_destroy(plan);
	for (int i = 0; i < BATCHES; i++)
		ragged_free(&batches[i]);
	return us;
}

int main(void)
{
	static const int32_t sizes[] = {1, 64, 256, 1024};
	int failed = 0;

	printf("mla_plan_build, decode, 1..16K keys, 128 heads, %d SMs: median of %d\n",
	       known_gpus[0].device.sm_count, REPEATS);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		double us = bench(sizes[i]);

		if (us < 0 || (sizes[i] == 256 && us > BOUND_US))
			failed = 1;
		if (sizes[i] == 256 && us > BOUND_US)
			fprintf(stderr, "bench_plan: batch 256 takes %.1f us, allowed are %.0f\n",
				us, BOUND_US);
	}
	return failed;
}
