/* products.cu - parts that multiply matrices by wgmma: all widths, both dtypes, A from shared
 * memory or from registers, operands that lie there either way round. Four steps of 16, so that the
 * first has no sum to add to and the others do.
 */
#include <math.h>

#include "parts/elements.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"
#include "tests/emulated/parts/parts.cuh"

enum {
	M = 64,
	K = 64,
	SHOWN = 2, /* results of a thread that are kept */
	A_BYTES = M * K * 2,
	RESULTS = SHOWN * PART_THREADS,
};

/* How a matrix lies in shared memory: `rows` of M or N against K. */
enum order {
	K_MAJOR,    /* swizzled by 128 bytes */
	K_MAJOR_16, /* not swizzled */
	M_MAJOR,    /* swizzled by 128 bytes; N_MAJOR for B */
};

static __host__ __device__ float a_of(const uint32_t *in, int row, int k)
{
	return part_factor(in[row * K + k]);
}

static __host__ __device__ float b_of(const uint32_t *in, int column, int k)
{
	return part_factor(in[(M + column) * K % PART_IN + (k * 5 + column / 64) % K]);
}

template <order ORDER> static __device__ int place_of_element(int rows, int row, int k)
{
	if (ORDER == K_MAJOR)
		return row / 8 * 1024 + row % 8 * 128 + (k / 8 ^ row % 8) * 16 + k % 8 * 2;
	if (ORDER == K_MAJOR_16)
		return k / 8 * rows * 16 + row / 8 * 128 + row % 8 * 16 + k % 8 * 2;
	return row / 64 * (K * 128) + k / 8 * 1024 + k % 8 * 128 + (row % 64 / 8 ^ k % 8) * 16 +
	       row % 8 * 2;
}

/* Columns [16 step, 16 step + 16) of K. */
template <order ORDER> static __device__ uint64_t describe(uint32_t matrix, int rows, int step)
{
	if (ORDER == K_MAJOR)
		return wgmma_advance(wgmma_describe(matrix, 16, 1024, 128), step * 32);
	if (ORDER == K_MAJOR_16)
		return wgmma_describe(matrix + step * 2 * rows * 16, rows * 16, 128, 0);
	return wgmma_describe(matrix + step * 2048, K * 128, 1024, 128);
}

template <typename T, order ORDER>
static __device__ void put(char *matrix, int rows, float (*of)(const uint32_t *, int, int),
			   const uint32_t *in)
{
	for (int i = threadIdx.x; i < rows * K; i += PART_THREADS) {
		const uint32_t pair = pack<T>(of(in, i / K, i % K), 0.f);

		*(uint16_t *)(matrix + place_of_element<ORDER>(rows, i / K, i % K)) =
			(uint16_t)pair;
	}
}

/* The fragment of A of mma_m16n8k16, 16 rows a warp. */
template <typename T>
static __device__ void fragment_of(const uint32_t *in, int step, uint32_t (&a)[4])
{
	const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4,
		  k = step * 16 + threadIdx.x % 4 * 2;

	for (int i = 0; i < 4; i++)
		a[i] = pack<T>(a_of(in, row + i % 2 * 8, k + i / 2 * 8),
			       a_of(in, row + i % 2 * 8, k + i / 2 * 8 + 1));
}

/* Which of a thread's registers are kept: other ones from lane to lane. */
static __host__ __device__ int shown(int registers, int thread, int i)
{
	return i * (registers / SHOWN) + thread % (registers / SHOWN);
}

template <int N, typename T, order A, order B, bool REGISTERS>
static __global__ void __launch_bounds__(PART_THREADS) multiplied(const part_arguments p)
{
	char *memory = &dynamic_shared<char>();

	memory += (1024 - shared_address(memory) % 1024) % 1024;

	const uint32_t a = shared_address(memory), b = a + A_BYTES;
	uint32_t held[K / 16][4];
	float d[N / 2];

	if (!REGISTERS)
		put<T, A>(memory, M, a_of, p.in);
	put<T, B>(memory + A_BYTES, N, b_of, p.in);
	for (int i = 0; i < N / 2; i++)
		d[i] = NAN; /* the first step does not look at it */
	fence_proxy_async();
	__syncthreads();
	for (int step = 0; step < K / 16; step++)
		fragment_of<T>(p.in, step, held[step]);
	wgmma_fence();
#pragma unroll
	for (int step = 0; step < K / 16; step++) {
		const uint64_t of_b = describe<B>(b, N, step);

		if constexpr (REGISTERS)
			wgmma_rs<N, T, B == M_MAJOR>(d, held[step], of_b, step > 0);
		else
			wgmma<N, T, A == M_MAJOR, B == M_MAJOR>(d, describe<A>(a, M, step), of_b,
								step > 0);
	}
	wgmma_commit();
	wgmma_wait<0>();
#pragma unroll
	for (int r = 0; r < N / 2; r++)
		for (int i = 0; i < SHOWN; i++)
			if (r == shown(N / 2, threadIdx.x, i))
				p.out[threadIdx.x * SHOWN + i] = __float_as_uint(d[r]);
}

template <int N> static void scale(const part_inputs &inputs, double *scale)
{
	for (int j = 0; j < RESULTS; j++) {
		const int t = j / SHOWN, r = shown(N / 2, t, j % SHOWN);
		const int row = t / 32 * 16 + t % 32 / 4 + r % 4 / 2 * 8;
		const int column = r / 4 * 8 + t % 4 * 2 + r % 2;

		scale[j] = 0.;
		for (int k = 0; k < K; k++)
			scale[j] +=
				fabs((double)a_of(inputs.in, row, k) * b_of(inputs.in, column, k));
	}
}

enum { WARPGROUPS = 3 };

/* One warpgroup gives registers away, the others take them. */
static __global__ void __launch_bounds__(WARPGROUPS *PART_THREADS, 1)
	exchanged(const part_arguments p)
{
	if (threadIdx.x < PART_THREADS)
		registers_less<24>();
	else
		registers_more<240>();
	p.out[threadIdx.x] = p.in[threadIdx.x];
}

/* Descriptors are plain numbers. */
static __global__ void __launch_bounds__(PART_THREADS) described(const part_arguments p)
{
	const uint32_t word = p.in[threadIdx.x];
	const uint64_t x =
		wgmma_advance(wgmma_describe(word % 0x38000 & ~15u, (word >> 18) * 16 % 16384,
					     (word >> 8) % 1024 * 16, word % 2 * 128),
			      word % 8 * 16);

	p.out[2 * threadIdx.x] = (uint32_t)x;
	p.out[2 * threadIdx.x + 1] = (uint32_t)(x >> 32);
}

/* ---- the list -------------------------------------------------------------------------------- */

/* As for mma, in each of four steps: numbers are cut some 24 bits below the largest of them. */
static const double BOUND = 4 * 4 * 0x1p-24;

template <int N, typename T, order A, order B, bool REGISTERS = false>
static constexpr part entry(const char *functions)
{
	return {functions, multiplied<N, T, A, B, REGISTERS>,
		RESULTS,   PART_PRODUCTS,
		BOUND,     scale<N>,
		1,         A_BYTES + N * K * 2 + 1024};
}

typedef __nv_bfloat16 bf16;
typedef __half half_;

static const part parts[] = {
	entry<8, bf16, K_MAJOR, K_MAJOR>("wgmma_8_bf16 wgmma wgmma_fence wgmma_commit wgmma_wait"),
	entry<16, bf16, K_MAJOR, K_MAJOR>("wgmma_16_bf16"),
	entry<32, bf16, K_MAJOR, K_MAJOR>("wgmma_32_bf16"),
	entry<64, bf16, K_MAJOR, K_MAJOR>("wgmma_64_bf16"),
	entry<128, bf16, K_MAJOR, K_MAJOR>("wgmma_128_bf16"),
	entry<256, bf16, K_MAJOR, K_MAJOR>("wgmma_256_bf16"),
	entry<8, half_, K_MAJOR, K_MAJOR>("wgmma_8_half"),
	entry<16, half_, K_MAJOR, K_MAJOR>("wgmma_16_half"),
	entry<32, half_, K_MAJOR, K_MAJOR>("wgmma_32_half"),
	entry<64, half_, K_MAJOR, K_MAJOR>("wgmma_64_half"),
	entry<128, half_, K_MAJOR, K_MAJOR>("wgmma_128_half"),
	entry<256, half_, K_MAJOR, K_MAJOR>("wgmma_256_half"),
	entry<64, bf16, K_MAJOR_16, K_MAJOR_16>("wgmma_64_not_swizzled wgmma_describe"),
	entry<16, bf16, M_MAJOR, K_MAJOR>("wgmma_16_a_transposed"),
	entry<128, half_, M_MAJOR, M_MAJOR>("wgmma_128_both_transposed"),
	entry<64, bf16, K_MAJOR, M_MAJOR>("wgmma_64_b_transposed"),
	entry<256, bf16, K_MAJOR, M_MAJOR>("wgmma_256_b_transposed"),
	entry<8, bf16, K_MAJOR, K_MAJOR, true>("wgmma_rs_8_bf16 wgmma_rs"),
	entry<16, half_, K_MAJOR, K_MAJOR, true>("wgmma_rs_16_half"),
	entry<32, bf16, K_MAJOR, K_MAJOR, true>("wgmma_rs_32_bf16"),
	entry<64, bf16, K_MAJOR, K_MAJOR, true>("wgmma_rs_64_bf16"),
	entry<128, half_, K_MAJOR, M_MAJOR, true>("wgmma_rs_128_half_b_transposed"),
	entry<256, bf16, K_MAJOR, M_MAJOR, true>("wgmma_rs_256_b_transposed"),
	{"describe wgmma_describe wgmma_advance", described, 2 * PART_THREADS, PART_BITS},
	{"registers registers_more registers_less", exchanged, WARPGROUPS *PART_THREADS, PART_BITS,
	 0., NULL, 1, 0, WARPGROUPS *PART_THREADS},
};

part_list parts_of_products()
{
	return {parts, sizeof(parts) / sizeof(*parts)};
}
