/* 04_tiled - a tile of keys in shared memory serves 16 rows, as key and as value.
 *
 * Teaches  reuse: a tile is fetched from memory once and read by all rows (the heads of a query
 *          share their keys). Register blocking: a thread that takes 4 rows x 4 keys does 16
 *          multiply-adds for 8 elements read; one row x one key would do 1 for 2.
 * Keeps    m and l of two rows per warp; acc of 8 rows x 4 columns of out per thread. P stays fp32.
 * Costs    everybody waits while a tile is copied in. Multiply-adds are the limit: 1,088 per row
 *          and key keep the fp32 units busy for more than twice the time that the key takes to
 *          arrive, and two instructions of five are none but widen elements or read shared
 *          memory. Expected on an H200, batch 64, 8K keys, 16 heads: 15 to 25 % of the read
 *          stream (an estimate).
 * Next     05_tensorcore does both products on the tensor cores.
 *
 * A block of 8 warps takes 16 packed rows and 32 keys at a time. Q K^T: each warp takes all 16 x 32
 * scores over an eighth of the 576 dimensions, 4 x 4 per lane, and the eighths meet in shared
 * memory. Softmax: each warp takes two rows, a key per lane. P V: each thread takes 8 rows x 4
 * columns over the 32 keys.
 */
#include "parts/deepseek.cuh"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/reduce.cuh"

enum {
	WARPS = 8,
	THREADS = WARPS * 32,
	BLOCKS_PER_SM = 2,
	ROWS = 16,
	KEYS = 32,
	CKV = 512,
	DIMS = 576,
	CHUNKS = DIMS / 8,   /* of 16 bytes, per row */
	MINE = KEYS / WARPS, /* keys of a tile that a warp fetches */
	BLOCK = 4,           /* rows and keys of a lane's scores */
	HALF = ROWS / 2,     /* rows of a thread's part of out */
	COLUMNS = 4,         /* columns of a thread's part of out */
	/* Eight lanes read a 16-byte chunk of eight consecutive keys together. 73 chunks on per
	 * key, an odd number: the eight lie in different groups of four banks. */
	PITCH = DIMS + 8,
	/* A warp stores scores of four consecutive rows x eight consecutive keys together. 8 banks
	 * on per row: 32 words, 32 banks. */
	S_PITCH = KEYS + 8,
};

template <typename T> struct tile_memory {
	T q[ROWS][PITCH];
	T kv[KEYS][PITCH];
	float s[WARPS][ROWS][S_PITCH]; /* scores, an eighth of the dimensions each */
	float p[ROWS][KEYS];           /* weights */
	float factor[ROWS]; /* what acc shrinks by; at the end 1 / l, or 0 for a row that saw
			       nothing */
};

/* Word i of a chunk, where unrolling makes i a constant. */
static __device__ __forceinline__ uint32_t word(const uint4 &chunk, int i)
{
	return i == 0 ? chunk.x : i == 1 ? chunk.y : i == 2 ? chunk.z : chunk.w;
}

/* Rows of q to shared memory; rows beyond the item are zero. */
template <typename T>
static __device__ void load_q(const mla_params &p, const mla_work &item, T (*q)[PITCH])
{
	for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
		const int r = i / CHUNKS, chunk = i % CHUNKS, row = item.row_begin + r;
		const int query = item.q_begin + row / p.num_heads, head = row % p.num_heads;
		const bool rope = chunk >= CKV / 8;
		const char *source = rope ? row_of(p.q_pe, query, head) + (chunk - CKV / 8) * 16
					  : row_of(p.q_nope, query, head) + chunk * 16;

		*(uint4 *)&q[r][chunk * 8] =
			row < item.row_end ? *(const uint4 *)source : make_uint4(0, 0, 0, 0);
	}
}

/* Keys first .. first + 31 to shared memory, four per warp: 64 chunks of each ckv, and the 8 of
 * each kpe by eight lanes each. All nine loads of a lane are under way before the first is stored.
 * Keys from the end on are zero, because a weight of 0 times a NaN in an unused slot would be NaN.
 */
template <typename T>
static __device__ void load_kv(const mla_params &p, const mla_work &item, int first, T (*kv)[PITCH])
{
	const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * MINE;
	const int key = first + mine + lane % MINE;
	const key_place at =
		key < item.kv_end ? place_of(p, item.page_begin, key) : key_place{-1, 0};
	uint4 ckv[MINE][2] = {}, kpe = {};

#pragma unroll
	for (int k = 0; k < MINE; k++) {
		const int page = __shfl_sync(~0u, (int)at.page, k);
		const int slot = __shfl_sync(~0u, at.slot, k);

		if (page >= 0) {
			const uint4 *source = (const uint4 *)row_of(p.ckv, page, slot);

			ckv[k][0] = source[lane];
			ckv[k][1] = source[lane + 32];
		}
	}

	const int k = lane / 8, chunk = lane % 8;
	const int page = __shfl_sync(~0u, (int)at.page, k), slot = __shfl_sync(~0u, at.slot, k);

	if (page >= 0)
		kpe = ((const uint4 *)row_of(p.kpe, page, slot))[chunk];
#pragma unroll
	for (int i = 0; i < MINE; i++) {
		*(uint4 *)&kv[mine + i][lane * 8] = ckv[i][0];
		*(uint4 *)&kv[mine + i][(lane + 32) * 8] = ckv[i][1];
	}
	*(uint4 *)&kv[mine + k][CKV + chunk * 8] = kpe;
}

/* Scores of 16 rows x 32 keys over this warp's eighth of the dimensions. A lane takes every fourth
 * row and every eighth key, so that lanes that read together read neighbours. */
template <typename T> static __device__ void scores(tile_memory<T> &shared)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int row = lane / 8, key = lane % 8;
	float s[BLOCK][BLOCK] = {};

#pragma unroll 1
	for (int chunk = warp * CHUNKS / WARPS; chunk < (warp + 1) * CHUNKS / WARPS; chunk++) {
		uint4 q[BLOCK], k[BLOCK];

#pragma unroll
		for (int i = 0; i < BLOCK; i++) {
			q[i] = *(const uint4 *)&shared.q[row + 4 * i][chunk * 8];
			k[i] = *(const uint4 *)&shared.kv[key + 8 * i][chunk * 8];
		}
#pragma unroll
		for (int e = 0; e < 4; e++) { /* pairs of dimensions */
			float2 a[BLOCK], b[BLOCK];

#pragma unroll
			for (int i = 0; i < BLOCK; i++) {
				a[i] = unpack<T>(word(q[i], e));
				b[i] = unpack<T>(word(k[i], e));
			}
#pragma unroll
			for (int i = 0; i < BLOCK; i++)
#pragma unroll
				for (int j = 0; j < BLOCK; j++) {
					s[i][j] = fmaf(a[i].x, b[j].x, s[i][j]);
					s[i][j] = fmaf(a[i].y, b[j].y, s[i][j]);
				}
		}
	}
#pragma unroll
	for (int i = 0; i < BLOCK; i++)
#pragma unroll
		for (int j = 0; j < BLOCK; j++)
			shared.s[warp][row + 4 * i][key + 8 * j] = s[i][j];
}

/* What a warp keeps of the online softmax: rows warp and warp + 8, in powers of two. */
struct softmax_state {
	float m[2];
	float l[2]; /* of this lane's keys */
};

/* Scores to weights, and how much acc shrinks. limit[i]: keys of row i of this warp that are seen.
 */
template <typename T>
static __device__ void softmax(tile_memory<T> &shared, float scale, int first,
			       const int (&limit)[2], softmax_state &state)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		const int row = warp + WARPS * i;
		float sum = 0.f;

#pragma unroll
		for (int part = 0; part < WARPS; part++)
			sum += shared.s[part][row][lane];

		const float score = first + lane < limit[i] ? sum * scale : -CUDART_INF_F;
		const float top = fmaxf(state.m[i], warp_max(score));
		/* nothing seen so far: any finite reference keeps -inf - m from being NaN */
		const float m = top == -CUDART_INF_F ? 0.f : top;
		const float weight = exp2_approx(score - m), shrink = exp2_approx(state.m[i] - m);

		state.l[i] = state.l[i] * shrink + weight;
		state.m[i] = top;
		shared.p[row][lane] = weight;
		if (lane == 0)
			shared.factor[row] = shrink;
	}
}

/* This thread's part of out: rows of one half of the tile, four columns. All lanes of a warp have
 * the same rows, so that a weight is read once for all (a broadcast). */
static __device__ __forceinline__ int first_row()
{
	return threadIdx.x / (CKV / COLUMNS) * HALF;
}

static __device__ __forceinline__ int first_column()
{
	return threadIdx.x % (CKV / COLUMNS) * COLUMNS;
}

/* acc = acc * shrink + P V, four keys at a time. Keys that a row does not see have weight 0 there:
 * a NaN in one that another row of the tile sees reaches this row too. */
template <typename T>
static __device__ void values(const tile_memory<T> &shared, float (&acc)[HALF][COLUMNS])
{
	const int row = first_row(), column = first_column();

#pragma unroll
	for (int r = 0; r < HALF; r++)
#pragma unroll
		for (int c = 0; c < COLUMNS; c++)
			acc[r][c] *= shared.factor[row + r];
#pragma unroll 2
	for (int key = 0; key < KEYS; key += 4) {
		float v[4][COLUMNS];

#pragma unroll
		for (int k = 0; k < 4; k++) {
			const uint2 words = *(const uint2 *)&shared.kv[key + k][column];
			const float2 low = unpack<T>(words.x), high = unpack<T>(words.y);

			v[k][0] = low.x;
			v[k][1] = low.y;
			v[k][2] = high.x;
			v[k][3] = high.y;
		}
#pragma unroll
		for (int r = 0; r < HALF; r++) {
			const float4 w = *(const float4 *)&shared.p[row + r][key];

#pragma unroll
			for (int c = 0; c < COLUMNS; c++) {
				acc[r][c] = fmaf(w.x, v[0][c], acc[r][c]);
				acc[r][c] = fmaf(w.y, v[1][c], acc[r][c]);
				acc[r][c] = fmaf(w.z, v[2][c], acc[r][c]);
				acc[r][c] = fmaf(w.w, v[3][c], acc[r][c]);
			}
		}
	}
}

/* Four columns, from column c on, as one store. */
static __device__ void store_columns(char *row, int c, int dtype, const float (&x)[COLUMNS])
{
	if (dtype == MLA_F32)
		*(float4 *)((float *)row + c) = make_float4(x[0], x[1], x[2], x[3]);
	else if (dtype == MLA_BF16)
		*(uint2 *)((__nv_bfloat16 *)row + c) = make_uint2(pack<__nv_bfloat16>(x[0], x[1]),
								  pack<__nv_bfloat16>(x[2], x[3]));
	else
		*(uint2 *)((__half *)row + c) =
			make_uint2(pack<__half>(x[0], x[1]), pack<__half>(x[2], x[3]));
}

/* lse of this warp's rows, to lse or to their partial states, and 1 / l for all threads. l is 0
 * only if no key was seen: 0 and -inf. A NaN goes through. */
template <typename T>
static __device__ void finish(const mla_params &p, const mla_work &item, const softmax_state &state,
			      tile_memory<T> &shared)
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		const int r = threadIdx.x / 32 + WARPS * i, row = item.row_begin + r;
		const float l = warp_sum(state.l[i]);
		const float lse =
			l == 0.f ? -CUDART_INF_F : state.m[i] * 0.693147180559945309417f + logf(l);

		if (threadIdx.x % 32)
			continue;
		shared.factor[r] = l == 0.f ? 0.f : 1.f / l;
		if (row >= item.row_end)
			continue;
		if (item.partial >= 0)
			p.partial_lse[(int64_t)item.partial + r] = lse;
		else if (p.lse.data)
			*(float *)row_of(p.lse, item.q_begin + row / p.num_heads,
					 row % p.num_heads) = lse * p.lse_mul;
	}
}

/* This thread's part of out, or of the partial states. */
template <typename T>
static __device__ void store(const mla_params &p, const mla_work &item,
			     const tile_memory<T> &shared, float (&acc)[HALF][COLUMNS])
{
	const bool whole = item.partial < 0;

#pragma unroll
	for (int i = 0; i < HALF; i++) {
		const int r = first_row() + i, row = item.row_begin + r;

		if (row >= item.row_end)
			break;

		char *out =
			whole ? row_of(p.out, item.q_begin + row / p.num_heads, row % p.num_heads)
			      : (char *)(p.partial_out + ((int64_t)item.partial + r) * CKV);
#pragma unroll
		for (int c = 0; c < COLUMNS; c++)
			acc[i][c] = shared.factor[r] == 0.f ? 0.f : acc[i][c] * shared.factor[r];
		store_columns(out, first_column(), whole ? p.out.dtype : MLA_F32, acc[i]);
	}
}

template <typename T> static __device__ void attend(const mla_params &p, const mla_work &item)
{
	tile_memory<T> &shared = dynamic_shared<tile_memory<T>>();
	softmax_state state = {{-CUDART_INF_F, -CUDART_INF_F}, {0.f, 0.f}};
	float acc[HALF][COLUMNS] = {};
	int limit[2];

	for (int i = 0; i < 2; i++) {
		const int row = item.row_begin + threadIdx.x / 32 + WARPS * i;

		limit[i] = min(item.kv_end, item.q_pos0 + row / p.num_heads + 1);
	}
	load_q(p, item, shared.q);
	for (int first = item.kv_begin; first < item.kv_end; first += KEYS) {
		load_kv(p, item, first, shared.kv);
		__syncthreads(); /* every warp reads the whole tile (and q) */
		scores(shared);
		__syncthreads(); /* a row's scores come from all warps */
		softmax(shared, p.sm_scale * 1.44269504088896340736f, first, limit, state);
		__syncthreads(); /* its weights go to all warps */
		values(shared, acc);
		__syncthreads(); /* before the tile and factor are overwritten */
	}
	finish(p, item, state, shared);
	__syncthreads(); /* 1 / l goes to all warps */
	store(p, item, shared, acc);
	/* before factor is overwritten, at once if the next item has no keys; the rest of shared
	 * memory is free already */
	__syncthreads();
}

template <typename T>
static __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) tiled(const mla_params p)
{
	for (int i = p.worker_begin[blockIdx.x]; i < p.worker_begin[blockIdx.x + 1]; i++) {
		const mla_work item = p.items[i];

		attend<T>(p, item);
	}
}

static const char *refuses(const mla_config *config, const mla_device *device)
{
	const int need = sizeof(tile_memory<__half>); /* both types are two bytes wide */

	if (need > device->smem_per_block)
		return mla_why("it needs %d bytes of shared memory, this GPU has %d", need,
			       device->smem_per_block);
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

static cudaError_t prepare(const mla_config *, const mla_device *)
{
	return allow_shared(sizeof(tile_memory<__half>), tiled<__nv_bfloat16>, tiled<__half>);
}

static cudaError_t run(const mla_launch *launch, cudaStream_t stream)
{
	const int bytes = sizeof(tile_memory<__half>); /* both types are two bytes wide */
	void (*const kernel)(mla_params) =
		launch->config->q_dtype == MLA_BF16 ? tiled<__nv_bfloat16> : tiled<__half>;

	return launch_kernel({launch->num_workers, THREADS, bytes}, stream, kernel, launch->params);
}

MLA_KERNEL_DESCRIPTOR(04_tiled) = {
	.abi = MLA_KERNEL_ABI,
	.summary = "a tile of keys in shared memory for 16 rows, fp32 with register blocking",
	.ideas = "tile",
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
