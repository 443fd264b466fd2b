/* warps.cu - parts that pass things around in a warp or a block: shuffles, votes, barriers,
 * reductions, fragments of matrices and their products by mma.
 */
#include <math.h>

#include "parts/elements.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"
#include "parts/reduce.cuh"
#include "tests/emulated/parts/parts.cuh"

/* ---- shuffles and votes ---------------------------------------------------------------------- */

static __global__ void __launch_bounds__(PART_THREADS) shuffles(const part_arguments a)
{
	const int t = threadIdx.x, lane = t % 32;
	const uint32_t x = a.in[t];
	uint32_t half;

	if (lane < 16)
		half = __shfl_sync(0x0000ffffu, x, lane * 5 % 16);
	else
		half = __shfl_xor_sync(0xffff0000u, x, 6); /* of a lane that is there, too */
	a.out[t * 4] = __shfl_sync(~0u, x, lane * 7 + 3) ^ __shfl_sync(~0u, x, -1);
	a.out[t * 4 + 1] = __shfl_up_sync(~0u, x, lane % 2 ? 5 : 0);
	a.out[t * 4 + 2] = __shfl_xor_sync(~0u, x, 11);
	a.out[t * 4 + 3] = half;
}

static __global__ void __launch_bounds__(PART_THREADS) votes(const part_arguments a)
{
	const int t = threadIdx.x;
	const uint32_t x = a.in[t];

	a.out[t * 3] = __ballot_sync(~0u, x % 3 == 0);
	a.out[t * 3 + 1] = t % 2 ? __ballot_sync(0xaaaaaaaau, x % 5 < 2) : 0;
	__syncwarp();
	a.out[t * 3 + 2] = (__all_sync(~0u, t < 96 || x % 7 < 3) ? 1 : 0) +
			   (__any_sync(~0u, t == 70) ? 2 : 0) + (__syncthreads_or(t == 7) ? 4 : 0) +
			   (__syncthreads_or(t > 128) ? 8 : 0);
}

static __global__ void __launch_bounds__(PART_THREADS) elections(const part_arguments a)
{
	/* which lane it is does not matter */
	a.out[threadIdx.x] = __popc(__ballot_sync(~0u, elect_one()));
}

/* ---- barriers, reductions, atomics ----------------------------------------------------------- */

static __global__ void __launch_bounds__(PART_THREADS) barriers(const part_arguments a)
{
	__shared__ uint32_t words[PART_THREADS];
	const int t = threadIdx.x, group = t / 64;

	words[t] = a.in[t];
	barrier_sync<64>(1 + group);
	a.out[t * 3] = words[group * 64 + (t + 33) % 64];
	if (group == 0) {
		barrier_arrive<PART_THREADS>(5); /* whose words the others read */
		a.out[t * 3 + 1] = 0;
	} else {
		barrier_sync<PART_THREADS>(5);
		a.out[t * 3 + 1] = words[PART_THREADS - 1 - t];
	}
	a.out[t * 3 + 2] = barrier_or<64>(1 + group, t == 100) ? 1 : 0;
}

static __global__ void __launch_bounds__(PART_THREADS) reductions(const part_arguments a)
{
	const int t = threadIdx.x;
	const float x = part_factor(a.in[t]) * 1.1f;

	a.out[t * 4] = __float_as_uint(warp_sum(x));
	a.out[t * 4 + 1] = __float_as_uint(block_sum<PART_THREADS>(x));
	a.out[t * 4 + 2] = __float_as_uint(warp_max(a.floats[t]));
	a.out[t * 4 + 3] = __float_as_uint(block_max<PART_THREADS>(a.floats[t + 96]));
}

static __global__ void __launch_bounds__(PART_THREADS) atomics(const part_arguments a)
{
	const int t = threadIdx.x;
	const uint64_t x = (uint64_t)a.in[2 * t] << 32 | a.in[2 * t + 1];

	atomicAdd((unsigned long long *)a.out, (unsigned long long)x);
	atomicAdd((unsigned long long *)a.out + 1, 1ull << t % 64);
	atomicAdd((int *)a.out + 4, (int)a.in[t]);
	atomicMax((int *)a.out + 5, (int)a.in[t]);
	atomicMin((unsigned long long *)a.out + 3, (unsigned long long)x);
	if (t == 0)
		a.out[8] = __ldg(a.in);
}

/* ---- fragments ------------------------------------------------------------------------------- */

/* Each warp has 32 rows of 8 elements of 16 bits, a row in 48 bytes. */
template <bool TRANS>
static __global__ void __launch_bounds__(PART_THREADS) fragments(const part_arguments a)
{
	__shared__ __align__(16) uint32_t rows[PART_THREADS][12];
	const int t = threadIdx.x;
	uint32_t r[4];

	for (int i = 0; i < 4; i++)
		rows[t][i] = a.in[t * 4 + i];
	__syncwarp();
	if (TRANS)
		ldmatrix_x4_trans(r, shared_address(rows[t ^ 6]));
	else
		ldmatrix_x4(r, shared_address(rows[t ^ 6]));
	for (int i = 0; i < 4; i++)
		a.out[t * 4 + i] = r[i];
}

template <bool TRANS>
static __global__ void __launch_bounds__(PART_THREADS) scattered(const part_arguments a)
{
	__shared__ __align__(16) uint32_t rows[PART_THREADS][12];
	const int t = threadIdx.x;
	uint32_t r[4];

	for (int i = 0; i < 4; i++)
		r[i] = a.in[t * 4 + i];
	if (TRANS)
		stmatrix_x4_trans(shared_address(rows[t ^ 6]), r);
	else
		stmatrix_x4(shared_address(rows[t ^ 6]), r);
	__syncwarp();
	for (int i = 0; i < 4; i++)
		a.out[t * 4 + i] = rows[t][i];
}

/* ---- products -------------------------------------------------------------------------------- */

enum kind {
	ROUNDED, /* sums of numbers of all sizes */
	SPECIAL, /* small integers, infinities and NaN among them: exact */
	SMALL,   /* of a dtype's smallest numbers, which are not normal: exact */
};

template <typename T> inline constexpr float smallest = 0x1p-133f;
template <> inline constexpr float smallest<__half> = 0x1p-24f;

template <typename T, kind KIND> static __device__ float factor_a(uint32_t word)
{
	const float integer = (float)((int)(word % 17) - 8);

	if (KIND == ROUNDED)
		return part_factor(word);
	if (KIND == SMALL)
		return integer * smallest<T>;
	return word % 97 == 0 ? INFINITY : word % 97 == 1 ? NAN : integer;
}

template <typename T, kind KIND> static __device__ float factor_b(uint32_t word)
{
	return KIND == SMALL ? (float)((int)(word % 17) - 8) * 1024.f : factor_a<T, KIND>(word);
}

/* Of a warp: A[16][16], B[16][8], D[16][8], from in + 512 * warp on. */
template <typename T, kind KIND>
static __global__ void __launch_bounds__(PART_THREADS) products(const part_arguments p)
{
	const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4 * 2;
	const uint32_t *a = p.in + threadIdx.x / 32 * 512, *b = a + 256, *c = a + 384;
	uint32_t fragment[4], columns[2];
	float d[4];

	for (int i = 0; i < 4; i++) {
		const int row = g + i % 2 * 8, column = t + i / 2 * 8;

		fragment[i] = pack<T>(factor_a<T, KIND>(a[row * 16 + column]),
				      factor_a<T, KIND>(a[row * 16 + column + 1]));
		d[i] = KIND == ROUNDED ? part_factor(c[(g + i / 2 * 8) * 8 + t + i % 2]) : 0.f;
	}
	for (int i = 0; i < 2; i++)
		columns[i] = pack<T>(factor_b<T, KIND>(b[(t + i * 8) * 8 + g]),
				     factor_b<T, KIND>(b[(t + i * 8 + 1) * 8 + g]));
	mma_m16n8k16<T>(d, fragment, columns[0], columns[1]);
	for (int i = 0; i < 4; i++)
		p.out[threadIdx.x * 4 + i] = __float_as_uint(d[i]);
}

static void scale_products(const part_inputs &inputs, double *scale)
{
	for (int i = 0; i < PART_THREADS * 4; i++) {
		const int thread = i / 4, lane = thread % 32;
		const int row = lane / 4 + i % 4 / 2 * 8, column = lane % 4 * 2 + i % 2;
		const uint32_t *a = inputs.in + thread / 32 * 512, *b = a + 256, *c = a + 384;

		scale[i] = fabs((double)part_factor(c[row * 8 + column]));
		for (int k = 0; k < 16; k++)
			scale[i] += fabs((double)part_factor(a[row * 16 + k]) *
					 part_factor(b[k * 8 + column]));
	}
}

/* ---- the list -------------------------------------------------------------------------------- */

enum { ONE = PART_THREADS, THREE = 3 * PART_THREADS, FOUR = 4 * PART_THREADS };

/* Tensor cores align the 16 products and the sum with the largest of them, and cut what lies some
 * 24 bits below it: four such bits are allowed, an H200 was 1.9 away at most.
 */
static const double MMA_BOUND = 4 * 0x1p-24;

static const part parts[] = {
	{"shuffles __shfl_sync __shfl_up_sync __shfl_xor_sync", shuffles, FOUR, PART_BITS},
	{"votes __ballot_sync __all_sync __any_sync __syncthreads_or __syncwarp", votes, THREE,
	 PART_BITS},
	{"elect_one", elections, ONE, PART_BITS},
	{"barriers barrier_sync barrier_arrive barrier_or", barriers, THREE, PART_BITS},
	{"reductions warp_sum block_sum warp_max block_max", reductions, FOUR, PART_VALUES},
	{"atomics atomicAdd atomicMax atomicMin __ldg", atomics, 9, PART_BITS},
	{"ldmatrix_x4 shared_address", fragments<false>, FOUR, PART_BITS},
	{"ldmatrix_x4_trans", fragments<true>, FOUR, PART_BITS},
	{"stmatrix_x4", scattered<false>, FOUR, PART_BITS},
	{"stmatrix_x4_trans", scattered<true>, FOUR, PART_BITS},
	{"mma_bf16 mma_m16n8k16", products<__nv_bfloat16, ROUNDED>, FOUR, PART_PRODUCTS, MMA_BOUND,
	 scale_products},
	{"mma_half mma_m16n8k16", products<__half, ROUNDED>, FOUR, PART_PRODUCTS, MMA_BOUND,
	 scale_products},
	{"mma_bf16_special", products<__nv_bfloat16, SPECIAL>, FOUR, PART_VALUES},
	{"mma_half_special", products<__half, SPECIAL>, FOUR, PART_VALUES},
	{"mma_bf16_small", products<__nv_bfloat16, SMALL>, FOUR, PART_VALUES},
	{"mma_half_small", products<__half, SMALL>, FOUR, PART_VALUES},
};

part_list parts_of_warps()
{
	return {parts, sizeof(parts) / sizeof(*parts)};
}
