/* merge.cu - the one merge of attention states, for every rung that splits keys and for
 * mla_merge().
 *
 *     lse = log sum_s exp(lse_s),   out = sum_s exp(lse_s - lse) * out_s
 *
 * A state that saw no key (lse -inf) has weight 0 and is not read: its values may be anything. The
 * order of the sums is the order of the states, whatever the grid: merging is bitwise repeatable.
 */
#include "mla_device.cuh"

enum { THREADS = 128, WARPS = THREADS / 32 };

/* Largest lse and the log of the sum, over count values `stride` floats apart; by a whole warp. NaN
 * goes through. -inf if no state saw a key. */
static __device__ float log_sum_exp(const float *lse, int64_t stride, int count)
{
	float m = -CUDART_INF_F, sum = 0.f;

	for (int s = threadIdx.x % 32; s < count; s += 32)
		m = fmaxf(m, lse[s * stride]);
	m = warp_max(m);
	for (int s = threadIdx.x % 32; s < count; s += 32) {
		const float x = lse[s * stride];
		sum += x == -CUDART_INF_F ? 0.f : expf(x - m);
	}
	sum = warp_sum(sum);
	return sum == 0.f ? -CUDART_INF_F : m + logf(sum);
}

/* One warp per row of a merge item; blockIdx.y spreads the rows of an item over blocks. */
static __global__ void __launch_bounds__(THREADS, 8) merge_partials(const mla_params p)
{
	const int lane = threadIdx.x % 32;
	const int64_t d = p.head_dim_ckv;

	for (int i = blockIdx.x; i < p.header->num_merges; i += gridDim.x) {
		const mla_merge_item item = p.merges[i];
		const int first = blockIdx.y * WARPS + threadIdx.x / 32;

		for (int r = first; r < item.rows; r += gridDim.y * WARPS) {
			const int row = item.row_begin + r;
			const int query = row / p.num_heads, head = row % p.num_heads;
			const float *lses = p.partial_lse + item.partial + r;
			const float *states = p.partial_out + (item.partial + (int64_t)r) * d;
			const float lse = log_sum_exp(lses, item.rows, item.num_splits);

			for (int c = lane; c < d; c += 32) {
				float acc = 0.f;

#pragma unroll 4
				for (int s = 0; s < item.num_splits; s++) {
					const float lse_s = lses[(int64_t)s * item.rows];
					if (lse_s != -CUDART_INF_F)
						acc += expf(lse_s - lse) *
						       states[s * item.rows * d + c];
				}
				store_element(row_of(p.out, query, head), c, p.out.dtype, acc);
			}
			if (lane == 0 && p.lse.data)
				*(float *)row_of(p.lse, query, head) = lse * p.lse_mul;
		}
	}
}

cudaError_t mla_merge_prepare(void)
{
	cudaFuncAttributes attributes;

	return cudaFuncGetAttributes(&attributes, merge_partials); /* loads the module */
}

cudaError_t mla_merge_launch(const mla_launch *launch, cudaStream_t stream)
{
	const int full = launch->device->sm_count * 8;
	const int items = launch->max_merges < full ? launch->max_merges : full;
	const int row_blocks = full / items > 32 ? 32 : (full + items - 1) / items;

	merge_partials<<<dim3(items, row_blocks), THREADS, 0, stream>>>(launch->params);
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

static __global__ void __launch_bounds__(THREADS, 8) merge_states(const states a)
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
