/* 08_tall - 64 rows per block, in two groups that take turns.
 *
 * Teaches  register blocking on the tensor cores: what counts is for how many products a fragment
 *          that was read from shared memory is used. A warp takes 32 rows x 128 columns of P V, so
 *          that each byte of V feeds twice the products of 07_ldmatrix, and each key goes through
 *          L2 once per 64 rows. Two groups of warps half a step apart, so that one multiplies while
 *          the other works out its weights. A maximum that may lag, so that acc is seldom rescaled.
 * Keeps    per thread: m and l of a quarter row; per warp: acc of 32 rows x 128 columns, and q of
 *          32 rows x 32 dimensions.
 * Costs    fewer than 33 rows in a tile leave one group idle; four partial sums of each score go
 *          through shared memory; a fragment still passes through registers.
 * Next     Hopper's wgmma reads shared memory itself.
 *
 * Warps 0 to 3 have the first 32 rows, warps 4 to 7 the others; they share the tiles and nothing
 * else. Inside a group: Q K^T, each warp all 32 keys and every fourth step of 16 dimensions (the
 * four sums of a score meet in shared memory); softmax, four threads per row; P V, each warp 128
 * columns. Between two barriers the first group does Q K^T, softmax and P V of tile i, the second
 * P V of tile i - 1, then Q K^T and softmax of tile i.
 */
#include "parts/deepseek.cuh"
#include "parts/launch.cuh"
#include "parts/tile_sm80.cuh"

enum {
	ROWS = 64,
	STAGES = 3, /* tile i - 1, tile i, and tile i + 1 on its way */
	QUARTERS = 4,
	STEPS = DIMS / 16 / QUARTERS, /* of 16 dimensions, per warp */
	HELD = 2,                     /* of them with q in registers */
	PITCH = KEYS + 8,             /* of scores and weights: shifts the banks from row to row */
	COLUMNS = CKV / 4,            /* of out, per warp */
	TILES = COLUMNS / 8,          /* of 8 columns, per warp */
	OUT_PITCH = CKV + 8,          /* of finished rows on their way out */
};

/* Tiles and q are swizzled. */
template <typename T> struct tile_memory {
	T q[ROWS][DIMS];
	T kv[STAGES][KEYS][DIMS];
	float s[QUARTERS][ROWS][PITCH]; /* scores, a quarter of the dimensions each */
	T w[ROWS][PITCH];               /* weights */
	float shrink[ROWS], l[ROWS];
	mla_work items[WARPS]; /* the same, a copy per warp */
};

/* How much the maximum may grow before acc is rescaled, in powers of two. */
static constexpr float SLACK = 8.f;

/* fp16 weights have that much less room below 65,504. */
template <typename T>
static constexpr float shift = weight_shift<T> > SLACK ? weight_shift<T> - SLACK : 0.f;

/* Page and slot of this lane's key of a tile (lane % MINE of the warp's keys); read one tile ahead,
 * because the copies cannot start before the page table answers. Beyond the end the page is -1 and
 * zeros are written: a weight of 0 times a NaN in an unused slot would be NaN. */
struct fetch {
	int page, slot;
};

static __device__ fetch look_up(const mla_params &p, const mla_work &item, int first)
{
	const int key = first + threadIdx.x / 32 * MINE + threadIdx.x % MINE;

	if (key >= item.kv_end)
		return {-1, 0};

	const int page = key / p.page_size;

	return {p.kv_indices[item.page_begin + page], key - page * p.page_size};
}

/* Starts the copies of the warp's keys, as one group: 64 chunks of 16 bytes of each ckv, 8 of each
 * kpe. Each lane works out one key's addresses; the warp passes them around. */
static __device__ void start_copies(const mla_params &p, const fetch &from, uint32_t tile)
{
	const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * MINE;
	const long long ckv = (long long)row_of(p.ckv, max(from.page, 0), from.slot);
	const long long kpe = (long long)row_of(p.kpe, max(from.page, 0), from.slot);
	const int mine = from.page < 0 ? 0 : 16;

#pragma unroll
	for (int k = 0; k < MINE; k++) {
		const char *source = (const char *)__shfl_sync(~0u, ckv, k) + lane * 16;
		const uint32_t target = tile + swizzled(first + k, lane);
		const int bytes = __shfl_sync(~0u, mine, k);

		cp_async_16(target, source, bytes);
		cp_async_16(target + 32 * 16, source + 32 * 16, bytes);
	}

	const int k = lane / 8, chunk = lane % 8; /* four keys, eight lanes each */

	cp_async_16(tile + swizzled(first + k, CKV / 8 + chunk),
		    (const char *)__shfl_sync(~0u, kpe, k) + chunk * 16, __shfl_sync(~0u, mine, k));
	cp_async_commit();
}

/* The first HELD steps of this warp's q, to registers. */
static __device__ void hold_q(uint32_t q, uint32_t (&held)[HELD][2][4])
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const uint32_t a_at = q + swizzled(warp / 4 * 32 + lane % 16, warp % 4 * 2 + lane / 16);

#pragma unroll
	for (int k = 0; k < HELD; k++) {
		ldmatrix_x4(held[k][0], a_at + k * 128);
		ldmatrix_x4(held[k][1], a_at + k * 128 + 16 * DIMS * 2);
	}
}

/* Scores of 32 rows x 32 keys over every fourth step of 16 dimensions. A step is two chunks, so
 * four steps are 128 bytes: the steps of a warp lie 128 bytes apart, in the same swizzled place. */
template <typename T>
static __device__ void scores(uint32_t q, uint32_t tile, const uint32_t (&held)[HELD][2][4],
			      float (*s)[ROWS][PITCH])
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int row = warp / 4 * 32, quarter = warp % 4;
	const uint32_t a_at = q + swizzled(row + lane % 16, quarter * 2 + lane / 16);
	const uint32_t b_at = tile + swizzled(lane / 16 * 8 + lane % 8, quarter * 2 + lane / 8 % 2);
	float d[2][KEYS / 8][4] = {};

#pragma unroll
	for (int k = 0; k < STEPS; k++) {
		uint32_t a[2][4], b[2][4]; /* 16 rows each; 16 keys each */

#pragma unroll
		for (int i = 0; i < 2; i++) {
			if (k < HELD)
				for (int j = 0; j < 4; j++)
					a[i][j] = held[k][i][j];
			else
				ldmatrix_x4(a[i], a_at + k * 128 + i * 16 * DIMS * 2);
			ldmatrix_x4(b[i], b_at + k * 128 + i * 16 * DIMS * 2);
		}
#pragma unroll
		for (int i = 0; i < 2; i++)
#pragma unroll
			for (int n = 0; n < KEYS / 8; n++)
				mma_m16n8k16<T>(d[i][n], a[i], b[n / 2][n % 2 * 2],
						b[n / 2][n % 2 * 2 + 1]);
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int n = 0; n < KEYS / 8; n++)
			*(float2 *)&s[quarter][row + i * 8 + lane / 4][n * 8 + lane % 4 * 2] =
				make_float2(d[i / 2][n][i % 2 * 2], d[i / 2][n][i % 2 * 2 + 1]);
}

/* What a thread keeps of the online softmax of row threadIdx.x / 4, in powers of two. l sums this
 * thread's keys only. */
struct softmax_state {
	float m, l;
	int limit; /* keys of this row that are seen */
};

/* Weights of eight keys of one row, from 8 (threadIdx.x % 4) on. Odd rows take their halves in the
 * other order, so that two rows do not meet in the same banks. */
template <typename T>
static __device__ void softmax(tile_memory<T> &shared, float scale, int first, softmax_state &state)
{
	const int row = threadIdx.x / 4, mine = threadIdx.x % 4 * 8;
	float x[8], top = state.m, sum = 0.f;

#pragma unroll
	for (int h = 0; h < 2; h++) {
		const int key = mine + (h ^ row % 2) * 4;
		float4 score = *(const float4 *)&shared.s[0][row][key];

#pragma unroll
		for (int i = 1; i < QUARTERS; i++) {
			const float4 more = *(const float4 *)&shared.s[i][row][key];
			score.x += more.x;
			score.y += more.y;
			score.z += more.z;
			score.w += more.w;
		}
		const int seen = state.limit - first - key; /* of these four keys */

		x[h * 4 + 0] = 0 < seen ? score.x * scale : -CUDART_INF_F;
		x[h * 4 + 1] = 1 < seen ? score.y * scale : -CUDART_INF_F;
		x[h * 4 + 2] = 2 < seen ? score.z * scale : -CUDART_INF_F;
		x[h * 4 + 3] = 3 < seen ? score.w * scale : -CUDART_INF_F;
	}
#pragma unroll
	for (int j = 0; j < 8; j++)
		top = fmaxf(top, x[j]);
	top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
	top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
	/* The reference follows the maximum only when it has grown by more than 2^SLACK: a weight
	 * may exceed 1 by that much, and acc is seldom rescaled. Nothing seen so far: any finite
	 * reference keeps -inf - m from being NaN. */
	if (top <= __fadd_rd(state.m, SLACK))
		top = state.m;

	const float m = top == -CUDART_INF_F ? 0.f : top;
	const float ratio = exp2_approx(state.m - m);
	/* rounded up, or a huge m would let a weight grow beyond 2^(shift + SLACK) */
	const float reference = __fsub_ru(m, shift<T>);

#pragma unroll
	for (int j = 0; j < 8; j++) {
		x[j] = exp2_approx(x[j] - reference);
		sum += x[j];
	}
	state.l = state.l * ratio + sum;
	state.m = top;
	if (mine == 0)
		shared.shrink[row] = ratio;
#pragma unroll
	for (int h = 0; h < 2; h++)
		*(uint2 *)&shared.w[row][mine + (h ^ row % 2) * 4] = make_uint2(
			pack<T>(x[h * 4], x[h * 4 + 1]), pack<T>(x[h * 4 + 2], x[h * 4 + 3]));
}

/* acc = acc * shrink + P V for this warp's 32 rows and 128 columns. */
template <typename T>
static __device__ void values(uint32_t tile, uint32_t w, const float *shrink,
			      float (&acc)[2][TILES][4])
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int row = warp / 4 * 32;
	/* 128-byte aligned but for the swizzled bits 4 to 6, so that chunk n is an xor away */
	const uint32_t v = tile + swizzled(lane % 16, warp % 4 * TILES + lane / 16);
	float by[2][2];
	bool same = true;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		by[i / 2][i % 2] = shrink[row + i * 8 + lane / 4];
		same = same && by[i / 2][i % 2] == 1.f;
	}
	if (!__all_sync(~0u, same)) { /* once the maxima have settled, there is nothing to shrink */
#pragma unroll
		for (int i = 0; i < 2; i++)
#pragma unroll
			for (int n = 0; n < TILES; n++) {
				acc[i][n][0] *= by[i][0];
				acc[i][n][1] *= by[i][0];
				acc[i][n][2] *= by[i][1];
				acc[i][n][3] *= by[i][1];
			}
	}
#pragma unroll
	for (int k = 0; k < KEYS / 16; k++) {
		uint32_t a[2][4];

#pragma unroll
		for (int i = 0; i < 2; i++)
			ldmatrix_x4(a[i], w + ((row + i * 16 + lane % 16) * PITCH + k * 16 +
					       lane / 16 * 8) *
							  2);
#pragma unroll
		for (int n = 0; n < TILES; n += 2) {
			uint32_t b[4]; /* 16 keys x 16 columns, transposed */

			ldmatrix_x4_trans(b, (v ^ n % 8 * 16) + n / 8 * 128 + k * 16 * DIMS * 2);
#pragma unroll
			for (int i = 0; i < 2; i++) {
				mma_m16n8k16<T>(acc[i][n], a[i], b[0], b[1]);
				mma_m16n8k16<T>(acc[i][n + 1], a[i], b[2], b[3]);
			}
		}
	}
}

/* A barrier of the 128 threads that share 32 rows. Barrier 0 is __syncthreads. */
static __device__ void group_sync()
{
	barrier_sync<128>(1 + threadIdx.x / 128);
}

/* lse of this thread's row to its place, and the row's l to shared memory. */
template <typename T>
static __device__ void store_lse(const mla_params &p, const mla_work &item,
				 const softmax_state &state, float *shared_l)
{
	const int r = threadIdx.x / 4, row = item.row_begin + r;
	float l = state.l;

	l += __shfl_xor_sync(~0u, l, 1);
	l += __shfl_xor_sync(~0u, l, 2);
	if (threadIdx.x % 4)
		return;
	shared_l[r] = l;
	if (row >= item.row_end)
		return;

	const float lse = lse_of_row(state.m, shift<T>, l);

	if (item.partial >= 0)
		p.partial_lse[(int64_t)item.partial + r] = lse;
	else if (p.lse.data)
		*(float *)row_of(p.lse, item.q_begin + row / p.num_heads, row % p.num_heads) =
			lse * p.lse_mul;
}

/* Four neighbouring elements, index a multiple of 4. */
static __device__ __forceinline__ void store_four(char *row, int index, int dtype, float4 x)
{
	if (dtype == MLA_F32)
		((float4 *)row)[index / 4] = x;
	else if (dtype == MLA_BF16)
		((uint2 *)row)[index / 4] =
			make_uint2(pack<__nv_bfloat16>(x.x, x.y), pack<__nv_bfloat16>(x.z, x.w));
	else
		((uint2 *)row)[index / 4] =
			make_uint2(pack<__half>(x.x, x.y), pack<__half>(x.z, x.w));
}

/* acc / l to out, or to the partial states. The fragments of 16 rows at a time go through shared
 * memory, so that a warp writes whole rows: 32 bytes here and there would take four times as many
 * passes. rows: this group's q, which nobody reads any more. */
static __device__ void store_out(const mla_params &p, const mla_work &item, const float *l,
				 float (*rows)[OUT_PITCH], const float (&acc)[2][TILES][4])
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const bool whole = item.partial < 0;

#pragma unroll
	for (int half = 0; half < 2; half++) {
		const int begin = warp / 4 * 32 + half * 16;

#pragma unroll
		for (int i = 0; i < 2; i++) {
			const int r = i * 8 + lane / 4;
			const float sum = l[begin + r], inverse = 1.f / sum;
			const bool empty =
				sum == 0.f; /* acc may be NaN even so: 0 times an infinite value */

#pragma unroll
			for (int n = 0; n < TILES; n++)
				*(float2 *)&rows[r][warp % 4 * COLUMNS + n * 8 + lane % 4 * 2] =
					empty ? make_float2(0.f, 0.f)
					      : make_float2(acc[half][n][i * 2] * inverse,
							    acc[half][n][i * 2 + 1] * inverse);
		}
		group_sync();
		for (int r = warp % 4; r < 16; r += 4) {
			const int row = item.row_begin + begin + r;

			if (row >= item.row_end)
				break;

			char *out = whole ? row_of(p.out, item.q_begin + row / p.num_heads,
						   row % p.num_heads)
					  : (char *)(p.partial_out +
						     ((int64_t)item.partial + begin + r) * CKV);
#pragma unroll
			for (int c = lane * 4; c < CKV; c += 128)
				store_four(out, c, whole ? p.out.dtype : MLA_F32,
					   *(const float4 *)&rows[r][c]);
		}
		group_sync();
	}
}

template <typename T>
static __device__ void attend(const mla_params &p, const mla_work &item, tile_memory<T> &shared)
{
	const uint32_t q = shared_address(shared.q), w = shared_address(shared.w);
	const uint32_t ring = shared_address(shared.kv), stage_bytes = sizeof(shared.kv[0]);
	const int row = item.row_begin + threadIdx.x / 4;
	const float scale = p.sm_scale * 1.44269504088896340736f;
	softmax_state state = {-CUDART_INF_F, 0.f,
			       min(item.kv_end, item.q_pos0 + row / p.num_heads + 1)};
	float acc[2][TILES][4] = {};
	fetch next = look_up(p, item, item.kv_begin);

	copy_q<ROWS>(p, item, q); /* joins the first tile's group */
	start_copies(p, next, ring);
	next = look_up(p, item, item.kv_begin + KEYS);

	const bool second = threadIdx.x >= THREADS / 2;
	const bool idle = second && item.row_begin + ROWS / 2 >= item.row_end;
	const int tiles = (item.kv_end - item.kv_begin + KEYS - 1) / KEYS;
	uint32_t held[HELD][2][4];

	cp_async_wait<0>();
	__syncthreads();
	hold_q(q, held);
	for (int i = 0; i < tiles; i++) {
		const uint32_t tile = ring + i % STAGES * stage_bytes;
		const int first = item.kv_begin + i * KEYS;

		cp_async_wait<0>();
		__syncthreads(); /* tile i is here, and nobody reads tile i - 2 any more */
		if (second) {
			start_copies(p, next, ring + (i + 1) % STAGES * stage_bytes);
			next = look_up(p, item, first + 2 * KEYS); /* past the end: zeros */
		}
		if (second && i > 0 && !idle)
			values<T>(ring + (i - 1) % STAGES * stage_bytes, w, shared.shrink, acc);
		if (idle)
			continue;
		scores<T>(q, tile, held, shared.s);
		group_sync();
		softmax(shared, scale, first, state);
		if (!second) { /* here, where this group leaves the tensor cores alone anyway */
			start_copies(p, next, ring + (i + 1) % STAGES * stage_bytes);
			next = look_up(p, item, first + 2 * KEYS);
		}
		group_sync();
		if (!second)
			values<T>(tile, w, shared.shrink, acc);
	}
	if (second && tiles > 0 && !idle)
		values<T>(ring + (tiles - 1) % STAGES * stage_bytes, w, shared.shrink, acc);
	store_lse<T>(p, item, state, shared.l);
	group_sync();
	store_out(p, item, shared.l, (float(*)[OUT_PITCH])shared.q[second * (ROWS / 2)], acc);
	cp_async_wait<0>();
	__syncthreads(); /* before q, the ring and l are overwritten */
}

template <typename T> static __global__ void __launch_bounds__(THREADS, 1) tall(const mla_params p)
{
	tile_memory<T> &shared = dynamic_shared<tile_memory<T>, 128>();
	mla_work &item = shared.items[threadIdx.x / 32];

	each_item(p, item, [&] { attend<T>(p, item, shared); });
}

static const char *refuses(const mla_config *config, const mla_device *device)
{
	const int need = sizeof(tile_memory<__half>);

	if (need > device->smem_per_block)
		return mla_why("it needs %d bytes of shared memory, this GPU has %d", need,
			       device->smem_per_block);
	return refuse_other_than_deepseek(config);
}

static void traits(const mla_config *, const mla_device *, mla_traits *t)
{
	t->ctas_per_sm = 1;
	t->item_cost = 128;
	t->merge_cost = 80; /* some 2.5 us */
	t->merge = MLA_MERGE_SEPARATE;
	t->align = 16;
}

static cudaError_t prepare(const mla_config *, const mla_device *)
{
	return allow_shared(sizeof(tile_memory<__half>), tall<__nv_bfloat16>, tall<__half>);
}

static cudaError_t run(const mla_launch *launch, cudaStream_t stream)
{
	void (*const kernel)(mla_params) =
		launch->config->q_dtype == MLA_BF16 ? tall<__nv_bfloat16> : tall<__half>;
	const launch_shape shape = {
		.blocks = launch->num_workers,
		.threads = THREADS,
		.shared_bytes = sizeof(tile_memory<__half>), /* both types are two bytes wide */
		.early = starts_early(launch),
	};

	return launch_kernel(shape, stream, kernel, launch->params);
}

MLA_KERNEL_DESCRIPTOR(08_tall) = {
	.abi = MLA_KERNEL_ABI,
	.summary = "64 rows per block in two groups that take turns, fragments used twice as often",
	.ideas = "tall",
	.threads = THREADS,
	.cluster = 1,
	.tile_rows = ROWS,
	.kv_granule = KEYS,
	.fixed_split = true,
	.refuses = refuses,
	.traits = traits,
	.prepare = prepare,
	.run = run,
};
