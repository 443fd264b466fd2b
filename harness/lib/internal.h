/* internal.h - what the files of the library share: the inside of a plan, the checks of arguments,
 * the ladder. No other room includes it.
 */
#ifndef MLA_LIB_INTERNAL_H
#define MLA_LIB_INTERNAL_H

#include <stdbool.h>

#include "mla.h"

/* ---- the inside of a plan, shared by plan.c (host) and run.c (device) ------------------------ */

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

/* ---- structs.c: struct_size. Every struct of mla.h that has one is taken and given through these.
 */

enum mla_struct {
	MLA_STRUCT_CONFIG,
	MLA_STRUCT_BATCH,
	MLA_STRUCT_DEVICE,
	MLA_STRUCT_CAPACITY,
	MLA_STRUCT_TRAITS,
	MLA_STRUCT_KERNEL_INFO,
	MLA_STRUCT_PLAN_INFO,
	MLA_STRUCT_TENSORS,
	MLA_STRUCT_MERGE_ARGS,
};
/* Is it there, and of a size that a release had? Enough for a struct that never grew. */
mla_status mla_struct_check(enum mla_struct kind, const void *object);
/* The same, and a copy of today's size: fields that its owner does not know are 0. */
mla_status mla_struct_take(enum mla_struct kind, const void *object, void *whole);
/* Fills in as much of an output as its owner knows; what was never said is the size of 0.1.0. */
void mla_struct_give(enum mla_struct kind, const void *whole, void *object);

/* ---- validate.c: every value that enters the library is checked there. A message names the
 * argument, the index, what was found and what was expected. */

/* Keys, positions and queries stay below these, so that sums of them fit 32 bits. */
#define MLA_MAX_KV_LEN  (1 << 30)
#define MLA_MAX_QUERIES (1 << 29)

/* A number that must lie in [least, most]. */
struct mla_range {
	const char *name;
	int64_t value, least, most;
};
mla_status mla_check_ranges(const struct mla_range *ranges, size_t count);

mla_status mla_check_config(const mla_config *config);
mla_status mla_check_device(const mla_device *device);
mla_status mla_check_traits(const mla_traits *traits); /* a whole one */
mla_status mla_check_problem(const mla_config *config, const mla_batch *batch);
bool mla_batch_reads(const mla_batch *batch); /* has any request a key? */

/* What mla_check_tensors needs besides the tensors. */
struct mla_expect {
	const mla_config *config;
	int64_t queries;    /* rows that q, out and lse must hold at least */
	int64_t pages;      /* entries that kv_indices must hold at least */
	int64_t later;      /* the same, if the cache has a page that later batches could use */
	bool reads;         /* this batch has a key: the cache has a page */
	int32_t align;      /* of addresses and strides; 0: an element's size */
	const char *reason; /* why so many queries or pages, for the message */

	/* What besides tensors may share no byte with outputs. */
	const mla_batch *batch; /* NULL: not read by the run itself */
	int64_t scratch_bytes;  /* that tensors->scratch must hold; -1: nobody looks at it */
};
mla_status mla_check_tensors(const struct mla_expect *expect, const mla_tensors *tensors);
/* Does kv_indices hold as many entries as the batch (already checked) reads? */
mla_status mla_check_table(const mla_batch *batch, const mla_tensors *tensors);
mla_status mla_check_merge_args(const mla_merge_args *args);

/* ---- overlap.c: which outputs share bytes with what ------------------------------------------ */

/* Rows of width bytes at base + i * stride[0] + j * stride[1], i < count[0], j < count[1]. */
struct mla_region {
	const char *name;
	int64_t base, width, count[2], stride[2];
};
/* The first so many of a tensor's outermost rows; nothing if its data is NULL. */
struct mla_region mla_region_of(const char *name, const mla_tensor *tensor, int64_t first_extent);
struct mla_region mla_region_flat(const char *name, const void *data, int64_t bytes);
bool mla_regions_meet(const struct mla_region *one, const struct mla_region *other);
bool mla_region_meets_itself(const struct mla_region *region);
/* The first `outputs` of at most MLA_MOST_REGIONS are written: they meet neither themselves nor any
 * other. */
enum { MLA_MOST_REGIONS = 12 };
mla_status mla_check_overlap(const struct mla_region *regions, int outputs, int count);

#endif
