/* merge.cu - the one merge of attention states, for every rung that splits keys and for
 * mla_merge().
 *
 *     lse = log sum_s exp(lse_s),   out = sum_s exp(lse_s - lse) * out_s
 *
 * A state that saw no key (lse -inf) has weight 0: its values may be anything.
 */
#include "parts/elements.cuh"
#include "parts/launch.cuh"
#include "parts/ptx_sm90.cuh"
#include "parts/reduce.cuh"

enum {
	WARPS = 16, /* of a block */
	THREADS = WARPS * 32,
	BLOCKS = 2,  /* per SM */
	FEW = 32,    /* up to so many states a warp takes alone */
	CHUNK = 128, /* columns that a block takes of a row of more states */
};

/* A row of a merge item, and where its states are. */
struct merge_row {
	const float *lses, *states; /* of state 0 */
	int stride, step;           /* floats from state to state */
	int num_splits, packed;     /* packed row of the batch */
};

static __device__ merge_row find_row(const mla_params &p, const mla_merge_item &item, int r)
{
	return {p.partial_lse + item.partial + r,
		p.partial_out + (item.partial + (int64_t)r) * p.head_dim_ckv,
		item.rows,
		item.rows * p.head_dim_ckv,
		item.num_splits,
		item.row_begin + r};
}

static __device__ float lse_of(const merge_row &row, int s)
{
	return s < row.num_splits ? row.lses[(int64_t)s * row.stride] : -CUDART_INF_F;
}

/* Not yet divided by the sum of all; -1 for a state that saw no key. */
static __device__ float weight_of(float lse, float m)
{
	return lse == -CUDART_INF_F ? -1.f : expf(lse - m);
}

/* Of the lse of some states of a row: the largest, and the sum of exp(lse - m). NaN goes through.
 * sum is 0 if no state saw a key. mine: the weight of the state (lane) among them. */
struct row_weights {
	float m, sum, mine;
};

/* Of states begin, begin + step, ...; by a whole warp, 32 at a time. */
static __device__ row_weights weigh(const merge_row &row, int begin, int step)
{
	const int mine = begin + threadIdx.x % 32 * step;
	const float first = lse_of(row, mine);
	row_weights w = {first, 0.f, 0.f};

#pragma unroll 1
	for (int s = mine + 32 * step; s < row.num_splits; s += 32 * step)
		w.m = fmaxf(w.m, lse_of(row, s));
	w.m = warp_max(w.m);
	w.mine = weight_of(first, w.m);
	w.sum = w.mine < 0.f ? 0.f : w.mine;
#pragma unroll 1
	for (int s = mine + 32 * step; s < row.num_splits; s += 32 * step) {
		const float weight = weight_of(lse_of(row, s), w.m);
		w.sum += weight < 0.f ? 0.f : weight;
	}
	w.sum = warp_sum(w.sum);
	return w;
}

/* Values of DEPTH states of a row, EACH columns 32 apart per lane; as many loads are under way at
 * once. */
template <int DEPTH, int EACH> struct block_of_states {
	float x[DEPTH][EACH];

	/* States s, s + step, ..., columns c, c + 32, ...; zeros beyond the last state or column.
	 */
	__device__ void load(const merge_row &row, int s, int step, int c, int d)
	{
#pragma unroll
		for (int k = 0; k < DEPTH; k++, s += step) {
			const float *from = row.states + (int64_t)s * row.step + c;

#pragma unroll
			for (int i = 0; i < EACH; i++)
				x[k][i] = s < row.num_splits && c + i * 32 < d ? from[i * 32] : 0.f;
		}
	}

	/* Lanes lane, lane + 1, ... have the weights of the states as theirs. */
	__device__ void add_to(float (&acc)[EACH], float mine, int lane) const
	{
#pragma unroll
		for (int k = 0; k < DEPTH; k++) {
			const float weight = __shfl_sync(~0u, mine, lane + k);

			if (weight < 0.f) /* x may be anything */
				continue;
#pragma unroll
			for (int i = 0; i < EACH; i++)
				acc[i] += weight * x[k][i];
		}
	}
};

/* Columns c, c + 32, ... of the merged row. */
template <int EACH>
static __device__ void store_row(const mla_params &p, const merge_row &row, int c, float sum,
				 const float (&acc)[EACH])
{
	const float inverse = sum == 0.f ? 0.f : 1.f / sum; /* then acc is 0 too */
	char *out = row_of(p.out, row.packed / p.num_heads, row.packed % p.num_heads);

#pragma unroll
	for (int i = 0; i < EACH; i++)
		if (c + i * 32 < p.head_dim_ckv)
			store_element(out, c + i * 32, p.out.dtype, acc[i] * inverse);
}

static __device__ void store_lse(const mla_params &p, const merge_row &row, float m, float sum)
{
	if (p.lse.data)
		*(float *)row_of(p.lse, row.packed / p.num_heads, row.packed % p.num_heads) =
			sum == 0.f ? -CUDART_INF_F : (m + logf(sum)) * p.lse_mul;
}

/* Chunks chunk, chunk + step, ... of 32 * EACH columns, of a row of at most FEW states, by one
 * warp. */
template <int DEPTH, int EACH>
static __device__ void merge_alone(const mla_params &p, const merge_row &row, int chunk, int step)
{
	const int lane = threadIdx.x % 32, d = p.head_dim_ckv;
	int c = chunk * 32 * EACH + lane;
	block_of_states<DEPTH, EACH> block;

	block.load(row, 0, 1, c, d); /* under way while the weights are worked out */

	const row_weights w = weigh(row, 0, 1);

	while (c - lane < d) {
		float acc[EACH] = {};

#pragma unroll 1
		for (int s = 0; s < row.num_splits;) {
			block.add_to(acc, w.mine, s);
			s += DEPTH;
			if (s < row.num_splits)
				block.load(row, s, 1, c, d);
		}
		store_row(p, row, c, w.sum, acc);
		c += step * 32 * EACH;
		block.load(row, 0, 1, c, d);
	}
	if (chunk == 0 && lane == 0)
		store_lse(p, row, w.m, w.sum);
}

/* What the warps of a block made of a chunk of a row, each from its own states. */
struct warp_states {
	float m[WARPS], sum[WARPS], acc[WARPS][CHUNK];
};

/* A chunk of the columns of a row of more states, by the whole block: warp w sums states w, w +
 * WARPS, ..., then a thread per column sums the warps' results. With a long request alone on the
 * GPU each of its rows is merged from a state per worker. */
static __device__ void merge_together(const mla_params &p, const merge_row &row, int chunk,
				      warp_states &of)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, t = threadIdx.x;
	const int c = chunk * CHUNK + lane, d = p.head_dim_ckv;
	float acc[CHUNK / 32] = {};
	block_of_states<4, CHUNK / 32> block;

	block.load(row, warp, WARPS, c, d); /* under way while the weights are worked out */

	const row_weights w = weigh(row, warp, WARPS);
	float mine = w.mine;

#pragma unroll 1
	for (int i = 0; warp + i * WARPS < row.num_splits;) { /* this warp's state i */
		block.add_to(acc, mine, i % 32);
		i += 4;
		block.load(row, warp + i * WARPS, WARPS, c, d);
		if (i % 32 == 0)
			mine = weight_of(lse_of(row, warp + (i + lane) * WARPS), w.m);
	}
#pragma unroll
	for (int i = 0; i < CHUNK / 32; i++)
		of.acc[warp][i * 32 + lane] = acc[i];
	if (lane == 0) {
		of.m[warp] = w.m;
		of.sum[warp] = w.sum;
	}
	__syncthreads();
	if (t < CHUNK) {
		float m = -CUDART_INF_F, sum = 0.f, x[1] = {};

		for (int i = 0; i < WARPS; i++)
			m = fmaxf(m, of.m[i]);
#pragma unroll 4
		for (int i = 0; i < WARPS; i++) {
			if (of.sum[i] == 0.f) /* saw no key; m is -inf for nothing but NaN too */
				continue;

			const float weight = expf(of.m[i] - m);

			sum += weight * of.sum[i];
			x[0] += weight * of.acc[i][t];
		}
		store_row(p, row, chunk * CHUNK + t, sum, x);
		if (chunk == 0 && t == 0)
			store_lse(p, row, m, sum);
	}
	__syncthreads(); /* before the next chunk overwrites it */
}

/* The item of a row among all rows to merge: the last whose first row is not after it. */
static __device__ int item_of(const int *first_row, int count, int row)
{
	int low = 0, high = count - 1;

	while (low < high) {
		const int middle = (low + high + 1) / 2;

		if (first_row[middle] <= row)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* first_row[i] = rows of the items before item i, for i up to THREADS; by the whole block. */
static __device__ void number_rows(int rows, int *first_row, int *warp_rows)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	int sum = rows;

	for (int step = 1; step < 32; step *= 2) {
		const int before = __shfl_up_sync(~0u, sum, step);
		sum += lane >= step ? before : 0;
	}
	if (lane == 31)
		warp_rows[warp] = sum;
	__syncthreads();
	for (int i = 0; i < warp; i++)
		sum += warp_rows[i];
	first_row[threadIdx.x + 1] = sum;
	if (threadIdx.x == 0)
		first_row[0] = 0;
	__syncthreads();
}

/* Rows of few states: a warp each where there are enough of them, else several warps share a row's
 * columns. */
static __device__ void merge_short_rows(const mla_params &p, const mla_merge_item *items,
					const int *first_row, int count)
{
	const int rows = first_row[count], warp = threadIdx.x / 32;
	int each = 1; /* rows that a block takes at a time */

	while (each < WARPS && each * (int)gridDim.x < rows)
		each *= 2;
	for (int r = blockIdx.x * each + warp % each; r < rows; r += gridDim.x * each) {
		const int at = item_of(first_row, count, r);
		const merge_row row = find_row(p, items[at], r - first_row[at]);

		if (row.num_splits <= 2)
			merge_alone<2, 8>(p, row, warp / each, WARPS / each);
		else if (row.num_splits <= FEW && each > 2)
			merge_alone<4, 4>(p, row, warp / each, WARPS / each);
		else if (row.num_splits <= FEW)
			merge_alone<8, 2>(p, row, warp / each, WARPS / each);
	}
}

/* Rows of more states, which alone are numbered here, a chunk at a time. */
static __device__ void merge_long_rows(const mla_params &p, const mla_merge_item *items,
				       const int *first_row, int count, warp_states &of)
{
	const int chunks = (p.head_dim_ckv + CHUNK - 1) / CHUNK;

	for (int i = blockIdx.x; i < first_row[count] * chunks; i += gridDim.x) {
		const int r = i / chunks, at = item_of(first_row, count, r);

		merge_together(p, find_row(p, items[at], r - first_row[at]), i % chunks, of);
	}
}

/* Blocks share the rows of all items evenly, whatever the items are. How a column is summed depends
 * on the row's states alone, so that its bits do not depend on the rest of the batch. */
static __global__ void __launch_bounds__(THREADS, BLOCKS) merge_partials(const mla_params p)
{
	__shared__ warp_states of;
	__shared__ mla_merge_item items[THREADS];
	__shared__ int first_row[THREADS + 1], warp_rows[WARPS];
	const int num_merges = p.header->num_merges, t = threadIdx.x;

	let_next_start();
	if (num_merges == 0)
		wait_for_previous(); /* or what follows this kernel would not wait for it either */
	for (int base = 0; base < num_merges; base += THREADS) {
		const int count = min(num_merges - base, THREADS);

		if (t < count)
			items[t] = p.merges[base + t];
		number_rows(t < count ? items[t].rows : 0, first_row, warp_rows);
		if (base == 0)
			wait_for_previous(); /* the states are not there before */
		merge_short_rows(p, items, first_row, count);

		const bool long_rows = t < count && items[t].num_splits > FEW;

		if (__syncthreads_or(long_rows)) {
			number_rows(long_rows ? items[t].rows : 0, first_row, warp_rows);
			merge_long_rows(p, items, first_row, count, of);
		}
		/* no barrier before items are overwritten: rows of few states were read before
		 * __syncthreads_or, the others before merge_together's last one */
	}
}

cudaError_t mla_merge_prepare(void)
{
	cudaFuncAttributes attributes;

	return cudaFuncGetAttributes(&attributes, merge_partials); /* loads the module */
}

cudaError_t mla_merge_launch(const mla_launch *launch, cudaStream_t stream)
{
	const int64_t rows = (int64_t)launch->max_merges * launch->traits->tile_rows;
	const int64_t places = rows * ((launch->config->head_dim_ckv + CHUNK - 1) / CHUNK);
	const int64_t full = launch->device->sm_count * BLOCKS;
	const int blocks = (int)(places < full ? places : full);

	const launch_shape shape = {
		.blocks = blocks, .threads = THREADS, .early = starts_early(launch)};

	return launch_kernel(shape, stream, merge_partials, launch->params);
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
	return launch_kernel({(int)(blocks < 65536 ? blocks : 65536), THREADS}, stream,
			     merge_states, a);
}
