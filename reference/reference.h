/* reference.h - the truth: plain C, fp64 sums, OpenMP. Knows nothing of CUDA, HDF5 or the command
 * line. Inputs are taken as valid: the callers in harness/ check them (mla_reference in mla.h is
 * the checked door).
 *
 * Symbols are the notebooks': q, ckv, kpe; m = largest score, l = sum of exp(score - m), acc = sum
 * of exp(score - m) * value. Scores are scaled (sm_scale included) and natural everywhere here;
 * only stores to a caller's lse tensor apply config->lse_base.
 */
#ifndef MLA_REFERENCE_H
#define MLA_REFERENCE_H

#include "mla.h"

/* What the truth knows about a packed row. Arrays belong to the caller; NULL = not wanted.
 * n is the number of rows asked for, d = config->head_dim_ckv. */
struct ref_truth {
	double *out;     /* [n, d] */
	double *lse;     /* [n] natural log; -inf where no key is seen */
	double *sum_abs; /* [n, d] sum_j p_j |v_j|: what an element's rounding error scales with */
	double *tokens;  /* [n] effective tokens, exp(entropy of p); 0 where no key is seen */
	double *max_score; /* [n] max_j |score_j| over the keys seen; 0 where none */
};

/* Absorbed attention over the paged cache for chosen rows. rows[k] = query * num_heads + head over
 * the whole batch, rising; rows NULL = all n = total_q * num_heads of them, in order. Two passes:
 * exact maximum first. 0, or -1 if memory ran out. */
int ref_attention(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
		  const int64_t *rows, int64_t n, const struct ref_truth *truth);

/* The same with q_nope [total_q, H, ckv] in fp64, contiguous, as ref_absorb_q leaves it;
 * tensors->q_nope is not read. 0, or -1 if memory ran out. */
int ref_attention_absorbed(const mla_config *config, const mla_batch *batch,
			   const mla_tensors *tensors, const double *q_nope, const int64_t *rows,
			   int64_t n, const struct ref_truth *truth);

/* All rows in one pass with a running maximum, in fp64; writes tensors->out and lse. 0, or -1 if
 * memory ran out. */
int ref_attention_online(const mla_config *config, const mla_batch *batch,
			 const mla_tensors *tensors);

/* Executes the work items of a built plan, then its merge list. Partial states are fp64 in memory
 * of its own, allocated here. 0, or -1 if memory ran out. */
int ref_attention_plan(const mla_plan *plan, const mla_tensors *tensors);

/* Unabsorbed multi-head attention: k_nope = W_UK ckv and v = W_UV ckv are expanded per head, as in
 * textbook attention. q_nope [total_q, H, nope], w_uk [H, nope, ckv], w_uv [H, v, ckv] (any of the
 * 16-bit or f32 dtypes); out [total_q, H, v] and lse [total_q, H] in fp64, contiguous. q_pe, ckv,
 * kpe and the page table come from tensors. 0, or -1 if memory ran out. */
int ref_mha(const mla_config *config, const mla_batch *batch, const mla_tensors *tensors,
	    const mla_tensor *q_nope, const mla_tensor *w_uk, const mla_tensor *w_uv, double *out,
	    double *lse);

/* Absorption of W_UK into the query: absorbed[t,h,c] = sum_d q_nope[t,h,d] * w_uk[h,d,c], fp64,
 * contiguous [total_q, H, ckv]. */
void ref_absorb_q(const mla_tensor *q_nope, const mla_tensor *w_uk, double *absorbed);

/* Absorption of W_UV behind the attention, for chosen rows as ref_attention has them:
 * out[k,d] = sum_c latent[k,c] * w_uv[h,d,c] with h = rows[k] % num_heads; latent contiguous [n,
 * ckv], out contiguous [n, v], both fp64. */
void ref_project_out(const int64_t *rows, int64_t n, const double *latent, const mla_tensor *w_uv,
		     double *out);

/* Rotary embedding of x[rows, dim] (fp64, contiguous, dim even) in place; row r is at positions[r].
 * inv_freq [dim / 2]. Interleaved: pairs (x[2i], x[2i+1]), DeepSeek's own code. Half: pairs
 * (x[i], x[dim/2 + i]), NeoX. RoFormer, arXiv:2104.09864. */
enum ref_rope_layout { REF_ROPE_INTERLEAVED, REF_ROPE_HALF };
void ref_rope(enum ref_rope_layout layout, int64_t rows, int32_t dim, const double *inv_freq,
	      const int32_t *positions, double *x);

/* YaRN (arXiv:2309.00071) as DeepSeek configures it. */
struct ref_yarn {
	double theta, factor, beta_fast, beta_slow, mscale;
	int32_t original_max_position; /* 4096 */
};
/* inv_freq[dim / 2]; a factor of at most 1 gives plain RoPE. */
void ref_yarn_frequencies(const struct ref_yarn *yarn, int32_t dim, double *inv_freq);
/* head_dim_qk^-0.5 * (0.1 * mscale * ln(factor) + 1)^2, factor <= 1: head_dim_qk^-0.5. */
double ref_yarn_softmax_scale(const struct ref_yarn *yarn, int32_t head_dim_qk);

/* Threads for a loop of so many multiply-adds (or copies, or whatever takes as long): for the
 * clause num_threads() of every parallel loop, here and in harness/. 1 where a team is not worth
 * waking, and in a process that was forked off one with threads, where OpenMP would hang. */
int ref_threads(double work);

/* Merges attention states on the host, fp64 inside; arguments already checked. */
void ref_merge(const mla_merge_args *args);

/* One element of a tensor row as a double, and back, rounding to nearest even once. */
double ref_load(const void *element, int32_t dtype);
void ref_store(void *element, int32_t dtype, double value);
/* A packed row of the batch to the caller's out and, in the config's base, lse; lse: natural. */
void ref_store_row(const mla_config *config, const mla_tensors *tensors, int64_t row,
		   const double *out, double lse);
int ref_dtype_size(int32_t dtype); /* bytes; 0 if unknown */
/* "bf16", ... by enum mla_dtype, as messages, options and results call them. */
extern const char *const ref_dtype_names[];
const char *ref_dtype_name(int32_t dtype); /* "unknown" if it is */

#endif
