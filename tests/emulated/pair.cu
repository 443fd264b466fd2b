/* pair.cu - decode for many heads. A block of the cluster has 64 of them; the two blocks of a pair
 * share their keys: each loads half of every tile and multicasts it to both. Also as a block alone.
 *
 * Warpgroup 0 has q, in registers but for its last 16 dimensions and its rope, and makes scores and
 * weights. Warpgroups 1 and 2 have half of the output each, 256 dimensions. The first warp of
 * warpgroup 1 also loads: one more warp would cost all threads a quarter of their registers.
 *
 * A ring of three slots. The first slot of an item is its q, the others are tiles of 64 keys. The
 * weights of a tile overwrite its rope, which nobody needs any more by then.
 */
#include <stddef.h>

#include "tests/emulated/decode.cuh"

enum {
	ROWS = 64, /* heads of a block of the cluster */
	STAGES = 3,
	THREADS = 384,
	STEPS = 31,  /* times 16 dimensions: q in registers */
	SCORERS = 1, /* barrier of warpgroup 0; those of 1 and 2 follow */
	/* registers of a thread: all have 168, if nobody gives some away */
	SCORER_REGISTERS = 184,
	ADDER_REGISTERS = 160,
	/* Of the 9 tiles of 64 dimensions of a score, those that are issued before the weights of
	 * the block before are handed over: the tensor cores are to have work meanwhile. */
	TILES_BEFORE = 8,
};

struct pair_stage {
	uint8_t panels[2][PANEL];
	uint8_t rope[BLOCK * 128]; /* then P [64 rows, 64 keys], swizzled */
};

struct pair_memory {
	pair_stage ring[STAGES];
	uint8_t q_rope[ROWS * 128];
	uint8_t q_last[ROWS * 32]; /* [8 groups][2 units][8 rows][16 bytes], not swizzled */
	__nv_bfloat16 factor[STAGES][ROWS]; /* what the sums so far are multiplied with */
	float inverse[2][ROWS];   /* 1 / sum of weights; of this item and the one before */
	uint64_t full[STAGES][2]; /* rope and panel 0; panel 1 */
	uint64_t empty[STAGES];   /* both blocks: what one loads, both read */
	uint64_t weights[STAGES];
	uint8_t moved[STAGES][4]; /* has this warp written factors? */
};
static_assert(sizeof(pair_memory) <= 232448, "what a block may have");

enum : uint32_t {
	ROPE_AT = offsetof(pair_stage, rope),
	Q_ROPE_AT = offsetof(pair_memory, q_rope),
	Q_LAST_AT = offsetof(pair_memory, q_last),
	FULL_AT = offsetof(pair_memory, full),
	EMPTY_AT = offsetof(pair_memory, empty),
	WEIGHTS_AT = offsetof(pair_memory, weights),
};

/* Which block this is. base: its shared memory, peer: that of the other block of the pair. */
struct pair_place {
	uint32_t base, peer, rank, worker;
};

/* The slot whose turn it is, and the parity of its round. */
struct ring_place {
	uint32_t stage, parity;
};

static __device__ __forceinline__ void step(ring_place &at)
{
	if (++at.stage == STAGES) {
		at.stage = 0;
		at.parity ^= 1;
	}
}

static __device__ __forceinline__ uint32_t stage_of(const pair_place &here, uint32_t stage)
{
	return here.base + stage * (uint32_t)sizeof(pair_stage);
}

static __device__ __forceinline__ uint32_t full_of(const pair_place &here, uint32_t stage,
						   uint32_t panel)
{
	return here.base + FULL_AT + 16 * stage + 8 * panel;
}

static __device__ __forceinline__ uint32_t weights_of(const pair_place &here, uint32_t stage)
{
	return here.base + WEIGHTS_AT + 8 * stage;
}

/* Tells the loaders of both blocks that this one does not need the stage any more. */
template <int CTAS>
static __device__ __forceinline__ void release(const pair_place &here, uint32_t stage,
					       uint32_t count)
{
	/* A release: what was written there (P, zeros) comes before the other block's copy. */
	if (CTAS == 2)
		mbarrier_arrive_cluster(here.peer + EMPTY_AT + 8 * stage, count);
	mbarrier_arrive(here.base + EMPTY_AT + 8 * stage, count);
}

/* ---- warpgroup 0: scores and weights --------------------------------------------------------- */

/* Where ldmatrix_x4 and stmatrix_x4 find 16 columns of the warp's 16 rows, in groups of 8 rows that
 * lie so far apart. Those of columns 16 k lie at that, xor 32 k. */
static __device__ __forceinline__ uint32_t matrices_at(uint32_t group)
{
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

	return (2 * warp + lane / 8 % 2) * group + lane % 8 * 128 + ((lane / 16 ^ lane % 8) * 16);
}

/* q from its slot: to registers, its rope and its last 16 dimensions to a place of their own. */
static __device__ __forceinline__ void take_q(const pair_place &here, uint32_t stage,
					      uint32_t (&q)[STEPS][4])
{
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const uint32_t panels = stage + matrices_at(GROUP);
	uint32_t some[4];

#pragma unroll
	for (int k = 0; k < 4; k++) {
		ldmatrix_x4(some, (stage + ROPE_AT + matrices_at(8 * 128)) ^ 32 * k);
		stmatrix_x4((here.base + Q_ROPE_AT + matrices_at(8 * 128)) ^ 32 * k, some);
	}
	ldmatrix_x4(some, (panels + PANEL + 3 * CHUNK) ^ 32 * 3);
	stmatrix_x4(here.base + Q_LAST_AT + (2 * warp + lane / 8 % 2) * 256 + lane / 16 * 128 +
			    lane % 8 * 16,
		    some);
	fence_proxy_async();
#pragma unroll
	for (int i = 0; i < STEPS; i++)
		ldmatrix_x4(q[i], (panels + i / 16 * PANEL + i / 4 % 4 * CHUNK) ^ 32 * (i % 4));
}

/* s[64 rows, 64 keys] of tiles FROM .. TO - 1; tile 0 is rope, tile t dimensions 64 (t - 1) on. */
template <int FROM, int TO>
static __device__ __forceinline__ void score(const pair_place &here, uint32_t stage,
					     const uint32_t (&q)[STEPS][4], float (&s)[32])
{
	const uint64_t q_rope = wgmma_describe(here.base + Q_ROPE_AT, 16, 8 * 128, 128);
	const uint64_t q_last = wgmma_describe(here.base + Q_LAST_AT, 128, 256, 0);
	const uint64_t rope = wgmma_describe(stage + ROPE_AT, 16, 8 * 128, 128);
	const uint64_t panels = wgmma_describe(stage, 16, GROUP, 128);

#pragma unroll
	for (int i = 4 * FROM; i < 4 * TO; i++) {
		const int n = i - 4; /* step of 16 dimensions */
		const uint64_t keys =
			wgmma_advance(panels, n / 16 * PANEL + n / 4 % 4 * CHUNK + n % 4 * 32);

		if (i < 4)
			wgmma<BLOCK, __nv_bfloat16>(s, wgmma_advance(q_rope, 32 * i),
						    wgmma_advance(rope, 32 * i), i > 0);
		else if (n < STEPS)
			wgmma_rs<BLOCK, __nv_bfloat16>(s, q[n], keys, true);
		else
			wgmma<BLOCK, __nv_bfloat16>(s, q_last, keys, true);
	}
}

/* Of a row, over the four lanes that have it. */
static __device__ __forceinline__ float row_max(float x)
{
	x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
	return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

static __device__ __forceinline__ float row_sum(float x)
{
	x += __shfl_xor_sync(~0u, x, 1);
	return x + __shfl_xor_sync(~0u, x, 2);
}

/* Scores become exponents of 2, relative to the references m, which follow the maxima by whole
 * powers of two: moving one is exact. They are moved when a score is more than 8 ahead, never back;
 * the first block sets them. Element i is row lane / 4 + 8 (i / 2 % 2). */
static __device__ __forceinline__ void refer(pair_memory &memory, uint32_t stage, bool first,
					     float scale, float (&s)[32], float (&m)[2],
					     float (&l)[2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	float top[2] = {-CUDART_INF_F, -CUDART_INF_F};

#pragma unroll
	for (int i = 0; i < 32; i++) {
		s[i] = fmaf(s[i], scale, -m[i / 2 % 2]);
		top[i / 2 % 2] = fmaxf(top[i / 2 % 2], s[i]);
	}

	const bool moves = __any_sync(~0u, first || fmaxf(top[0], top[1]) > 8.f);

	if (moves) {
#pragma unroll
		for (int r = 0; r < 2; r++) {
			float by = ceilf(row_max(top[r]));

			if (!first)
				by = fmaxf(by, 0.f);

			const float factor = exp2_approx(-by);

			m[r] += by;
			l[r] *= factor;
#pragma unroll
			for (int i = 2 * r; i < 32; i += 4) {
				s[i] -= by;
				s[i + 1] -= by;
			}
			if (lane % 4 == 0)
				memory.factor[stage][16 * warp + lane / 4 + 8 * r] =
					__float2bfloat16_rn(factor);
		}
	}
	if (lane == 0)
		memory.moved[stage][warp] = moves;
}

/* Exponents become weights: their sums, and P in bf16 where the rope was. */
static __device__ __forceinline__ void weigh(uint32_t rope, float (&s)[32], float (&l)[2])
{
	const uint32_t to = rope + matrices_at(8 * 128);

#pragma unroll
	for (int k = 0; k < 4; k++) { /* 16 keys */
		float *w = s + 8 * k;
		uint32_t pairs[4];

#pragma unroll
		for (int i = 0; i < 8; i++) {
			w[i] = exp2_approx(w[i]);
			l[i / 2 % 2] += w[i];
		}
#pragma unroll
		for (int i = 0; i < 4; i++)
			pairs[i] = pack<__nv_bfloat16>(w[2 * i], w[2 * i + 1]);
		stmatrix_x4(to ^ 32 * k, pairs);
	}
}

/* Behind the last block of an item: 1 / sum for the others, and the lse. */
static __device__ __forceinline__ void sum_up(const decode_params &p, pair_memory &memory,
					      const pair_place &here, const decode_item &item,
					      uint32_t turn, const float (&m)[2],
					      const float (&l)[2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

#pragma unroll
	for (int r = 0; r < 2; r++) {
		const int row = 16 * warp + lane / 4 + 8 * r;
		const float sum = row_sum(l[r]);

		if (lane % 4)
			continue;
		memory.inverse[turn % 2][row] = 1.f / sum;
		(item.partial < 0 ? p.lse + item.row
				  : p.partial_lse + item.partial)[ROWS * here.rank + row] =
			m[r] * 0.693147180559945309417f + logf(sum);
	}
}

template <int CTAS>
static __device__ __forceinline__ void score_items(const decode_params &p, pair_memory &memory,
						   const pair_place &here)
{
	const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
	const int end = p.begin[here.worker + 1];
	ring_place at = {0, 0};
	uint32_t turn = 0; /* items with keys so far */
	uint32_t q[STEPS][4];

#pragma unroll 1
	for (int i = p.begin[here.worker]; i < end; i++) {
		const decode_item &item = p.items[i];
		const int blocks = item.blocks;
		float m[2] = {}, l[2] = {};
		uint32_t hand =
			0; /* mbarrier of the block whose weights were not handed over yet */
		bool there = false; /* are the next keys? */

		if (!blocks) {
			if (threadIdx.x < ROWS)
				p.lse[item.row + ROWS * here.rank + threadIdx.x] = -CUDART_INF_F;
			continue;
		}
		mbarrier_wait(full_of(here, at.stage, 0), at.parity);
		take_q(here, stage_of(here, at.stage), q);
		barrier_sync<128>(SCORERS);
		if (warp == 0 && elect_one())
			release<CTAS>(here, at.stage, 8); /* for the warps that add values */
		if (elect_one()) /* nobody waits for this phase, but it is one of this round */
			mbarrier_arrive(weights_of(here, at.stage));
		step(at);
#pragma unroll 1
		for (int block = 0; block < blocks; block++) {
			const uint32_t stage = stage_of(here, at.stage);
			float s[32];

			if (!there) { /* the others need not wait for keys, too */
				if (block && elect_one())
					mbarrier_arrive(hand);
				mbarrier_wait(full_of(here, at.stage, 0), at.parity);
				__syncwarp(); /* wgmma wants the warp together */
			}

			const bool give = there && block && elect_one();

			wgmma_fence();
			score<0, 5>(here, stage, q, s);
			mbarrier_wait(full_of(here, at.stage, 1), at.parity);
			wgmma_fence(); /* ptxas wants one behind a loop */
			score<5, TILES_BEFORE>(here, stage, q, s);
			mbarrier_arrive_if(give, hand);
			score<TILES_BEFORE, 9>(here, stage, q, s);
			wgmma_commit();
			wgmma_wait<0>();
			if (block == blocks - 1) { /* keys that do not exist */
				const int tail = item.tail - 2 * (threadIdx.x % 4);
#pragma unroll
				for (int e = 0; e < 32; e++)
					if (e / 4 * 8 + e % 2 >= tail)
						s[e] = -CUDART_INF_F;
			}
			refer(memory, at.stage, !block, p.scale, s, m, l);
			barrier_sync<128>(SCORERS); /* no warp reads the rope any more */
			weigh(stage + ROPE_AT, s, l);
			hand = weights_of(here, at.stage);
			step(at);
			there = __all_sync(~0u,
					   mbarrier_test(full_of(here, at.stage, 0), at.parity));
			fence_proxy_async();
			__syncwarp(); /* one lane hands over what all wrote */
		}
		sum_up(p, memory, here, item, turn++, m, l);
		__syncwarp();
		if (elect_one())
			mbarrier_arrive(hand);
	}
}

/* ---- the loader, a warp of warpgroup 1 ------------------------------------------------------- */

struct pair_loader {
	int item, end; /* of the next load; end: all was loaded */
	int block;     /* -1: q */
	int ids;       /* of 32 pages, one per lane */
	int ahead;     /* slots that were loaded beyond those that are done with */
	ring_place at;
};

static __device__ __forceinline__ int next_with_keys(const decode_params &p, int item, int end)
{
	while (item < end && !p.items[item].blocks)
		item++;
	return item;
}

static __device__ __forceinline__ void load_q(const decode_maps &maps, const pair_place &here,
					      uint32_t slot, int row)
{
	const uint32_t stage = stage_of(here, slot), full = full_of(here, slot, 0);

	mbarrier_expect(full, sizeof(pair_stage));
	tma_load_4d(stage, &maps.q, 0, 0, 0, row / 8, full);
	tma_load_4d(stage + PANEL, &maps.q, 0, 0, 4, row / 8, full);
	tma_load_2d(stage + ROPE_AT, &maps.q_rope, 0, row, full);
	mbarrier_arrive(full_of(here, slot, 1));
}

/* A pair: half of the keys for both, the other block loads the others. */
template <int CTAS>
static __device__ __forceinline__ void load_keys(const decode_maps &maps, const pair_place &here,
						 uint32_t slot, int page)
{
	const int keys = BLOCK / CTAS, key = page * BLOCK + here.rank * keys;
	const uint32_t stage = stage_of(here, slot), full = full_of(here, slot, 0);
	const uint32_t rope = stage + ROPE_AT + here.rank * keys * 128;
	const uint32_t panels = stage + here.rank * keys / 8 * GROUP;
	const uint16_t both = 3;
	const uint64_t policy = l2_evict_first();

	mbarrier_expect(full, ROPE_AT - PANEL + BLOCK * 128);
	mbarrier_expect(full + 8, PANEL);
	if (CTAS == 2) {
		tma_multicast_2d(rope, &maps.kpe, 0, key, full, both, policy);
		tma_multicast_4d(panels, &maps.ckv, 0, 0, 0, key / 8, full, both, policy);
		tma_multicast_4d(panels + PANEL, &maps.ckv, 0, 0, 4, key / 8, full + 8, both,
				 policy);
	} else {
		tma_load_2d_hint(rope, &maps.kpe, 0, key, full, policy);
		tma_load_4d_hint(panels, &maps.ckv, 0, 0, 0, key / 8, full, policy);
		tma_load_4d_hint(panels + PANEL, &maps.ckv, 0, 0, 4, key / 8, full + 8, policy);
	}
}

template <int CTAS>
static __device__ __forceinline__ void load_next(const decode_params &p, const decode_maps &maps,
						 const pair_place &here, pair_loader &loader)
{
	const decode_item &item = p.items[loader.item];
	const int lane = threadIdx.x % 32;

	if (loader.block < 0) {
		if (elect_one())
			load_q(maps, here, loader.at.stage, item.row + ROWS * here.rank);
	} else {
		if (loader.block % 32 == 0 && loader.block + lane < item.blocks)
			loader.ids = p.pages[item.page + loader.block + lane];

		const int page = __shfl_sync(~0u, loader.ids, loader.block % 32);

		if (elect_one())
			load_keys<CTAS>(maps, here, loader.at.stage, page);
	}
	step(loader.at);
	loader.ahead++;
	if (++loader.block == item.blocks) {
		loader.block = -1;
		loader.item = next_with_keys(p, loader.item + 1, loader.end);
	}
}

/* Loads what can be loaded until the weights are there; waits for nothing while there is something
 * else to do. q has no weights. */
template <int CTAS>
static __device__ __forceinline__ void load_until(const decode_params &p, const decode_maps &maps,
						  const pair_place &here, pair_loader &loader,
						  const ring_place &at, bool is_q)
{
	const uint32_t weights = weights_of(here, at.stage);

	for (;;) {
		const bool left = loader.item < loader.end;

		if (left && __all_sync(~0u, mbarrier_test_cluster(here.base + EMPTY_AT +
									  8 * loader.at.stage,
								  loader.at.parity))) {
			load_next<CTAS>(p, maps, here, loader);
			continue;
		}
		if (is_q)
			break;
		if (!left || loader.ahead == STAGES) {
			mbarrier_wait(weights, at.parity);
			break;
		}
		if (__all_sync(~0u, mbarrier_test(weights, at.parity)))
			break;
	}
	__syncwarp(); /* wgmma wants the warp together */
}

/* ---- warpgroups 1 and 2: values -------------------------------------------------------------- */

/* Rows of keys that do not exist: their weights are 0, but they may hold NaN. */
static __device__ __forceinline__ void zero_rows(pair_stage &stage, int half, int tail)
{
	const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;

	for (int row = tail + warp; row < BLOCK; row += 4) {
		uint8_t *to = stage.panels[half] + row / 8 * GROUP + lane / 8 * CHUNK;

		*(uint4 *)(to + row % 8 * 128 + lane % 8 * 16) = make_uint4(0, 0, 0, 0);
	}
	fence_proxy_async();
	if (half == 0)
		barrier_sync<128>(SCORERS + 1);
	else
		barrier_sync<128>(SCORERS + 2);
}

/* o[64 rows, 256] += P V. */
static __device__ __forceinline__ void add_values(uint32_t stage, int half, bool first,
						  float (&o)[128])
{
	const uint64_t weights = wgmma_describe(stage + ROPE_AT, 16, 8 * 128, 128);
	const uint64_t values = wgmma_describe(stage + half * PANEL, CHUNK, GROUP, 128);

	wgmma_fence();
#pragma unroll
	for (int k = 0; k < 4; k++)
		wgmma<256, __nv_bfloat16, false, true>(o, wgmma_advance(weights, 32 * k),
						       wgmma_advance(values, 2 * GROUP * k),
						       k > 0 || !first);
	wgmma_commit();
	wgmma_wait<0>();
}

static __device__ __forceinline__ void store_zeros(const decode_params &p, const pair_place &here,
						   const decode_item &item, int half)
{
	const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;

	for (int row = warp; row < ROWS; row += 4) {
		__nv_bfloat16 *to = p.out + (size_t)(item.row + ROWS * here.rank + row) * CKV;

		((uint4 *)(to + half * 256))[lane] = make_uint4(0, 0, 0, 0);
	}
}

static __device__ __forceinline__ void store(const decode_params &p, const pair_place &here,
					     const decode_item &item, int half,
					     const float (&inverse)[2], const float (&o)[128])
{
	const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
	const int column = half * 256 + 2 * (lane % 4);

#pragma unroll
	for (int r = 0; r < 2; r++) {
		const size_t row = ROWS * here.rank + 16 * warp + lane / 4 + 8 * r;
		__nv_bfloat16 *out = p.out + (item.row + row) * CKV + column;
		float *partial = p.partial_out + (item.partial + row) * CKV + column;

#pragma unroll
		for (int i = 0; i < 32; i++) {
			const float x = o[4 * i + 2 * r] * inverse[r];
			const float y = o[4 * i + 2 * r + 1] * inverse[r];

			if (item.partial < 0)
				*(uint32_t *)(out + 8 * i) = pack<__nv_bfloat16>(x, y);
			else
				*(float2 *)(partial + 8 * i) = make_float2(x, y);
		}
	}
}

template <int CTAS>
static __device__ __forceinline__ void add_items(const decode_params &p, const decode_maps &maps,
						 pair_memory &memory, const pair_place &here,
						 int half)
{
	const int warp = __shfl_sync(~0u, threadIdx.x / 32 % 4, 0), lane = threadIdx.x % 32;
	const int end = p.begin[here.worker + 1], row = 16 * warp + lane / 4;
	const bool loads = half == 0 && warp == 0;
	ring_place at = {0, 0};
	uint32_t turn = 0; /* items with keys so far */
	pair_loader loader = {p.begin[here.worker], end, -1, 0, 0, {0, 1}};
	float o[128];

	loader.item = next_with_keys(p, loader.item, end);
#pragma unroll 1
	for (int i = p.begin[here.worker]; i < end; i++) {
		const decode_item &item = p.items[i];
		const int blocks = item.blocks;
		float inverse[2];

		if (!blocks) {
			store_zeros(p, here, item, half);
			continue;
		}
#pragma unroll 1
		for (int block = -1; block < blocks; block++) {
			const bool last = block == blocks - 1;

			if (loads)
				load_until<CTAS>(p, maps, here, loader, at, block < 0);
			else if (block >= 0)
				mbarrier_wait(weights_of(here, at.stage), at.parity);
			if (block >= 0) {
				if (block && memory.moved[at.stage][warp]) {
					const __nv_bfloat16 *factor = &memory.factor[at.stage][row];
					const float by[2] = {__bfloat162float(factor[0]),
							     __bfloat162float(factor[8])};

#pragma unroll
					for (int e = 0; e < 128; e++)
						o[e] *= by[e / 2 % 2];
				}
				if (last && item.tail < BLOCK)
					zero_rows(memory.ring[at.stage], half, item.tail);
				add_values(stage_of(here, at.stage), half, !block, o);
				if (last) {
					inverse[0] = memory.inverse[turn % 2][row];
					inverse[1] = memory.inverse[turn % 2][row + 8];
				}
				__syncwarp(); /* one lane speaks for what all of them read */
				if (elect_one())
					release<CTAS>(here, at.stage, 1);
			}
			loader.ahead--;
			step(at);
		}
		turn++;
		store(p, here, item, half, inverse, o);
	}
}

template <int CTAS>
static __global__ void __launch_bounds__(THREADS, 1)
	pair_decode(const __grid_constant__ decode_maps maps, const decode_params p)
{
	pair_memory &memory = dynamic_shared<pair_memory, 1024>();
	const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);
	pair_place here = {shared_address(&memory), 0, 0, blockIdx.x / CTAS};

	if (threadIdx.x == 0) {
		for (int stage = 0; stage < STAGES; stage++) {
			mbarrier_init(full_of(here, stage, 0), 1);
			mbarrier_init(full_of(here, stage, 1), 1);
			mbarrier_init(here.base + EMPTY_AT + 8 * stage, 8 * CTAS);
			mbarrier_init(weights_of(here, stage), 4);
		}
		mbarrier_init_fence();
	}
	if (CTAS == 2) {
		cluster_arrive();
		here.rank = cluster_rank();
		here.peer = map_to_rank(here.base, here.rank ^ 1);
		if (threadIdx.x == 128) {
			prefetch_tensor_map(&maps.q);
			prefetch_tensor_map(&maps.ckv);
		}
		cluster_wait();
	} else {
		__syncthreads();
	}
	if (warpgroup == 0) {
		registers_more<SCORER_REGISTERS>();
		score_items<CTAS>(p, memory, here);
	} else {
		registers_less<ADDER_REGISTERS>();
		add_items<CTAS>(p, maps, memory, here, warpgroup - 1);
	}
	if (CTAS == 2) /* the other block still writes here */
		cluster_sync();
}

/* ---- on the host ----------------------------------------------------------------------------- */

template <int CTAS> static int run_as(const char *name, const decode_shape &shape, uint64_t seed)
{
	decode_run run = decode_prepare(name, shape, CTAS * ROWS, ROWS, BLOCK / CTAS, seed);
	const launch_shape launch = {.blocks = WORKERS * CTAS,
				     .threads = THREADS,
				     .shared_bytes = sizeof(pair_memory),
				     .cluster = CTAS};

	case_did(run.test, allow_shared(sizeof(pair_memory), pair_decode<CTAS>), "shared memory");
	if (!run.test.error)
		case_did(run.test,
			 launch_kernel(launch, NULL, pair_decode<CTAS>, run.maps, run.params),
			 "launch");
	return decode_finish(run);
}

int pair_run(uint64_t seed)
{
	const decode_shape whole = {"whole", 128, 0, 3.f, {130, 0, 63, 300, 1}};
	const decode_shape split = {"split", 128, 2, 1.f, {200, 64, 0, 129}};
	const decode_shape peaked = {"peaked", 128, 0, 12.f, {0, 77, 0, 257, 128}};
	int failed = 0;

	failed += run_as<2>("pair", whole, seed);
	failed += run_as<2>("pair", split, seed);
	failed += run_as<2>("pair", peaked, seed);
	failed += run_as<1>("pair, alone", whole, seed);
	failed += run_as<1>("pair, alone", split, seed);
	return failed;
}
