/* merge.cu - the one merge of attention states, for every rung that splits keys and for
 * mla_merge().
 *
 *     lse = log sum_s exp(lse_s),   out = sum_s exp(lse_s - lse) * out_s
 *
 * A state that saw no key (lse -inf) has weight 0 and is not read: its values may be anything. The
 * order of the sums is the order of the states, whatever the grid: merging is bitwise repeatable.
 */
#include "mla_device.cuh"

enum {
	FEW = 8,     /* states that one group sums by itself */
	GROUPS = 4,  /* each takes every fourth state */
	LANES = 128, /* of a group: columns */
	THREADS = GROUPS * LANES,
	EACH = THREADS / LANES, /* columns per thread: a block covers THREADS columns at a time */
	WARPS = THREADS / 32,
};

/* Of the lse of a row's states: the largest, and the sum of exp(lse - m). NaN goes through. sum is
 * 0 if no state saw a key. */
struct row_weights {
	float m, sum;
};

/* Over count values `stride` floats apart; by a whole warp. */
static __device__ row_weights weigh(const float *lse, int64_t stride, int count)
{
	row_weights w = {-CUDART_INF_F, 0.f};

	for (int s = threadIdx.x % 32; s < count; s += 32)
		w.m = fmaxf(w.m, lse[s * stride]);
	w.m = warp_max(w.m);
	for (int s = threadIdx.x % 32; s < count; s += 32) {
		const float x = lse[s * stride];
		w.sum += x == -CUDART_INF_F ? 0.f : expf(x - w.m);
	}
	w.sum = warp_sum(w.sum);
	return w;
}

/* The weighted sum of every fourth state of a row from state `group` on, columns first + lane,
 * first + lane + LANES, ... */
static __device__ void sum_states(const float *states, const float *lses,
				  const mla_merge_item &item, int group, int d, int first, float m,
				  float (&acc)[EACH])
{
	const int lane = threadIdx.x % LANES;

#pragma unroll 4
	for (int s = group; s < item.num_splits; s += GROUPS) {
		const float lse_s = lses[(int64_t)s * item.rows];
		const bool saw = lse_s != -CUDART_INF_F;
		const float weight = saw ? expf(lse_s - m) : 0.f;

#pragma unroll
		for (int i = 0; i < EACH; i++) {
			const int c = first + lane + i * LANES;
			const int64_t at = (int64_t)s * item.rows * d + c;
			acc[i] += weight * (saw && c < d ? states[at] : 0.f);
		}
	}
}

/* The sums of all four groups, added in their order. */
static __device__ void sum_alone(const float *states, const float *lses, const mla_merge_item &item,
				 int d, int first, float m, float (&total)[EACH])
{
#pragma unroll 1
	for (int group = 0; group < GROUPS; group++) {
		float acc[EACH] = {};

		sum_states(states, lses, item, group, d, first, m, acc);
#pragma unroll
		for (int k = 0; k < EACH; k++)
			total[k] = group ? total[k] + acc[k] : acc[k];
	}
}

/* Row r of a merge item. ALONE: by one group, its four sums one after the other; else by the whole
 * block, a sum per group, because with a long request alone on the GPU each of its rows is merged
 * from a state per worker, and many of them must be under way at once. The sums and their order are
 * the same either way, and so are the bits. */
template <bool ALONE>
static __device__ void merge_row(const mla_params &p, const mla_merge_item &item, int r,
				 float (*part)[THREADS])
{
	const int lane = threadIdx.x % LANES, group = threadIdx.x / LANES, d = p.head_dim_ckv;
	const int row = item.row_begin + r, query = row / p.num_heads, head = row % p.num_heads;
	const float *lses = p.partial_lse + item.partial + r;
	const float *states = p.partial_out + (item.partial + (int64_t)r) * d;
	const row_weights w = weigh(lses, item.rows, item.num_splits);
	const float inverse = w.sum == 0.f ? 0.f : 1.f / w.sum; /* then the sums are 0 too */
	char *out = row_of(p.out, query, head);

	for (int first = 0; first < d; first += THREADS) {
		float acc[EACH] = {};

		if (ALONE) {
			sum_alone(states, lses, item, d, first, w.m, acc);
#pragma unroll
			for (int k = 0; k < EACH; k++)
				if (first + lane + k * LANES < d)
					store_element(out, first + lane + k * LANES, p.out.dtype,
						      acc[k] * inverse);
			continue;
		}
		sum_states(states, lses, item, group, d, first, w.m, acc);
#pragma unroll
		for (int k = 0; k < EACH; k++)
			part[group][lane + k * LANES] = acc[k];
		__syncthreads();
		if (first + (int)threadIdx.x < d)
			store_element(out, first + threadIdx.x, p.out.dtype,
				      (part[0][threadIdx.x] + part[1][threadIdx.x] +
				       part[2][threadIdx.x] + part[3][threadIdx.x]) *
					      inverse);
		__syncthreads();
	}
	if (threadIdx.x % (ALONE ? LANES : THREADS) == 0 && p.lse.data)
		*(float *)row_of(p.lse, query, head) =
			w.sum == 0.f ? -CUDART_INF_F : (w.m + logf(w.sum)) * p.lse_mul;
}

/* A place is a row of a merge item. With few states a block takes four places at once, a group
 * each. */
static __global__ void __launch_bounds__(THREADS)
	merge_partials(const mla_params p, const int tile_rows)
{
	__shared__ float part[GROUPS][THREADS];
	const int64_t places = (int64_t)p.header->num_merges * tile_rows;
	const int group = threadIdx.x / LANES;

	for (int64_t i = blockIdx.x; i < places; i += gridDim.x) {
		const mla_merge_item item = p.merges[i / tile_rows];
		const int r = (int)(i % tile_rows);
		const bool alone = item.num_splits <= FEW;

		if (!alone && r < item.rows)
			merge_row<false>(p, item, r, part);
		else if (alone && r % GROUPS == 0 && r + group < item.rows)
			merge_row<true>(p, item, r + group, part);
	}
}

cudaError_t mla_merge_prepare(void)
{
	cudaFuncAttributes attributes;

	return cudaFuncGetAttributes(&attributes, merge_partials); /* loads the module */
}

cudaError_t mla_merge_launch(const mla_launch *launch, cudaStream_t stream)
{
	const int64_t places = (int64_t)launch->max_merges * launch->traits->tile_rows;
	const int64_t full = launch->device->sm_count * (2048 / THREADS);
	const unsigned blocks = (unsigned)(places < full ? places : full);

	merge_partials<<<blocks, THREADS, 0, stream>>>(launch->params, launch->traits->tile_rows);
	return cudaGetLastError();
}

/* ---- mla_merge: states of any layout -------------------------------------------------------- */

struct states {
	const char *states, *states_lse;
	char *out, *lse;
	int64_t state_stride[3], lse_stride[2], out_stride, lse_out_stride; /* bytes */
	int64_t num_states, rows;
	int32_t head_dim, dtype, out_dtype;
	float to_natural, from_natural;
};

static __device__ float state_lse(const states &a, int64_t s, int64_t row)
{
	const char *at = a.states_lse + s * a.lse_stride[0] + row * a.lse_stride[1];
	return *(const float *)at * a.to_natural;
}

static __global__ void __launch_bounds__(THREADS) merge_states(const states a)
{
	const int lane = threadIdx.x % 32;
	const int64_t first = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;

	for (int64_t row = first; row < a.rows; row += (int64_t)gridDim.x * WARPS) {
		float m = -CUDART_INF_F, sum = 0.f;

		for (int64_t s = 0; s < a.num_states; s++)
			m = fmaxf(m, state_lse(a, s, row));
		for (int64_t s = 0; s < a.num_states; s++) {
			const float x = state_lse(a, s, row);
			sum += x == -CUDART_INF_F ? 0.f : expf(x - m);
		}
		for (int c = lane; c < a.head_dim; c += 32) {
			float acc = 0.f;

			for (int64_t s = 0; s < a.num_states; s++) {
				const float x = state_lse(a, s, row);
				const char *state =
					a.states + s * a.state_stride[0] + row * a.state_stride[1];
				if (x != -CUDART_INF_F)
					acc += expf(x - m) * load_element(state, c, a.dtype);
			}
			store_element(a.out + row * a.out_stride, c, a.out_dtype,
				      sum == 0.f ? 0.f : acc / sum);
		}
		if (lane == 0 && a.lse)
			*(float *)(a.lse + row * a.lse_out_stride) =
				sum == 0.f ? -CUDART_INF_F : (m + logf(sum)) * a.from_natural;
	}
}

cudaError_t mla_merge_states_launch(const mla_merge_args *args, cudaStream_t stream)
{
	const bool base2 = args->lse_base == MLA_LSE_BASE2;
	const states a = {
		.states = (const char *)args->states.data,
		.states_lse = (const char *)args->states_lse.data,
		.out = (char *)args->out.data,
		.lse = (char *)args->lse.data,
		.state_stride = {args->states.stride[0], args->states.stride[1],
				 args->states.stride[2]},
		.lse_stride = {args->states_lse.stride[0], args->states_lse.stride[1]},
		.out_stride = args->out.stride[0],
		.lse_out_stride = args->lse.stride[0],
		.num_states = args->states.extent[0],
		.rows = args->states.extent[1],
		.head_dim = (int32_t)args->states.extent[2],
		.dtype = args->states.dtype,
		.out_dtype = args->out.dtype,
		.to_natural = base2 ? 0.693147180559945309417f : 1.f,
		.from_natural = base2 ? 1.44269504088896340736f : 1.f,
	};
	const int64_t blocks = (a.rows + WARPS - 1) / WARPS;

	if (a.rows == 0)
		return cudaSuccess;
	merge_states<<<(unsigned)(blocks < 65536 ? blocks : 65536), THREADS, 0, stream>>>(a);
	return cudaGetLastError();
}
