/* bench.h - how long a case takes: kernels of the ladder on the GPU, variants on the CPU.
 *
 * A kernel's inputs and outputs are copied until twice the L2 cache is full, and each call takes
 * the next copy, so that nothing a call reads is left in the cache by the call before. Calls are
 * queued back to back in one stream, each between two timestamps of the GPU: what a server with a
 * filled queue sees of one call. A kernel that is wrong is never timed, and the outputs of the
 * timed calls are checked again.
 */
#ifndef MLA_BENCH_H
#define MLA_BENCH_H

#include "check.h"
#include "stats.h"
#include "variants.h"

/* From the problem alone, not from what an implementation happens to do. */
struct bench_work {
	double multiply_adds; /* visible (query, key) pairs * heads * (2 * ckv + kpe) */
	double flop;          /* twice that */
	double bytes;         /* every visible cache slot once, q once, out and lse once */
};
/* 0, or -1 if memory ran out. */
int bench_work_of(const struct mla_case *c, struct bench_work *work);
double bench_multiply_adds(const struct mla_case *c);

struct bench_result {
	struct check_verdict verdict; /* PASS: the times below are valid */
	double *samples;              /* [time.n] microseconds */
	struct stats time;
	struct stats plan; /* kernels: host time of mla_plan_build; n 0 for variants */
	int copies;        /* of inputs and outputs that the calls rotate over */
	bool cold;         /* the copies exceed twice the L2 cache */
};
void bench_result_free(struct bench_result *result);

struct bench_options {
	int samples;
	int32_t fixed_split;
};

/* Checks first; a subject that does not pass leaves the verdict and no times. */
void bench_kernel(const struct mla_case *c, const struct check_truth *truth, const char *kernel,
		  const struct bench_options *options, struct bench_result *result);
void bench_variant(const struct mla_case *c, const struct check_truth *truth,
		   const struct variant *variant, const struct bench_options *options,
		   struct bench_result *result);

#endif
