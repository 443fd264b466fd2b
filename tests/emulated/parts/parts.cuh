/* parts.cuh - a part: functions of optimized/parts or intrinsics of CUDA that are run on inputs
 * made from a seed, what they give, and how far that may be from what a GPU gave.
 *
 * A file per subject lists its parts. Every function of optimized/parts that runs on the device
 * stands in one of the lists; tests/test_parts.py sees to it.
 */
#pragma once

#include <cuda.h>
#include <stdint.h>

#include "parts/launch.cuh"

enum {
	PART_IN = 8192,
	PART_FLOATS = 320,
	PART_PAIRED = 16, /* floats at the beginning that binary functions get in all pairs */
	PART_WORDS = 512, /* of a part's results, at most */
	PART_THREADS = 128,
	PART_COLUMNS = 64, /* of the 16-bit tensor that in[] is to the maps: 256 rows */
	PART_BOX = 1024,   /* bytes that each map's box has */
};

/* What every part's kernel gets. */
struct part_arguments {
	const uint32_t *in;  /* [PART_IN] random words */
	const float *floats; /* [PART_FLOATS] special ones first, then of all sizes */
	uint32_t *out;       /* [PART_WORDS] zeros: the results */
	uint32_t *memory;    /* [PART_WORDS] zeros: counters, what blocks hand over */
	CUtensorMap maps[3]; /* in[] with 2, 3, 4 dimensions, swizzled by 128 bytes */
	CUtensorMap target;  /* the first PART_BOX bytes of out[], 4 dimensions, swizzled too */
};

/* The same on the host. */
struct part_inputs {
	uint32_t in[PART_IN];
	float floats[PART_FLOATS];
};

enum part_measure {
	PART_BITS,     /* the same bits */
	PART_VALUES,   /* floats: the same bits, or both NaN */
	PART_ULPS,     /* floats: at most `bound` floats apart, or both NaN */
	PART_PRODUCTS, /* floats: apart by at most `bound` times the scale, or both NaN */
};

struct part {
	const char *functions; /* what it runs; the first word is its name */
	void (*kernel)(part_arguments);
	int words; /* of out[] that count */
	part_measure measure;
	double bound = 0.;
	/* of each result, for PART_PRODUCTS: the sum of the magnitudes that were added */
	void (*scale)(const part_inputs &inputs, double *scale) = NULL;
	int blocks = 1; /* of one cluster */
	int shared_bytes = 0;
	int threads = PART_THREADS;
};

struct part_list {
	const part *parts;
	int count;
};

part_list parts_of_numbers();
part_list parts_of_warps();
part_list parts_of_copies();
part_list parts_of_products();

/* Exact in bf16 and in fp16, of sizes so different that sums of products are rounded. */
static __host__ __device__ inline float part_factor(uint32_t word)
{
	const int power = (int)(word >> 28); /* 0 to 15 */
	const float value = (float)((int)(word % 255) - 127) / 64.f;

	return value / (float)(1 << power);
}
