/* 05_tensorcore - both products on the tensor cores (mma.sync m16n8k16).
 *
 * Teaches  the fragment layout: which lane holds which element, and that the output layout of
 *          Q K^T is the input layout of P V, so P goes from accumulators to A registers.
 * Keeps    per lane: m and l of two rows, acc of 16 rows x 64 columns of out per warp.
 * Costs    everybody waits while a tile is copied in; V is read with two-byte loads, because its
 *          pairs run along keys and memory runs along columns.
 * Next     06_pipelined copies the next tiles while this one is used.
 *
 * A block of 8 warps takes 16 packed rows and 32 keys at a time. Q K^T: warp w takes 8 keys (w % 4)
 * and one half of the 576 dimensions (w / 4); the halves meet in shared memory. P V: warp w takes
 * columns 64 w .. 64 w + 63 of out; every warp computes the softmax of all 16 x 32 scores itself,
 * which is cheaper than another barrier.
 */
#include "parts/deepseek.cuh"
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"

enum {
	THREADS = 256,
	ROWS = 16,
	KEYS = 32,
	CKV = 512,
	DIMS = 576,
	HALF = DIMS / 2,
	PITCH = DIMS + 8, /* elements; 4 banks on per row: a fragment's 32 words hit 32 banks */
	S_PITCH = KEYS + 8,
	COLUMNS = CKV / 8, /* of out, per warp */
};

template <typename T> struct tile_memory {
	T q[ROWS][PITCH];
	T kv[KEYS][PITCH];
	float s[2][ROWS][S_PITCH]; /* scores, one half of the dimensions each */
};

/* Rows of q to shared memory; rows beyond the item are zero. */
template <typename T>
static __device__ void load_q(const mla_params &p, const mla_work &item, T (*q)[PITCH])
{
	for (int i = threadIdx.x; i < ROWS * DIMS / 8; i += THREADS) {
		const int r = i / (DIMS / 8), chunk = i % (DIMS / 8), row = item.row_begin + r;
		const int query = item.q_begin + row / p.num_heads, head = row % p.num_heads;
		const bool rope = chunk >= CKV / 8;
		const char *source = rope ? row_of(p.q_pe, query, head) + (chunk - CKV / 8) * 16
					  : row_of(p.q_nope, query, head) + chunk * 16;

		*(uint4 *)&q[r][chunk * 8] =
			row < item.row_end ? *(const uint4 *)source : make_uint4(0, 0, 0, 0);
	}
}

/* Keys first .. first + 31 to shared memory, a warp per key; keys from end on are zero, because a
 * weight of 0 times a NaN in an unused slot would be NaN. */
template <typename T>
static __device__ void load_kv(const mla_params &p, const mla_work &item, int first, int end,
			       T (*kv)[PITCH])
{
	const int lane = threadIdx.x % 32;

	for (int k = threadIdx.x / 32; k < KEYS; k += THREADS / 32) {
		const uint4 zero = make_uint4(0, 0, 0, 0);
		uint4 a = zero, b = zero, c = zero;

		if (first + k < end) {
			const key_place at = place_of(p, item.page_begin, first + k);
			const uint4 *ckv = (const uint4 *)row_of(p.ckv, at.page, at.slot);

			a = ckv[lane];
			b = ckv[lane + 32];
			if (lane < 8)
				c = ((const uint4 *)row_of(p.kpe, at.page, at.slot))[lane];
		}
		*(uint4 *)&kv[k][lane * 8] = a;
		*(uint4 *)&kv[k][(lane + 32) * 8] = b;
		if (lane < 8)
			*(uint4 *)&kv[k][CKV + lane * 8] = c;
	}
}

/* Scores of 16 rows x 8 keys over one half of the dimensions. */
template <typename T> static __device__ void scores(tile_memory<T> &shared)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int g = lane / 4, t = lane % 4, key = warp % 4 * 8, half = warp / 4;
	float d[4] = {};

	for (int k = half * HALF; k < (half + 1) * HALF; k += 16) {
		const uint32_t a[4] = {
			*(const uint32_t *)&shared.q[g][k + 2 * t],
			*(const uint32_t *)&shared.q[g + 8][k + 2 * t],
			*(const uint32_t *)&shared.q[g][k + 2 * t + 8],
			*(const uint32_t *)&shared.q[g + 8][k + 2 * t + 8],
		};
		mma_m16n8k16<T>(d, a, *(const uint32_t *)&shared.kv[key + g][k + 2 * t],
				*(const uint32_t *)&shared.kv[key + g][k + 2 * t + 8]);
	}
	*(float2 *)&shared.s[half][g][key + 2 * t] = make_float2(d[0], d[1]);
	*(float2 *)&shared.s[half][g + 8][key + 2 * t] = make_float2(d[2], d[3]);
}

/* What a lane keeps of the online softmax: rows g and g + 8, in powers of two. */
struct softmax_state {
	float m[2], l[2];
};

/* Reads the scores in the layout of an A fragment, turns them into weights, and returns how much
 * acc shrinks. limit[i]: keys of row i of this lane that are seen. */
template <typename T>
static __device__ void softmax(const tile_memory<T> &shared, float scale, int first,
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
static __device__ void values(const tile_memory<T> &shared, const uint32_t (&w)[2][4],
			      float (&acc)[COLUMNS / 8][4])
{
	const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	const int column = threadIdx.x / 32 * COLUMNS + g;
	const uint16_t(*v)[PITCH] = (const uint16_t(*)[PITCH])shared.kv;

#pragma unroll
	for (int k = 0; k < 2; k++)
#pragma unroll
		for (int n = 0; n < COLUMNS / 8; n++) {
			const int key = k * 16 + 2 * t, c = column + n * 8;
			const uint32_t b0 = v[key][c] | (uint32_t)v[key + 1][c] << 16;
			const uint32_t b1 = v[key + 8][c] | (uint32_t)v[key + 9][c] << 16;

			mma_m16n8k16<T>(acc[n], w[k], b0, b1);
		}
}

/* Two rows of this lane to out, or to their partial states. */
template <typename T>
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
			const int dtype = whole ? p.out.dtype : MLA_F32;

			store_pair(out, c, dtype, empty ? 0.f : acc[n][2 * i] * inverse,
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

template <typename T> static __device__ void attend(const mla_params &p, const mla_work &item)
{
	tile_memory<T> &shared = dynamic_shared<tile_memory<T>>();
	const int g = threadIdx.x % 32 / 4;
	softmax_state state = {{-CUDART_INF_F, -CUDART_INF_F}, {0.f, 0.f}};
	float acc[COLUMNS / 8][4] = {};
	int limit[2];

	for (int i = 0; i < 2; i++)
		limit[i] = min(item.kv_end,
			       item.q_pos0 + (item.row_begin + g + 8 * i) / p.num_heads + 1);
	load_q(p, item, shared.q);
	for (int first = item.kv_begin; first < item.kv_end; first += KEYS) {
		uint32_t w[2][4];
		float shrink[2];

		load_kv(p, item, first, item.kv_end, shared.kv);
		__syncthreads();
		scores(shared);
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
		values(shared, w, acc);
		__syncthreads(); /* before the tile is overwritten */
	}
	store<T>(p, item, state, acc); /* q was read before the last barrier */
}

template <typename T>
static __global__ void __launch_bounds__(THREADS, 2) tensorcore(const mla_params p)
{
	for (int i = p.worker_begin[blockIdx.x]; i < p.worker_begin[blockIdx.x + 1]; i++)
		attend<T>(p, p.items[i]);
}

static const char *refuses(const mla_config *config, const mla_device *)
{
	return refuse_other_than_deepseek(config);
}

static void traits(const mla_config *, const mla_device *, mla_traits *t)
{
	t->ctas_per_sm = 2;
	t->item_cost = 64;
	t->merge_cost = 80; /* some 2.5 us */
	t->merge = MLA_MERGE_SEPARATE;
	t->align = 16;
}

static cudaError_t prepare(const mla_config *, const mla_device *)
{
	return allow_shared(sizeof(tile_memory<__half>), tensorcore<__nv_bfloat16>,
			    tensorcore<__half>);
}

static cudaError_t run(const mla_launch *launch, cudaStream_t stream)
{
	const int bytes = sizeof(tile_memory<__half>); /* both types are two bytes wide */
	void (*const kernel)(mla_params) = launch->config->q_dtype == MLA_BF16
						   ? tensorcore<__nv_bfloat16>
						   : tensorcore<__half>;

	return launch_kernel({launch->num_workers, THREADS, bytes}, stream, kernel, launch->params);
}

MLA_KERNEL_DESCRIPTOR(05_tensorcore) = {
	.abi = MLA_KERNEL_ABI,
	.summary = "both products on mma.sync, 16 rows x 32 keys per step",
	.ideas = "tensor",
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
