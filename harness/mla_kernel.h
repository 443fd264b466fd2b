/* mla_kernel.h - what a kernel file of optimized/ sees besides mla.h. Free to change: all kernels
 * are built together with the library.
 *
 * A kernel file defines one thing: the descriptor of its line in ladder.def,
 *
 *     MLA_KERNEL_DESCRIPTOR(01_naive) = {.abi = MLA_KERNEL_ABI, .summary = "...", ...};
 */
#ifndef MLA_KERNEL_H
#define MLA_KERNEL_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "mla.h"

/* Of everything in this file. It rises with every change that a kernel built apart from the library
 * would not survive; the library refuses a descriptor of another number in words. */
#define MLA_KERNEL_ABI 1

/* An input or output as a kernel sees it. The last dimension is contiguous. For q and out the
 * indices are (query, head), for the caches (page, slot), for lse (query, head). */
struct mla_view {
	char *data;
	int64_t stride0, stride1; /* bytes */
	int32_t dtype;            /* enum mla_dtype */
};

/* Counts of the current batch; read on the device, so that a captured graph follows a rebuild. */
struct mla_header {
	int32_t batch_size, total_q, num_items, num_merges;
};

/* Everything a kernel needs, passed by value. Pointers and sizes are fixed by the capacity; what
 * they point to is the last uploaded plan. */
struct mla_params {
	struct mla_view q_nope, q_pe, ckv, kpe, out, lse; /* lse.data NULL: not wanted */
	const int32_t *kv_indices;

	const struct mla_header *header;
	const int32_t *qo_indptr;    /* [B+1] queries */
	const int32_t *kv_indptr;    /* [B+1] pages */
	const int32_t *kv_len;       /* [B] keys */
	const int32_t *q_pos0;       /* [B] query i sees key j iff j <= q_pos0 + i */
	const mla_work *items;       /* sorted by worker */
	const int32_t *worker_begin; /* [num_workers + 1] offsets into items */
	const mla_merge_item *merges;
	int32_t *counters;  /* [max_merges] 0 after an upload; a kernel that counts
			       (fused merge) leaves them 0 */
	float *partial_out; /* [max_partial_rows, head_dim_ckv], normalised */
	float *partial_lse; /* [max_partial_rows] natural log; -inf: nothing seen */

	int32_t num_heads, head_dim_ckv, head_dim_kpe, page_size;
	float sm_scale; /* natural units: score = sm_scale * q.k; may be negative: scale, then take
			   maxima */
	float lse_mul; /* what a natural lse is multiplied with before it is stored: 1 or log2(e) */
};

/* One launch. Host facts that a launcher may size its grid with; all fixed by the capacity. */
struct mla_launch {
	struct mla_params params;
	const mla_config *config;
	const mla_device *device;
	const mla_traits *traits;
	int32_t num_workers; /* sm_count * ctas_per_sm / ctas_per_worker */
	int32_t max_queries; /* capacity: total queries */
	int32_t max_merges;  /* capacity: merge items */
	int64_t num_pages;   /* ckv.extent[0] */

	/* Host memory of this plan for run() to keep things in from one call to the next, such as
	 * the tensor maps of the last views (parts/tensor_map.cuh): MLA_KEEP_BYTES at a multiple of
	 * 128, zeros at first. */
	void *keep;
};
enum { MLA_KEEP_BYTES = 2048 };

struct mla_kernel {
	uint32_t abi; /* MLA_KERNEL_ABI */

	const char *summary; /* one line */
	const char *ideas;   /* words that say what it shows: what a profiler is asked about it goes
				by   them (harness/report/ncu.c) */
	int32_t threads;     /* per CTA */
	int32_t cluster;     /* CTAs that share a list of items; 1: no cluster */
	int32_t tile_rows;   /* packed rows per work item, at most */
	int32_t kv_granule;  /* splits fall on multiples of this many keys */
	bool fixed_split;    /* promises bitwise batch invariance in fixed-split mode */

	/* NULL if the kernel does this config on this device, else why not, in words that fit
	 * "01_naive refuses: ...". mla_why() formats one. arch is checked by the library. */
	const char *(*refuses)(const mla_config *config, const mla_device *device);

	/* Fills in what the fields above do not say (ctas_per_sm, costs, merge, align), and changes
	 * of theirs what depends on config or device. Called only for what is not refused. */
	void (*traits)(const mla_config *config, const mla_device *device, mla_traits *traits);

	/* Everything that must not happen while a graph is captured: module load, shared-memory
	 * attributes. May be called more than once. */
	cudaError_t (*prepare)(const mla_config *config, const mla_device *device);

	/* Launches, by launch_kernel (parts/launch.cuh); asynchronous, allocates nothing. With
	 * MLA_MERGE_SEPARATE the library launches mla_merge_launch after it. */
	cudaError_t (*run)(const struct mla_launch *launch, cudaStream_t stream);
};

#ifdef __cplusplus
extern "C" {
#endif

/* printf into a buffer of this thread, for refuses(). */
const char *mla_why(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* optimized/merge.cu: the one merge of partial states, for every rung that splits keys. */
cudaError_t mla_merge_prepare(void);
cudaError_t mla_merge_launch(const struct mla_launch *launch, cudaStream_t stream);
cudaError_t mla_merge_states_launch(const mla_merge_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#define MLA_EXTERN_C extern "C"
#else
#define MLA_EXTERN_C extern
#endif

#define MLA_KERNEL_DESCRIPTOR(id)                                                                  \
	MLA_EXTERN_C const struct mla_kernel mla_kernel_##id;                                      \
	const struct mla_kernel mla_kernel_##id

#endif
