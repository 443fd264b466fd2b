/* bench.h - how long a case takes: kernels of the ladder on the GPU, variants on the CPU, by the
 * same clock and the same rule of when it is enough.
 *
 * On the GPU inputs and outputs exist often enough that twice the L2 cache is touched before a call
 * comes back to a copy ("cold"), or all calls use one copy ("hot"). A kernel that is wrong is never
 * timed, and the outputs of what was timed are checked again, on every copy.
 */
#ifndef MLA_BENCH_BENCH_H
#define MLA_BENCH_BENCH_H

#include "base/stats.h"
#include "bench/clock.h"
#include "bench/problem.h"
#include "case/work.h"
#include "check/check.h"
#include "check/variants.h"

enum { BENCH_MAX_TIMINGS = 4 }; /* graph and launch, cold and hot */

struct bench_result {
	struct check_verdict verdict; /* PASS: the times below are valid */
	/* of kernels, host time in microseconds, n 0 for variants */
	struct stats plan, upload; /* mla_plan_build; mla_plan_upload until it has arrived */
	struct bench_timing timings[BENCH_MAX_TIMINGS];
	int num_timings;
	int copies;
};
void bench_result_free(struct bench_result *result);
/* No times, and why: SKIP for a refusal or a machine that lacks something, which say nothing about
 * the implementation, else FAIL. */
void bench_result_end(struct bench_result *result, mla_status status, const char *why);

struct bench_options {
	bool graph, launch, cold, hot; /* which timings of kernels */
	struct bench_stop stop;
	int32_t fixed_split;
	const struct nvml *nvml; /* may be NULL */
	/* told what is done and how much of it, 0 to 1; may be NULL */
	void (*progress)(void *opaque, const char *what, double share);
	void *opaque;
};

/* Kernels in turns. results[num_kernels]; a kernel that refuses or is wrong leaves its verdict. */
void bench_kernels(struct bench_problem *problem, const char *const *kernels, int num_kernels,
		   const struct bench_options *options, struct bench_result *results);
/* Variants in turns, on the CPU, whatever kinds of timings are wanted. results[num_variants]. */
void bench_variants(const struct mla_case *c, const struct check_truth *truth,
		    const struct variant *const *variants, int num_variants,
		    const struct bench_options *options, struct bench_result *results);

#endif
