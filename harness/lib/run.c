/* run.c - the device side of a plan: its blob, its pinned staging, and launches. */
#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "lib/internal.h"
#include "mla_kernel.h"

_Static_assert(sizeof(struct plan_header) == sizeof(struct mla_header), "one header");
_Static_assert(sizeof(mla_work) == 48 && sizeof(mla_merge_item) == 16, "sizes kernels rely on");

struct plan_gpu {
	int ordinal;        /* the device that the blob lives on */
	char *blob;         /* device memory */
	char *staging;      /* pinned host memory of the same size */
	cudaEvent_t copied; /* the staging buffer's last copy is done */
	void *keep;         /* what the kernel's run() keeps, see mla_launch */
};

/* Clears the error too, or the next launch on this thread would be blamed for it. */
static mla_status cuda_fail(cudaError_t error, const char *what)
{
	(void)cudaGetLastError();

	const int absent = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;

	return mla_fail(absent                               ? MLA_NO_CUDA
			: error == cudaErrorMemoryAllocation ? MLA_NO_MEMORY
							     : MLA_CUDA,
			"%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

mla_status mla_device_query(mla_device *device)
{
	int ordinal = 0, major = 0, minor = 0, sms = 0, smem = 0;
	cudaError_t error = cudaGetDevice(&ordinal);

	if (!device)
		return mla_fail(MLA_INVALID, "device is NULL");
	if (!error)
		error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
	if (!error)
		error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
	if (!error)
		error = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, ordinal);
	if (!error)
		error = cudaDeviceGetAttribute(&smem, cudaDevAttrMaxSharedMemoryPerBlockOptin,
					       ordinal);
	if (error)
		return cuda_fail(error, "no usable CUDA device");
	*device = (mla_device){
		.struct_size = sizeof(*device),
		.arch = 10 * major + minor,
		.sm_count = sms,
		.smem_per_block = smem,
	};
	return MLA_OK;
}

/* ---- prepare and upload -------------------------------------------------------------------- */

static void release_gpu(struct plan_gpu *gpu)
{
	cudaFree(gpu->blob);
	cudaFreeHost(gpu->staging);
	if (gpu->copied)
		cudaEventDestroy(gpu->copied);
	free(gpu->keep);
	free(gpu);
}

static mla_status allocate_gpu(struct plan_gpu *gpu, size_t bytes)
{
	cudaError_t error = cudaGetDevice(&gpu->ordinal);

	gpu->keep = aligned_alloc(128, MLA_KEEP_BYTES);
	if (!gpu->keep)
		return mla_fail(MLA_NO_MEMORY, "no memory for what the kernel keeps of a plan");
	memset(gpu->keep, 0, MLA_KEEP_BYTES);
	if (!error)
		error = cudaMalloc((void **)&gpu->blob, bytes);
	if (!error)
		error = cudaMallocHost((void **)&gpu->staging, bytes);
	if (!error)
		error = cudaEventCreateWithFlags(&gpu->copied, cudaEventDisableTiming);
	return error ? cuda_fail(error, "memory for the plan on the device") : MLA_OK;
}

mla_status mla_plan_prepare(mla_plan *plan)
{
	if (!plan)
		return mla_fail(MLA_INVALID, "plan is NULL");
	if (!plan->kernel)
		return mla_fail(MLA_INVALID,
				"the plan was made for traits: it has no kernel to run");
	if (plan->gpu)
		return MLA_OK;

	mla_device here;
	mla_status status = mla_device_query(&here);

	if (status)
		return status;
	if (here.arch != plan->device.arch || here.smem_per_block < plan->device.smem_per_block)
		return mla_fail(
			MLA_INVALID,
			"the plan was made for sm_%d with %d bytes of shared memory per block, "
			"the current device is sm_%d with %d",
			plan->device.arch, plan->device.smem_per_block, here.arch,
			here.smem_per_block);

	cudaError_t error = plan->kernel->prepare(&plan->config, &plan->device);

	if (!error)
		error = mla_merge_prepare();
	if (error)
		return cuda_fail(error, plan->kernel_name);

	struct plan_gpu *gpu = calloc(1, sizeof(*gpu));

	if (!gpu)
		return mla_fail(MLA_NO_MEMORY, "no memory for the plan's device side");
	status = allocate_gpu(gpu, plan->layout.bytes);
	if (status) {
		release_gpu(gpu);
		return status;
	}
	plan->gpu = gpu;
	plan->release_gpu = release_gpu;
	return MLA_OK;
}

/* The blob lives on one device; a launch on another would not see it. */
static mla_status check_current_device(const mla_plan *plan)
{
	int ordinal = 0;
	const cudaError_t error = cudaGetDevice(&ordinal);

	if (error)
		return cuda_fail(error, "current device");
	if (ordinal != plan->gpu->ordinal)
		return mla_fail(MLA_INVALID,
				"the plan lives on CUDA device %d, the current device is %d",
				plan->gpu->ordinal, ordinal);
	return MLA_OK;
}

static mla_status is_capturing(mla_stream stream, bool *capturing)
{
	enum cudaStreamCaptureStatus state;
	const cudaError_t error = cudaStreamIsCapturing(stream, &state);

	*capturing = !error && state == cudaStreamCaptureStatusActive;
	return error ? cuda_fail(error, "stream") : MLA_OK;
}

mla_status mla_plan_upload(mla_plan *plan, mla_stream stream)
{
	bool capturing = false;
	mla_status status =
		plan ? is_capturing(stream, &capturing) : mla_fail(MLA_INVALID, "plan is NULL");

	if (status)
		return status;
	if (!plan->built)
		return mla_fail(MLA_INVALID, "the plan has no batch: call mla_plan_build");
	if (capturing)
		return mla_fail(MLA_INVALID,
				"mla_plan_upload cannot be captured: upload before the "
				"capture, and again before a replay with a new batch");
	status = mla_plan_prepare(plan);
	if (!status)
		status = check_current_device(plan);
	if (status)
		return status;

	struct plan_gpu *gpu = plan->gpu;
	const size_t bytes =
		plan->layout.items + (size_t)plan->header->num_items * sizeof(mla_work);
	cudaError_t error = cudaEventSynchronize(gpu->copied); /* staging is free again */

	if (!error) {
		memcpy(gpu->staging, plan->image, bytes);
		error = cudaMemcpyAsync(gpu->blob, gpu->staging, bytes, cudaMemcpyHostToDevice,
					stream);
	}
	if (!error)
		error = cudaEventRecord(gpu->copied, stream);
	if (error)
		return cuda_fail(error, "upload of the plan");
	plan->uploaded = true;
	return MLA_OK;
}

/* ---- run ----------------------------------------------------------------------------------- */

static mla_status check_run(const mla_plan *plan, const mla_tensors *tensors, mla_stream stream)
{
	bool capturing = false;
	mla_status status;

	if (!plan || !tensors)
		return mla_fail(MLA_INVALID, "%s is NULL", plan ? "tensors" : "plan");
	if (!plan->built || !plan->uploaded)
		return mla_fail(MLA_INVALID, "%s",
				plan->built ? "the plan was built but not uploaded: "
					      "call mla_plan_upload"
					    : "the plan has no batch: call "
					      "mla_plan_build");
	status = check_current_device(plan);
	if (!status)
		status = is_capturing(stream, &capturing);
	if (status)
		return status;

	const int64_t pages = plan->kv_indptr[plan->header->batch_size];
	const struct mla_expect expect = {
		.config = &plan->config,
		.queries = capturing ? plan->capacity.max_queries : plan->header->total_q,
		.pages = pages,
		.later = capturing ? plan->capacity.max_pages : pages,
		.reads = mla_batch_reads(&plan->batch),
		.align = plan->traits.align,
		.scratch_bytes = plan->scratch_bytes,
		.reason = capturing ? " (the plan's capacity, because the stream is being captured)"
				    : " (this batch)",
	};

	return mla_check_tensors(&expect, tensors);
}

static struct mla_view view_of(const mla_tensor *tensor)
{
	return (struct mla_view){
		.data = tensor->data,
		.stride0 = tensor->stride[0],
		.stride1 = tensor->stride[1],
		.dtype = tensor->dtype,
	};
}

static struct mla_params parameters(const mla_plan *plan, const mla_tensors *t)
{
	const struct plan_layout *l = &plan->layout;
	const mla_config *c = &plan->config;
	char *blob = plan->gpu->blob;
	float *partial_out = t->scratch;

	return (struct mla_params){
		.q_nope = view_of(&t->q_nope),
		.q_pe = view_of(&t->q_pe),
		.ckv = view_of(&t->ckv),
		.kpe = view_of(&t->kpe),
		.out = view_of(&t->out),
		.lse = view_of(&t->lse),
		.kv_indices = t->kv_indices,
		.header = (const struct mla_header *)(blob + l->header),
		.qo_indptr = (const int32_t *)(blob + l->qo_indptr),
		.kv_indptr = (const int32_t *)(blob + l->kv_indptr),
		.kv_len = (const int32_t *)(blob + l->kv_len),
		.q_pos0 = (const int32_t *)(blob + l->q_pos0),
		.items = (const mla_work *)(blob + l->items),
		.worker_begin = (const int32_t *)(blob + l->worker_begin),
		.merges = (const mla_merge_item *)(blob + l->merges),
		.counters = (int32_t *)(blob + l->counters),
		.partial_out = partial_out,
		.partial_lse =
			partial_out ? partial_out + plan->max_partial_rows * c->head_dim_ckv : NULL,
		.num_heads = c->num_heads,
		.head_dim_ckv = c->head_dim_ckv,
		.head_dim_kpe = c->head_dim_kpe,
		.page_size = c->page_size,
		.sm_scale = (float)c->sm_scale,
		.lse_mul = c->lse_base == MLA_LSE_BASE2 ? 1.44269504088896340736f : 1.0f,
	};
}

mla_status mla_run(const mla_plan *plan, const mla_tensors *tensors, mla_stream stream)
{
	const mla_status status = check_run(plan, tensors, stream);

	if (status)
		return status;

	const struct mla_launch launch = {
		.params = parameters(plan, tensors),
		.config = &plan->config,
		.device = &plan->device,
		.traits = &plan->traits,
		.num_workers = plan->num_workers,
		.max_queries = plan->capacity.max_queries,
		.max_merges = plan->max_merges,
		.num_pages = tensors->ckv.extent[0],
		.keep = plan->gpu->keep,
	};
	cudaError_t error = plan->kernel->run(&launch, stream);

	if (!error && plan->traits.merge == MLA_MERGE_SEPARATE && plan->max_merges > 0)
		error = mla_merge_launch(&launch, stream);
	return error ? cuda_fail(error, plan->kernel_name) : MLA_OK;
}

mla_status mla_check_pages(const mla_plan *plan, const mla_tensors *tensors, mla_stream stream)
{
	const mla_batch *batch = plan ? mla_plan_batch(plan) : NULL;

	if (!batch)
		return mla_fail(MLA_INVALID, "%s", plan ? "the plan has no batch" : "plan is NULL");

	const mla_status status = mla_check_table(batch, tensors);

	if (status)
		return status;

	const size_t bytes = (size_t)plan->kv_indptr[batch->batch_size] * sizeof(int32_t);
	int32_t *copy = malloc(bytes ? bytes : 1);

	if (!copy)
		return mla_fail(MLA_NO_MEMORY, "no memory for %zu bytes of page ids", bytes);

	mla_tensors host = *tensors;
	cudaError_t error =
		cudaMemcpyAsync(copy, tensors->kv_indices, bytes, cudaMemcpyDefault, stream);

	if (!error)
		error = cudaStreamSynchronize(stream);
	host.kv_indices = copy;

	const mla_status found = error ? cuda_fail(error, "copy of kv_indices")
				       : mla_check_pages_host(&plan->config, batch, &host);

	free(copy);
	return found;
}

mla_status mla_merge(const mla_merge_args *args, mla_stream stream)
{
	const mla_status status = mla_check_merge_args(args);

	if (status)
		return status;

	const cudaError_t error = mla_merge_states_launch(args, stream);

	return error ? cuda_fail(error, "mla_merge") : MLA_OK;
}
