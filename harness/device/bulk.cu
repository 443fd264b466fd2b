/* bulk.cu - bulk.h on the GPU. */
#include "device/bulk.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <math_constants.h>

#include "base/random.h"
#include "device/gpu.h"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"

enum { THREADS = 256, MAX_BLOCKS = 1 << 16 };

/* Blocks for n pieces of work; the kernels loop over what is left. */
static int blocks_for(int64_t n)
{
	return n < 1 ? 1 : n < MAX_BLOCKS ? (int)n : MAX_BLOCKS;
}

/* ---- inputs --------------------------------------------------------------------------------- */

static __global__ void fill(uint16_t *data, int64_t elements, uint64_t seed)
{
	const int64_t step = (int64_t)gridDim.x * THREADS;

	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < elements; i += step)
		data[i] = random_value(seed, (uint64_t)i);
}

mla_status bulk_fill(void *data, int64_t elements, uint64_t seed, mla_stream stream)
{
	return gpu_status(launch_kernel({blocks_for((elements + THREADS - 1) / THREADS), THREADS},
					stream, fill, (uint16_t *)data, elements, seed),
			  "fill");
}

static __global__ void fill_pool(const bulk_pool pool)
{
	uint16_t *data = (uint16_t *)pool.data;

	for (int64_t entry = blockIdx.x; entry < pool.entries; entry += gridDim.x) {
		const int64_t first = (int64_t)pool.pages[entry] * pool.page_size * pool.row;
		const int elements = pool.keys[entry] * pool.row;

		for (int e = threadIdx.x; e < elements; e += THREADS)
			data[first + e] = random_value(pool.seed, (uint64_t)(first + e));
	}
}

mla_status bulk_fill_pool(const struct bulk_pool *pool, mla_stream stream)
{
	return gpu_status(
		launch_kernel({blocks_for(pool->entries), THREADS}, stream, fill_pool, *pool),
		"fill of the cache");
}

/* ---- checksum ------------------------------------------------------------------------------- */

static __global__ void add_checksum(const uint8_t *data, int64_t bytes, unsigned long long *sum)
{
	const int64_t words = bytes / 16, step = (int64_t)gridDim.x * THREADS;
	const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	unsigned long long own = 0;

	for (int64_t i = thread; i < words; i += step) {
		const ulonglong2 word = ((const ulonglong2 *)data)[i];

		own += random_mix(word.x ^ random_mix(2 * i)) +
		       random_mix(word.y ^ random_mix(2 * i + 1));
	}
	for (int64_t i = words * 16 + thread; i < bytes; i += step)
		own += random_mix(data[i] ^ random_mix(~(uint64_t)i));
	for (int lane = 16; lane; lane /= 2)
		own += __shfl_xor_sync(~0u, own, lane);
	if (threadIdx.x % 32 == 0)
		atomicAdd(sum, own);
}

mla_status bulk_add_checksum(const void *data, int64_t bytes, uint64_t *sum, mla_stream stream)
{
	return gpu_status(launch_kernel({blocks_for((bytes / 16 + THREADS - 1) / THREADS), THREADS},
					stream, add_checksum, (const uint8_t *)data, bytes,
					(unsigned long long *)sum),
			  "checksum");
}

/* ---- comparison ----------------------------------------------------------------------------- */

/* err over bound; a NaN is infinitely wrong. */
static __device__ float ratio_of(float err, float bound)
{
	const float ratio = err == 0.f ? 0.f : err / bound;

	return ratio >= 0.f ? ratio : CUDART_INF_F;
}

static __device__ float lse_ratio(float got, float want, float bound)
{
	return got == want ? 0.f : ratio_of(fabsf(got - want), bound); /* -inf equals -inf */
}

/* Sum and maximum over the block; thread 0 has the result. */
static __device__ float block_total(float x, bool maximum)
{
	__shared__ float part[THREADS / 32];

	for (int lane = 16; lane; lane /= 2) {
		const float other = __shfl_xor_sync(~0u, x, lane);
		x = maximum ? fmaxf(x, other) : x + other;
	}
	__syncthreads(); /* part may still be read from the total before */
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = x;
	__syncthreads();
	x = part[0];
	for (int w = 1; w < THREADS / 32; w++)
		x = maximum ? fmaxf(x, part[w]) : x + part[w];
	return x;
}

/* Bits of floats that are not negative rise as the floats do. */
static __device__ void raise(float *largest, float x)
{
	atomicMax((int *)largest, __float_as_int(x));
}

static __device__ void note_row(const bulk_comparison &c, int64_t row, float element, float error,
				float square, bulk_difference *difference)
{
	const float rms = ratio_of(sqrtf(error), c.rms_bound * sqrtf(square));
	const float lse = lse_ratio(c.lse[row], c.want_lse[row], c.lse_bound);

	raise(&difference->element, element);
	raise(&difference->rms, rms);
	raise(&difference->lse, lse);
	if (element <= 1.f && rms <= 1.f && lse <= 1.f)
		return;
	atomicAdd(&difference->wrong_rows, 1ull);
	atomicMin(&difference->first_row, (unsigned long long)row);
}

static __global__ void compare(const bulk_comparison c, bulk_difference *difference)
{
	const __nv_bfloat16 *out = (const __nv_bfloat16 *)c.out;

	for (int64_t row = blockIdx.x; row < c.rows; row += gridDim.x) {
		float element = 0.f, error = 0.f, square = 0.f;

		for (int d = threadIdx.x; d < c.dims; d += THREADS) {
			const float want = c.want[row * c.dims + d];
			const float err = fabsf(__bfloat162float(out[row * c.dims + d]) - want);
			const float bound = c.element_bound * fmaxf(c.floor, fabsf(want));

			element = fmaxf(element, ratio_of(err, bound));
			error += err * err;
			square += want * want;
		}
		element = block_total(element, true);
		error = block_total(error, false);
		square = block_total(square, false);
		if (threadIdx.x == 0)
			note_row(c, row, element, error, square, difference);
	}
}

static __global__ void clear(bulk_difference *difference)
{
	*difference = bulk_difference{};
	difference->first_row = ~0ull;
}

mla_status bulk_compare(const struct bulk_comparison *comparison,
			struct bulk_difference *difference, mla_stream stream)
{
	cudaError_t error = launch_kernel({1, 1}, stream, clear, difference);

	if (!error)
		error = launch_kernel({blocks_for(comparison->rows), THREADS}, stream, compare,
				      *comparison, difference);
	return gpu_status(error, "comparison");
}

/* ---- waiting -------------------------------------------------------------------------------- */

static __global__ void spin(uint64_t duration)
{
	const uint64_t start = global_timer();

	while (global_timer() - start < duration)
		;
}

mla_status bulk_spin(double microseconds, mla_stream stream)
{
	return gpu_status(launch_kernel({1, 1}, stream, spin, (uint64_t)(microseconds * 1e3)),
			  "spin");
}
