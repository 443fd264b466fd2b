/* chain.cu - four kernels of a stream, each of which starts before the one before it has ended and
 * reads what that one wrote.
 *
 * Two buffers are passed on: a kernel writes the one that the kernel before it read, and so over
 * what was written two kernels ago. The third kernel reads also what the first one left aside. All
 * numbers are integers, and a mistake anywhere shows in all that follows.
 */
#include <vector>

#include "base/random.h"
#include "parts/launch.cuh"
#include "parts/ptx_sm90.cuh"
#include "tests/emulated/case.cuh"

enum {
	THREADS = 128,
	BLOCKS = 3, /* and one more that has nothing to do */
	COUNT = 600,
	TABLE = 64,
	KERNELS = 4,
	TURNS = 3,
};

/* from, to, aside[COUNT]; table[TABLE] was there before the first kernel. */
struct chain_arguments {
	const uint32_t *from, *table;
	uint32_t *to, *aside;
	int kernel, turn;
};

static __host__ __device__ uint32_t mixed(uint32_t x, uint32_t salt)
{
	return (uint32_t)random_mix((uint64_t)salt << 32 | x);
}

/* Where element i of a kernel's results comes from: for nearly all from another block. */
static __host__ __device__ int source_of(int i, int kernel)
{
	return (i * 7 + 100 * kernel) % COUNT; /* COUNT is no multiple of 7 */
}

static __global__ void __launch_bounds__(THREADS) link(const chain_arguments a)
{
	__shared__ uint32_t table[TABLE];

	let_next_start();
	/* What needs nothing of the kernels before, and nothing that they may still read. */
	if (threadIdx.x < TABLE)
		table[threadIdx.x] = mixed(a.table[threadIdx.x], a.kernel + KERNELS * a.turn);
	__syncthreads();
	/* Also by blocks that have nothing to do: what follows waits for this kernel only, and so
	 * would not wait for the one before it either. */
	wait_for_previous();
	if (blockIdx.x == BLOCKS)
		return;
	for (int i = blockIdx.x * THREADS + threadIdx.x; i < COUNT; i += BLOCKS * THREADS) {
		uint32_t x = a.from[source_of(i, a.kernel)] + table[i % TABLE];

		if (a.kernel == 2)
			x ^= a.aside[COUNT - 1 - i];
		a.to[i] = mixed(x, a.kernel);
		if (a.kernel == 0)
			a.aside[i] = x;
	}
}

/* ---- on the host ----------------------------------------------------------------------------- */

/* One turn of the four kernels. */
static void reckon(const std::vector<uint32_t> &in, const std::vector<uint32_t> &table, int turn,
		   std::vector<uint32_t> &out)
{
	std::vector<uint32_t> from = in, to(COUNT), aside(COUNT);

	for (int kernel = 0; kernel < KERNELS; kernel++) {
		for (int i = 0; i < COUNT; i++) {
			uint32_t x = from[source_of(i, kernel)] +
				     mixed(table[i % TABLE], kernel + KERNELS * turn);

			if (kernel == 2)
				x ^= aside[COUNT - 1 - i];
			to[i] = mixed(x, kernel);
			if (kernel == 0)
				aside[i] = x;
		}
		from = to;
	}
	out = from;
}

static cudaError_t launch_turn(chain_arguments a, const uint32_t *in, uint32_t *buffers[2],
			       uint32_t *out, cudaStream_t stream)
{
	const launch_shape shape = {.blocks = BLOCKS + 1, .threads = THREADS, .early = true};
	cudaError_t error = cudaSuccess;

	for (a.kernel = 0; a.kernel < KERNELS && !error; a.kernel++) {
		a.from = a.kernel == 0 ? in : buffers[(a.kernel + 1) % 2];
		a.to = a.kernel == KERNELS - 1 ? out : buffers[a.kernel % 2];
		error = launch_kernel(shape, stream, link, a);
	}
	return error;
}

int chain_run(uint64_t seed)
{
	test_case c = case_begin("chain %d kernels, %d turns", KERNELS, TURNS);
	std::vector<uint32_t> in(COUNT), table(TABLE), out(TURNS * COUNT), want;
	uint64_t state = random_stream(seed, 3);
	cudaStream_t stream = NULL;

	for (uint32_t &x : in)
		x = (uint32_t)random_next(&state);
	for (uint32_t &x : table)
		x = (uint32_t)random_next(&state);

	const uint32_t *device_in = case_upload(c, in.data(), in.size());
	uint32_t *buffers[2] = {case_memory<uint32_t>(c, COUNT), case_memory<uint32_t>(c, COUNT)};
	uint32_t *device_out = case_memory<uint32_t>(c, out.size());
	chain_arguments a = {};

	a.table = case_upload(c, table.data(), table.size());
	a.aside = case_memory<uint32_t>(c, COUNT);

	if (!c.error)
		case_did(c, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
	/* what was uploaded is there for a stream that does not wait for the default one */
	case_did(c, cudaDeviceSynchronize(), "copies");
	for (a.turn = 0; a.turn < TURNS && !c.error; a.turn++)
		case_did(c, launch_turn(a, device_in, buffers, device_out + a.turn * COUNT, stream),
			 "launch");
	case_download(c, out.data(), device_out, out.size());
	if (stream)
		cudaStreamDestroy(stream);
	for (int turn = 0; turn < TURNS && !c.error; turn++) {
		reckon(in, table, turn, want);
		for (int i = 0; i < COUNT; i++)
			if (out[turn * COUNT + i] != want[i])
				case_wrong(c, "turn %d, element %d: %u, expected %u", turn, i,
					   out[turn * COUNT + i], want[i]);
	}
	return case_end(c);
}
