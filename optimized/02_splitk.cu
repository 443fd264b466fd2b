/* 02_splitk - the same arithmetic, but a block takes work items from the plan.
 *
 * Teaches  split-k: a long request is cut along its keys, every part leaves a partial state
 *          (normalised out, lse), and a second kernel (merge.cu) joins the parts.
 * Keeps    m, l, acc as 01_naive, per part.
 * Costs    as 01_naive per key; a round trip of partial states through memory; a second launch.
 * Next     wide loads: two bytes per thread and load waste most of each memory transaction.
 *
 * One block is one worker: it walks its list of items, and the rows of an item one after another.
 */
#include "parts/elements.cuh"
#include "parts/launch.cuh"
#include "parts/reduce.cuh"

enum { THREADS = 128, TILE_ROWS = 16, BLOCKS_PER_SM = 8 };

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

static __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) splitk(const mla_params p)
{
	float *q = &dynamic_shared<float>();              /* [head_dim_ckv + head_dim_kpe] */
	float *acc = q + p.head_dim_ckv + p.head_dim_kpe; /* [head_dim_ckv] */
	__shared__ float weight[THREADS];                 /* exp(score - m) of THREADS keys */
	__shared__ key_place place[THREADS];
	const int t = threadIdx.x;

	for (int i = p.worker_begin[blockIdx.x]; i < p.worker_begin[blockIdx.x + 1]; i++) {
		const mla_work item = p.items[i];

		for (int row = item.row_begin; row < item.row_end; row++) {
			const int head = row % p.num_heads,
				  query = item.q_begin + row / p.num_heads;
			const int seen = item.q_pos0 + row / p.num_heads + 1;
			const int end = min(item.kv_end, seen); /* may be <= kv_begin */
			float m = -CUDART_INF_F, l = 0.f;

			for (int c = t; c < p.head_dim_ckv; c += THREADS) {
				q[c] = load_element(row_of(p.q_nope, query, head), c,
						    p.q_nope.dtype);
				acc[c] = 0.f;
			}
			for (int r = t; r < p.head_dim_kpe; r += THREADS)
				q[p.head_dim_ckv + r] =
					load_element(row_of(p.q_pe, query, head), r, p.q_pe.dtype);
			__syncthreads();

			for (int first = item.kv_begin; first < end; first += THREADS) {
				const int n = min(THREADS, end - first);
				float s = -CUDART_INF_F;

				if (t < n) {
					place[t] = place_of(p, item.page_begin, first + t);
					s = score_of(p, q, place[t]);
				}
				const float m_new = fmaxf(m, block_max<THREADS>(s));
				const float shrink = m == m_new ? 1.f : expf(m - m_new);
				const float w = s == -CUDART_INF_F ? 0.f : expf(s - m_new);

				weight[t] = w;
				l = l * shrink + block_sum<THREADS>(w);
				m = m_new;
				for (int c = t; c < p.head_dim_ckv; c += THREADS) {
					float a = acc[c] * shrink;
					for (int j = 0; j < n; j++)
						a += weight[j] *
						     load_element(row_of(p.ckv, place[j].page,
									 place[j].slot),
								  c, p.ckv.dtype);
					acc[c] = a;
				}
				__syncthreads();
			}

			/* Where the state goes: straight to out, or to this row's partial state. */
			const int64_t slot = (int64_t)item.partial + row - item.row_begin;
			const bool whole = item.partial < 0;
			char *out = whole ? row_of(p.out, query, head)
					  : (char *)(p.partial_out + slot * p.head_dim_ckv);

			for (int c = t; c < p.head_dim_ckv; c += THREADS)
				store_element(out, c, whole ? p.out.dtype : MLA_F32,
					      l == 0.f ? 0.f : acc[c] / l);
			if (t == 0) {
				const float lse = l == 0.f ? -CUDART_INF_F : m + logf(l);

				if (!whole)
					p.partial_lse[slot] = lse;
				else if (p.lse.data)
					*(float *)row_of(p.lse, query, head) = lse * p.lse_mul;
			}
			/* no barrier, as in 01_naive */
		}
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
	t->ctas_per_sm = BLOCKS_PER_SM;
	t->item_cost = 16; /* loading q and storing out, against 128 keys of arithmetic */
	t->merge_cost = 32;
	t->merge = MLA_MERGE_SEPARATE;
	t->align = 1;
}

static cudaError_t prepare(const mla_config *config, const mla_device *)
{
	return allow_shared((int)shared_bytes(config), splitk);
}

static cudaError_t run(const mla_launch *launch, cudaStream_t stream)
{
	return launch_kernel({launch->num_workers, THREADS, (int)shared_bytes(launch->config)},
			     stream, splitk, launch->params);
}

MLA_KERNEL_DESCRIPTOR(02_splitk) = {
	.abi = MLA_KERNEL_ABI,
	.summary = "naive arithmetic on the plan's work items, partial states merged",
	.ideas = "split",
	.threads = THREADS,
	.cluster = 1,
	.tile_rows = TILE_ROWS,
	.kv_granule = THREADS,
	.fixed_split = true,
	.refuses = refuses,
	.traits = traits,
	.prepare = prepare,
	.run = run,
};
