/* reduce.cuh - sums and maxima over a warp and over a block, in a fixed order.
 */
#pragma once

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
