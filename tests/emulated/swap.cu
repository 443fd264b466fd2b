/* swap.cu - decode for few heads. wgmma takes 64 rows at least, so keys become its rows and the 16
 * heads its columns:
 *   S^T[64 keys, 16] = K Q^T        O^T[512, 16] += V^T P^T
 * K and V are the same tile, V as a transposed A. One warpgroup computes, one warp more loads into
 * a ring of two stages.
 */
#include <stddef.h>

#include "tests/emulated/decode.cuh"

enum {
	HEADS = 16, /* of a tile; those beyond params.heads are computed and dropped */
	STAGES = 2,
	COMPUTERS = 128,
	THREADS = COMPUTERS + 32,
	WARPS = COMPUTERS / 32,
	MINE = HEADS / 4, /* heads of a thread: 8 (c / 2) + 2 (lane % 4) + c % 2 */
	BARRIER = 1,      /* of the computing warpgroup */
};

struct swap_stage {
	uint8_t panels[2][PANEL];
	uint8_t rope[BLOCK * 128];
};

struct swap_memory {
	swap_stage ring[STAGES];
	uint8_t q[2][HEADS / 8 * GROUP];
	uint8_t q_rope[HEADS * 128];
	uint8_t weights[HEADS * 128]; /* P [16 heads, 64 keys], swizzled */
	float part[WARPS][HEADS];     /* what the warps found, of each head */
	uint64_t full[STAGES], empty[STAGES], q_full, q_empty;
};

/* The stage whose turn it is, and the parity of its round. */
struct ring_place {
	uint32_t stage, parity;
};

static __device__ __forceinline__ void step(ring_place &at)
{
	at.stage ^= 1;
	at.parity ^= at.stage == 0;
}

/* ---- the loading warp ------------------------------------------------------------------------ */

static __device__ void load_q(const decode_maps &maps, const swap_memory &memory, int row)
{
	const uint32_t full = shared_address(&memory.q_full);

	mbarrier_expect(full, sizeof(memory.q) + sizeof(memory.q_rope));
	tma_load_4d(shared_address(memory.q[0]), &maps.q, 0, 0, 0, row / 8, full);
	tma_load_4d(shared_address(memory.q[1]), &maps.q, 0, 0, 4, row / 8, full);
	tma_load_2d(shared_address(memory.q_rope), &maps.q_rope, 0, row, full);
}

/* Keys are read once by one block: they need not stay in the L2 cache. */
static __device__ void load_keys(const decode_maps &maps, const swap_memory &memory, int stage,
				 int page)
{
	const uint32_t full = shared_address(&memory.full[stage]);
	const swap_stage &to = memory.ring[stage];
	const uint64_t policy = l2_evict_first();

	mbarrier_expect(full, sizeof(to));
	tma_load_2d_hint(shared_address(to.rope), &maps.kpe, 0, page * BLOCK, full, policy);
	tma_load_4d_hint(shared_address(to.panels[0]), &maps.ckv, 0, 0, 0, page * (BLOCK / 8), full,
			 policy);
	tma_load_4d_hint(shared_address(to.panels[1]), &maps.ckv, 0, 0, 4, page * (BLOCK / 8), full,
			 policy);
}

/* Lane 0 waits and loads; the others know the next pages. */
static __device__ void load_items(const decode_maps &maps, const decode_params &p,
				  const swap_memory &memory)
{
	const int lane = threadIdx.x % 32, end = p.begin[blockIdx.x + 1];
	ring_place at = {0, 0};
	uint32_t q_parity = 1; /* of the phase before the first: it has ended */

	for (int i = p.begin[blockIdx.x]; i < end; i++) {
		const decode_item item = p.items[i];
		int ids = 0; /* of 32 pages, one per lane */

		if (!item.blocks)
			continue;
		if (lane == 0) {
			mbarrier_wait(shared_address(&memory.q_empty), q_parity);
			load_q(maps, memory, item.row);
		}
		q_parity ^= 1;
		for (int block = 0; block < item.blocks; block++) {
			if (block % 32 == 0 && block + lane < item.blocks)
				ids = p.pages[item.page + block + lane];

			const int page = __shfl_sync(~0u, ids, block % 32);

			if (lane == 0) {
				mbarrier_wait(shared_address(&memory.empty[at.stage]),
					      at.parity ^ 1);
				load_keys(maps, memory, at.stage, page);
			}
			step(at);
		}
	}
}

/* ---- the computing warpgroup ----------------------------------------------------------------- */

/* s[64 keys, 16] = K Q^T. Thread: element i is key 16 warp + lane / 4 + 8 (i / 2 % 2), of its head
 * c = i / 4 * 2 + i % 2. */
static __device__ __forceinline__ void score(const swap_memory &memory, const swap_stage &stage,
					     float (&s)[HEADS / 2])
{
	const uint64_t k_rope = wgmma_describe(shared_address(stage.rope), 16, 8 * 128, 128);
	const uint64_t q_rope = wgmma_describe(shared_address(memory.q_rope), 16, 8 * 128, 128);

	wgmma_fence();
#pragma unroll
	for (int k = 0; k < 4; k++)
		wgmma<HEADS, __nv_bfloat16>(s, wgmma_advance(k_rope, 32 * k),
					    wgmma_advance(q_rope, 32 * k), k > 0);
#pragma unroll
	for (int panel = 0; panel < 2; panel++) {
		const uint64_t keys =
			wgmma_describe(shared_address(stage.panels[panel]), 16, GROUP, 128);
		const uint64_t q = wgmma_describe(shared_address(memory.q[panel]), 16, GROUP, 128);

#pragma unroll
		for (int k = 0; k < 16; k++)
			wgmma<HEADS, __nv_bfloat16>(
				s, wgmma_advance(keys, k / 4 * CHUNK + k % 4 * 32),
				wgmma_advance(q, k / 4 * CHUNK + k % 4 * 32), true);
	}
	wgmma_commit();
	wgmma_wait<0>();
}

/* Keys that do not exist: no score, and no NaN that a weight of 0 would be multiplied with. */
static __device__ __forceinline__ void cut_tail(swap_stage &stage, int tail, float (&s)[HEADS / 2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

	barrier_sync<COMPUTERS>(BARRIER); /* the scores of other warps may still read the rows */
#pragma unroll
	for (int i = 0; i < HEADS / 2; i++)
		if (16 * warp + lane / 4 + 8 * (i / 2 % 2) >= tail)
			s[i] = -CUDART_INF_F;
	for (int row = tail + warp; row < BLOCK; row += WARPS)
#pragma unroll
		for (int panel = 0; panel < 2; panel++) {
			uint8_t *to = stage.panels[panel] + row / 8 * GROUP + lane / 8 * CHUNK;

			*(uint4 *)(to + row % 8 * 128 + lane % 8 * 16) = make_uint4(0, 0, 0, 0);
		}
}

/* Each head's maximum or sum over the keys: over the eight lanes that have it, then over the warps,
 * by way of part, in a fixed order. */
template <typename Combine>
static __device__ __forceinline__ void over_keys(swap_memory &memory, float (&x)[MINE],
						 Combine combine)
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

#pragma unroll
	for (int c = 0; c < MINE; c++) {
		for (int bit = 4; bit < 32; bit *= 2)
			x[c] = combine(x[c], __shfl_xor_sync(~0u, x[c], bit));
		if (lane < 4)
			memory.part[warp][c / 2 * 8 + 2 * lane + c % 2] = x[c];
	}
	barrier_sync<COMPUTERS>(BARRIER);
#pragma unroll
	for (int c = 0; c < MINE; c++) {
		const int head = c / 2 * 8 + 2 * (lane % 4) + c % 2;

		x[c] = memory.part[0][head];
		for (int w = 1; w < WARPS; w++)
			x[c] = combine(x[c], memory.part[w][head]);
	}
	barrier_sync<COMPUTERS>(BARRIER); /* before part is written again */
}

/* The references m follow the maxima, by whole powers of two, so that moving one is exact; never
 * back, but for the first block, which sets them. */
static __device__ __forceinline__ void move(swap_memory &memory, bool first, float (&s)[HEADS / 2],
					    float (&m)[MINE], float (&l)[MINE],
					    float (&o)[8][HEADS / 2])
{
	float by[MINE];

#pragma unroll
	for (int c = 0; c < MINE; c++)
		by[c] = fmaxf(s[c / 2 * 4 + c % 2], s[c / 2 * 4 + c % 2 + 2]);
	over_keys(memory, by, [](float a, float b) { return fmaxf(a, b); });
#pragma unroll
	for (int c = 0; c < MINE; c++) {
		const int i = c / 2 * 4 + c % 2;

		by[c] = first ? ceilf(by[c]) : fmaxf(ceilf(by[c]), 0.f);
		m[c] += by[c];
		s[i] -= by[c];
		s[i + 2] -= by[c];
		if (!first) {
			const float shrink = exp2_approx(-by[c]);

			l[c] *= shrink;
#pragma unroll
			for (int b = 0; b < 8; b++) {
				o[b][i] *= shrink;
				o[b][i + 2] *= shrink;
			}
		}
	}
}

/* P, rounded to bf16, to shared memory: heads are rows there, so each matrix is transposed. */
static __device__ __forceinline__ void store_weights(const swap_memory &memory,
						     const float (&s)[HEADS / 2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int unit = 2 * warp + lane / 8 % 2; /* 8 keys */
	const uint32_t to = shared_address(memory.weights) + lane / 16 * 1024 + lane % 8 * 128;
	uint32_t pairs[4];

#pragma unroll
	for (int i = 0; i < 4; i++)
		pairs[i] = pack<__nv_bfloat16>(s[2 * i], s[2 * i + 1]);
	stmatrix_x4_trans(to + (unit ^ lane % 8) * 16, pairs);
}

/* o[512, 16] += V^T P^T, 64 dimensions each time. */
static __device__ __forceinline__ void
add_values(const swap_memory &memory, const swap_stage &stage, bool first, float (&o)[8][HEADS / 2])
{
	const uint64_t weights = wgmma_describe(shared_address(memory.weights), 16, 8 * 128, 128);

	wgmma_fence();
#pragma unroll
	for (int b = 0; b < 8; b++) {
		const uint64_t values = wgmma_describe(
			shared_address(stage.panels[b / 4]) + b % 4 * CHUNK, 16, GROUP, 128);

#pragma unroll
		for (int k = 0; k < 4; k++)
			wgmma<HEADS, __nv_bfloat16, true>(
				o[b], wgmma_advance(values, 2 * GROUP * k),
				wgmma_advance(weights, 32 * k), k > 0 || !first);
	}
	wgmma_commit();
	wgmma_wait<0>();
}

static __device__ __forceinline__ void store(const decode_params &p, const decode_item &item,
					     const float (&m)[MINE], const float (&l)[MINE],
					     const float (&o)[8][HEADS / 2])
{
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

#pragma unroll
	for (int c = 0; c < MINE; c++) {
		const int head = c / 2 * 8 + 2 * (lane % 4) + c % 2;
		const float inverse = l[c] > 0.f ? 1.f / l[c] : 0.f;
		const float lse = m[c] * 0.693147180559945309417f + logf(l[c]);
		const size_t row = (size_t)(item.partial < 0 ? item.row : item.partial) + head;

		if (head >= p.heads)
			continue;
		if (warp == 0 && lane < 4)
			(item.partial < 0 ? p.lse : p.partial_lse)[row] =
				l[c] > 0.f ? lse : -CUDART_INF_F;
#pragma unroll
		for (int b = 0; b < 16; b++) {
			const size_t at = row * CKV + b / 2 * 64 + 16 * warp + lane / 4 + b % 2 * 8;
			const float value =
				item.blocks ? o[b / 2][c / 2 * 4 + c % 2 + b % 2 * 2] * inverse
					    : 0.f;

			if (item.partial < 0)
				p.out[at] = __float2bfloat16_rn(value);
			else
				p.partial_out[at] = value;
		}
	}
}

static __device__ void compute_items(const decode_params &p, swap_memory &memory)
{
	const int lane = threadIdx.x % 32, end = p.begin[blockIdx.x + 1];
	ring_place at = {0, 0};
	uint32_t q_parity = 0;

	for (int i = p.begin[blockIdx.x]; i < end; i++) {
		const decode_item item = p.items[i];
		float m[MINE] = {}, l[MINE] = {}, o[8][HEADS / 2];

		if (item.blocks) { /* others have no q, and do not count */
			mbarrier_wait(shared_address(&memory.q_full), q_parity);
			q_parity ^= 1;
		}
#pragma unroll 1
		for (int block = 0; block < item.blocks; block++) {
			swap_stage &stage = memory.ring[at.stage];
			const bool last = block == item.blocks - 1;
			float s[HEADS / 2], top = -CUDART_INF_F;

			mbarrier_wait(shared_address(&memory.full[at.stage]), at.parity);
			score(memory, stage, s);
			if (last && lane == 0)
				mbarrier_arrive(shared_address(&memory.q_empty));
			if (last && item.tail < BLOCK)
				cut_tail(stage, item.tail, s);
#pragma unroll
			for (int j = 0; j < HEADS / 2; j++) {
				s[j] = fmaf(s[j], p.scale, -m[j / 4 * 2 + j % 2]);
				top = fmaxf(top, s[j]);
			}
			/* A score may be 8 above its reference, a weight up to 256. */
			if (barrier_or<COMPUTERS>(BARRIER, block == 0 || top > 8.f))
				move(memory, block == 0, s, m, l, o);
#pragma unroll
			for (int j = 0; j < HEADS / 2; j++) {
				s[j] = exp2_approx(s[j]);
				l[j / 4 * 2 + j % 2] += s[j];
			}
			store_weights(memory, s);
			fence_proxy_async(); /* of weights, and of rows that were zeroed */
			barrier_sync<COMPUTERS>(BARRIER);
			add_values(memory, stage, block == 0, o);
			if (lane == 0)
				mbarrier_arrive(shared_address(&memory.empty[at.stage]));
			step(at);
		}
		over_keys(memory, l, [](float a, float b) { return a + b; });
		store(p, item, m, l, o);
	}
}

static __global__ void __launch_bounds__(THREADS, 1)
	swap_decode(const __grid_constant__ decode_maps maps, const decode_params p)
{
	swap_memory &memory = dynamic_shared<swap_memory, 1024>();

	if (threadIdx.x == 0) {
		for (int i = 0; i < STAGES; i++) {
			mbarrier_init(shared_address(&memory.full[i]), 1);
			mbarrier_init(shared_address(&memory.empty[i]), WARPS);
		}
		mbarrier_init(shared_address(&memory.q_full), 1);
		mbarrier_init(shared_address(&memory.q_empty), WARPS);
		mbarrier_init_fence();
	}
	__syncthreads();
	if (threadIdx.x < COMPUTERS)
		compute_items(p, memory);
	else
		load_items(maps, p, memory);
}

/* ---- on the host ----------------------------------------------------------------------------- */

int swap_run(uint64_t seed)
{
	const decode_shape shapes[] = {
		{"whole", 16, 0, 3.f, {130, 0, 63, 300, 1}},
		{"split", 16, 2, 1.f, {200, 64, 0, 129}},
		{"8 heads, peaked", 8, 0, 12.f, {77, 320, 0, 0, 64}},
	};
	int failed = 0;

	for (const decode_shape &shape : shapes) {
		decode_run run = decode_prepare("swap", shape, HEADS, HEADS, BLOCK, seed);

		case_did(run.test, allow_shared(sizeof(swap_memory), swap_decode), "shared memory");
		if (!run.test.error)
			case_did(run.test,
				 launch_kernel({WORKERS, THREADS, sizeof(swap_memory)}, NULL,
					       swap_decode, run.maps, run.params),
				 "launch");
		failed += decode_finish(run);
	}
	return failed;
}
