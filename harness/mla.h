/* mla.h - the public interface of libmla: DeepSeek Multi-head Latent Attention (MLA) over a paged
 * latent KV cache, decode and incremental prefill with matrix absorption.
 *
 * The names and meanings follow FlashInfer's BatchMLAPagedAttentionWrapper (flashinfer.mla); the
 * absorbed form is DeepSeek-V2 (arXiv:2405.04434), section 2.1.2 and appendix C.
 *
 * For query i of a request, head h and key j of that request (ckv and kpe have one head, which all
 * query heads share; values are the latents themselves):
 *
 *     score[j] = sm_scale * (q_nope[i,h,:] . ckv[j,:] + q_pe[i,h,:] . kpe[j,:])
 *     out[i,h,:] = sum_j softmax(score)[j] * ckv[j,:]
 *     lse[i,h]   = log sum_j exp(score[j])
 *
 * Words. query: one token of q. packed row: query * num_heads + head, counted inside a request.
 * key: one token of the cache. page: page_size consecutive keys. worker: what executes a list of
 * work items on the GPU, a CTA or a group of CTAs.
 *
 * Order of calls:
 *     mla_plan_create -> mla_plan_build -> mla_plan_upload -> mla_run
 *                          ^---- for each new batch ----'
 *
 * Outputs (out, lse, scratch) may share no byte with an input, with each other or with themselves,
 * not even an identical range: work items read q while others write. Everything else is fine: gaps,
 * interleaved rows, out and lse as columns of one buffer, inputs that share memory (q_nope and
 * q_pe, ckv and kpe of one fused tensor) or repeat it (stride 0). Of a cache all pages count as
 * read.
 *
 * Keys below kv_len must be finite. A kernel may let a NaN or an infinity of a key that only a
 * later query sees reach earlier queries of its tile (0 * NaN); slots from kv_len on are never
 * looked at.
 *
 * Structs grow at their end. Each begins with struct_size, which says which fields its owner knows:
 * set it to sizeof, for what you pass in and for what is filled in for you. A size that a release
 * had (0.1.0 was the first) is taken by every later library: of an input the rest is read as 0, of
 * an output the rest is left alone.
 *
 * C11, callable from C++ and ctypes. No CUDA header is included: an mla_stream is a cudaStream_t.
 * Functions never print and never exit: they return a mla_status, and mla_last_error() says in a
 * sentence what was found and what was expected. NULL where something is needed is such an error;
 * those that return a pointer answer it with NULL. Distinct plans are independent: they may be used
 * from distinct threads at the same time. One plan is used by one thread at a time.
 */
#ifndef MLA_H
#define MLA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MLA_VERSION "0.2.0"

/* "0.2.0 (commit 1a2b3c4)": the version of the library, and what it was built from. Never NULL. */
const char *mla_version(void);

/* A cudaStream_t, without the CUDA headers. NULL is the default stream. */
typedef struct CUstream_st *mla_stream;

typedef enum mla_status {
	MLA_OK = 0,
	MLA_INVALID = 1,   /* an argument is wrong */
	MLA_REFUSED = 2,   /* valid, but this kernel or this device does not do it */
	MLA_CAPACITY = 3,  /* valid, but beyond the capacity that the plan was created with */
	MLA_NO_MEMORY = 4, /* host or device memory ran out */
	MLA_CUDA = 5,      /* the CUDA runtime reported an error */
	MLA_NO_CUDA = 6,   /* built without CUDA, or no CUDA device here */
} mla_status;

/* The sentence that belongs to this thread's last call that did not return MLA_OK. Never NULL. */
const char *mla_last_error(void);

/* "ok", "invalid", ... Never NULL. */
const char *mla_status_name(mla_status status);

enum mla_dtype {
	MLA_BF16 = 0,
	MLA_F16 = 1,
	MLA_F32 = 2,
	MLA_E4M3 = 3, /* reserved for fp8 caches: every kernel refuses it today */
};

enum mla_lse_base {
	MLA_LSE_NATURAL = 0, /* lse = ln sum exp(score) */
	MLA_LSE_BASE2 = 1,   /* lse = log2 sum exp(score), FlashInfer's default */
};

/* A strided array, on the host or on the device. A value with a frozen layout, embedded in other
 * structs, hence without struct_size. data may be NULL where a tensor is optional; then the rest is
 * ignored. Strides are in bytes; the last one must be the size of an element. A 576-wide fused
 * cache is two views of one buffer: same strides, kpe.data = ckv.data + 512 elements.
 */
typedef struct mla_tensor {
	void *data;
	int32_t dtype; /* enum mla_dtype */
	int32_t ndim;  /* 1, 2 or 3 */
	int64_t extent[3];
	int64_t stride[3]; /* bytes */
} mla_tensor;

/* What never changes in the life of a plan. Set struct_size = sizeof(mla_config). */
typedef struct mla_config {
	uint32_t struct_size;
	int32_t num_heads;    /* H, query heads, >= 1 */
	int32_t head_dim_ckv; /* 512 for DeepSeek-V2/V3; any >= 1 */
	int32_t head_dim_kpe; /* 64 for DeepSeek-V2/V3; 0 = no rope part: q_pe and kpe are NULL */
	int32_t page_size;    /* keys per page, any >= 1 */
	int32_t causal;       /* 1: query i sees key j iff j <= q_pos0 + i, see mla_batch */
	int32_t lse_base;     /* enum mla_lse_base */
	int32_t q_dtype;      /* enum mla_dtype: q_nope and q_pe */
	int32_t ckv_dtype;    /* ckv */
	int32_t kpe_dtype;    /* kpe; may differ from ckv_dtype */
	int32_t out_dtype;    /* out: MLA_BF16, MLA_F16 or MLA_F32 */
	int32_t fixed_split; /* 0: split keys to balance the GPU. n > 0: split every request at keys
				n, 2n, ... and merge in a fixed order, so that a row's bits do not
				depend on the rest of the batch */
	double sm_scale; /* the model's own softmax scale, e.g. 192^-0.5 * mscale^2. Of either sign;
			    refused where f32, in which kernels hold it and it * log2 e, makes
			    0, a denormal number, an infinity or NaN of it */
} mla_config;

/* One batch: ragged CSR arrays on the host, read during the call only. */
typedef struct mla_batch {
	uint32_t struct_size;
	int32_t batch_size;       /* B >= 0 requests */
	const int32_t *qo_indptr; /* [B+1] first query of each request; starts at 0, never falls */
	const int32_t *kv_indptr; /* [B+1] first entry of each request in kv_indices: pages */
	const int32_t *kv_len;    /* [B] keys of each request, may be 0 */
	const int32_t *q_pos0;    /* [B] key position of a request's query 0 if causal, or NULL for
				     kv_len - qo_len (bottom-right aligned). May be negative. */
} mla_batch;

/* The device as values, so that plans are made and tested without a GPU. */
typedef struct mla_device {
	uint32_t struct_size;
	int32_t arch;           /* compute capability: 80, 90, ... */
	int32_t sm_count;       /* multiprocessors */
	int32_t smem_per_block; /* bytes of shared memory a block can opt in to */
} mla_device;

/* Reads the current CUDA device. MLA_NO_CUDA without one. */
mla_status mla_device_query(mla_device *device);

/* The largest batch that a plan can take. Launch shape, blob and scratch depend on the kernel, the
 * config, the device and this alone, so a captured CUDA graph stays valid when the plan is rebuilt.
 */
typedef struct mla_capacity {
	uint32_t struct_size;
	int32_t max_requests;
	int32_t max_queries;   /* sum of qo_len over the batch */
	int32_t max_qo_len;    /* longest request's qo_len; 0 = max_queries */
	int32_t max_kv_len;    /* longest request's kv_len; 0 = max_kv_tokens, at most 2^30 */
	int32_t reserved;      /* 0 */
	int64_t max_kv_tokens; /* sum of kv_len over the batch, shared pages counted each time */
	int64_t max_pages;     /* kv_indptr[B]; 0 = max_kv_tokens / page_size + max_requests */
} mla_capacity;

/* The smallest capacity that holds this batch. */
mla_status mla_capacity_of(const mla_config *config, const mla_batch *batch,
			   mla_capacity *capacity);

/* What the planner needs to know about a kernel. */
enum mla_merge_kind {
	MLA_MERGE_NONE = 0,     /* never splits: one work item per tile */
	MLA_MERGE_SEPARATE = 1, /* partial states go to scratch, a second kernel merges them */
	MLA_MERGE_FUSED = 2,    /* partial states go to scratch, the kernel merges them itself */
};

typedef struct mla_traits {
	uint32_t struct_size;
	int32_t tile_rows;       /* packed rows per work item, at most */
	int32_t kv_granule;      /* splits fall on multiples of this many keys */
	int32_t ctas_per_sm;     /* CTAs of this kernel that one multiprocessor holds */
	int32_t ctas_per_worker; /* 1, or the CTAs of a cluster that share a list of items */
	int32_t item_cost;       /* fixed cost of a work item (q load, epilogue), in keys */
	int32_t merge_cost;      /* what merging anything costs, in keys of one worker */
	int32_t merge;           /* enum mla_merge_kind */
	int32_t align;           /* bytes: data and strides of q, ckv, kpe, out must be multiples */
	int32_t threads;         /* per CTA; 0: not said. Since 0.2.0 */
} mla_traits;

/* One line of the ladder (optimized/ladder.def). Strings live as long as the library. */
typedef struct mla_kernel_info {
	uint32_t struct_size;
	int32_t built;       /* 0: this library was built without nvcc, summary is empty */
	const char *name;    /* "01_naive" */
	const char *summary; /* one line */
	const char *arch;    /* "sm_80": runs there and on newer GPUs. "sm_90a": runs there only */
	int32_t fixed_split; /* 1: promises bitwise batch invariance in fixed-split mode */
	int32_t reserved;
	const char *ideas; /* words that say what it shows: "split". Since 0.2.0 */
} mla_kernel_info;

int mla_kernel_count(void);
mla_status mla_kernel_get(int index, mla_kernel_info *info);

/* Does a kernel take this config on this device? MLA_OK or MLA_REFUSED with the reason in words.
 * kernel: a name of the ladder ("01_naive"), its number ("01"), its idea ("naive"), or "auto":
 * the highest rung that accepts and whose row tiles one query (in mla_plan_create: max_qo_len
 * queries) does not leave more than half empty. The batch has no say in it.
 */
mla_status mla_kernel_accepts(const char *kernel, const mla_config *config,
			      const mla_device *device);

/* The kernel's traits for this config and device. MLA_REFUSED as mla_kernel_accepts. */
mla_status mla_kernel_traits(const char *kernel, const mla_config *config, const mla_device *device,
			     mla_traits *traits);

/* ---- plan ---------------------------------------------------------------------------------- */

/* A piece of attention: rows x keys of one request. The first six fields say what, the rest spares
 * the kernel dependent loads. Keys that a row does not see (causal) are not to be counted, whatever
 * kv_begin and kv_end say. An empty key range still writes its rows: out 0, lse -inf.
 */
typedef struct mla_work {
	int32_t request;
	int32_t row_begin, row_end; /* packed rows of the request */
	int32_t kv_begin, kv_end;   /* keys of the request */
	int32_t partial;            /* first scratch row, one per packed row; -1: straight to out */
	int32_t q_begin;            /* = qo_indptr[request] */
	int32_t page_begin;         /* = kv_indptr[request] */
	int32_t q_pos0;             /* query i sees key j iff j <= q_pos0 + i; 2^30 if not causal */
	int32_t reserved[3];        /* 0; makes an item 48 bytes, three 16-byte loads */
} mla_work;

/* A tile whose keys were split. Split s of its row r is scratch row partial + s * rows + r. Splits
 * are in key order. */
typedef struct mla_merge_item {
	int32_t row_begin; /* packed row of the whole batch: (q_begin * num_heads) + row */
	int32_t rows;
	int32_t partial;    /* first scratch row */
	int32_t num_splits; /* >= 2 */
} mla_merge_item;

typedef struct mla_plan mla_plan;

/* Creates a plan for a kernel of the ladder ("auto": see mla_kernel_accepts).
 * MLA_INVALID names the bad field; MLA_REFUSED says why the kernel cannot. Allocates host memory
 * only. *plan is NULL unless MLA_OK.
 */
mla_status mla_plan_create(const char *kernel, const mla_config *config, const mla_device *device,
			   const mla_capacity *capacity, mla_plan **plan);

/* The same for traits alone: such a plan is built, printed, checked and executed by the CPU
 * reference, but has no kernel to run. */
mla_status mla_plan_create_for_traits(const mla_traits *traits, const mla_config *config,
				      const mla_device *device, const mla_capacity *capacity,
				      mla_plan **plan);

void mla_plan_destroy(mla_plan *plan); /* NULL is fine */

/* Lays the work of a batch out. Validates every value; on any error the plan is left without a
 * batch. Host work only, no GPU needed; may be repeated at any time, also while earlier runs are
 * in flight. */
mla_status mla_plan_build(mla_plan *plan, const mla_batch *batch);

typedef struct mla_plan_info {
	uint32_t struct_size;
	int32_t batch_size,
		total_q; /* batch_size -1: no batch was built yet, or the last build failed */
	int32_t num_workers, num_items, num_merges;
	int32_t max_items, max_merges; /* by capacity */
	int64_t partial_rows;          /* scratch rows of this batch */
	int64_t max_partial_rows;      /* by capacity */
	int64_t blob_bytes;            /* device memory of the plan, by capacity */
	int64_t scratch_bytes;         /* device memory the caller gives to mla_run, by capacity */
	int64_t max_worker_cost; /* of the busiest worker: keys of its items, each item's rounded up
				    to kv_granule, plus item_cost per item */
	int64_t mean_worker_cost; /* the same, averaged over all workers, rounded down */
	const char *kernel;       /* name, or "" if made for traits */
	mla_traits traits;        /* fields of 0.1.0 alone, as its struct_size says; stays last */
} mla_plan_info;

mla_status mla_plan_get_info(const mla_plan *plan, mla_plan_info *info);
/* Views of the plan's own arrays, valid until the next build or destroy. */
const mla_config *mla_plan_config(const mla_plan *plan);
const mla_batch *mla_plan_batch(const mla_plan *plan); /* q_pos0 is filled in when causal */
const mla_work *mla_plan_items(const mla_plan *plan);  /* [num_items], sorted by worker */
const int32_t *mla_plan_workers(const mla_plan *plan); /* [num_workers + 1] offsets into items */
const mla_merge_item *mla_plan_merges(const mla_plan *plan); /* [num_merges] */

/* Writes the plan as text (json = 0) or JSON (json = 1) to buffer[size], always terminated.
 * Returns the length without the terminator that the whole text needs, as snprintf does. */
size_t mla_plan_format(const mla_plan *plan, int json, char *buffer, size_t size);

/* ---- run ----------------------------------------------------------------------------------- */

/* Inputs and outputs of one attention call. All data pointers are device memory for mla_run, host
 * memory for the CPU reference. total_q: qo_indptr[B]; H, 512, 64: as in the config.
 */
typedef struct mla_tensors {
	uint32_t struct_size;
	uint32_t reserved;    /* 0 */
	mla_tensor q_nope;    /* [>= total_q, H, head_dim_ckv] absorbed with W_UK */
	mla_tensor q_pe;      /* [>= total_q, H, head_dim_kpe] rotated */
	mla_tensor ckv;       /* [num_pages, page_size, head_dim_ckv]; no page (then data may be
				 NULL) if no request has a key */
	mla_tensor kpe;       /* [num_pages, page_size, head_dim_kpe] rotated */
	mla_tensor ckv_scale; /* for fp8 caches; NULL data today */
	mla_tensor kpe_scale; /* for fp8 caches; NULL data today */
	mla_tensor out;       /* [>= total_q, H, head_dim_ckv] */
	mla_tensor lse;       /* [>= total_q, H] f32; NULL data: not wanted */
	const int32_t *kv_indices; /* [num_kv_indices] page ids, device memory for mla_run */
	int64_t num_kv_indices;    /* >= kv_indptr[B]; more is never read */
	void *scratch;             /* 256-byte aligned, contents do not matter, may be shared by
				      plans whose runs are ordered by a stream */
	int64_t scratch_bytes;     /* >= mla_plan_info.scratch_bytes */
} mla_tensors;

/* Loads the kernel and allocates the plan's blob and its pinned staging on the current device.
 * Called by the first mla_plan_upload; call it yourself before capturing a graph. */
mla_status mla_plan_prepare(mla_plan *plan);

/* Sends the built plan to the device, asynchronously, in stream order. Waits (on the host) only for
 * an earlier upload of this plan that has not left its staging buffer yet. Not to be captured. Runs
 * and uploads of one plan on different streams must be ordered by the caller. */
mla_status mla_plan_upload(mla_plan *plan, mla_stream stream);

/* Runs the plan's kernel (and its merge) in the stream; asynchronous, allocates nothing, may be
 * captured in a CUDA graph after one upload. While a stream is captured, q, out, lse must hold
 * max_queries rows and kv_indices max_pages entries, because later replays may use them all; a
 * cache without a page has no use for more entries than this batch's. Checks dtypes, extents,
 * strides and alignment; page ids are not checked, see mla_check_pages. */
mla_status mla_run(const mla_plan *plan, const mla_tensors *tensors, mla_stream stream);

/* Are all page ids that the batch uses in [0, ckv.extent[0])? Names the first bad one. kv_indices
 * is host or device memory; synchronises the stream. mla_check_pages_host needs no CUDA. */
mla_status mla_check_pages(const mla_plan *plan, const mla_tensors *tensors, mla_stream stream);
mla_status mla_check_pages_host(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors);

/* ---- merge of attention states ------------------------------------------------------------- */

/* out = sum_s exp(lse_s - lse) * states_s, lse = log sum_s exp(lse_s): what split-k, shared-prefix
 * cascades and context parallelism over several GPUs have in common. A state that saw no key has
 * lse -inf and is not read (its values may be anything). All -inf gives out 0 and lse -inf. A state
 * of lse NaN makes out and lse of its row NaN. No state has lse +inf: mla_merge_host refuses it, on
 * the device, where nobody looks, it counts as NaN. out and lse may not overlap states, see above.
 */
typedef struct mla_merge_args {
	uint32_t struct_size;
	int32_t lse_base;      /* of states_lse and of lse */
	mla_tensor states;     /* [num_states, rows, head_dim] bf16, fp16 or f32 */
	mla_tensor states_lse; /* [num_states, rows] f32 */
	mla_tensor out;        /* [rows, head_dim] bf16, fp16 or f32 */
	mla_tensor lse;        /* [rows] f32; NULL data: not wanted */
} mla_merge_args;

mla_status mla_merge(const mla_merge_args *args, mla_stream stream); /* device memory */
mla_status mla_merge_host(const mla_merge_args *args);               /* host memory */

/* ---- the CPU reference --------------------------------------------------------------------- */

/* The truth: plain C, fp64 sums, OpenMP; host memory; writes tensors->out (rounded once, to
 * out_dtype) and lse. scratch is not used. Here and in the two others that compute on the host, one
 * thread takes what is small, and whatever a process does that was forked off one with threads. */
mla_status mla_reference(const mla_config *config, const mla_batch *batch,
			 const mla_tensors *tensors);

/* Executes a built plan item by item on the host as a GPU would, partial states and merge in fp64:
 * shows that the plan, not a kernel, is right. */
mla_status mla_reference_plan(const mla_plan *plan, const mla_tensors *tensors);

#ifdef __cplusplus
}
#endif
#endif
