/* peak.cu - plain loads, mma.sync and wgmma as fast as they go: the ceilings that kernels of
 * the ladder are held against. The numbers that are multiplied are random, because zeros need less
 * power and would show a clock that no real work reaches.
 */
#include "device/peak.h"

#include <cuda_runtime_api.h>

#include "base/random.h"
#include "device/gpu.h"
extern "C" {
#include "lib/error.h"
}
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"

enum { THREADS = 256 };

static mla_status sm_count(int *count)
{
	int ordinal = 0;
	cudaError_t error = cudaGetDevice(&ordinal);

	if (!error)
		error = cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, ordinal);
	return gpu_status(error, "multiprocessors");
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Eight loads in flight per thread. */
static __global__ void __launch_bounds__(THREADS) read(const uint4 *data, int64_t n, uint32_t *sink)
{
	const int64_t step = (int64_t)gridDim.x * THREADS;
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	uint32_t sum = 0;

	for (; i + 7 * step < n; i += 8 * step) {
		uint4 x[8];

#pragma unroll
		for (int u = 0; u < 8; u++)
			x[u] = data[i + u * step];
#pragma unroll
		for (int u = 0; u < 8; u++)
			sum += x[u].x ^ x[u].y ^ x[u].z ^ x[u].w;
	}
	for (; i < n; i += step)
		sum += data[i].x ^ data[i].y ^ data[i].z ^ data[i].w;
	if (sum == 0x9e3779b9) /* keeps the loads */
		*sink = sum;
}

mla_status peak_read(const void *data, int64_t bytes, int32_t ctas_per_sm, uint32_t *sink,
		     mla_stream stream)
{
	int sms = 0;
	const mla_status status = sm_count(&sms);

	if (status)
		return status;
	return gpu_status(launch_kernel({sms * ctas_per_sm, THREADS}, stream, read,
					(const uint4 *)data, bytes / 16, sink),
			  "read");
}

mla_status peak_copy(void *to, const void *from, int64_t bytes, mla_stream stream)
{
	return gpu_status(
		cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice, stream),
		"copy on the device");
}

/* ---- mma.sync -------------------------------------------------------------------------------
 */

enum { TILES = 8 /* independent accumulators of a warp */, MMA_FLOP = 2 * 16 * 8 * 16 };

static __device__ uint32_t random_pair(uint32_t index)
{
	return random_value(1, 2 * index) | (uint32_t)random_value(1, 2 * index + 1) << 16;
}

static __global__ void __launch_bounds__(THREADS, 2) mma_loop(int rounds, float *sink)
{
	const uint32_t thread = blockIdx.x * THREADS + threadIdx.x;
	float d[TILES][4] = {}, sum = 0.f;
	uint32_t a[2][4], b[TILES][2];

#pragma unroll
	for (int i = 0; i < 8; i++)
		a[i / 4][i % 4] = random_pair(thread * 32 + i);
#pragma unroll
	for (int i = 0; i < 2 * TILES; i++)
		b[i / 2][i % 2] = random_pair(thread * 32 + 8 + i);
#pragma unroll 1
	for (int r = 0; r < rounds; r++) {
#pragma unroll
		for (int i = 0; i < 2 * TILES; i++)
			mma_m16n8k16<__nv_bfloat16>(d[i % TILES], a[i / TILES], b[i % TILES][0],
						    b[i % TILES][1]);
	}
#pragma unroll
	for (int i = 0; i < 4 * TILES; i++)
		sum += d[i / 4][i % 4];
	if (sum == 123.456f) /* keeps the products */
		*sink = sum;
}

mla_status peak_mma(int32_t rounds, float *sink, double *flop, mla_stream stream)
{
	int sms = 0;
	const mla_status status = sm_count(&sms);

	if (status)
		return status;
	*flop = 2.0 * TILES * MMA_FLOP * rounds * (THREADS / 32) * (2.0 * sms);
	return gpu_status(launch_kernel({2 * sms, THREADS}, stream, mma_loop, rounds, sink),
			  "mma.sync");
}

/* ---- wgmma ----------------------------------------------------------------------------------
 */

enum {
	WGMMA_PER_ROUND = 16,
	WGMMA_FLOP = 2 * 64 * 128 * 16,
	WGMMA_A = 64 * 64 * 2,  /* bytes of a tile of 64 columns, swizzled by 128 bytes */
	WGMMA_B = 128 * 64 * 2, /* and of the other factor */
	WGMMA_TILES = 4,        /* of each, so that no tile is read again at once */
	WGMMA_SHARED = 2 * WGMMA_TILES * WGMMA_A + WGMMA_TILES * WGMMA_B + 1024,
};

/* Two warpgroups, each with rows of its own against shared columns. */
static __global__ void __launch_bounds__(256, 1) wgmma_loop(int rounds, float *sink)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
	uint8_t *raw = &dynamic_shared<uint8_t>();
	const uint32_t start = shared_address(raw);
	const uint32_t base = (start + 1023) & ~1023u;
	uint32_t *words = (uint32_t *)(raw + (base - start));
	const uint64_t a =
		wgmma_describe(base + threadIdx.x / 128 * WGMMA_TILES * WGMMA_A, 16, 1024, 128);
	const uint64_t b = wgmma_describe(base + 2 * WGMMA_TILES * WGMMA_A, 16, 1024, 128);
	float d[64] = {}, sum = 0.f;

	for (int i = threadIdx.x; i < (WGMMA_SHARED - 1024) / 4; i += 256)
		words[i] = random_pair(blockIdx.x * 65536 + i);
	fence_proxy_async();
	__syncthreads();
#pragma unroll 1
	for (int r = 0; r < rounds; r++) {
		wgmma_fence();
#pragma unroll
		for (int i = 0; i < WGMMA_PER_ROUND; i++) /* 32 bytes: the next 16 columns */
			wgmma<128, __nv_bfloat16>(d, wgmma_advance(a, i / 4 * WGMMA_A + i % 4 * 32),
						  wgmma_advance(b, i / 4 * WGMMA_B + i % 4 * 32),
						  true);
		wgmma_commit();
		wgmma_wait<0>();
	}
#pragma unroll
	for (int i = 0; i < 64; i++)
		sum += d[i];
	if (sum == 123.456f)
		*sink = sum;
#else
	(void)rounds;
	(void)sink;
#endif
}

mla_status peak_wgmma(int32_t rounds, float *sink, double *flop, mla_stream stream)
{
	int ordinal = 0, major = 0, minor = 0, sms = 0;
	mla_status status = sm_count(&sms);

	if (status)
		return status;
	cudaGetDevice(&ordinal);
	cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
	cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
	if (10 * major + minor != 90)
		return mla_fail(MLA_REFUSED, "wgmma is of compute capability 9.0, this is %d.%d",
				major, minor);

	cudaFuncAttributes attributes;

	status = gpu_status(cudaFuncGetAttributes(&attributes, wgmma_loop), "code for wgmma");
	if (!status && attributes.numRegs < 64) /* the empty one of other architectures */
		status = mla_fail(MLA_REFUSED, "the driver did not choose the code for sm_90a");
	if (status)
		return status;
	status = gpu_status(allow_shared(WGMMA_SHARED, wgmma_loop), "shared memory for wgmma");
	if (status)
		return status;
	*flop = (double)WGMMA_FLOP * WGMMA_PER_ROUND * rounds * 2 * sms;
	return gpu_status(launch_kernel({sms, 256, WGMMA_SHARED}, stream, wgmma_loop, rounds, sink),
			  "wgmma");
}
