/* ptx.cuh - thin wrappers of the PTX instructions that CUDA C has no name for, and the refusal and
 * row addressing that the 16-bit rungs share. One instruction per function; no kernel logic.
 */
#pragma once

#include <stdint.h>

#include "mla_device.cuh"

/* ---- tensor cores: D = A B + D, m16n8k16, 16-bit inputs, f32 accumulators -------------------- */
/* Lane l holds, with g = l / 4 and t = l % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
 *   A  a[0] rows g,     columns 2t, 2t+1     a[1] row g + 8, the same columns
 *      a[2] rows g,     columns 2t+8, 2t+9   a[3] row g + 8
 *   B  b[0] k = 2t, 2t+1, column g           b[1] k = 2t+8, 2t+9
 *   D  d[0], d[1] row g, columns 2t, 2t+1    d[2], d[3] row g + 8
 */
template <typename T>
static __device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
						    uint32_t b0, uint32_t b1);

template <>
__device__ __forceinline__ void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
							    uint32_t b0, uint32_t b1)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
	    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma_m16n8k16<__half>(float (&d)[4], const uint32_t (&a)[4],
						     uint32_t b0, uint32_t b1)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
	    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Two floats rounded to a pair of 16-bit values, low half first. */
template <typename T> static __device__ __forceinline__ uint32_t pack(float low, float high);

template <> __device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float low, float high)
{
	const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
	return *(const uint32_t *)&pair;
}

template <> __device__ __forceinline__ uint32_t pack<__half>(float low, float high)
{
	const __half2 pair = __floats2half2_rn(low, high);
	return *(const uint32_t *)&pair;
}

/* Two neighbouring 16-bit elements, the lower half of the word first. */
template <typename T> static __device__ __forceinline__ float2 unpack(uint32_t pair);

template <> __device__ __forceinline__ float2 unpack<__nv_bfloat16>(uint32_t pair)
{
	/* bf16 is the upper half of a float: two instructions, where the library's conversion takes
	 * three */
	return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

template <> __device__ __forceinline__ float2 unpack<__half>(uint32_t pair)
{
	return __half22float2(*(const __half2 *)&pair);
}

/* Two neighbouring elements of a row, index even, rounded to nearest even once. */
static __device__ __forceinline__ void store_pair(char *row, int index, int dtype, float a, float b)
{
	if (dtype == MLA_BF16)
		((uint32_t *)row)[index / 2] = pack<__nv_bfloat16>(a, b);
	else if (dtype == MLA_F16)
		((uint32_t *)row)[index / 2] = pack<__half>(a, b);
	else
		((float2 *)row)[index / 2] = make_float2(a, b);
}

/* ---- shared memory ----------------------------------------------------------------------------
 */

static __device__ __forceinline__ uint32_t shared_address(const void *pointer)
{
	return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. */
static __device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}

/* The same, each matrix transposed on the way. */
static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}

/* ---- asynchronous copies, global to shared ----------------------------------------------------
 */

/* 16 bytes, past L1. bytes: 16, or 0 to write zeros and read nothing. */
static __device__ __forceinline__ void cp_async_16(uint32_t address, const void *source, int bytes)
{
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
		     :
		     : "r"(address), "l"(source), "r"(bytes)
		     : "memory");
}

static __device__ __forceinline__ void cp_async_commit()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most N of this thread's groups are still under way. */
template <int N> static __device__ __forceinline__ void cp_async_wait()
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- exponentials -----------------------------------------------------------------------------
 */

/* 2^x, one instruction, 2 ulp; -inf gives 0. */
static __device__ __forceinline__ float exp2_approx(float x)
{
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* A weight is at most 2^shift instead of 1. fp16 keeps 24 bits below 1: a small weight on a large
 * value would be lost beside a large weight on a small value. bf16 has the range of a float. */
template <typename T> static constexpr float weight_shift = 0.f;
template <> constexpr float weight_shift<__half> = 14.f;

/* ---- what the 16-bit rungs share --------------------------------------------------------------
 */

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
