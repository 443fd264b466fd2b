/* mla_device.cuh - small device helpers shared by the rungs: element types, addresses, reductions.
 * No kernel logic.
 */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

#include "mla_kernel.h"

/* ---- elements of any dtype ------------------------------------------------------------------ */

static __device__ __forceinline__ float load_element(const char *row, int index, int dtype)
{
	if (dtype == MLA_BF16)
		return __bfloat162float(((const __nv_bfloat16 *)row)[index]);
	if (dtype == MLA_F16)
		return __half2float(((const __half *)row)[index]);
	return ((const float *)row)[index];
}

/* Rounds to nearest even once; NaN stays NaN. */
static __device__ __forceinline__ void store_element(char *row, int index, int dtype, float value)
{
	if (dtype == MLA_BF16)
		((__nv_bfloat16 *)row)[index] = __float2bfloat16_rn(value);
	else if (dtype == MLA_F16)
		((__half *)row)[index] = __float2half_rn(value);
	else
		((float *)row)[index] = value;
}

/* ---- addresses ------------------------------------------------------------------------------ */

/* Row (i, j) of a tensor; 64-bit, because pools exceed 2^31 bytes. */
static __device__ __forceinline__ char *row_of(const mla_view &view, int64_t i, int64_t j)
{
	return view.data + i * view.stride0 + j * view.stride1;
}

/* Page and slot of key j of the request whose page table starts at page_begin. */
struct key_place {
	int64_t page;
	int slot;
};

static __device__ __forceinline__ key_place place_of(const mla_params &p, int page_begin, int key)
{
	const int page = key / p.page_size;
	return {p.kv_indices[page_begin + page], key - page * p.page_size};
}

/* ---- reductions over a block ---------------------------------------------------------------- */

static __device__ __forceinline__ float warp_max(float x)
{
	for (int lane = 16; lane; lane /= 2)
		x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
	return x;
}

static __device__ __forceinline__ float warp_sum(float x)
{
	for (int lane = 16; lane; lane /= 2)
		x += __shfl_xor_sync(~0u, x, lane);
	return x;
}

/* Every thread of a block of N gets the result. The order of the sum is fixed. */
template <int N> static __device__ float block_max(float x)
{
	__shared__ float part[N / 32];
	x = warp_max(x);
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();
	for (int w = 0; w < N / 32; w++)
		x = fmaxf(x, part[w]);
	__syncthreads();
	return x;
}

template <int N> static __device__ float block_sum(float x)
{
	__shared__ float part[N / 32];
	x = warp_sum(x);
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();
	x = 0.f;
	for (int w = 0; w < N / 32; w++)
		x += part[w];
	__syncthreads();
	return x;
}

/* ---- preparing ------------------------------------------------------------------------------ */

/* Lets a rung's two kernels, one for each type of two bytes, take that much dynamic shared memory.
 */
static inline cudaError_t allow_shared(void (*bf16)(mla_params), void (*fp16)(mla_params),
				       int bytes)
{
	const cudaError_t error =
		cudaFuncSetAttribute(bf16, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);

	return error ? error
		     : cudaFuncSetAttribute(fp16, cudaFuncAttributeMaxDynamicSharedMemorySize,
					    bytes);
}

/* ---- overlapping kernels (programmatic dependent launch, compute capability 9.0 and up) --------
 */

/* Lets the next kernel of the stream start as soon as there is room for its blocks, if it was
 * launched with launch_early. */
static __device__ __forceinline__ void let_next_start()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Waits until all that the kernels before wrote is there. Before this a kernel of launch_early may
 * touch its parameters and the plan (not its counters), which came by a copy; nothing else. */
static __device__ __forceinline__ void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Launches a kernel whose blocks may start before the kernel before it has ended; it has to call
 * wait_for_previous. */
static inline cudaError_t launch_early(void (*kernel)(mla_params), unsigned blocks,
				       unsigned threads, size_t shared_bytes,
				       const mla_launch *launch, cudaStream_t stream)
{
	cudaLaunchAttribute early = {};
	cudaLaunchConfig_t config = {};

	early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	early.val.programmaticStreamSerializationAllowed = 1;
	config.gridDim = dim3(blocks);
	config.blockDim = dim3(threads);
	config.dynamicSmemBytes = shared_bytes;
	config.stream = stream;
	config.attrs = &early;
	config.numAttrs = launch->device->arch >= 90 ? 1 : 0;
	return cudaLaunchKernelEx(&config, kernel, launch->params);
}
