/* exchange.cu - a cluster merges attention states through its blocks' shared memory.
 *
 * Each block has of a few rows a state that came of its own keys: the largest score m, the sum l of
 * the weights and 512 columns of the sum of weight times value. The block of rank r finishes the
 * columns of its share, 512 / blocks of them, of all rows. It needs that share of the others'
 * columns, which they send, in one of three ways, and all m and l, which it reads from them.
 * Several groups of rows one after the other go through the same memory.
 */
#include <math.h>
#include <vector>

#include "base/random.h"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"
#include "tests/emulated/case.cuh"

enum {
	THREADS = 128,
	MOST = 4, /* blocks of a cluster */
	ROWS = 4, /* of a group */
	GROUPS = 3,
	CLUSTERS = 2,
	COLUMNS = 512,
};

enum way { STORES, ASYNCHRONOUS_STORES, BULK_COPIES };

/* What a state is without its columns; four words, as a block reads them from another. */
struct __align__(16) statistics
{
	float m, l, unused[2];
};

template <int BLOCKS> struct exchange_memory {
	float sent[BLOCKS][ROWS][COLUMNS / BLOCKS];    /* own state, a share after the other */
	float arrived[BLOCKS][ROWS][COLUMNS / BLOCKS]; /* own share of each block's state */
	statistics of[ROWS];
	uint64_t barrier;
};

/* states[clusters][groups][blocks][rows][columns], f32, by four;
 * stats[clusters][groups][blocks][rows] (m in powers of two, l); a state that saw no key has m
 * -inf, l 0, and its columns may be anything. out[clusters][groups][rows][columns], f32: 0 where no
 * state saw a key. */
struct exchange_arguments {
	const uint4 *states;
	const float2 *stats;
	float *out;
};

/* This block's state of a group: m and l to its shared memory, the columns to the blocks that
 * finish them, or to where the copy engine is to fetch them. */
template <int BLOCKS, way WAY>
static __device__ void put_state(const uint4 *state, const float2 *stats,
				 exchange_memory<BLOCKS> &memory)
{
	const uint32_t rank = cluster_rank();

	for (int i = threadIdx.x; i < ROWS * COLUMNS / 4; i += THREADS) {
		const int row = i / (COLUMNS / 4), column = i % (COLUMNS / 4) * 4;
		const int to = column / (COLUMNS / BLOCKS), at = column % (COLUMNS / BLOCKS);
		const uint32_t target =
			map_to_rank(shared_address(&memory.arrived[rank][row][at]), to);

		if (WAY == STORES)
			store_cluster(target, state[i]);
		else if (WAY == ASYNCHRONOUS_STORES)
			store_async_cluster(target, state[i],
					    map_to_rank(shared_address(&memory.barrier), to));
		else
			*(uint4 *)&memory.sent[to][row][at] = state[i];
	}
	if (threadIdx.x < ROWS)
		memory.of[threadIdx.x] = {stats[threadIdx.x].x, stats[threadIdx.x].y, {0.f, 0.f}};
}

/* Has the copy engine bring every block its share. */
template <int BLOCKS> static __device__ void copy_shares(exchange_memory<BLOCKS> &memory)
{
	const uint32_t rank = cluster_rank(), to = threadIdx.x;

	fence_proxy_async(); /* what this thread wrote, the engine sees */
	__syncthreads();
	if (to < BLOCKS)
		copy_bulk_cluster(map_to_rank(shared_address(&memory.arrived[rank]), to),
				  shared_address(&memory.sent[to]), sizeof(memory.sent[to]),
				  map_to_rank(shared_address(&memory.barrier), to));
}

/* This block's columns of all rows. */
template <int BLOCKS> static __device__ void finish(exchange_memory<BLOCKS> &memory, float *out)
{
	const int share = COLUMNS / BLOCKS, first = cluster_rank() * share;

	for (int i = threadIdx.x; i < ROWS * share; i += THREADS) {
		const int row = i / share, column = i % share;
		const uint32_t of = shared_address(&memory.of[row]);
		float m[BLOCKS], l[BLOCKS], top = -INFINITY, sum = 0.f, acc = 0.f;

#pragma unroll
		for (int b = 0; b < BLOCKS; b++) {
			const uint4 there = load_cluster(map_to_rank(of, b));

			m[b] = __uint_as_float(there.x);
			l[b] = __uint_as_float(there.y);
			top = fmaxf(top, m[b]);
		}
#pragma unroll
		for (int b = 0; b < BLOCKS; b++) {
			if (l[b] == 0.f)
				continue;

			const float weight = exp2_approx(m[b] - top);

			sum += weight * l[b];
			acc += weight * memory.arrived[b][row][column];
		}
		out[row * COLUMNS + first + column] = sum == 0.f ? 0.f : acc / sum;
	}
}

template <int BLOCKS, way WAY>
static __global__ void __launch_bounds__(THREADS) exchange(const exchange_arguments a)
{
	auto &memory = dynamic_shared<exchange_memory<BLOCKS>>();
	const uint32_t barrier = shared_address(&memory.barrier);
	const int cluster = blockIdx.x / BLOCKS, rank = cluster_rank();

	if (threadIdx.x == 0) {
		mbarrier_init(barrier, 1);
		mbarrier_init_fence();
	}
	cluster_sync(); /* all blocks run, and their mbarriers are known */
	for (int g = 0; g < GROUPS; g++) {
		const int group = cluster * GROUPS + g, state = (group * BLOCKS + rank) * ROWS;

		if (WAY != STORES && threadIdx.x == 0)
			mbarrier_expect(barrier, sizeof(memory.arrived));
		put_state<BLOCKS, WAY>(a.states + state * (COLUMNS / 4), a.stats + state, memory);
		if (WAY == BULK_COPIES)
			copy_shares(memory);
		cluster_sync(); /* all m and l are there, and what was stored */
		if (WAY != STORES)
			mbarrier_wait_cluster(barrier, g % 2);
		finish(memory, a.out + group * ROWS * COLUMNS);
		/* Nobody reads this block's shared memory any more: it may be written again, and
		 * the block may end. */
		cluster_sync();
	}
}

/* ---- on the host ----------------------------------------------------------------------------- */

/* A weight is right to 2 ulp of exp2 and a sum of it and l; both sums have up to four terms. */
static const double BOUND = 0x1p-19; /* of the sum of |weight * column| / sum */

struct exchange_inputs {
	std::vector<float> states;
	std::vector<float2> stats;
};

static exchange_inputs make_inputs(int blocks, uint64_t seed)
{
	const int count = CLUSTERS * GROUPS * blocks * ROWS;
	exchange_inputs in = {std::vector<float>((size_t)count * COLUMNS),
			      std::vector<float2>((size_t)count)};
	uint64_t state = random_stream(seed, 1);

	for (int i = 0; i < count; i++) {
		/* multiples of 1/8, so that differences are exact; the last group's first row saw
		 * no key at all */
		const bool keyless = random_below(&state, 4) == 0 ||
				     (i % ROWS == 0 && i / ROWS / blocks % GROUPS == GROUPS - 1);

		in.stats[i] = keyless ? make_float2(-INFINITY, 0.f)
				      : make_float2((float)random_below(&state, 160) / 8.f - 10.f,
						    1.f + (float)random_below(&state, 999) / 64.f);
		for (int c = 0; c < COLUMNS; c++)
			in.states[(size_t)i * COLUMNS + c] =
				keyless ? NAN : (float)(random_below(&state, 4001) - 2000) / 1024.f;
	}
	return in;
}

/* A row of a group, in fp64. */
static void check_row(test_case &c, const exchange_inputs &in, int blocks, int group, int row,
		      const float *out)
{
	double top = -INFINITY, sum = 0.;

	for (int b = 0; b < blocks; b++)
		top = fmax(top, in.stats[(group * blocks + b) * ROWS + row].x);
	for (int b = 0; b < blocks; b++) {
		const float2 s = in.stats[(group * blocks + b) * ROWS + row];

		sum += s.y == 0.f ? 0. : exp2(s.x - top) * s.y;
	}
	for (int d = 0; d < COLUMNS; d++) {
		double acc = 0., size = 0.;

		for (int b = 0; b < blocks; b++) {
			const int state = (group * blocks + b) * ROWS + row;
			const double x = in.states[(size_t)state * COLUMNS + d];

			if (in.stats[state].y == 0.f)
				continue;
			acc += exp2(in.stats[state].x - top) * x;
			size += exp2(in.stats[state].x - top) * fabs(x);
		}

		const double want = sum == 0. ? 0. : acc / sum;
		const double bound = sum == 0. ? 0. : BOUND * size / sum;

		if (!(fabs(out[d] - want) <= bound))
			case_wrong(c, "group %d, row %d, column %d: %.9g, expected %.9g", group,
				   row, d, out[d], want);
	}
}

template <int BLOCKS, way WAY> static int exchange_case(const char *how, uint64_t seed)
{
	test_case c = case_begin("exchange %d blocks, %s", BLOCKS, how);
	const exchange_inputs in = make_inputs(BLOCKS, seed);
	std::vector<float> out((size_t)CLUSTERS * GROUPS * ROWS * COLUMNS);
	const float *states = case_upload(c, in.states.data(), in.states.size());
	const float2 *stats = case_upload(c, in.stats.data(), in.stats.size());
	float *device_out = case_memory<float>(c, out.size());
	const launch_shape shape = {
		.blocks = CLUSTERS * BLOCKS,
		.threads = THREADS,
		.shared_bytes = sizeof(exchange_memory<BLOCKS>),
		.cluster = BLOCKS,
	};
	const exchange_arguments arguments = {(const uint4 *)states, stats, device_out};

	if (!c.error &&
	    case_did(c, allow_shared(shape.shared_bytes, exchange<BLOCKS, WAY>), "shared memory"))
		case_did(c, launch_kernel(shape, 0, exchange<BLOCKS, WAY>, arguments), "launch");
	case_download(c, out.data(), device_out, out.size());
	for (int i = 0; i < CLUSTERS * GROUPS * ROWS && !c.error; i++)
		check_row(c, in, BLOCKS, i / ROWS, i % ROWS, &out[(size_t)i * COLUMNS]);
	return case_end(c);
}

int exchange_run(uint64_t seed)
{
	int failed = exchange_case<2, STORES>("stores", seed);

	failed += exchange_case<4, STORES>("stores", seed + 1);
	failed += exchange_case<2, ASYNCHRONOUS_STORES>("asynchronous stores", seed + 2);
	failed += exchange_case<4, ASYNCHRONOUS_STORES>("asynchronous stores", seed + 3);
	failed += exchange_case<2, BULK_COPIES>("bulk copies", seed + 4);
	failed += exchange_case<4, BULK_COPIES>("bulk copies", seed + 5);
	return failed;
}
