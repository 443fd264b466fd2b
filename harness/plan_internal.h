/* plan_internal.h - the inside of a plan, shared by plan.c (host) and run.c (device).
 */
#ifndef MLA_PLAN_INTERNAL_H
#define MLA_PLAN_INTERNAL_H

#include <stdbool.h>

#include "mla.h"

struct mla_kernel;

/* Counts of the batch, the first bytes of the blob; mirrored by struct mla_header for kernels. */
struct plan_header {
	int32_t batch_size, total_q, num_items, num_merges;
};

/* Byte offsets of the blob's arrays. The order puts the items, the largest, at the end: an upload
 * sends the blob up to the last item in use. */
struct plan_layout {
	size_t header, qo_indptr, kv_indptr, kv_len, q_pos0, worker_begin, counters, merges, items;
	size_t bytes;
};

struct mla_plan {
	mla_config config;
	mla_device device;
	mla_capacity capacity; /* zeros replaced by what they stand for */
	mla_traits traits;
	const char *kernel_name;         /* "" if made for traits */
	const struct mla_kernel *kernel; /* NULL if made for traits */

	/* By capacity. */
	int32_t num_workers, max_items, max_merges;
	int64_t max_partial_rows, scratch_bytes;
	struct plan_layout layout;

	/* The blob as built for the last batch, and views of it. */
	char *image;
	struct plan_header *header;
	int32_t *qo_indptr, *kv_indptr, *kv_len, *q_pos0, *worker_begin;
	mla_merge_item *merges;
	mla_work *items;

	bool built, uploaded;
	mla_batch batch; /* points into the image */
	int64_t partial_rows, max_worker_cost, total_cost;

	/* run.c: NULL until prepared. */
	struct plan_gpu *gpu;
	void (*release_gpu)(struct plan_gpu *gpu);
};

#endif
