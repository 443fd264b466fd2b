/* 07_ldmatrix - fragments are read as 8x8 matrices from a swizzled tile.
 *
 * Teaches  ldmatrix (and .trans: V is the same bytes as K, read transposed), the XOR swizzle that
 *          lets eight rows of a matrix come from eight different bank groups without padding, and
 *          q fragments that stay in registers.
 * Keeps    as 06_pipelined; besides, per lane, its part of q for one half of the dimensions.
 * Costs    a block still takes 16 rows: with 128 heads each key goes through L2 eight times.
 * Next     08_tall takes 64 rows per block.
 *
 * A row of a tile is 72 chunks of 16 bytes, 9 x 128 bytes: chunk c of key k lies at c ^ (k % 8).
 */
#include "parts/deepseek.cuh"
#include "parts/launch.cuh"
#include "parts/tile_sm80.cuh"

enum {
	ROWS = 16,
	HALF = DIMS / 2,
	S_PITCH = KEYS + 8,
	STEPS = HALF / 16, /* of 16 dimensions, per warp */
	COLUMNS = CKV / 8, /* of out, per warp */
	AHEAD = 32 / MINE, /* tiles whose keys a warp looks up at once, one per lane */
};

/* Where a key lies in global memory. */
struct key_source {
	const char *ckv, *kpe;
};

/* The keys that each warp fetches of AHEAD tiles. */
typedef key_source key_sources[WARPS][AHEAD][MINE];

/* The last stage holds q until its fragments are read. */
template <typename T, int STAGES> struct tile_memory {
	T kv[STAGES][KEYS][DIMS];  /* swizzled */
	float s[2][ROWS][S_PITCH]; /* scores, one half of the dimensions each */
	key_sources sources;
	mla_work items[WARPS]; /* the same, a copy per warp */
};

/* Page and slot of this lane's key of the warp's next AHEAD tiles, read AHEAD tiles early, because
 * copies cannot start before the page table answers. */
struct lookup {
	int page, slot;
};

static __device__ lookup look_up(const mla_params &p, const mla_work &item, int first)
{
	const int lane = threadIdx.x % 32;
	const int key = first + lane / MINE * KEYS + threadIdx.x / 32 * MINE + lane % MINE;

	if (key >= item.kv_end)
		return {0, 0};

	const int page = key / p.page_size;

	return {p.kv_indices[item.page_begin + page], key - page * p.page_size};
}

/* Starts the copies of the warp's keys of tile i of the item, as one group: 64 chunks of 16 bytes
 * of each ckv, 8 of each kpe. Beyond the end zeros are written: a weight of 0 times a NaN in an
 * unused slot would be NaN. */
static __device__ void start_copies(const mla_params &p, const mla_work &item, int i, lookup &next,
				    key_sources &sources, uint32_t tile)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int first = item.kv_begin + i * KEYS, left = item.kv_end - first - warp * MINE;

	if (i % AHEAD == 0) { /* the last sources were read before the loop's last barrier */
		sources[warp][lane / MINE][lane % MINE] = {row_of(p.ckv, next.page, next.slot),
							   row_of(p.kpe, next.page, next.slot)};
		__syncwarp();
		next = look_up(p, item, first + AHEAD * KEYS);
	}
	const key_source *from = sources[warp][i % AHEAD];

#pragma unroll
	for (int k = 0; k < MINE; k++) {
		const char *source = from[k].ckv + lane * 16;
		const uint32_t target = tile + swizzled(warp * MINE + k, lane);
		const int bytes = k < left ? 16 : 0;

		cp_async_16(target, source, bytes);
		cp_async_16(target + 32 * 16, source + 32 * 16, bytes);
	}

	const int k = lane / 8, chunk = lane % 8; /* four keys, eight lanes each */

	cp_async_16(tile + swizzled(warp * MINE + k, CKV / 8 + chunk), from[k].kpe + chunk * 16,
		    k < left ? 16 : 0);
	cp_async_commit();
}

/* This warp's half of the dimensions of q as A fragments. */
static __device__ void read_q(uint32_t q, uint32_t (&a)[STEPS][4])
{
	const int lane = threadIdx.x % 32, half = threadIdx.x / 32 / 4;

#pragma unroll
	for (int k = 0; k < STEPS; k++)
		ldmatrix_x4(a[k], q + swizzled(lane % 16, (half * STEPS + k) * 2 + lane / 16));
}

/* Scores of 16 rows x 8 keys over one half of the dimensions. */
template <typename T, int STAGES>
static __device__ void scores(tile_memory<T, STAGES> &shared, uint32_t tile,
			      const uint32_t (&a)[STEPS][4])
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int g = lane / 4, t = lane % 4, key = warp % 4 * 8, half = warp / 4;
	float d[2][4] = {}; /* two chains, or each mma would wait for the last */

#pragma unroll
	for (int k = 0; k < STEPS; k += 2) {
		uint32_t b[4]; /* 8 keys x 32 dimensions */

		ldmatrix_x4(b, tile + swizzled(key + lane % 8, (half * STEPS + k) * 2 + lane / 8));
		mma_m16n8k16<T>(d[0], a[k], b[0], b[1]);
		mma_m16n8k16<T>(d[1], a[k + 1], b[2], b[3]);
	}
	*(float2 *)&shared.s[half][g][key + 2 * t] =
		make_float2(d[0][0] + d[1][0], d[0][1] + d[1][1]);
	*(float2 *)&shared.s[half][g + 8][key + 2 * t] =
		make_float2(d[0][2] + d[1][2], d[0][3] + d[1][3]);
}

/* What a lane keeps of the online softmax: rows g and g + 8, in powers of two. */
struct softmax_state {
	float m[2], l[2];
};

/* Reads the scores in the layout of an A fragment, turns them into weights, and returns how much
 * acc shrinks. limit[i]: keys of row i of this lane that are seen. */
template <typename T, int STAGES>
static __device__ void softmax(const tile_memory<T, STAGES> &shared, float scale, int first,
			       const int (&limit)[2], softmax_state &state, uint32_t (&w)[2][4],
			       float (&shrink)[2])
{
	const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

	for (int i = 0; i < 2; i++) {
		float s[8], top = state.m[i];

#pragma unroll
		for (int j = 0; j < 8; j++) { /* keys 8 (j / 2) + 2t + j % 2 */
			const int key = j / 2 * 8 + 2 * t + j % 2;
			const float sum = shared.s[0][g + 8 * i][key] + shared.s[1][g + 8 * i][key];
			s[j] = first + key < limit[i] ? sum * scale : -CUDART_INF_F;
			top = fmaxf(top, s[j]);
		}
		top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
		top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
		/* nothing seen so far: any finite reference keeps -inf - m from being NaN */
		const float m = top == -CUDART_INF_F ? 0.f : top;
		/* rounded up, or a huge m would let a weight grow beyond 2^shift */
		const float reference = __fsub_ru(m, weight_shift<T>);
		float sum = 0.f;

#pragma unroll
		for (int j = 0; j < 8; j++) {
			s[j] = exp2_approx(s[j] - reference);
			sum += s[j];
		}
		shrink[i] = exp2_approx(state.m[i] - m);
		state.l[i] = state.l[i] * shrink[i] + sum;
		state.m[i] = top;
#pragma unroll
		for (int j = 0; j < 4; j++) /* A fragment j / 2: a[i] and a[i + 2] */
			w[j / 2][i + 2 * (j % 2)] = pack<T>(s[2 * j], s[2 * j + 1]);
	}
}

/* acc += P V for this warp's columns. */
template <typename T>
static __device__ void values(uint32_t tile, const uint32_t (&w)[2][4],
			      float (&acc)[COLUMNS / 8][4])
{
	const int lane = threadIdx.x % 32, chunk = threadIdx.x / 32 * (COLUMNS / 8) + lane / 16;

#pragma unroll
	for (int k = 0; k < 2; k++)
#pragma unroll
		for (int n = 0; n < COLUMNS / 8; n += 2) {
			uint32_t b[4]; /* 16 keys x 16 columns, transposed */

			ldmatrix_x4_trans(b, tile + swizzled(k * 16 + lane % 16, chunk + n));
			mma_m16n8k16<T>(acc[n], w[k], b[0], b[1]);
			mma_m16n8k16<T>(acc[n + 1], w[k], b[2], b[3]);
		}
}

/* Two rows of this lane to out, or to their partial states. */
template <typename T, int DTYPE>
static __device__ void store(const mla_params &p, const mla_work &item, const softmax_state &state,
			     const float (&acc)[COLUMNS / 8][4])
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const bool whole = item.partial < 0;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		float l = state.l[i];

		l += __shfl_xor_sync(~0u, l, 1); /* each lane summed its own keys */
		l += __shfl_xor_sync(~0u, l, 2);

		const int row = item.row_begin + lane / 4 + 8 * i;
		const int query = item.q_begin + row / p.num_heads, head = row % p.num_heads;
		const int64_t slot = (int64_t)item.partial + row - item.row_begin;
		const float inverse = 1.f / l;
		const bool empty = l == 0.f; /* acc may be NaN even so: 0 times an infinite value */

		if (row >= item.row_end)
			continue;

		char *out =
			whole ? row_of(p.out, query, head) : (char *)(p.partial_out + slot * CKV);
#pragma unroll
		for (int n = 0; n < COLUMNS / 8; n++) {
			const int c = warp * COLUMNS + n * 8 + lane % 4 * 2;

			store_pair(out, c, DTYPE, empty ? 0.f : acc[n][2 * i] * inverse,
				   empty ? 0.f : acc[n][2 * i + 1] * inverse);
		}
		if (warp == 0 && lane % 4 == 0) {
			const float lse = lse_of_row(state.m[i], weight_shift<T>, l);

			if (!whole)
				p.partial_lse[slot] = lse;
			else if (p.lse.data)
				*(float *)row_of(p.lse, query, head) = lse * p.lse_mul;
		}
	}
}

template <typename T, int STAGES>
static __device__ void attend(const mla_params &p, const mla_work &item,
			      tile_memory<T, STAGES> &shared)
{
	const int g = threadIdx.x % 32 / 4;
	softmax_state state = {{-CUDART_INF_F, -CUDART_INF_F}, {0.f, 0.f}};
	float acc[COLUMNS / 8][4] = {};
	int limit[2];

	for (int i = 0; i < 2; i++)
		limit[i] = min(item.kv_end,
			       item.q_pos0 + (item.row_begin + g + 8 * i) / p.num_heads + 1);
	const uint32_t ring = shared_address(shared.kv);
	const uint32_t stage_bytes = sizeof(shared.kv[0]);
	uint32_t q[STEPS][4];

	copy_q<ROWS>(p, item, ring + (STAGES - 1) * stage_bytes);
	cp_async_commit();

	lookup next = look_up(p, item, item.kv_begin);

	for (int i = 0; i < STAGES - 1;
	     i++) { /* fill the ring; past the end it is filled with zeros */
		start_copies(p, item, i, next, shared.sources, ring + i * stage_bytes);
	}
	cp_async_wait<STAGES - 1>();
	__syncthreads();
	read_q(ring + (STAGES - 1) * stage_bytes, q); /* before the loop's barrier lets a tile in */
	for (int i = 0; item.kv_begin + i * KEYS < item.kv_end; i++) {
		const int first = item.kv_begin + i * KEYS;
		const uint32_t tile = ring + i % STAGES * stage_bytes;
		uint32_t w[2][4];
		float shrink[2];

		cp_async_wait<STAGES - 2>();
		__syncthreads(); /* tile i is here, and nobody reads tile i - 1 any more */
		start_copies(p, item, i + STAGES - 1, next, shared.sources,
			     ring + (i + STAGES - 1) % STAGES * stage_bytes);

		scores(shared, tile, q);
		__syncthreads();
		softmax(shared, p.sm_scale * 1.44269504088896340736f, first, limit, state, w,
			shrink);
#pragma unroll
		for (int n = 0; n < COLUMNS / 8; n++) {
			acc[n][0] *= shrink[0];
			acc[n][1] *= shrink[0];
			acc[n][2] *= shrink[1];
			acc[n][3] *= shrink[1];
		}
		values<T>(tile, w, acc);
	}
	cp_async_wait<0>();
	if (item.partial >= 0 || p.out.dtype == MLA_F32)
		store<T, MLA_F32>(p, item, state, acc);
	else if (p.out.dtype == MLA_BF16)
		store<T, MLA_BF16>(p, item, state, acc);
	else
		store<T, MLA_F16>(p, item, state, acc);
	__syncthreads(); /* before the ring is overwritten */
}

template <typename T, int STAGES>
static __global__ void __launch_bounds__(THREADS, 1) ldmatrix(const mla_params p)
{
	tile_memory<T, STAGES> &shared = dynamic_shared<tile_memory<T, STAGES>, 128>();
	mla_work &item = shared.items[threadIdx.x / 32];

	each_item(p, item, [&] { attend<T, STAGES>(p, item, shared); });
}

/* As many stages as the GPU's shared memory holds: 6 on Hopper, 4 on A100, 2 elsewhere. */
struct variant {
	int bytes;
	void (*bf16)(mla_params), (*fp16)(mla_params);
};

static const variant variants[] = {
	{sizeof(tile_memory<__half, 6>), ldmatrix<__nv_bfloat16, 6>, ldmatrix<__half, 6>},
	{sizeof(tile_memory<__half, 4>), ldmatrix<__nv_bfloat16, 4>, ldmatrix<__half, 4>},
	{sizeof(tile_memory<__half, 2>), ldmatrix<__nv_bfloat16, 2>, ldmatrix<__half, 2>},
};

static const variant *fitting(int smem_per_block)
{
	for (const variant &v : variants)
		if (v.bytes <= smem_per_block)
			return &v;
	return NULL;
}

static const char *refuses(const mla_config *config, const mla_device *device)
{
	if (!fitting(device->smem_per_block))
		return mla_why("it needs %d bytes of shared memory, this GPU has %d",
			       variants[2].bytes, device->smem_per_block);
	return refuse_other_than_deepseek(config);
}

static void traits(const mla_config *, const mla_device *, mla_traits *t)
{
	t->ctas_per_sm = 1;
	t->item_cost = 160;
	t->merge_cost = 80; /* some 2.5 us */
	t->merge = MLA_MERGE_SEPARATE;
	t->align = 16;
}

static cudaError_t prepare(const mla_config *, const mla_device *device)
{
	const variant *v = fitting(device->smem_per_block);

	return allow_shared(v->bytes, v->bf16, v->fp16);
}

static cudaError_t run(const mla_launch *launch, cudaStream_t stream)
{
	const variant *v = fitting(launch->device->smem_per_block);
	void (*const kernel)(mla_params) = launch->config->q_dtype == MLA_BF16 ? v->bf16 : v->fp16;
	const launch_shape shape = {
		.blocks = launch->num_workers,
		.threads = THREADS,
		.shared_bytes = v->bytes,
		.early = starts_early(launch),
	};

	return launch_kernel(shape, stream, kernel, launch->params);
}

MLA_KERNEL_DESCRIPTOR(07_ldmatrix) = {
	.abi = MLA_KERNEL_ABI,
	.summary = "ldmatrix from a swizzled tile, q in registers, a deep ring",
	.ideas = "ldmatrix",
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
