/* absorb.c - matrix absorption (DeepSeek-V2, arXiv:2405.04434, section 2.1.2): W_UK moves into the
 * query and W_UV behind the attention, so that keys and values are the cached latents themselves.
 *
 *     q . (W_UK ckv)  =  (W_UK^T q) . ckv          sum_j p_j (W_UV ckv_j)  =  W_UV (sum_j p_j
 * ckv_j)
 *
 * Weights are taken 64 columns at a time; those of W_UK are shared by all queries of a head.
 */
#include <string.h>

#include "internal.h"

enum { COLUMNS = 64 };

/* w[head, d, first .. first + n - 1] */
static void load_columns(const mla_tensor *w, int64_t head, int64_t d, int64_t first, int64_t n,
			 double *out)
{
	ref_load_row(ref_at(w, head, d) + first * w->stride[2], w->dtype, n, out);
}

static int64_t columns_from(const mla_tensor *w, int64_t first)
{
	return w->extent[2] - first < COLUMNS ? w->extent[2] - first : COLUMNS;
}

/* Weights are converted, then multiplied with the queries. */
static int threads_for(int64_t total_q, const mla_tensor *w)
{
	return ref_threads((double)(total_q + 1) * (double)w->extent[0] * (double)w->extent[1] *
			   (double)w->extent[2]);
}

static void absorb_head(const mla_tensor *q_nope, const mla_tensor *w_uk, int64_t h,
			double *absorbed)
{
	const int64_t total_q = q_nope->extent[0], heads = w_uk->extent[0];
	const int64_t nope = w_uk->extent[1], ckv = w_uk->extent[2];
	double w[COLUMNS];

	for (int64_t t = 0; t < total_q; t++)
		memset(absorbed + (t * heads + h) * ckv, 0, (size_t)ckv * sizeof(*absorbed));
	for (int64_t d = 0; d < nope; d++)
		for (int64_t first = 0; first < ckv; first += COLUMNS) {
			const int64_t n = columns_from(w_uk, first);

			load_columns(w_uk, h, d, first, n, w);
			for (int64_t t = 0; t < total_q; t++) {
				const double q =
					ref_load(ref_at(q_nope, t, h) + d * q_nope->stride[2],
						 q_nope->dtype);
				double *row = absorbed + (t * heads + h) * ckv + first;

				for (int64_t c = 0; c < n; c++)
					row[c] += q * w[c];
			}
		}
}

void ref_absorb_q(const mla_tensor *q_nope, const mla_tensor *w_uk, double *absorbed)
{
#pragma omp parallel for num_threads(threads_for(q_nope->extent[0], w_uk))
	for (int64_t h = 0; h < w_uk->extent[0]; h++)
		absorb_head(q_nope, w_uk, h, absorbed);
}

/* One row: out[d] = sum_c latent[c] * w_uv[h,d,c]. */
static void project_row(const double *latent, const mla_tensor *w_uv, int64_t h, double *out)
{
	double w[COLUMNS];

	memset(out, 0, (size_t)w_uv->extent[1] * sizeof(*out));
	for (int64_t d = 0; d < w_uv->extent[1]; d++)
		for (int64_t first = 0; first < w_uv->extent[2]; first += COLUMNS) {
			const int64_t n = columns_from(w_uv, first);

			load_columns(w_uv, h, d, first, n, w);
			for (int64_t c = 0; c < n; c++)
				out[d] += latent[first + c] * w[c];
		}
}

void ref_project_out(const int64_t *rows, int64_t n, const double *latent, const mla_tensor *w_uv,
		     double *out)
{
	const int64_t heads = w_uv->extent[0], dv = w_uv->extent[1], ckv = w_uv->extent[2];

#pragma omp parallel for num_threads(threads_for(n / heads + 1, w_uv))
	for (int64_t k = 0; k < n; k++)
		project_row(latent + k * ckv, w_uv, (rows ? rows[k] : k) % heads, out + k * dv);
}
