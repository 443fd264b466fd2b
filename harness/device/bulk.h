/* bulk.h - what the benchmark does on the GPU besides running kernels: it makes inputs,
 * compares outputs, proves that inputs did not change, and waits. Pointers are device memory,
 * everything is asynchronous in the stream. bulk_none.c stands in without nvcc.
 */
#ifndef MLA_DEVICE_BULK_H
#define MLA_DEVICE_BULK_H

#include "mla.h"

#ifdef __cplusplus
extern "C" {
#endif

/* data[i] = random_value(seed, i), bf16. */
mla_status bulk_fill(void *data, int64_t elements, uint64_t seed, mla_stream stream);

/* A cache pool [num_pages, page_size, row] of bf16. Element e of the pool is random_value(seed, e),
 * in the first keys[i] slots of page pages[i]; the rest is left as it is. */
struct bulk_pool {
	void *data;
	const int32_t *pages, *keys; /* [entries] */
	int64_t entries;
	int32_t page_size, row;
	uint64_t seed;
};
mla_status bulk_fill_pool(const struct bulk_pool *pool, mla_stream stream);

/* Adds a number to *sum that depends on every byte and its place, not on the order of threads. */
mla_status bulk_add_checksum(const void *data, int64_t bytes, uint64_t *sum, mla_stream stream);

/* Outputs in bf16 against those of another kernel in f32, row by row. An element may be off by
 * element_bound * max(floor, |want|), a row's rms by rms_bound of its own, the lse by lse_bound. */
struct bulk_comparison {
	const void *out;   /* [rows, dims] bf16 */
	const float *lse;  /* [rows] */
	const float *want; /* [rows, dims] */
	const float *want_lse;
	int64_t rows;
	int32_t dims;
	float element_bound, floor, rms_bound, lse_bound;
};
/* Errors over their bounds; infinite where a NaN is compared. */
struct bulk_difference {
	float element, rms, lse;
	int32_t reserved;
	unsigned long long wrong_rows;
	unsigned long long first_row; /* that is wrong; ULLONG_MAX: none is */
};
/* difference is set anew. */
mla_status bulk_compare(const struct bulk_comparison *comparison,
			struct bulk_difference *difference, mla_stream stream);

/* One thread waits this long by the GPU's own clock. */
mla_status bulk_spin(double microseconds, mla_stream stream);

#ifdef __cplusplus
}
#endif

#endif
