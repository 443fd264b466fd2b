/* bench_reference.c - is the truth fast enough to be used? 16 queries x 128 heads x 8,192 keys of
 * 512 + 64 must take no more than 10 s on two cores. Exits with 1 if they take longer.
 *
 * Judged by processor time over two, so that a busy machine fails nothing; wall time is shown.
 */
#define _GNU_SOURCE
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "reference/reference.h"

enum { QUERIES = 16, HEADS = 128, KEYS = 8192, CKV = 512, KPE = 64, PAGE = 64 };

static const double limit_seconds = 10;

struct seconds {
	double wall, processor;
};

static double read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct seconds now(void)
{
	return (struct seconds){read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_PROCESS_CPUTIME_ID)};
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory) {
		fprintf(stderr, "bench_reference: %zu bytes wanted, memory ran out\n",
			count * size);
		exit(1);
	}
	return memory;
}

/* [a, b, c] bf16, uniform in -1.7 .. 1.7 */
static mla_tensor random_tensor(int64_t a, int64_t b, int64_t c, uint32_t *seed)
{
	mla_tensor t = {
		.data = allocate((size_t)(a * b * c), 2),
		.dtype = MLA_BF16,
		.ndim = 3,
		.extent = {a, b, c},
		.stride = {2 * b * c, 2 * c, 2},
	};

	for (int64_t i = 0; i < a * b * c; i++) {
		*seed = *seed * 1664525u + 1013904223u;
		ref_store((char *)t.data + 2 * i, MLA_BF16,
			  1.7 * (double)(int32_t)*seed / 2147483648.0);
	}
	return t;
}

static struct seconds time_attention(const mla_tensors *tensors, const struct ref_truth *truth)
{
	const mla_config config = {
		.struct_size = sizeof(config),
		.num_heads = HEADS,
		.head_dim_ckv = CKV,
		.head_dim_kpe = KPE,
		.page_size = PAGE,
		.sm_scale = 1 / sqrt(192),
	};
	const int32_t qo_indptr[] = {0, QUERIES}, kv_indptr[] = {0, KEYS / PAGE}, kv_len[] = {KEYS};
	const mla_batch batch = {
		.struct_size = sizeof(batch),
		.batch_size = 1,
		.qo_indptr = qo_indptr,
		.kv_indptr = kv_indptr,
		.kv_len = kv_len,
	};
	const struct seconds start = now();

	if (ref_attention(&config, &batch, tensors, NULL, QUERIES * HEADS, truth)) {
		fprintf(stderr, "bench_reference: ref_attention ran out of memory\n");
		exit(1);
	}

	const struct seconds end = now();

	return (struct seconds){end.wall - start.wall, end.processor - start.processor};
}

static int report(const char *what, struct seconds took, double columns)
{
	const double macs = (double)QUERIES * HEADS * KEYS * columns;
	const double two_cores = took.processor / 2;

	printf("%-19s %d x %d x %d keys: %5.2f s of two cores (limit %.0f s), %5.2f GMAC/s; wall "
	       "%5.2f s with %d threads\n",
	       what, QUERIES, HEADS, KEYS, two_cores, limit_seconds, macs / two_cores * 1e-9,
	       took.wall, omp_get_max_threads());
	return two_cores > limit_seconds;
}

int main(void)
{
	uint32_t seed = 1;
	int32_t pages[KEYS / PAGE];
	mla_tensors tensors = {.struct_size = sizeof(tensors)};
	struct ref_truth truth = {0};
	int slow;

	for (int32_t i = 0; i < KEYS / PAGE; i++) /* 77 has no factor in common with 128 */
		pages[i] = i * 77 % (KEYS / PAGE);
	tensors.q_nope = random_tensor(QUERIES, HEADS, CKV, &seed);
	tensors.q_pe = random_tensor(QUERIES, HEADS, KPE, &seed);
	tensors.ckv = random_tensor(KEYS / PAGE, PAGE, CKV, &seed);
	tensors.kpe = random_tensor(KEYS / PAGE, PAGE, KPE, &seed);
	tensors.kv_indices = pages;
	tensors.num_kv_indices = KEYS / PAGE;

	truth.out = allocate((size_t)QUERIES * HEADS * CKV, sizeof(double));
	truth.lse = allocate((size_t)QUERIES * HEADS, sizeof(double));
	slow = report("out, lse", time_attention(&tensors, &truth), CKV + KPE + CKV);
	truth.sum_abs = allocate((size_t)QUERIES * HEADS * CKV, sizeof(double));
	slow |= report("out, lse, sum p|v|", time_attention(&tensors, &truth), CKV + KPE + 2 * CKV);

	free(tensors.q_nope.data);
	free(tensors.q_pe.data);
	free(tensors.ckv.data);
	free(tensors.kpe.data);
	free(truth.out);
	free(truth.lse);
	free(truth.sum_abs);
	return slow;
}
