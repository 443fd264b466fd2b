/* plain.cu - what the rungs below Hopper are made of, one thing each: shuffles, votes, barriers,
 * asynchronous copies, fragments of matrices, reductions, atomics. Numbers are integers, so that
 * the results are exact; the host reckons them without any of these.
 */
#include <math.h>
#include <vector>

#include "base/random.h"
#include "parts/elements.cuh"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/reduce.cuh"
#include "tests/emulated/case.cuh"

enum {
	THREADS = 128,
	WARPS = THREADS / 32,
	IN = 4096,  /* random words */
	WORDS = 24, /* of a thread's results, at most */
};

/* in[IN], out[THREADS][WORDS], sums[4]: zeros. */
struct plain_arguments {
	const uint32_t *in;
	uint32_t *out;
	unsigned long long *sums;
};

/* A thing: what a thread writes to its words, and what that has to be. */
struct plain_test {
	const char *name;
	void (*kernel)(plain_arguments);
	void (*reckon)(const uint32_t *in, int thread, uint32_t *words);
	int words;
};

/* ---- shuffles -------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) shuffles(const plain_arguments a)
{
	const int t = threadIdx.x, lane = t % 32;
	const uint32_t x = a.in[t];
	uint32_t *out = a.out + t * WORDS;

	out[0] = __shfl_xor_sync(~0u, x, 1);
	out[1] = __shfl_xor_sync(~0u, x, 16);
	out[2] = __shfl_up_sync(~0u, x, 1);
	out[3] = __shfl_up_sync(~0u, x, 16);
	out[4] = __shfl_sync(~0u, x, lane * 7 + 3); /* modulo 32 */
	out[5] = __shfl_sync(~0u, x, 31);
	if (lane < 16) /* each half on its own, and one after the other */
		out[6] = __shfl_xor_sync(0x0000ffffu, x, 8);
	else
		out[6] = __shfl_xor_sync(0xffff0000u, x, 4);

	const long long wide = __shfl_sync(~0u, (long long)((uint64_t)x << 32 | ~x), lane ^ 5);

	out[7] = (uint32_t)wide;
	out[8] = (uint32_t)(wide >> 32);
	out[9] = __float_as_uint(__shfl_xor_sync(~0u, (float)(int)(x % 1000), 2));
}

static void reckon_shuffles(const uint32_t *in, int t, uint32_t *words)
{
	const int lane = t % 32;
	const uint32_t *warp = in + t - lane;
	const float exact = (float)(warp[lane ^ 2] % 1000);

	words[0] = warp[lane ^ 1];
	words[1] = warp[lane ^ 16];
	words[2] = warp[lane < 1 ? lane : lane - 1];
	words[3] = warp[lane < 16 ? lane : lane - 16];
	words[4] = warp[(lane * 7 + 3) % 32];
	words[5] = warp[31];
	words[6] = warp[lane < 16 ? lane ^ 8 : lane ^ 4];
	words[7] = ~warp[lane ^ 5];
	words[8] = warp[lane ^ 5];
	memcpy(&words[9], &exact, sizeof(exact));
}

/* ---- votes ----------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) votes(const plain_arguments a)
{
	const int t = threadIdx.x, lane = t % 32;
	const uint32_t x = a.in[t];
	uint32_t *out = a.out + t * WORDS;

	out[0] = __ballot_sync(~0u, x % 3 == 0);
	out[1] = __any_sync(~0u, t == 37) ? 1 : 0;
	out[2] = __all_sync(~0u, t != 70) ? 1 : 0;
	if (lane % 2) /* half of the warp */
		out[3] = __ballot_sync(0xaaaaaaaau, x % 2);
	else
		out[3] = __all_sync(0x55555555u, t / 32 != 2) ? 1 : 0;
}

static void reckon_votes(const uint32_t *in, int t, uint32_t *words)
{
	const int lane = t % 32;
	uint32_t thirds = 0, odd = 0;

	for (int l = 0; l < 32; l++) {
		thirds |= (uint32_t)(in[t - lane + l] % 3 == 0) << l;
		odd |= l % 2 ? (in[t - lane + l] % 2) << l : 0;
	}
	words[0] = thirds;
	words[1] = t / 32 == 37 / 32;
	words[2] = t / 32 != 70 / 32;
	words[3] = lane % 2 ? odd : t / 32 != 2;
}

/* ---- barriers -------------------------------------------------------------------------------- */

/* Two groups of 64 threads: each passes words around on its own, then one hands words over to the
 * other, twice through the same place. */
static __global__ void __launch_bounds__(THREADS) barriers(const plain_arguments a)
{
	__shared__ uint32_t own[2][64], handed[64];
	const int t = threadIdx.x, group = t / 64, mine = t % 64;
	uint32_t x = a.in[t], *out = a.out + t * WORDS;

	for (int i = 0; i < 3; i++) {
		own[group][mine] = x;
		barrier_sync<64>(1 + group);
		x = 3 * x + own[group][(mine + 33) % 64];
		barrier_sync<64>(1 + group);
	}
	out[0] = x;
	for (int i = 0; i < 2; i++) {
		if (group == 0) {
			if (i > 0)
				barrier_sync<THREADS>(4); /* the last words were read */
			handed[mine] = x + i;
			barrier_arrive<THREADS>(3);
			out[1 + i] = 0;
		} else {
			barrier_sync<THREADS>(3);
			out[1 + i] = handed[63 - mine];
			if (i == 0)
				barrier_arrive<THREADS>(4);
		}
	}
	out[3] = barrier_or<64>(1 + group, t == 100) ? 1 : 0;
	out[4] = barrier_or<64>(1 + group, t == 3) ? 1 : 0;
	out[5] = __syncthreads_or(t == 40) ? 1 : 0;
	own[group][mine] = 2 * t;
	out[6] = __syncthreads_or(t > 500) ? 1 : own[1 - group][mine];
}

static void passed_around(const uint32_t *in, int group, uint32_t (&x)[64])
{
	uint32_t before[64];

	memcpy(x, in + group * 64, sizeof(x));
	for (int i = 0; i < 3; i++) {
		memcpy(before, x, sizeof(x));
		for (int k = 0; k < 64; k++)
			x[k] = 3 * before[k] + before[(k + 33) % 64];
	}
}

static void reckon_barriers(const uint32_t *in, int t, uint32_t *words)
{
	const int group = t / 64, mine = t % 64;
	uint32_t first[64], own[64];

	passed_around(in, 0, first);
	passed_around(in, group, own);
	words[0] = own[mine];
	for (int i = 0; i < 2; i++)
		words[1 + i] = group == 0 ? 0 : first[63 - mine] + i;
	words[3] = group == 100 / 64;
	words[4] = group == 3 / 64;
	words[5] = 1;
	words[6] = 2 * ((1 - group) * 64 + mine);
}

/* ---- asynchronous copies --------------------------------------------------------------------- */

enum { STAGES = 3, TILES = 6, CHUNKS = TILES * THREADS - 100 /* of 16 bytes, then zeros */ };

static __device__ void start_copy(const uint32_t *in, uint4 (*ring)[THREADS], int tile)
{
	const int chunk = tile * THREADS + threadIdx.x;

	if (tile < TILES)
		cp_async_16(shared_address(&ring[tile % STAGES][threadIdx.x ^ 5]),
			    in + min(chunk, CHUNKS - 1) * 4, chunk < CHUNKS ? 16 : 0);
	cp_async_commit(); /* empty behind the last tile, so that the count stays */
}

static __global__ void __launch_bounds__(THREADS) copies(const plain_arguments a)
{
	__shared__ uint4 ring[STAGES][THREADS];
	uint32_t *out = a.out + threadIdx.x * WORDS;

	for (int tile = 0; tile < STAGES - 1; tile++)
		start_copy(a.in, ring, tile);
	for (int tile = 0; tile < TILES; tile++) {
		cp_async_wait<STAGES - 2>();
		__syncthreads(); /* the tile is here, and nobody reads the last one any more */

		const uint4 x = ring[tile % STAGES][(threadIdx.x + 37) % THREADS];

		start_copy(a.in, ring, tile + STAGES - 1);
		out[tile * 4] = x.x;
		out[tile * 4 + 1] = x.y;
		out[tile * 4 + 2] = x.z;
		out[tile * 4 + 3] = x.w;
	}
}

static void reckon_copies(const uint32_t *in, int t, uint32_t *words)
{
	for (int tile = 0; tile < TILES; tile++) {
		const int chunk = tile * THREADS + ((t + 37) % THREADS ^ 5);

		for (int i = 0; i < 4; i++)
			words[tile * 4 + i] = chunk < CHUNKS ? in[chunk * 4 + i] : 0;
	}
}

/* ---- fragments ------------------------------------------------------------------------------- */

/* Each warp has 32 rows of 8 elements of 16 bits, a row in 48 bytes. */
static __global__ void __launch_bounds__(THREADS) fragments(const plain_arguments a)
{
	__shared__ __align__(16) uint32_t rows[THREADS][12];
	uint32_t *out = a.out + threadIdx.x * WORDS, r[4];

	for (int i = 0; i < 4; i++)
		rows[threadIdx.x][i] = a.in[threadIdx.x * 4 + i];
	__syncwarp();
	ldmatrix_x4(r, shared_address(rows[threadIdx.x]));
	for (int i = 0; i < 4; i++)
		out[i] = r[i];
	ldmatrix_x4_trans(r, shared_address(rows[threadIdx.x ^ 9]));
	for (int i = 0; i < 4; i++)
		out[4 + i] = r[i];
}

static uint32_t element(const uint32_t *in, int row, int column)
{
	return in[row * 4 + column / 2] >> column % 2 * 16 & 0xffff;
}

static void reckon_fragments(const uint32_t *in, int t, uint32_t *words)
{
	const int warp = t / 32 * 32, group = t % 32 / 4, pair = t % 4 * 2;

	for (int i = 0; i < 4; i++) {
		words[i] = element(in, warp + i * 8 + group, pair) |
			   element(in, warp + i * 8 + group, pair + 1) << 16;
		/* row of matrix i: named by lane i * 8 + row, which gave that of lane ^ 9 */
		words[4 + i] = element(in, warp + ((i * 8 + pair) ^ 9), group) |
			       element(in, warp + ((i * 8 + pair + 1) ^ 9), group) << 16;
	}
}

/* Integers from -8 to 8. */
static __host__ __device__ float small(uint32_t x)
{
	return (float)((int)(x % 17) - 8);
}

/* Of warp w: A[16][16] at in + w * 512, B[16][8] behind it, D[16][8] behind that. */
template <typename T> static __device__ void multiply(const uint32_t *in, uint32_t *out)
{
	const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4 * 2;
	const uint32_t *a = in, *b = in + 256, *c = in + 384;
	uint32_t fragment[4], columns[2];
	float d[4];

	for (int i = 0; i < 4; i++) {
		const int row = g + i % 2 * 8, column = t + i / 2 * 8;

		fragment[i] = pack<T>(small(a[row * 16 + column]), small(a[row * 16 + column + 1]));
		d[i] = small(c[(g + i / 2 * 8) * 8 + t + i % 2]);
	}
	for (int i = 0; i < 2; i++)
		columns[i] =
			pack<T>(small(b[(t + i * 8) * 8 + g]), small(b[(t + i * 8 + 1) * 8 + g]));
	mma_m16n8k16<T>(d, fragment, columns[0], columns[1]);
	for (int i = 0; i < 4; i++)
		out[i] = __float_as_uint(d[i]);
}

static __global__ void __launch_bounds__(THREADS) products(const plain_arguments a)
{
	const uint32_t *in = a.in + threadIdx.x / 32 * 512;

	multiply<__nv_bfloat16>(in, a.out + threadIdx.x * WORDS);
	multiply<__half>(in, a.out + threadIdx.x * WORDS + 4);
}

static void reckon_products(const uint32_t *in, int t, uint32_t *words)
{
	const uint32_t *a = in + t / 32 * 512, *b = a + 256, *c = a + 384;

	for (int i = 0; i < 4; i++) {
		const int row = t % 32 / 4 + i / 2 * 8, column = t % 4 * 2 + i % 2;
		float sum = small(c[row * 8 + column]);

		for (int k = 0; k < 16; k++)
			sum += small(a[row * 16 + k]) * small(b[k * 8 + column]);
		memcpy(&words[i], &sum, sizeof(sum));
		words[4 + i] = words[i];
	}
}

/* ---- reductions ------------------------------------------------------------------------------ */

static __global__ void __launch_bounds__(THREADS) reductions(const plain_arguments a)
{
	const float x = (float)((int)(a.in[threadIdx.x] % 2001) - 1000);
	uint32_t *out = a.out + threadIdx.x * WORDS;

	out[0] = __float_as_uint(warp_sum(x));
	out[1] = __float_as_uint(warp_max(x));
	out[2] = __float_as_uint(block_sum<THREADS>(x));
	out[3] = __float_as_uint(block_sum<THREADS>(2.f * x)); /* through the same memory at once */
	out[4] = __float_as_uint(block_max<THREADS>(-x));
	out[5] = __float_as_uint(block_max<THREADS>(x));
}

static void reckon_reductions(const uint32_t *in, int t, uint32_t *words)
{
	float want[6] = {0.f, -INFINITY, 0.f, 0.f, -INFINITY, -INFINITY};

	for (int i = 0; i < THREADS; i++) {
		const float x = (float)((int)(in[i] % 2001) - 1000);

		want[0] += i / 32 == t / 32 ? x : 0.f;
		want[1] = i / 32 == t / 32 ? fmaxf(want[1], x) : want[1];
		want[2] += x;
		want[3] += 2.f * x;
		want[4] = fmaxf(want[4], -x);
		want[5] = fmaxf(want[5], x);
	}
	memcpy(words, want, sizeof(want));
}

/* ---- atomics --------------------------------------------------------------------------------- */

/* Every thread draws a place in a list; then the list has each thread once. */
static __global__ void __launch_bounds__(THREADS) atomics(const plain_arguments a)
{
	__shared__ int next, largest, list[THREADS];
	const int t = threadIdx.x;
	uint32_t *out = a.out + t * WORDS, sum = 0;

	if (t == 0) {
		next = 0;
		largest = -1;
	}
	__syncthreads();
	list[atomicAdd(&next, 1)] = t + 1;
	atomicMax(&largest, (int)(a.in[t] >> 1));
	atomicAdd(&a.sums[0], (unsigned long long)a.in[t] << 8);
	atomicMin(&a.sums[1], ~0ull - a.in[t]);
	__syncthreads();
	for (int i = 0; i < THREADS; i++)
		sum += list[i] * list[i];
	out[0] = sum;
	out[1] = largest;
	out[2] = (uint32_t)a.sums[0];
	out[3] = (uint32_t)(a.sums[0] >> 32);
	out[4] = (uint32_t)a.sums[1]; /* 0 is less */
}

static void reckon_atomics(const uint32_t *in, int, uint32_t *words)
{
	uint64_t sum = 0;

	words[0] = words[1] = words[4] = 0;
	for (uint32_t i = 0; i < THREADS; i++) {
		words[0] += (i + 1) * (i + 1);
		words[1] = in[i] >> 1 > words[1] ? in[i] >> 1 : words[1];
		sum += (uint64_t)in[i] << 8;
	}
	words[2] = (uint32_t)sum;
	words[3] = (uint32_t)(sum >> 32);
}

/* ---- on the host ----------------------------------------------------------------------------- */

static const plain_test tests[] = {
	{"shuffles", shuffles, reckon_shuffles, 10},
	{"votes", votes, reckon_votes, 4},
	{"barriers", barriers, reckon_barriers, 7},
	{"asynchronous copies", copies, reckon_copies, TILES * 4},
	{"fragments", fragments, reckon_fragments, 8},
	{"products", products, reckon_products, 8},
	{"reductions", reductions, reckon_reductions, 5},
	{"atomics", atomics, reckon_atomics, 5},
};

static int plain_case(const plain_test &test, uint64_t seed)
{
	test_case c = case_begin("plain %s", test.name);
	std::vector<uint32_t> in(IN), out(THREADS * WORDS);
	uint64_t state = random_stream(seed, 4);

	for (uint32_t &x : in)
		x = (uint32_t)random_next(&state);

	const plain_arguments a = {
		.in = case_upload(c, in.data(), in.size()),
		.out = case_zeros<uint32_t>(c, out.size()),
		.sums = case_zeros<unsigned long long>(c, 4),
	};

	if (!c.error)
		case_did(c, launch_kernel({1, THREADS}, 0, test.kernel, a), "launch");
	case_download(c, out.data(), a.out, out.size());
	for (int t = 0; t < THREADS && !c.error; t++) {
		uint32_t want[WORDS] = {};

		test.reckon(in.data(), t, want);
		for (int i = 0; i < test.words; i++)
			if (out[t * WORDS + i] != want[i])
				case_wrong(c, "thread %d, word %d: %08x, expected %08x", t, i,
					   out[t * WORDS + i], want[i]);
	}
	return case_end(c);
}

int plain_run(uint64_t seed)
{
	int failed = 0;

	for (const plain_test &test : tests)
		failed += plain_case(test, seed);
	return failed;
}
