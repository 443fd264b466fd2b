/* elements.cuh - elements of any dtype, alone and in pairs, and where a row or a key lies. No
 * kernel logic, no PTX.
 */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

#include "mla_kernel.h"

/* ---- elements of any dtype ------------------------------------------------------------------ */

static __device__ __forceinline__ float load_element(const char *row, int index, int dtype)
{
	if (dtype == MLA_BF16)
		return __bfloat162float(((const __nv_bfloat16 *)row)[index]);
	if (dtype == MLA_F16)
		return __half2float(((const __half *)row)[index]);
	return ((const float *)row)[index];
}

/* Rounds to nearest even once; NaN stays NaN. */
static __device__ __forceinline__ void store_element(char *row, int index, int dtype, float value)
{
	if (dtype == MLA_BF16)
		((__nv_bfloat16 *)row)[index] = __float2bfloat16_rn(value);
	else if (dtype == MLA_F16)
		((__half *)row)[index] = __float2half_rn(value);
	else
		((float *)row)[index] = value;
}

/* ---- pairs of 16-bit elements ---------------------------------------------------------------- */

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

/* ---- addresses ------------------------------------------------------------------------------ */

/* Row (i, j) of a tensor; 64-bit, because pools exceed 2^31 bytes. */
static __device__ __forceinline__ char *row_of(const mla_view &view, int64_t i, int64_t j)
{
	return view.data + i * view.stride0 + j * view.stride1;
}

/* Page and slot of key j of the request whose page table starts at page_begin. */
struct key_place {
	int64_t page;
	int slot;
};

static __device__ __forceinline__ key_place place_of(const mla_params &p, int page_begin, int key)
{
	const int page = key / p.page_size;
	return {p.kv_indices[page_begin + page], key - page * p.page_size};
}
