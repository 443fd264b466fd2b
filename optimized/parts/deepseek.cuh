/* deepseek.cuh - what the rungs share that take DeepSeek's dimensions, 512 + 64, in one 16-bit
 * dtype.
 */
#pragma once

#include "parts/elements.cuh"

/* Why a rung made for DeepSeek's dimensions and one 16-bit dtype does not take this config, or
 * NULL. */
static inline const char *refuse_other_than_deepseek(const mla_config *c)
{
	if (c->head_dim_ckv != 512 || c->head_dim_kpe != 64)
		return mla_why("head_dim_ckv %d and head_dim_kpe %d, it takes 512 and 64 only",
			       c->head_dim_ckv, c->head_dim_kpe);
	if (c->q_dtype != c->ckv_dtype || c->q_dtype != c->kpe_dtype ||
	    (c->q_dtype != MLA_BF16 && c->q_dtype != MLA_F16))
		return "q, ckv and kpe must all be bf16 or all fp16";
	return NULL;
}

/* A weight is at most 2^shift instead of 1. fp16 keeps 24 bits below 1: a small weight on a large
 * value would be lost beside a large weight on a small value. bf16 has the range of a float. */
template <typename T> inline constexpr float weight_shift = 0.f;
template <> inline constexpr float weight_shift<__half> = 14.f;

/* lse, natural, of a row whose largest score is m (in powers of two) and whose weights, at most
 * 2^shift, sum up to l. The shift is taken off l, which is exact, not off the logarithm: lse near 0
 * would be the difference of two large numbers. m is what the weights were made with, as rounded.
 */
static __device__ inline float lse_of_row(float m, float shift, float l)
{
	const float reference = __fsub_ru(m, shift);

	if (l == 0.f)
		return -CUDART_INF_F;
	return (reference + shift) * 0.693147180559945309417f + logf(l * exp2f(-shift));
}
