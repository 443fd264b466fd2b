/* tile.c - the loops where the time goes: gathering a tile of keys from the paged cache and
 * multiplying a group of rows with it.
 *
 * A tile is converted to double once and shared by up to GROUP_ROWS rows. Multiply-adds run 32
 * keys (or a row of columns) at a time; four products per load and store of a sum, added one after
 * the other, so the order of each sum is the plain one.
 */
#include <string.h>

#include "internal.h"

void ref_gather_q(const struct ref_problem *problem, const int64_t *rows, int n, double *q)
{
	const mla_config *config = problem->config;
	const mla_tensor *nope = &problem->tensors->q_nope, *pe = &problem->tensors->q_pe;
	const int32_t d = config->head_dim_ckv, r = config->head_dim_kpe;

	for (int i = 0; i < n; i++, q += d + r) {
		const int64_t query = rows[i] / config->num_heads;
		const int64_t head = rows[i] % config->num_heads;

		if (problem->q_nope)
			memcpy(q, problem->q_nope + rows[i] * d, (size_t)d * sizeof(*q));
		else
			ref_load_row(ref_at(nope, query, head), nope->dtype, d, q);
		if (r > 0)
			ref_load_row(ref_at(pe, query, head), pe->dtype, r, q + d);
	}
}

/* Key j of an item's request in ckv or kpe. Strides are 64 bit: pools beyond 4 GB are normal. */
static const char *locate(const struct ref_problem *problem, const mla_tensor *cache,
			  const mla_work *work, int32_t j)
{
	const int32_t page_size = problem->config->page_size;
	const int32_t page = problem->tensors->kv_indices[work->page_begin + j / page_size];

	return ref_at(cache, page, j % page_size);
}

static void transpose(const char *row, int32_t dtype, int32_t n, int j, double *k)
{
	double part[64];

	for (int32_t c = 0; c < n; c += 64) {
		const int32_t m = n - c < 64 ? n - c : 64;

		ref_load_row(row + (int64_t)c * ref_dtype_size(dtype), dtype, m, part);
		for (int32_t i = 0; i < m; i++)
			k[(int64_t)(c + i) * TILE_KEYS + j] = part[i];
	}
}

void ref_gather_keys(const struct ref_problem *problem, const mla_work *work, int32_t first, int n,
		     double *k)
{
	const mla_tensor *ckv = &problem->tensors->ckv, *kpe = &problem->tensors->kpe;
	const int32_t d = problem->config->head_dim_ckv, r = problem->config->head_dim_kpe;

	if (n < TILE_KEYS)
		memset(k, 0, (size_t)(d + r) * TILE_KEYS * sizeof(*k));
	for (int j = 0; j < n; j++) {
		transpose(locate(problem, ckv, work, first + j), ckv->dtype, d, j, k);
		if (r > 0)
			transpose(locate(problem, kpe, work, first + j), kpe->dtype, r, j,
				  k + (int64_t)d * TILE_KEYS);
	}
}

void ref_gather_values(const struct ref_problem *problem, const mla_work *work, int32_t first,
		       int n, double *v)
{
	const mla_tensor *ckv = &problem->tensors->ckv;
	const int32_t d = problem->config->head_dim_ckv;

	for (int j = 0; j < n; j++)
		ref_load_row(locate(problem, ckv, work, first + j), ckv->dtype, d,
			     v + (int64_t)j * d);
}

/* sum[j] += a[0] k[0][j] + ... + a[n-1] k[n-1][j], in this order. */
static void add_products(int n, const double *a, const double *k, double *sum)
{
	int c = 0;

	for (; c + 4 <= n; c += 4, k += 4 * TILE_KEYS) {
		const double a0 = a[c], a1 = a[c + 1], a2 = a[c + 2], a3 = a[c + 3];

#pragma omp simd
		for (int j = 0; j < TILE_KEYS; j++) {
			double t = sum[j] + a0 * k[j];

			t += a1 * k[TILE_KEYS + j];
			t += a2 * k[2 * TILE_KEYS + j];
			sum[j] = t + a3 * k[3 * TILE_KEYS + j];
		}
	}
	for (; c < n; c++, k += TILE_KEYS)
		for (int j = 0; j < TILE_KEYS; j++)
			sum[j] += a[c] * k[j];
}

void ref_scores(int n, int dims, const double *a, const double *k, double scale, double *s,
		int64_t stride)
{
	const int block = 64; /* columns: 16 KB of the tile, which all rows take from L1 */

	for (int r = 0; r < n; r++)
		memset(s + r * stride, 0, TILE_KEYS * sizeof(*s));
	for (int c = 0; c < dims; c += block)
		for (int r = 0; r < n; r++)
			add_products(dims - c < block ? dims - c : block, a + (int64_t)r * dims + c,
				     k + (int64_t)c * TILE_KEYS, s + r * stride);
	for (int r = 0; r < n; r++)
		for (int j = 0; j < TILE_KEYS; j++)
			s[r * stride + j] *= scale;
}

void ref_accumulate(int64_t n, int d, const double *p, const double *v, double *acc)
{
	int64_t j = 0;

	for (; j + 4 <= n; j += 4) {
		const double p0 = p[j], p1 = p[j + 1], p2 = p[j + 2], p3 = p[j + 3];
		const double *v0 = v + j * d, *v1 = v0 + d, *v2 = v1 + d, *v3 = v2 + d;

#pragma omp simd
		for (int c = 0; c < d; c++) {
			double t = acc[c] + p0 * v0[c];

			t += p1 * v1[c];
			t += p2 * v2[c];
			acc[c] = t + p3 * v3[c];
		}
	}
	for (; j < n; j++)
		for (int c = 0; c < d; c++)
			acc[c] += p[j] * v[j * d + c];
}
