/* boxes.cu - what the copy engine brings and takes away, byte for byte: boxes of two to four
 * dimensions with every swizzle, partly outside of the tensor; boxes for two blocks at once; boxes
 * stored; and copies without a map. The host reckons where each byte has to be.
 */
#include <vector>

#include "base/random.h"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"
#include "parts/tensor_map.cuh"
#include "tests/emulated/case.cuh"

enum {
	THREADS = 64,
	ALIGNMENT = 1024, /* of a box: the swizzles look at the address */
	PLACES = 5,       /* at which a box is taken */
	WAIT = 1 << 22,   /* tries, until a block that waits for another gives up */
};

/* Where a box begins, innermost dimension first, in elements. */
struct place {
	int32_t c[TENSOR_MAP_RANK];
};

struct box_places {
	place at[PLACES];
};

/* The block's dynamic shared memory from a multiple of ALIGNMENT on. */
static __device__ char *aligned_memory()
{
	char *memory = &dynamic_shared<char>();

	return memory + (ALIGNMENT - shared_address(memory) % ALIGNMENT) % ALIGNMENT;
}

static __device__ void barrier_begin(uint64_t &barrier)
{
	if (threadIdx.x == 0) {
		mbarrier_init(shared_address(&barrier), 1);
		mbarrier_init_fence();
	}
	__syncthreads();
}

/* bytes, a multiple of 4. */
static __device__ void write_out(const char *memory, int bytes, uint32_t *out)
{
	for (int i = threadIdx.x; i < bytes / 4; i += THREADS)
		out[i] = ((const uint32_t *)memory)[i];
}

/* ---- boxes that are loaded ------------------------------------------------------------------- */

template <int RANK>
static __device__ void load_box(uint32_t target, const CUtensorMap *map, const place &at,
				uint32_t barrier)
{
	if (RANK == 2)
		tma_load_2d(target, map, at.c[0], at.c[1], barrier);
	else if (RANK == 3)
		tma_load_3d(target, map, at.c[0], at.c[1], at.c[2], barrier);
	else
		tma_load_4d(target, map, at.c[0], at.c[1], at.c[2], at.c[3], barrier);
}

/* out[PLACES][bytes], `slot` bytes apart in shared memory. */
template <int RANK>
static __global__ void __launch_bounds__(THREADS)
	load(const __grid_constant__ CUtensorMap map, const box_places places, int bytes, int slot,
	     uint32_t *out)
{
	__shared__ uint64_t barrier;
	char *memory = aligned_memory();
	const uint32_t arrived = shared_address(&barrier);

	barrier_begin(barrier);
	if (threadIdx.x == 0) {
		mbarrier_expect(arrived, PLACES * bytes);
#pragma unroll
		for (int i = 0; i < PLACES; i++)
			load_box<RANK>(shared_address(memory) + i * slot, &map, places.at[i],
				       arrived);
	}
	mbarrier_wait(arrived, 0);
	for (int i = 0; i < PLACES; i++)
		write_out(memory + i * slot, bytes, out + i * bytes / 4);
}

/* ---- boxes for both blocks of a cluster ------------------------------------------------------ */

/* Each block loads one half of the bytes, a box of its own, to both; twice through the same memory.
 * places.at[2 * turn + rank]; out[blocks][turns][2 * bytes]. */
template <int RANK>
static __global__ void __launch_bounds__(THREADS)
	load_for_both(const __grid_constant__ CUtensorMap map,
		      const __grid_constant__ box_places places, int bytes, int slot, uint32_t *out)
{
	__shared__ uint64_t barrier;
	char *memory = aligned_memory();
	const uint32_t arrived = shared_address(&barrier), rank = cluster_rank();
	const uint32_t target = shared_address(memory) + rank * slot;

	if (threadIdx.x == 0) {
		mbarrier_init(arrived, 1);
		mbarrier_init_fence();
	}
	cluster_sync(); /* the other block runs, and its mbarrier is known */
	for (int turn = 0; turn < 2; turn++) {
		const place &at = places.at[2 * turn + rank];

		if (threadIdx.x == 0) {
			mbarrier_expect(arrived, 2 * bytes);
			if (RANK == 2)
				tma_multicast_2d(target, &map, at.c[0], at.c[1], arrived, 3,
						 l2_evict_normal());
			else if (RANK == 3)
				tma_multicast_3d(target, &map, at.c[0], at.c[1], at.c[2], arrived,
						 3, l2_evict_normal());
			else
				tma_multicast_4d(target, &map, at.c[0], at.c[1], at.c[2], at.c[3],
						 arrived, 3, l2_evict_normal());
		}
		mbarrier_wait(arrived, turn);
		for (int half = 0; half < 2; half++)
			write_out(memory + half * slot, bytes,
				  out + ((rank * 2 + turn) * 2 + half) * bytes / 4);
		cluster_sync(); /* both have read the halves */
	}
}

/* ---- boxes that are stored ------------------------------------------------------------------- */

/* Takes boxes of one tensor, changes them, and stores them in another: with a group each, and
 * writes over the first as soon as the engine has read it. */
static __global__ void __launch_bounds__(THREADS)
	store(const __grid_constant__ CUtensorMap from, const __grid_constant__ CUtensorMap to,
	      const box_places source, const box_places target, int bytes, int slot)
{
	__shared__ uint64_t barrier;
	char *memory = aligned_memory();
	const uint32_t arrived = shared_address(&barrier), boxes = shared_address(memory);

	barrier_begin(barrier);
	if (threadIdx.x == 0) {
		mbarrier_expect(arrived, 2 * bytes);
		for (int i = 0; i < 2; i++)
			load_box<4>(boxes + i * slot, &from, source.at[i], arrived);
	}
	mbarrier_wait(arrived, 0);
	for (int i = threadIdx.x; i < bytes / 4; i += THREADS) {
		((uint32_t *)memory)[i] ^= 0x5a5a1234;
		((uint32_t *)(memory + slot))[i] ^= 0x0ff04321;
	}
	fence_proxy_async(); /* what this thread wrote, the engine sees */
	__syncthreads();
	if (threadIdx.x == 0) {
		for (int i = 0; i < 2; i++) {
			const place &at = target.at[i];

			tma_store_4d(&to, at.c[0], at.c[1], at.c[2], at.c[3], boxes + i * slot);
			bulk_commit();
		}
		bulk_wait_read<1>();
	}
	__syncthreads();
	for (int i = threadIdx.x; i < bytes / 4; i += THREADS)
		((uint32_t *)memory)[i] = 0xdeadbeef; /* too late to arrive anywhere */
	if (threadIdx.x == 0)
		bulk_wait<0>(); /* or shared memory ends before it was read */
}

/* ---- copies without a map -------------------------------------------------------------------- */

enum { PIECES = 4, PIECE_BYTES = 2048 /* at most */ };

struct piece_sizes {
	int bytes[PIECES];
};

/* Pieces of PIECE_BYTES of from to shared memory, and from there to `to`, every word changed; two
 * turns through the same memory. from, to[2][PIECES][PIECE_BYTES]. */
static __global__ void __launch_bounds__(THREADS)
	carry(const char *from, char *to, const piece_sizes sizes)
{
	__shared__ __align__(16) char memory[PIECES][PIECE_BYTES];
	__shared__ uint64_t barrier;
	const uint32_t arrived = shared_address(&barrier);

	barrier_begin(barrier);
	for (int turn = 0; turn < 2; turn++) {
		const int first = turn * PIECES * PIECE_BYTES;

		if (threadIdx.x == 0) {
			mbarrier_expect(arrived, sizes.bytes[0] + sizes.bytes[1] + sizes.bytes[2] +
							 sizes.bytes[3]);
			for (int i = 0; i < PIECES; i++)
				copy_bulk_load(shared_address(memory[i]),
					       from + first + i * PIECE_BYTES, sizes.bytes[i],
					       arrived);
		}
		mbarrier_wait(arrived, turn);
		for (int i = 0; i < PIECES; i++)
			for (int w = threadIdx.x; w < sizes.bytes[i] / 4; w += THREADS)
				((uint32_t *)memory[i])[w] += i + 1;
		fence_proxy_async();
		__syncthreads();
		if (threadIdx.x == 0) {
			for (int i = 0; i < PIECES; i++)
				copy_bulk_store(to + first + i * PIECE_BYTES,
						shared_address(memory[i]), sizes.bytes[i]);
			bulk_commit();
			bulk_wait_read<0>(); /* before the next loads */
		}
	}
	if (threadIdx.x == 0)
		bulk_wait<0>();
}

/* ---- what a kernel writes and the engine reads ------------------------------------------------
 */

enum { HANDED = 512 /* words */ };

/* Block 0 writes first[HANDED], block 1 own[HANDED]; block 1 copies both. ready: 0.
 * out[2][HANDED]. */
static __global__ void __launch_bounds__(THREADS)
	hand_over(uint32_t *first, uint32_t *own, uint32_t *ready, uint32_t *out)
{
	__shared__ __align__(16) uint32_t memory[2][HANDED];
	__shared__ uint64_t barrier;
	const uint32_t arrived = shared_address(&barrier);
	uint32_t *mine = blockIdx.x == 0 ? first : own;

	barrier_begin(barrier);
	for (int i = threadIdx.x; i < HANDED; i += THREADS)
		mine[i] = 3 * i + blockIdx.x;
	if (blockIdx.x == 0) {
		__syncthreads();
		if (threadIdx.x == 0)
			store_release(ready, 1);
		return;
	}
	fence_proxy_async_global(); /* what this thread wrote, the engine sees */
	__syncthreads();
	if (threadIdx.x == 0) {
		mbarrier_expect(arrived, sizeof(memory));
		copy_bulk_load(shared_address(memory[1]), own, sizeof(memory[1]), arrived);
		for (int tries = 0; !load_acquire(ready) && tries < WAIT; tries++)
			;
		fence_proxy_async_global(); /* and what block 0 wrote */
		copy_bulk_load(shared_address(memory[0]), first, sizeof(memory[0]), arrived);
	}
	mbarrier_wait(arrived, 0);
	write_out((const char *)memory, sizeof(memory), out);
}

/* ---- on the host ----------------------------------------------------------------------------- */

/* A tensor in memory with room between its rows, and the box that is taken of it. */
struct layout {
	int rank, swizzle;
	int extent[TENSOR_MAP_RANK], box[TENSOR_MAP_RANK];
	int64_t stride[TENSOR_MAP_RANK]; /* elements */
	int64_t elements;                /* in all, with what lies between */
};

/* The innermost box is as wide as the swizzle; without one it is 24 elements. */
static layout layout_of(int rank, int swizzle)
{
	static const int extents[][TENSOR_MAP_RANK] = {
		{72, 21, 1, 1}, {72, 7, 5, 1}, {72, 6, 4, 3}};
	static const int boxes[][TENSOR_MAP_RANK] = {{0, 12, 1, 1}, {0, 5, 3, 1}, {0, 4, 2, 2}};
	layout l = {};
	int64_t stride = 1;

	l.rank = rank;
	l.swizzle = swizzle;
	for (int i = 0; i < TENSOR_MAP_RANK; i++) {
		l.extent[i] = extents[rank - 2][i];
		l.box[i] = i == 0 ? swizzle ? swizzle / 2 : 24 : boxes[rank - 2][i];
		l.stride[i] = stride;
		stride *= l.extent[i];
		stride += i == 0 ? 16 : 8; /* a multiple of 16 bytes */
		stride = (stride + 7) / 8 * 8;
	}
	l.elements = stride;
	return l;
}

static int box_bytes(const layout &l)
{
	return l.box[0] * l.box[1] * l.box[2] * l.box[3] * 2;
}

static int slot_bytes(const layout &l)
{
	return (box_bytes(l) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static tensor_map make_map(test_case &c, const layout &l, const void *data)
{
	tensor_map map = {};
	tensor_map_shape shape = {};

	shape.data = data;
	for (int i = 0; i < l.rank; i++) {
		shape.extent[i] = (uint64_t)l.extent[i];
		shape.box[i] = (uint32_t)l.box[i];
		if (i > 0)
			shape.stride[i - 1] = (uint64_t)l.stride[i] * 2;
	}
	shape.dtype = MLA_BF16;
	shape.rank = (int16_t)l.rank;
	shape.swizzle = (int16_t)l.swizzle;
	if (!c.error && case_did(c, tensor_map_prepare(), "encoder of tensor maps"))
		case_did(c, tensor_map_update(map, shape), "tensor map");
	return map;
}

/* Inside; over the lower and the upper ends; over both in different dimensions; nothing inside. The
 * first coordinate is a multiple of 16 bytes. */
static box_places make_places(const layout &l, uint64_t *state)
{
	box_places places = {};

	for (int i = 0; i < l.rank; i++) {
		const int step = i == 0 ? 8 : 1, box = l.box[i] / step;
		const int room = l.extent[i] / step - box;
		const int below = ((int)random_below(state, box - 1) + 1) * step;
		const int above = (room + 1 + (int)random_below(state, box - 1)) * step;

		places.at[0].c[i] = (int)random_below(state, room + 1) * step;
		places.at[1].c[i] = -below;
		places.at[2].c[i] = above;
		places.at[3].c[i] = i % 2 ? above : -below;
		places.at[4].c[i] = i == l.rank - 1 ? l.extent[i] + 1 : places.at[0].c[i];
	}
	return places;
}

/* Calls f(element of the tensor or -1, byte in shared memory) for each element of a box. A swizzle
 * of 2^k chunks of 16 bytes exchanges them by the number of the 128-byte line, modulo 2^k. */
template <typename F> static void each_element(const layout &l, const place &at, F f)
{
	const int chunks = l.swizzle ? l.swizzle / 16 : 1;
	int n = 0;

	for (int d = 0; d < l.box[3]; d++)
		for (int z = 0; z < l.box[2]; z++)
			for (int y = 0; y < l.box[1]; y++)
				for (int x = 0; x < l.box[0]; x++, n++) {
					const int c[] = {x + at.c[0], y + at.c[1], z + at.c[2],
							 d + at.c[3]};
					const int line = n * 2 / 128 % chunks;
					int64_t element = 0;

					for (int i = 0; i < TENSOR_MAP_RANK; i++)
						element = element < 0 || c[i] < 0 ||
									  c[i] >= l.extent[i]
								  ? -1
								  : element + c[i] * l.stride[i];
					f(element, (n * 2) ^ line << 4);
				}
}

static void expect_box(test_case &c, const layout &l, const std::vector<uint16_t> &tensor,
		       const place &at, const char *got, const char *what)
{
	each_element(l, at, [&](int64_t element, int byte) {
		const uint16_t want = element < 0 ? 0 : tensor[(size_t)element];
		uint16_t x;

		memcpy(&x, got + byte, sizeof(x));
		if (x != want)
			case_wrong(c, "%s at %d, %d, %d, %d: byte %d: %04x, expected %04x", what,
				   at.c[0], at.c[1], at.c[2], at.c[3], byte, x, want);
	});
}

static std::vector<uint16_t> random_tensor(const layout &l, uint64_t *state)
{
	std::vector<uint16_t> tensor((size_t)l.elements);

	for (uint16_t &x : tensor)
		x = (uint16_t)random_next(state);
	return tensor;
}

template <int RANK> static int load_case(int swizzle, uint64_t seed)
{
	test_case c = case_begin("boxes of %d dimensions, swizzle %d", RANK, swizzle);
	const layout l = layout_of(RANK, swizzle);
	uint64_t state = random_stream(seed, 5);
	const box_places places = make_places(l, &state);
	const std::vector<uint16_t> tensor = random_tensor(l, &state);
	const int bytes = box_bytes(l), slot = slot_bytes(l);
	std::vector<char> out((size_t)PLACES * bytes);
	const uint16_t *data = case_upload(c, tensor.data(), tensor.size());
	char *device_out = case_memory<char>(c, out.size());
	const tensor_map map = make_map(c, l, data);
	const launch_shape shape = {1, THREADS, PLACES * slot + ALIGNMENT};

	if (!c.error)
		case_did(c,
			 launch_kernel(shape, 0, load<RANK>, map.map, places, bytes, slot,
				       (uint32_t *)device_out),
			 "launch");
	case_download(c, out.data(), device_out, out.size());
	for (int i = 0; i < PLACES && !c.error; i++)
		expect_box(c, l, tensor, places.at[i], &out[(size_t)i * bytes], "the box");
	return case_end(c);
}

template <int RANK> static int both_case(int swizzle, uint64_t seed)
{
	test_case c =
		case_begin("boxes of %d dimensions, swizzle %d, for two blocks", RANK, swizzle);
	const layout l = layout_of(RANK, swizzle);
	uint64_t state = random_stream(seed, 6);
	const box_places places = make_places(l, &state);
	const std::vector<uint16_t> tensor = random_tensor(l, &state);
	const int bytes = box_bytes(l), slot = slot_bytes(l);
	std::vector<char> out((size_t)8 * bytes);
	const uint16_t *data = case_upload(c, tensor.data(), tensor.size());
	char *device_out = case_memory<char>(c, out.size());
	const tensor_map map = make_map(c, l, data);
	const launch_shape shape = {.blocks = 2,
				    .threads = THREADS,
				    .shared_bytes = 2 * slot + ALIGNMENT,
				    .cluster = 2};

	if (!c.error)
		case_did(c,
			 launch_kernel(shape, 0, load_for_both<RANK>, map.map, places, bytes, slot,
				       (uint32_t *)device_out),
			 "launch");
	case_download(c, out.data(), device_out, out.size());
	for (int i = 0; i < 8 && !c.error; i++)
		expect_box(c, l, tensor, places.at[i % 4], &out[(size_t)i * bytes],
			   i < 4 ? "block 0, the box" : "block 1, the box");
	return case_end(c);
}

/* What the tensor that is stored to has to look like: both boxes lie apart. */
static void store_in(const layout &l, const std::vector<uint16_t> &from, const place &source,
		     const place &target, uint32_t change, std::vector<uint16_t> &to)
{
	std::vector<uint16_t> box((size_t)box_bytes(l) / 2);

	each_element(l, source, [&](int64_t element, int byte) {
		const uint16_t x = element < 0 ? 0 : from[(size_t)element];

		box[(size_t)byte / 2] = x ^ (uint16_t)(change >> byte % 4 * 8);
	});
	each_element(l, target, [&](int64_t element, int byte) {
		if (element >= 0)
			to[(size_t)element] = box[(size_t)byte / 2];
	});
}

static int store_case(int swizzle, uint64_t seed)
{
	test_case c = case_begin("boxes stored, swizzle %d", swizzle);
	const layout l = layout_of(4, swizzle);
	uint64_t state = random_stream(seed, 7);
	box_places source = make_places(l, &state), target = {};
	const std::vector<uint16_t> from = random_tensor(l, &state);
	std::vector<uint16_t> to = random_tensor(l, &state), want = to;
	const int bytes = box_bytes(l), slot = slot_bytes(l);

	for (int i = 0; i < 4; i++) { /* at the lower ends; over the upper ones */
		const int step = i == 0 ? 8 : 1;

		target.at[1].c[i] = l.extent[i] - l.box[i] + step;
	}
	store_in(l, from, source.at[0], target.at[0], 0x5a5a1234, want);
	store_in(l, from, source.at[1], target.at[1], 0x0ff04321, want);

	const tensor_map map_from = make_map(c, l, case_upload(c, from.data(), from.size()));
	uint16_t *device_to = case_upload(c, to.data(), to.size());
	const tensor_map map_to = make_map(c, l, device_to);
	const launch_shape shape = {1, THREADS, 2 * slot + ALIGNMENT};

	if (!c.error)
		case_did(c,
			 launch_kernel(shape, 0, store, map_from.map, map_to.map, source, target,
				       bytes, slot),
			 "launch");
	case_download(c, to.data(), device_to, to.size());
	for (size_t i = 0; i < to.size() && !c.error; i++)
		if (to[i] != want[i])
			case_wrong(c, "element %zu: %04x, expected %04x", i, to[i], want[i]);
	return case_end(c);
}

static int carry_case(uint64_t seed)
{
	static const piece_sizes sizes = {{16, 48, 1040, PIECE_BYTES}};
	test_case c = case_begin("boxes: copies without a map");
	std::vector<uint32_t> from(2 * PIECES * PIECE_BYTES / 4), to(from.size()),
		want(from.size());
	uint64_t state = random_stream(seed, 8);

	for (uint32_t &x : from)
		x = (uint32_t)random_next(&state);
	for (size_t i = 0; i < from.size(); i++) {
		const int piece = (int)(i * 4 / PIECE_BYTES) % PIECES;

		want[i] = (int)(i * 4 % PIECE_BYTES) < sizes.bytes[piece] ? from[i] + piece + 1 : 0;
	}

	const uint32_t *device_from = case_upload(c, from.data(), from.size());
	uint32_t *device_to = case_zeros<uint32_t>(c, to.size());

	if (!c.error)
		case_did(c,
			 launch_kernel({1, THREADS}, 0, carry, (const char *)device_from,
				       (char *)device_to, sizes),
			 "launch");
	case_download(c, to.data(), device_to, to.size());
	for (size_t i = 0; i < to.size() && !c.error; i++)
		if (to[i] != want[i])
			case_wrong(c, "word %zu: %08x, expected %08x", i, to[i], want[i]);
	return case_end(c);
}

static int hand_over_case()
{
	test_case c = case_begin("boxes: copies of what was just written");
	std::vector<uint32_t> out(2 * HANDED);
	uint32_t *device_out = case_memory<uint32_t>(c, out.size());
	uint32_t *first = case_zeros<uint32_t>(c, HANDED), *own = case_zeros<uint32_t>(c, HANDED);
	uint32_t *ready = case_zeros<uint32_t>(c, 1);

	if (!c.error)
		case_did(c,
			 launch_kernel({2, THREADS}, 0, hand_over, first, own, ready, device_out),
			 "launch");
	case_download(c, out.data(), device_out, out.size());
	for (int i = 0; i < 2 * HANDED && !c.error; i++) {
		const uint32_t want = 3 * (i % HANDED) + i / HANDED;

		if (out[i] != want)
			case_wrong(c, "word %d: %u, expected %u", i, out[i], want);
	}
	return case_end(c);
}

int boxes_run(uint64_t seed)
{
	int failed = 0;

	for (int swizzle : {0, 32, 64, 128}) {
		failed += load_case<2>(swizzle, seed);
		failed += load_case<3>(swizzle, seed + 1);
		failed += load_case<4>(swizzle, seed + 2);
		failed += store_case(swizzle, seed + 3);
	}
	failed += both_case<2>(0, seed + 4);
	failed += both_case<3>(64, seed + 5);
	failed += both_case<4>(128, seed + 6);
	failed += carry_case(seed + 7);
	failed += hand_over_case();
	return failed;
}
