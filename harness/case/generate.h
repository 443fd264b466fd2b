/* generate.h - synthetic cases: seeded, any shape of the contract.
 */
#ifndef MLA_CASE_GENERATE_H
#define MLA_CASE_GENERATE_H

#include <stdint.h>

#include "case/case.h"

enum generate_values {
	GENERATE_PEAKED,   /* a few keys per row carry most of the weight, scores up to about 60;
			 maxima rise and fall along the keys, so that rescaling and merges matter */
	GENERATE_NORMAL,   /* N(0, 1): nearly flat attention at DeepSeek's scale */
	GENERATE_FLAT,     /* all scores nearly equal */
	GENERATE_HUGE,     /* scores of several hundred, both signs */
	GENERATE_FAR,      /* all scores of a row around 1600, or all around -1600 */
	GENERATE_FARTHEST, /* the same, 300000: for rows that see one key at most */
};

enum generate_pages {
	GENERATE_PAGES_SHUFFLED,   /* random permutation with unused pages between */
	GENERATE_PAGES_CONTIGUOUS, /* 0, 1, 2, ... */
	GENERATE_PAGES_SHARED, /* requests share their first pages (a common prefix), rest shuffled
				*/
	GENERATE_PAGES_REPEATED, /* shuffled, and one in four is a page that the request itself or
				    one in front of it has already */
};

struct generate_spec {
	uint64_t seed;
	mla_config config;
	int32_t batch_size;
	const int32_t *qo_len, *kv_len; /* [batch_size] */
	const int32_t *q_pos0;          /* [batch_size] or NULL */
	enum generate_values values;
	enum generate_pages pages;
	int32_t fused; /* 1: ckv and kpe are views of one [pages, page_size, ckv + kpe] buffer */
	int32_t extra_pages; /* unused pages in the pool, at least */
	int32_t nan_rows;    /* n > 0: packed rows n - 1, 2n - 1, ... have a NaN in their query */
	int32_t nan_keys;  /* n > 0: of every n-th request whose last query sees keys that its first
			      does not, the last of them has a NaN */
	int32_t table_gap; /* unused page table entries behind each request, at most */
	/* 0: tensors are contiguous. Else there are gaps in all strides, in front of the first
	 * element and behind the last, of q, caches and outputs; strides and addresses are
	 * multiples of so many bytes (and of their element). */
	int32_t gaps;
	int32_t key_exponent; /* keys are 2^n times as large, queries as much smaller */
	int32_t no_lse;       /* 1: those who run the case want no lse */
};

/* The same spec gives the same bits on every machine. */
mla_status generate_case(const struct generate_spec *spec, struct mla_case *c);

/* A random adversarial case: every number of the contract up to a limit that tests/README.md states
 * (round ones, primes, far beyond what models have), small enough to check against the truth.
 * Number n of the sequence seed; the name says "random:SEED.N". */
mla_status generate_adversarial(uint64_t seed, int n, struct mla_case *c);

#endif
