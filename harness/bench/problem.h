/* problem.h - a problem in device memory, several times over, and the judgement of what a
 * kernel made of a copy.
 *
 * uploaded  a case of the host: poisoned, guarded and judged as mla check does
 * filled    a cell whose values exist on the GPU alone. A kernel's outputs are compared with those
 *           of 01_naive in f32, all rows; rows of a few requests, 01_naive's too, with the fp64
 *           truth; a checksum shows that inputs are unchanged
 */
#ifndef MLA_BENCH_PROBLEM_H
#define MLA_BENCH_PROBLEM_H

#include "check/check.h"

struct bench_problem {
	const struct mla_case *c;
	mla_tensors *copies; /* [num_copies] device memory, without scratch */
	int num_copies;
	bool cold; /* coming back to a copy, twice the L2 cache was touched in between */
	mla_stream stream;

	const struct bench_origin *origin;
	void *state;
};

/* How many copies a call that touches `call_bytes` needs, so that all but one exceed twice the L2
 * cache; as many as fit if they do not. copy_bytes: memory that a copy takes. At least 1. */
enum { BENCH_MAX_COPIES = 1024 };
int bench_copies(double call_bytes, double copy_bytes, double l2_bytes, double free_bytes);
/* Are that many enough? One copy is if it exceeds twice the cache by itself. */
bool bench_copies_are_cold(int copies, double call_bytes, double l2_bytes);

/* The case and the truth outlive the problem. On failure the problem is empty. */
mla_status bench_problem_upload(const struct mla_case *c, const struct check_truth *truth,
				struct bench_problem *problem);
/* c is of cell_case. */
mla_status bench_problem_fill(const struct mla_case *c, uint64_t seed,
			      struct bench_problem *problem);
void bench_problem_free(struct bench_problem *problem);

/* Outputs of all copies back to poison. */
mla_status bench_problem_repoison(struct bench_problem *problem);
/* Waits for the stream and judges the outputs that a run left on this copy. */
void bench_problem_judge(struct bench_problem *problem, int copy, struct check_verdict *verdict);

/* What the two origins do differently. */
struct bench_origin {
	mla_status (*repoison)(struct bench_problem *problem, int copy);
	void (*judge)(struct bench_problem *problem, int copy, struct check_verdict *verdict);
	void (*free)(struct bench_problem *problem);
};
/* Shared by the origins: allocates copies[], sets num_copies and cold. */
mla_status bench_problem_plan(struct bench_problem *problem, double copy_bytes);
void bench_verdict_fail(struct check_verdict *verdict, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
