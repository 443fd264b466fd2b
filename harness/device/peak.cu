/* peak.cu - plain loads, mma.sync and wgmma as fast as they go: the ceilings that kernels of
 * the ladder are held against. The numbers that are multiplied are random, because zeros need less
 * power and would show a clock that no real work reaches.
 */
#include "device/peak.h"

#include <cuda_runtime_api.h>

#include "base/random.h"
extern "C" {
#include "lib/error.h"
}

enum { THREADS = 256 };

static mla_status as_status(cudaError_t error, const char *what)
{
	return error ? mla_fail(MLA_CUDA, "%s: %s (%s)", what, cudaGetErrorString(error),
				cudaGetErrorName(error))
		     : MLA_OK;
}

static mla_status sm_count(int *count)
{
	int ordinal = 0;
	cudaError_t error = cudaGetDevice(&ordinal);

	if (!error)
		error = cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, ordinal);
	return as_status(error, "multiprocessors");
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
	read<<<sms * ctas_per_sm, THREADS, 0, stream>>>((const uint4 *)data, bytes / 16, sink);
	return as_status(cudaGetLastError(), "read");
}

mla_status peak_copy(void *to, const void *from, int64_t bytes, mla_stream stream)
{
	return as_status(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice, stream),
			 "copy on the device");
}

/* ---- mma.sync -------------------------------------------------------------------------------
 */

enum { TILES = 8 /* independent accumulators of a warp */, MMA_FLOP = 2 * 16 * 8 * 16 };

static __device__ uint32_t random_pair(uint32_t index)
{
	return random_value(1, 2 * index) | (uint32_t)random_value(1, 2 * index + 1) << 16;
}

static __device__ void mma(float *d, const uint32_t *a, const uint32_t *b)
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
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
			mma(d[i % TILES], a[i / TILES], b[i % TILES]);
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
	mma_loop<<<2 * sms, THREADS, 0, stream>>>(rounds, sink);
	return as_status(cudaGetLastError(), "mma.sync");
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

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* Shared-memory matrix descriptor: K-major, 128-byte swizzle, 1,024 bytes per 8 rows. */
static __device__ uint64_t describe(uint32_t address)
{
	return (uint64_t)(address >> 4) | (uint64_t)(16 >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
	       1ull << 62;
}

/* d[64, 128] += a[64, 16] * b[128, 16]^T */
static __device__ void wgmma(float (&d)[64], uint64_t a, uint64_t b)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
		     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
		     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
		     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
		     "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
		     "%62, %63"
		     "}, %64, %65, p, 1, 1, 0, 0;\n}\n"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]),
		       "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
		       "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
		       "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
		       "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
		       "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
		       "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
		       "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
		       "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]),
		       "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
		       "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
		     : "l"(a), "l"(b));
}
#endif

/* Two warpgroups, each with rows of its own against shared columns. */
static __global__ void __launch_bounds__(256, 1) wgmma_loop(int rounds, float *sink)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
	extern __shared__ uint8_t raw[];
	const uint32_t start = (uint32_t)__cvta_generic_to_shared(raw);
	const uint32_t base = (start + 1023) & ~1023u;
	uint32_t *words = (uint32_t *)(raw + (base - start));
	const uint32_t a = base + threadIdx.x / 128 * WGMMA_TILES * WGMMA_A;
	const uint32_t b = base + 2 * WGMMA_TILES * WGMMA_A;
	float d[64] = {}, sum = 0.f;

	for (int i = threadIdx.x; i < (WGMMA_SHARED - 1024) / 4; i += 256)
		words[i] = random_pair(blockIdx.x * 65536 + i);
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
	__syncthreads();
#pragma unroll 1
	for (int r = 0; r < rounds; r++) {
		asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
		for (int i = 0; i < WGMMA_PER_ROUND; i++) /* 32 bytes: the next 16 columns */
			wgmma(d, describe(a + i / 4 * WGMMA_A + i % 4 * 32),
			      describe(b + i / 4 * WGMMA_B + i % 4 * 32));
		asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
		asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
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
	if (major != 9 || minor != 0)
		return mla_fail(MLA_REFUSED, "wgmma is of compute capability 9.0, this is %d.%d",
				major, minor);

	cudaFuncAttributes attributes;

	status = as_status(cudaFuncGetAttributes(&attributes, wgmma_loop), "code for wgmma");
	if (!status && attributes.numRegs < 64) /* the empty one of other architectures */
		status = mla_fail(MLA_REFUSED, "the driver did not choose the code for sm_90a");
	if (status)
		return status;
	status = as_status(cudaFuncSetAttribute(wgmma_loop,
						cudaFuncAttributeMaxDynamicSharedMemorySize,
						WGMMA_SHARED),
			   "shared memory for wgmma");
	if (status)
		return status;
	*flop = (double)WGMMA_FLOP * WGMMA_PER_ROUND * rounds * 2 * sms;
	wgmma_loop<<<sms, 256, WGMMA_SHARED, stream>>>(rounds, sink);
	return as_status(cudaGetLastError(), "wgmma");
}
