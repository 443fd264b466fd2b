/* 01_naive - one block per packed row (query, head), one key per thread.
 *
 * Teaches  the whole contract with nothing in the way: page table, causal bound, online softmax.
 * Keeps    m = largest score so far, l = sum of exp(score - m), acc = sum of exp(score - m) * ckv.
 *          A larger score shrinks l and acc by exp(m_old - m_new).
 * Costs    every head reads the same 1,152-byte key again, two bytes at a time; one long request
 *          keeps one block busy while the rest of the GPU waits.
 * Next     02_splitk cuts long requests into parts.
 *
 * It takes every dtype, dimension, stride and page size, so it is also the GPU's second opinion on
 * problems that are too large for the CPU reference.
 */
#include "parts/elements.cuh"
#include "parts/launch.cuh"
#include "parts/reduce.cuh"

enum { THREADS = 128 };

/* The request that owns a query: the last one that starts at or before it. Requests without queries
 * start where the next one does, so the last is the right one. */
static __device__ int request_of(const mla_params &p, int query)
{
	int low = 0, high = p.header->batch_size - 1;

	while (low < high) {
		const int middle = (low + high + 1) / 2;
		if (p.qo_indptr[middle] <= query)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

static __device__ float score_of(const mla_params &p, const float *q, const key_place &at)
{
	const char *ckv = row_of(p.ckv, at.page, at.slot);
	float s = 0.f;

	for (int c = 0; c < p.head_dim_ckv; c++)
		s += q[c] * load_element(ckv, c, p.ckv.dtype);
	if (p.head_dim_kpe == 0)
		return s * p.sm_scale;

	const char *kpe = row_of(p.kpe, at.page, at.slot);

	for (int r = 0; r < p.head_dim_kpe; r++)
		s += q[p.head_dim_ckv + r] * load_element(kpe, r, p.kpe.dtype);
	return s * p.sm_scale;
}

static __global__ void __launch_bounds__(THREADS, 8) naive(const mla_params p)
{
	float *q = &dynamic_shared<float>();              /* [head_dim_ckv + head_dim_kpe] */
	float *acc = q + p.head_dim_ckv + p.head_dim_kpe; /* [head_dim_ckv] */
	__shared__ float weight[THREADS];                 /* exp(score - m) of THREADS keys */
	__shared__ key_place place[THREADS];
	const int t = threadIdx.x;
	const int64_t rows = (int64_t)p.header->total_q * p.num_heads;

	for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
		const int query = (int)(row / p.num_heads), head = (int)(row % p.num_heads);
		const int request = request_of(p, query);
		const int seen = p.q_pos0[request] + query - p.qo_indptr[request] + 1;
		const int keys = min(p.kv_len[request], seen); /* may be <= 0 */
		float m = -CUDART_INF_F, l = 0.f;

		for (int c = t; c < p.head_dim_ckv; c += THREADS) {
			q[c] = load_element(row_of(p.q_nope, query, head), c, p.q_nope.dtype);
			acc[c] = 0.f;
		}
		for (int r = t; r < p.head_dim_kpe; r += THREADS)
			q[p.head_dim_ckv + r] =
				load_element(row_of(p.q_pe, query, head), r, p.q_pe.dtype);
		__syncthreads();

		for (int first = 0; first < keys; first += THREADS) {
			const int n = min(THREADS, keys - first);
			float s = -CUDART_INF_F;

			if (t < n) {
				place[t] = place_of(p, p.kv_indptr[request], first + t);
				s = score_of(p, q, place[t]);
			}
			const float m_new = fmaxf(m, block_max<THREADS>(s));
			/* equal maxima, -inf included, shrink nothing */
			const float shrink = m == m_new ? 1.f : expf(m - m_new);
			const float w = s == -CUDART_INF_F ? 0.f : expf(s - m_new);

			weight[t] = w;
			l = l * shrink +
			    block_sum<THREADS>(w); /* its barriers publish weight, place */
			m = m_new;
			for (int c = t; c < p.head_dim_ckv; c += THREADS) {
				float a = acc[c] * shrink;
				for (int j = 0; j < n; j++)
					a += weight[j] * load_element(row_of(p.ckv, place[j].page,
									     place[j].slot),
								      c, p.ckv.dtype);
				acc[c] = a;
			}
			__syncthreads(); /* before weight and place are overwritten */
		}

		/* l is 0 only if no key was seen: 0 and -inf. A NaN goes through. */
		for (int c = t; c < p.head_dim_ckv; c += THREADS)
			store_element(row_of(p.out, query, head), c, p.out.dtype,
				      l == 0.f ? 0.f : acc[c] / l);
		if (t == 0 && p.lse.data)
			*(float *)row_of(p.lse, query, head) =
				l == 0.f ? -CUDART_INF_F : (m + logf(l)) * p.lse_mul;
		/* no barrier: others read q before the last one of the keys' loop, and what a
		 * thread has of acc is its own */
	}
}

static size_t shared_bytes(const mla_config *config)
{
	return (2 * (size_t)config->head_dim_ckv + config->head_dim_kpe) * sizeof(float);
}

static const char *refuses(const mla_config *config, const mla_device *device)
{
	/* weight and place take static shared memory besides */
	const size_t need = shared_bytes(config) + 4096;

	if (need > (size_t)device->smem_per_block)
		return mla_why(
			"head_dim_ckv %d and head_dim_kpe %d need %zu bytes of shared memory, "
			"this GPU has %d",
			config->head_dim_ckv, config->head_dim_kpe, need, device->smem_per_block);
	return NULL;
}

static void traits(const mla_config *, const mla_device *, mla_traits *t)
{
	t->ctas_per_sm = 1;
	t->item_cost = 0;
	t->merge_cost = 0;
	t->merge = MLA_MERGE_NONE;
	t->align = 1;
}

static cudaError_t prepare(const mla_config *config, const mla_device *)
{
	return allow_shared((int)shared_bytes(config), naive);
}

static cudaError_t run(const mla_launch *launch, cudaStream_t stream)
{
	const int64_t rows = (int64_t)launch->max_queries * launch->config->num_heads;
	const int64_t full = (int64_t)launch->device->sm_count * 16; /* more would only queue */
	const int blocks = (int)(rows < full ? rows : full);

	return launch_kernel({blocks, THREADS, (int)shared_bytes(launch->config)}, stream, naive,
			     launch->params);
}

MLA_KERNEL_DESCRIPTOR(01_naive) = {
	.abi = MLA_KERNEL_ABI,
	.summary = "one block per (query, head), one key per thread, online softmax",
	.ideas = "naive",
	.threads = THREADS,
	.cluster = 1,
	.tile_rows = 1 << 30, /* it finds its rows by itself: one work item per request */
	.kv_granule = 1,
	.fixed_split = true,
	.refuses = refuses,
	.traits = traits,
	.prepare = prepare,
	.run = run,
};
