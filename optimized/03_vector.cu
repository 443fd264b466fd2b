/* 03_vector - one warp per packed row; a key comes in 16-byte loads and stays in registers.
 *
 * Teaches  wide, coalesced loads: a warp reads 512 bytes with one instruction, and several keys are
 *          under way before the first is needed. Absorption makes the latent key the value too, so
 *          each byte of ckv is loaded once per row.
 * Keeps    m and l the same in all lanes, acc of one row spread over the lanes, in registers. No
 *          shared memory, no barrier: a row is one warp's own business.
 * Costs    every row still loads every key by itself; the eight rows of a block only hope to meet
 *          in L1. Loading and widening an element to fp32 serves two multiply-adds, of one row.
 *          Expected on an H200, batch 64, 8K keys, 16 heads: 5 to 8 % of the read stream (an
 *          estimate).
 * Next     04_tiled stages a tile of keys in shared memory, once for 16 rows.
 *
 * A key is 64 chunks of 16 bytes of ckv and 8 of kpe. Lane l holds chunks l and l + 32 of ckv, that
 * is columns 8 l .. 8 l + 7 and 256 more. The 8 chunks of kpe would leave 24 lanes idle, so keys
 * are taken four at a time: lane l holds chunk l % 8 of the kpe of key l / 8.
 */
#include "parts/deepseek.cuh"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/reduce.cuh"

enum {
	WARPS = 8,
	THREADS = WARPS * 32,
	BLOCKS_PER_SM = 2,
	CKV = 512,
	KEYS = 4,    /* per step: under way together, one rescaling of acc */
	LOOK_UP = 32 /* keys whose pages are looked up together, one per lane */
};

/* Eight elements of a chunk as floats. */
template <typename T>
static __device__ __forceinline__ void widen(const uint4 &chunk, float (&x)[8])
{
	const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};

#pragma unroll
	for (int i = 0; i < 4; i++) {
		const float2 pair = unpack<T>(words[i]);

		x[2 * i] = pair.x;
		x[2 * i + 1] = pair.y;
	}
}

template <typename T>
static __device__ __forceinline__ float dot(const uint4 &chunk, const float (&q)[8], float sum)
{
	float x[8];

	widen<T>(chunk, x);
#pragma unroll
	for (int i = 0; i < 8; i++)
		sum = fmaf(x[i], q[i], sum);
	return sum;
}

/* What a lane holds of a query ... */
struct query_part {
	float nope[2][8], pe[8];
};

template <typename T> static __device__ query_part load_q(const mla_params &p, int query, int head)
{
	const int lane = threadIdx.x % 32;
	const uint4 *nope = (const uint4 *)row_of(p.q_nope, query, head);
	query_part q;

	widen<T>(nope[lane], q.nope[0]);
	widen<T>(nope[lane + 32], q.nope[1]);
	widen<T>(((const uint4 *)row_of(p.q_pe, query, head))[lane % 8], q.pe);
	return q;
}

/* ... and of four keys. */
struct keys_part {
	uint4 ckv[KEYS][2], kpe;
};

/* Page and slot of this lane's key; from the end on the page is -1. */
struct fetch {
	int page, slot;
};

static __device__ fetch look_up(const mla_params &p, const mla_work &item, int key, int end)
{
	if (key >= end)
		return {-1, 0};

	const int page = key / p.page_size;

	return {p.kv_indices[item.page_begin + page], key - page * p.page_size};
}

/* Where this lane's key lies; NULL from the end on. */
struct key_rows {
	const char *ckv, *kpe;
};

static __device__ key_rows rows_of(const mla_params &p, const fetch &at)
{
	if (at.page < 0)
		return {NULL, NULL};
	return {row_of(p.ckv, at.page, at.slot), row_of(p.kpe, at.page, at.slot)};
}

static __device__ __forceinline__ const uint4 *from_lane(const char *row, int lane)
{
	return (const uint4 *)__shfl_sync(~0u, (uintptr_t)row, lane);
}

/* Four keys, those of lanes first .. first + 3. Keys from the end on are zero: their slots may hold
 * NaN, and a weight of 0 times a NaN would be NaN. __ldg, because of a pointer that came by shuffle
 * the compiler does not know that it points to global memory. */
static __device__ __forceinline__ keys_part load_keys(const key_rows &rows, int first)
{
	const int lane = threadIdx.x % 32;
	keys_part keys = {};

#pragma unroll
	for (int k = 0; k < KEYS; k++) {
		const uint4 *ckv = from_lane(rows.ckv, first + k);

		if (ckv) {
			keys.ckv[k][0] = __ldg(ckv + lane);
			keys.ckv[k][1] = __ldg(ckv + lane + 32);
		}
	}

	const uint4 *kpe = from_lane(rows.kpe, first + lane / 8);

	if (kpe)
		keys.kpe = __ldg(kpe + lane % 8);
	return keys;
}

/* q . key of key lane / 8, the same in its eight lanes. Four sums over 32 lanes, in six shuffles
 * instead of twenty: while there is more than one key per lane, partners trade keys, each keeping
 * half of them. */
template <typename T>
static __device__ __forceinline__ float scores(const query_part &q, const keys_part &keys)
{
	const bool upper = threadIdx.x & 16, odd = threadIdx.x & 8;
	float s[KEYS];

#pragma unroll
	for (int k = 0; k < KEYS; k++)
		s[k] = dot<T>(keys.ckv[k][1], q.nope[1], dot<T>(keys.ckv[k][0], q.nope[0], 0.f));

	/* keys 0, 1 to the lower lanes, 2, 3 to the upper */
	const float even_key =
		(upper ? s[2] : s[0]) + __shfl_xor_sync(~0u, upper ? s[0] : s[2], 16);
	const float odd_key = (upper ? s[3] : s[1]) + __shfl_xor_sync(~0u, upper ? s[1] : s[3], 16);
	float sum = (odd ? odd_key : even_key) + __shfl_xor_sync(~0u, odd ? even_key : odd_key, 8);

	sum += dot<T>(keys.kpe, q.pe, 0.f); /* of the very key whose sum this lane keeps */
	for (int lane = 4; lane; lane /= 2)
		sum += __shfl_xor_sync(~0u, sum, lane);
	return sum;
}

/* The online softmax of a row, in powers of two; m and l are the same in all lanes. */
struct row_state {
	float m, l;
	float acc[2][8]; /* of columns 8 lane .. 8 lane + 7, and 256 more */
};

/* Adds four keys; score: of key lane / 8, -inf if it is not seen. */
template <typename T>
static __device__ __forceinline__ void add_keys(row_state &state, const keys_part &keys,
						float score)
{
	float top = fmaxf(score, __shfl_xor_sync(~0u, score, 8));

	top = fmaxf(top, __shfl_xor_sync(~0u, top, 16));
	top = fmaxf(top, state.m);

	/* nothing seen so far: any finite reference keeps -inf - m from being NaN */
	const float m = top == -CUDART_INF_F ? 0.f : top;
	const float mine = exp2_approx(score - m), shrink = exp2_approx(state.m - m);
	float w[KEYS];

#pragma unroll
	for (int k = 0; k < KEYS; k++)
		w[k] = __shfl_sync(~0u, mine, 8 * k);
	state.m = top;
	state.l = fmaf(state.l, shrink, (w[0] + w[1]) + (w[2] + w[3]));
#pragma unroll
	for (int half = 0; half < 2; half++) {
#pragma unroll
		for (int i = 0; i < 8; i++)
			state.acc[half][i] *= shrink;
#pragma unroll
		for (int k = 0; k < KEYS; k++) {
			float v[8];

			widen<T>(keys.ckv[k][half], v);
#pragma unroll
			for (int i = 0; i < 8; i++)
				state.acc[half][i] = fmaf(w[k], v[i], state.acc[half][i]);
		}
	}
}

/* Eight columns, from column c on, as one or two 16-byte stores. */
static __device__ void store_chunk(char *row, int c, int dtype, const float (&x)[8])
{
	if (dtype == MLA_F32) {
		float4 *to = (float4 *)((float *)row + c);

		to[0] = make_float4(x[0], x[1], x[2], x[3]);
		to[1] = make_float4(x[4], x[5], x[6], x[7]);
	} else if (dtype == MLA_BF16) {
		*(uint4 *)((__nv_bfloat16 *)row + c) = make_uint4(
			pack<__nv_bfloat16>(x[0], x[1]), pack<__nv_bfloat16>(x[2], x[3]),
			pack<__nv_bfloat16>(x[4], x[5]), pack<__nv_bfloat16>(x[6], x[7]));
	} else {
		*(uint4 *)((__half *)row + c) =
			make_uint4(pack<__half>(x[0], x[1]), pack<__half>(x[2], x[3]),
				   pack<__half>(x[4], x[5]), pack<__half>(x[6], x[7]));
	}
}

/* The row to out, or to its partial state. l is 0 only if no key was seen: 0 and -inf. A NaN goes
 * through. */
static __device__ void store(const mla_params &p, const mla_work &item, int row, row_state &state)
{
	const int lane = threadIdx.x % 32;
	const int query = item.q_begin + row / p.num_heads, head = row % p.num_heads;
	const int64_t slot = (int64_t)item.partial + row - item.row_begin;
	const bool whole = item.partial < 0;
	const float inverse = 1.f / state.l;
	const bool empty = state.l == 0.f; /* acc may be NaN even so: 0 times an infinite value */
	char *out = whole ? row_of(p.out, query, head) : (char *)(p.partial_out + slot * CKV);

#pragma unroll
	for (int half = 0; half < 2; half++) {
#pragma unroll
		for (int i = 0; i < 8; i++)
			state.acc[half][i] = empty ? 0.f : state.acc[half][i] * inverse;
		store_chunk(out, half * CKV / 2 + lane * 8, whole ? p.out.dtype : MLA_F32,
			    state.acc[half]);
	}
	if (lane == 0) {
		const float lse = state.l == 0.f
					  ? -CUDART_INF_F
					  : state.m * 0.693147180559945309417f + logf(state.l);

		if (!whole)
			p.partial_lse[slot] = lse;
		else if (p.lse.data)
			*(float *)row_of(p.lse, query, head) = lse * p.lse_mul;
	}
}

/* One row, one warp. */
template <typename T>
static __device__ void attend(const mla_params &p, const mla_work &item, int row)
{
	const int lane = threadIdx.x % 32;
	const int end =
		min(item.kv_end, item.q_pos0 + row / p.num_heads + 1); /* <= kv_begin: none */
	const float scale = p.sm_scale * 1.44269504088896340736f;
	const query_part q = load_q<T>(p, item.q_begin + row / p.num_heads, row % p.num_heads);
	row_state state = {-CUDART_INF_F, 0.f, {}};
	fetch next = look_up(p, item, item.kv_begin + lane, end);

	for (int first = item.kv_begin; first < end; first += LOOK_UP) {
		const key_rows here = rows_of(p, next);

		/* the page table answers while these keys are used */
		next = look_up(p, item, first + LOOK_UP + lane, end);
#pragma unroll 1
		for (int k = 0; k < LOOK_UP && first + k < end; k += KEYS) {
			const keys_part keys = load_keys(here, k);
			const float sum = scores<T>(q, keys);
			const bool seen = first + k + lane / 8 < end;

			add_keys<T>(state, keys, seen ? sum * scale : -CUDART_INF_F);
		}
	}
	store(p, item, row, state);
}

/* A block walks its worker's items, its warps each at their own pace. */
template <typename T>
static __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) vector(const mla_params p)
{
	/* the same in all lanes, and this way the compiler knows it */
	const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);

	for (int i = p.worker_begin[blockIdx.x]; i < p.worker_begin[blockIdx.x + 1]; i++) {
		const mla_work item = p.items[i];
		const int row = item.row_begin + warp; /* an item has WARPS rows at most */

		if (row < item.row_end)
			attend<T>(p, item, row);
	}
}

static const char *refuses(const mla_config *config, const mla_device *)
{
	return refuse_other_than_deepseek(config);
}

static void traits(const mla_config *, const mla_device *, mla_traits *t)
{
	t->ctas_per_sm = BLOCKS_PER_SM;
	t->item_cost = 16;
	t->merge_cost = 32;
	t->merge = MLA_MERGE_SEPARATE;
	t->align = 16;
}

static cudaError_t prepare(const mla_config *config, const mla_device *)
{
	cudaFuncAttributes attributes;

	return cudaFuncGetAttributes(&attributes, config->q_dtype == MLA_BF16
							  ? vector<__nv_bfloat16>
							  : vector<__half>); /* loads the module */
}

static cudaError_t run(const mla_launch *launch, cudaStream_t stream)
{
	void (*const kernel)(mla_params) =
		launch->config->q_dtype == MLA_BF16 ? vector<__nv_bfloat16> : vector<__half>;

	return launch_kernel({launch->num_workers, THREADS}, stream, kernel, launch->params);
}

MLA_KERNEL_DESCRIPTOR(03_vector) = {
	.abi = MLA_KERNEL_ABI,
	.summary = "one warp per row, 16-byte loads, key registers reused as the value",
	.ideas = "vector",
	.threads = THREADS,
	.cluster = 1,
	.tile_rows = WARPS,
	.kv_granule = LOOK_UP,
	.fixed_split = true,
	.refuses = refuses,
	.traits = traits,
	.prepare = prepare,
	.run = run,
};
