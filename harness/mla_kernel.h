/* mla_kernel.h - what a kernel file of optimized/ sees besides mla.h. Free to change: all kernels
 * are built together with the library.
 *
 * A kernel file defines one thing: the descriptor of its line in ladder.def,
 *
 *     MLA_KERNEL_DESCRIPTOR(01_naive) = {.summary = "...", ...};
 */
#ifndef MLA_KERNEL_H
#define MLA_KERNEL_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "mla.h"

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
	float sm_scale; /* natural units: score = sm_scale * q.k */
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
};

struct mla_kernel {
	const char *summary; /* one line */
	bool fixed_split;    /* promises bitwise batch invariance in fixed-split mode */

	/* NULL if the kernel does this config on this device, else why not, in words that fit
	 * "01_naive refuses: ...". mla_why() formats one. arch is checked by the library. */
	const char *(*refuses)(const mla_config *config, const mla_device *device);

	/* Fills everything but struct_size. Called only for what is not refused. */
	void (*traits)(const mla_config *config, const mla_device *device, mla_traits *traits);

	/* Everything that must not happen while a graph is captured: module load, shared-memory
	 * attributes. May be called more than once. */
	cudaError_t (*prepare)(const mla_config *config, const mla_device *device);

	/* Launches; asynchronous, allocates nothing. With MLA_MERGE_SEPARATE the library launches
	 * mla_merge_launch after it. launch_early (mla_device.cuh) may be used, need not. */
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
