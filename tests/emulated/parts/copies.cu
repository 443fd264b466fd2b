/* copies.cu - parts that move things: asynchronous copies, the copy engine, mbarriers, blocks of a
 * cluster, and what blocks tell each other through global memory. Whatever they take, what arrives
 * is the same bits.
 */
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"
#include "tests/emulated/parts/parts.cuh"

enum {
	BOX_WORDS = PART_BOX / 4,
	SHARED = 2 * PART_BOX + 1024, /* two boxes, from a multiple of 1,024 on */
};

static __device__ uint32_t *aligned_memory()
{
	char *memory = &dynamic_shared<char>();

	return (uint32_t *)(memory + (1024 - shared_address(memory) % 1024) % 1024);
}

static __device__ void write_out(const uint32_t *memory, uint32_t *out)
{
	for (int i = threadIdx.x; i < BOX_WORDS; i += PART_THREADS)
		out[i] = memory[i];
}

/* An mbarrier that one arrival and the bytes it expects end; known to the cluster. */
static __device__ uint32_t begin(uint64_t &barrier)
{
	const uint32_t address = shared_address(&barrier);

	if (threadIdx.x == 0) {
		mbarrier_init(address, 1);
		mbarrier_init_fence();
	}
	cluster_arrive_relaxed(); /* the fence says what there is to say */
	cluster_wait();
	return address;
}

/* ---- cp.async -------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(PART_THREADS) copied(const part_arguments a)
{
	__shared__ uint4 memory[2][PART_THREADS];
	const int t = threadIdx.x;

	for (int i = 0; i < 2; i++) {
		cp_async_16(shared_address(&memory[i][t]), a.in + (i * PART_THREADS + t) * 4,
			    t % 7 == 3 ? 0 : 16);
		cp_async_commit();
	}
	cp_async_wait<1>();
	__syncthreads();

	const uint4 x = memory[0][(t + 37) % PART_THREADS];

	cp_async_wait<0>();
	__syncthreads();

	const uint4 y = memory[1][(t + 50) % PART_THREADS];

	a.out[t * 4] = x.x ^ y.y;
	a.out[t * 4 + 1] = x.y ^ y.z;
	a.out[t * 4 + 2] = x.z ^ y.w;
	a.out[t * 4 + 3] = x.w ^ y.x;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

enum box {
	LOAD_2D,
	LOAD_3D,
	LOAD_4D,
	HINT_2D,
	HINT_3D,
	HINT_4D,
};

/* A box that lies partly beyond the tensor's first rows. */
template <box BOX>
static __global__ void __launch_bounds__(PART_THREADS)
	loaded(const __grid_constant__ part_arguments a)
{
	__shared__ uint64_t barrier;
	uint32_t *memory = aligned_memory();
	const uint32_t arrived = begin(barrier), target = shared_address(memory);

	if (threadIdx.x == 0) {
		const CUtensorMap *map = &a.maps[BOX % 3];

		prefetch_tensor_map(map);
		prefetch_l2(a.in, 4096);
		mbarrier_expect(arrived, PART_BOX);
		if (BOX == LOAD_2D)
			tma_load_2d(target, map, 0, -3, arrived);
		if (BOX == LOAD_3D)
			tma_load_3d(target, map, 0, -1, 2, arrived);
		if (BOX == LOAD_4D)
			tma_load_4d(target, map, 0, -1, 1, 2, arrived);
		if (BOX == HINT_2D)
			tma_load_2d_hint(target, map, 0, 5, arrived, l2_evict_first());
		if (BOX == HINT_3D)
			tma_load_3d_hint(target, map, 0, 1, -1, arrived, l2_evict_normal());
		if (BOX == HINT_4D)
			tma_load_4d_hint(target, map, 0, 1, 0, 1, arrived, l2_evict_last());
	}
	mbarrier_wait(arrived, 0);
	write_out(memory, a.out);
}

/* Two blocks send each other a box; out has what arrived at the second. */
template <int RANK>
static __global__ void __launch_bounds__(PART_THREADS)
	sent_to_both(const __grid_constant__ part_arguments a)
{
	__shared__ uint64_t barrier;
	uint32_t *memory = aligned_memory();
	const uint32_t arrived = begin(barrier), rank = cluster_rank();
	const uint32_t target = shared_address(memory) + rank * PART_BOX;
	const int at = 1 + (int)rank;

	if (threadIdx.x == 0) {
		mbarrier_expect(arrived, 2 * PART_BOX);
		if (RANK == 2)
			tma_multicast_2d(target, &a.maps[0], 0, 40 * at, arrived, 3,
					 l2_evict_normal());
		if (RANK == 3)
			tma_multicast_3d(target, &a.maps[1], 0, at, 3 - at, arrived, 3,
					 l2_evict_normal());
		if (RANK == 4)
			tma_multicast_4d(target, &a.maps[2], 0, at, 3 - at, 1, arrived, 3,
					 l2_evict_normal());
	}
	mbarrier_wait(arrived, 0);
	if (rank == 1)
		for (int half = 0; half < 2; half++)
			write_out(memory + half * BOX_WORDS, a.out + half * BOX_WORDS);
	cluster_sync();
}

static __global__ void __launch_bounds__(PART_THREADS)
	stored(const __grid_constant__ part_arguments a)
{
	uint32_t *memory = aligned_memory();

	for (int i = threadIdx.x; i < BOX_WORDS; i += PART_THREADS)
		memory[i] = a.in[i];
	fence_proxy_async();
	__syncthreads();
	if (threadIdx.x == 0) {
		tma_store_4d(&a.target, 0, 0, 1, 0, shared_address(memory));
		bulk_commit();
		bulk_wait<0>();
	}
}

/* ---- copies without a map -------------------------------------------------------------------- */

static __global__ void __launch_bounds__(PART_THREADS) carried(const part_arguments a)
{
	__shared__ uint64_t barrier;
	uint32_t *memory = aligned_memory();
	const uint32_t arrived = begin(barrier), target = shared_address(memory);

	for (int i = threadIdx.x; i < 64; i += PART_THREADS)
		a.memory[i] = a.in[i] * 3;
	fence_proxy_async_global();
	__syncthreads();
	if (threadIdx.x == 0) {
		mbarrier_expect(arrived, 256 + 512);
		copy_bulk_load(target, a.memory, 256, arrived);
		copy_bulk_load(target + 256, a.in + 100, 512, arrived);
		while (!mbarrier_try(arrived, 0))
			;
		copy_bulk_store(a.out + 64, target, 256);
		bulk_commit();
		copy_bulk_store(a.out + 128, target + 256, 512);
		bulk_commit();
		bulk_wait_read<1>();
		bulk_wait<0>();
	}
}

/* ---- clusters -------------------------------------------------------------------------------- */

/* Every block of four writes 16 bytes a thread to the next one: stores, asynchronous stores, or the
 * copy engine. out has what the last block got, and what it read from the one behind it. */
enum way { STORES, ASYNCHRONOUS_STORES, BULK_COPIES };

template <way WAY>
static __global__ void __launch_bounds__(PART_THREADS) passed_on(const part_arguments a)
{
	__shared__ uint64_t barrier;
	uint4 *memory = (uint4 *)aligned_memory(), *own = memory + 64;
	const uint32_t arrived = begin(barrier), rank = cluster_rank(), t = threadIdx.x;
	const uint32_t next = (rank + 1) % 4, there = map_to_rank(arrived, next);

	if (t == 0 && WAY != STORES)
		mbarrier_expect(arrived, 64 * 16);
	if (t < 64) {
		const uint4 x = ((const uint4 *)a.in)[rank * 64 + t];

		own[t] = x;
		if (WAY == STORES)
			store_cluster(map_to_rank(shared_address(&memory[t]), next), x);
		if (WAY == ASYNCHRONOUS_STORES)
			store_async_cluster(map_to_rank(shared_address(&memory[t]), next), x,
					    there);
	}
	if (WAY == BULK_COPIES) {
		fence_proxy_async();
		__syncthreads();
		if (t == 0)
			copy_bulk_cluster(map_to_rank(shared_address(memory), next),
					  shared_address(own), 64 * 16, there);
	}
	cluster_arrive();
	cluster_wait();
	if (WAY != STORES)
		mbarrier_wait_cluster(arrived, 0);
	if (rank == 3 && t < 64) {
		((uint4 *)a.out)[t] = memory[t];
		((uint4 *)a.out)[64 + t] =
			load_cluster(map_to_rank(shared_address(&own[t ^ 1]), 2));
	}
	cluster_sync(); /* nobody's memory is looked at any more */
}

/* ---- mbarriers ------------------------------------------------------------------------------- */

/* All threads of one block tell one thread of the other that their words are there. */
static __global__ void __launch_bounds__(PART_THREADS) told(const part_arguments a)
{
	__shared__ uint64_t barriers[3];
	__shared__ uint4 words[PART_THREADS / 2];
	const uint32_t all = shared_address(&barriers[0]), half = shared_address(&barriers[1]);
	const uint32_t twice = shared_address(&barriers[2]), t = threadIdx.x;
	const uint32_t rank = cluster_rank();

	if (t == 0) {
		mbarrier_init(all, PART_THREADS / 2);
		mbarrier_init(half, PART_THREADS / 2);
		mbarrier_init(twice, 5);
		mbarrier_init_fence();
	}
	cluster_sync();
	if (rank == 0 && t % 2) {
		store_cluster(map_to_rank(shared_address(&words[t / 2]), 1),
			      ((const uint4 *)a.in)[t / 2]);
		mbarrier_arrive_cluster(map_to_rank(all, 1));
	}
	if (rank == 1) {
		mbarrier_arrive_if(t % 2 == 0, half);
		mbarrier_wait_cluster(all, 0);
		if (t % 2)
			((uint4 *)a.out)[t / 2] = words[t / 2];
		mbarrier_wait(half, 0);
		if (t == 0)
			a.out[2 * PART_THREADS] =
				mbarrier_test(half, 0) + 2 * mbarrier_test_cluster(all, 0) +
				4 * mbarrier_try_cluster(all, 0) + 8 * mbarrier_test(twice, 0);
	}
	if (rank == 0 && t == 0)
		mbarrier_arrive_cluster_relaxed(map_to_rank(twice, 1), 3);
	cluster_sync();
	if (rank == 1 && t == 0)
		mbarrier_arrive(twice, 2);
	if (rank == 1)
		mbarrier_wait_cluster(twice, 0);
}

/* ---- what blocks tell each other through global memory --------------------------------------- */

/* Two blocks write a half each and count; who comes last writes both out. */
static __global__ void __launch_bounds__(PART_THREADS) counted(const part_arguments a)
{
	__shared__ bool last;
	const uint32_t t = threadIdx.x;
	uint32_t *words = a.memory + 64, *counter = a.memory;

	words[blockIdx.x * PART_THREADS + t] = a.in[blockIdx.x * PART_THREADS + t];
	__syncthreads();
	if (t == 0)
		last = fetch_add_acq_rel(counter, 7u) != 0;
	__syncthreads();
	if (!last)
		return;
	a.out[t] = words[t];
	a.out[PART_THREADS + t] = words[PART_THREADS + t];
	if (t == 0) {
		a.out[2 * PART_THREADS] = fetch_add_acq_rel((int32_t *)counter, -9);
		a.out[2 * PART_THREADS + 1] = *counter;
	}
}

/* One block waits for the other's flag. */
static __global__ void __launch_bounds__(PART_THREADS) flagged(const part_arguments a)
{
	const uint32_t t = threadIdx.x;
	uint32_t *flag = a.memory, *counter = a.memory + 1, *words = a.memory + 64;

	let_next_start();
	wait_for_previous();
	if (blockIdx.x == 0) {
		words[t] = a.in[t];
		__syncthreads();
		if (t == 0)
			store_release(flag, 77);
		return;
	}
	if (t == 0)
		for (int tries = 0; load_acquire(flag) != 77 && tries < 1 << 22; tries++)
			;
	__syncthreads();
	a.out[t] = words[PART_THREADS - 1 - t];
	add_release(counter, 2);
	__syncthreads();
	if (t == 0)
		a.out[PART_THREADS] = load_acquire(counter);
}

static __global__ void __launch_bounds__(PART_THREADS) timed(const part_arguments a)
{
	const uint64_t start = global_timer();

	a.out[threadIdx.x] = global_timer() - start < 1000000000ull;
}

/* ---- the list -------------------------------------------------------------------------------- */

enum { BOX = BOX_WORDS, BOXES = 2 * BOX_WORDS };

static const part parts[] = {
	{"cp_async_16 cp_async_commit cp_async_wait", copied, PART_WORDS, PART_BITS},
	{"tma_load_2d prefetch_tensor_map prefetch_l2 dynamic_shared", loaded<LOAD_2D>, BOX,
	 PART_BITS, 0., NULL, 1, SHARED},
	{"tma_load_3d", loaded<LOAD_3D>, BOX, PART_BITS, 0., NULL, 1, SHARED},
	{"tma_load_4d", loaded<LOAD_4D>, BOX, PART_BITS, 0., NULL, 1, SHARED},
	{"tma_load_2d_hint l2_evict_first", loaded<HINT_2D>, BOX, PART_BITS, 0., NULL, 1, SHARED},
	{"tma_load_3d_hint l2_evict_normal", loaded<HINT_3D>, BOX, PART_BITS, 0., NULL, 1, SHARED},
	{"tma_load_4d_hint l2_evict_last", loaded<HINT_4D>, BOX, PART_BITS, 0., NULL, 1, SHARED},
	{"tma_multicast_2d", sent_to_both<2>, BOXES, PART_BITS, 0., NULL, 2, SHARED},
	{"tma_multicast_3d", sent_to_both<3>, BOXES, PART_BITS, 0., NULL, 2, SHARED},
	{"tma_multicast_4d", sent_to_both<4>, BOXES, PART_BITS, 0., NULL, 2, SHARED},
	{"tma_store_4d bulk_commit bulk_wait fence_proxy_async", stored, BOX, PART_BITS, 0., NULL,
	 1, SHARED},
	{"copy_bulk_load copy_bulk_store bulk_wait_read fence_proxy_async_global mbarrier_try",
	 carried, BOX, PART_BITS, 0., NULL, 1, SHARED},
	{"store_cluster load_cluster map_to_rank cluster_rank cluster_sync cluster_arrive "
	 "cluster_arrive_relaxed cluster_wait",
	 passed_on<STORES>, BOXES, PART_BITS, 0., NULL, 4, SHARED},
	{"store_async_cluster mbarrier_expect mbarrier_wait_cluster",
	 passed_on<ASYNCHRONOUS_STORES>, BOXES, PART_BITS, 0., NULL, 4, SHARED},
	{"copy_bulk_cluster", passed_on<BULK_COPIES>, BOXES, PART_BITS, 0., NULL, 4, SHARED},
	{"mbarriers mbarrier_init mbarrier_init_fence mbarrier_arrive mbarrier_arrive_if "
	 "mbarrier_arrive_cluster mbarrier_arrive_cluster_relaxed mbarrier_test "
	 "mbarrier_test_cluster mbarrier_try_cluster mbarrier_wait",
	 told, 2 * PART_THREADS + 1, PART_BITS, 0., NULL, 2},
	{"fetch_add_acq_rel", counted, 2 * PART_THREADS + 2, PART_BITS, 0., NULL, 2},
	{"flags load_acquire store_release add_release let_next_start wait_for_previous", flagged,
	 PART_THREADS + 1, PART_BITS, 0., NULL, 2},
	{"global_timer", timed, PART_THREADS, PART_BITS},
};

part_list parts_of_copies()
{
	return {parts, sizeof(parts) / sizeof(*parts)};
}
