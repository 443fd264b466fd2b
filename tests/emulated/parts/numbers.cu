/* numbers.cu - parts that compute: conversions, exponentials, directed roundings, elements, and the
 * arithmetic of a row's lse.
 */
#include <math.h>

#include "parts/deepseek.cuh"
#include "parts/elements.cuh"
#include "parts/ptx_sm80.cuh"
#include "tests/emulated/parts/parts.cuh"

/* ---- functions of one float ------------------------------------------------------------------ */

template <float (*F)(float)>
static __global__ void __launch_bounds__(PART_THREADS) unary(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS)
		a.out[i] = __float_as_uint(F(a.floats[i]));
}

static __device__ float exp_of(float x)
{
	return expf(x);
}

static __device__ float exp2_of(float x)
{
	return exp2f(x);
}

static __device__ float exp2_approx_of(float x)
{
	return exp2_approx(x);
}

static __device__ float log_of(float x)
{
	return logf(x);
}

static __device__ float sqrt_of(float x)
{
	return sqrtf(x);
}

static __device__ float abs_of(float x)
{
	return fabsf(x);
}

static __device__ float inverse_of(float x)
{
	return 1.f / x;
}

static __device__ float float_of(float x)
{
	return (float)__float_as_int(x);
}

/* ---- of two and three ------------------------------------------------------------------------ */

/* The first floats in all pairs, then the others with another each. */
static __host__ __device__ int first_of(int i)
{
	return i < PART_PAIRED * PART_PAIRED ? i / PART_PAIRED : i;
}

static __host__ __device__ int second_of(int i)
{
	return i < PART_PAIRED * PART_PAIRED ? i % PART_PAIRED : (i * 37 + 11) % PART_FLOATS;
}

static __host__ __device__ int third_of(int i)
{
	return (i * 91 + 5) % PART_FLOATS;
}

template <float (*F)(float, float)>
static __global__ void __launch_bounds__(PART_THREADS) binary(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS)
		a.out[i] = __float_as_uint(F(a.floats[first_of(i)], a.floats[second_of(i)]));
}

static __device__ float sum_of(float x, float y)
{
	return x + y;
}

static __device__ float difference_of(float x, float y)
{
	return x - y;
}

static __device__ float product_of(float x, float y)
{
	return x * y;
}

static __device__ float quotient_of(float x, float y)
{
	return x / y;
}

static __device__ float sum_down_of(float x, float y)
{
	return __fadd_rd(x, y);
}

static __device__ float difference_up_of(float x, float y)
{
	return __fsub_ru(x, y);
}

static __device__ float max_of(float x, float y)
{
	return fmaxf(x, y);
}

static __device__ float min_of(float x, float y)
{
	return fminf(x, y);
}

static __global__ void __launch_bounds__(PART_THREADS) fused(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS)
		a.out[i] = __float_as_uint(
			fmaf(a.floats[first_of(i)], a.floats[second_of(i)], a.floats[third_of(i)]));
}

/* What a compiler may make a fused multiply-add of, as sums of weighted values are. */
static __global__ void __launch_bounds__(PART_THREADS) contracted(const part_arguments a)
{
	const uint32_t *in = a.in + threadIdx.x * 16;
	float sum = 0.f;

	for (int i = 0; i < 8; i++)
		sum += part_factor(in[i]) * part_factor(in[8 + i]) * 1.1f;
	a.out[threadIdx.x] = __float_as_uint(sum);
}

static void scale_contracted(const part_inputs &inputs, double *scale)
{
	for (int t = 0; t < PART_THREADS; t++) {
		const uint32_t *in = inputs.in + t * 16;

		scale[t] = 0.;
		for (int i = 0; i < 8; i++)
			scale[t] += fabs((double)part_factor(in[i]) * part_factor(in[8 + i]) * 1.1);
	}
}

/* ---- 16-bit elements ------------------------------------------------------------------------- */

/* All exponents, then at random. */
static __device__ uint32_t pattern(const part_arguments &a, int i)
{
	return i < 128 ? i * 512 + i % 3 : a.in[i] & 0xffff;
}

static __global__ void __launch_bounds__(PART_THREADS) from_bf16(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS) {
		const uint16_t bits = pattern(a, i);

		a.out[i] = __float_as_uint(__bfloat162float(*(const __nv_bfloat16 *)&bits));
	}
}

static __global__ void __launch_bounds__(PART_THREADS) from_half(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS) {
		const uint16_t bits = pattern(a, i);

		a.out[i] = __float_as_uint(__half2float(*(const __half *)&bits));
	}
}

static __global__ void __launch_bounds__(PART_THREADS) to_bf16(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS) {
		const __nv_bfloat16 x = __float2bfloat16_rn(a.floats[i]);

		a.out[i] = *(const uint16_t *)&x;
	}
}

static __global__ void __launch_bounds__(PART_THREADS) to_half(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS) {
		const __half x = __float2half_rn(a.floats[i]);

		a.out[i] = *(const uint16_t *)&x;
	}
}

template <typename T>
static __global__ void __launch_bounds__(PART_THREADS) packed(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS)
		a.out[i] = pack<T>(a.floats[i], a.floats[(i * 37 + 11) % PART_FLOATS]);
}

template <typename T>
static __global__ void __launch_bounds__(PART_THREADS) unpacked(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS / 2; i += PART_THREADS) {
		const float2 x = unpack<T>(pattern(a, 2 * i) | pattern(a, 2 * i + 1) << 16);

		a.out[2 * i] = __float_as_uint(x.x);
		a.out[2 * i + 1] = __float_as_uint(x.y);
	}
}

/* ---- elements of any dtype ------------------------------------------------------------------- */

static __device__ int dtype_of(int i)
{
	return i % 3 == 0 ? MLA_BF16 : i % 3 == 1 ? MLA_F16 : MLA_F32;
}

static __global__ void __launch_bounds__(PART_THREADS) loaded(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS)
		a.out[i] = __float_as_uint(load_element((const char *)a.in, i, dtype_of(i)));
}

static __global__ void __launch_bounds__(PART_THREADS) stored(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS)
		store_element((char *)(a.out + i), 0, dtype_of(i), a.floats[i]);
}

static __global__ void __launch_bounds__(PART_THREADS) stored_pairs(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS / 2; i += PART_THREADS)
		store_pair((char *)(a.out + 2 * i), 0, dtype_of(i), a.floats[2 * i],
			   a.floats[2 * i + 1]);
}

/* ---- places ---------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(PART_THREADS) places(const part_arguments a)
{
	const int t = threadIdx.x;
	mla_params p = {};

	p.kv_indices = (const int32_t *)a.in;
	p.page_size = t % 2 ? 64 : 7;
	p.ckv.data = (char *)a.out;
	p.ckv.stride0 = 0x123456780;
	p.ckv.stride1 = 1152;

	const key_place place = place_of(p, t, 3 * t);
	const int64_t offset = row_of(p.ckv, t % 9, place.slot) - p.ckv.data;

	a.out[t * 4] = (uint32_t)place.page;
	a.out[t * 4 + 1] = place.slot;
	a.out[t * 4 + 2] = (uint32_t)offset;
	a.out[t * 4 + 3] = (uint32_t)(offset >> 32);
}

/* ---- lse ------------------------------------------------------------------------------------- */

struct lse_case {
	float m, shift, l;
};

/* A row that saw no key, rows with a sum near 1, and rows of all sizes. */
static __host__ __device__ lse_case lse_case_of(const uint32_t *in, int i)
{
	const float m = (float)((int)(in[i] % 4001) - 2000) / 16.f;
	const float shift = i % 3 == 0 ? 0.f : i % 3 == 1 ? 6.f : 14.f;
	const float most = i % 3 == 0 ? 1.f : i % 3 == 1 ? 64.f : 16384.f;

	if (i == 0)
		return {-INFINITY, shift, 0.f};
	if (i < 32)
		return {0.f, shift, most * (1.f + (float)i * 0x1p-20f)};
	return {m, shift, most * (1.f + (float)(in[i] >> 12) * 0x1p-16f)};
}

static __global__ void __launch_bounds__(PART_THREADS) lses(const part_arguments a)
{
	for (int i = threadIdx.x; i < PART_FLOATS; i += PART_THREADS) {
		const lse_case c = lse_case_of(a.in, i);

		a.out[i] = __float_as_uint(lse_of_row(c.m, c.shift, c.l));
	}
	if (threadIdx.x == 0) {
		a.out[PART_FLOATS] = __float_as_uint(weight_shift<__nv_bfloat16>);
		a.out[PART_FLOATS + 1] = __float_as_uint(weight_shift<__half>);
	}
}

static void scale_lses(const part_inputs &inputs, double *scale)
{
	for (int i = 0; i < PART_FLOATS; i++) {
		const lse_case c = lse_case_of(inputs.in, i);

		scale[i] =
			c.l == 0.f ? 0. : fabs(c.m * log(2.)) + fabs(log(c.l) - c.shift * log(2.));
	}
	scale[PART_FLOATS] = scale[PART_FLOATS + 1] = 0.;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* A library's or the hardware's result is within so many ulp of the truth, the nearest float within
 * a half: together, rounded up. */
static const part parts[] = {
	{"expf", unary<exp_of>, PART_FLOATS, PART_ULPS, 2},
	{"exp2f", unary<exp2_of>, PART_FLOATS, PART_ULPS, 3},
	{"exp2_approx", unary<exp2_approx_of>, PART_FLOATS, PART_ULPS, 3},
	{"logf", unary<log_of>, PART_FLOATS, PART_ULPS, 2},
	{"sqrtf", unary<sqrt_of>, PART_FLOATS, PART_VALUES},
	{"fabsf", unary<abs_of>, PART_FLOATS, PART_VALUES},
	{"inverse", unary<inverse_of>, PART_FLOATS, PART_VALUES},
	{"float_of_int __float_as_int", unary<float_of>, PART_FLOATS, PART_BITS},
	{"sum", binary<sum_of>, PART_FLOATS, PART_VALUES},
	{"difference", binary<difference_of>, PART_FLOATS, PART_VALUES},
	{"product", binary<product_of>, PART_FLOATS, PART_VALUES},
	{"quotient", binary<quotient_of>, PART_FLOATS, PART_VALUES},
	{"__fadd_rd", binary<sum_down_of>, PART_FLOATS, PART_VALUES},
	{"__fsub_ru", binary<difference_up_of>, PART_FLOATS, PART_VALUES},
	{"fmaxf", binary<max_of>, PART_FLOATS, PART_VALUES},
	{"fminf", binary<min_of>, PART_FLOATS, PART_VALUES},
	{"fmaf", fused, PART_FLOATS, PART_VALUES},
	/* 8 terms of two products, each rounded once more or once less */
	{"sum_of_products", contracted, PART_THREADS, PART_PRODUCTS, 16 * 0x1p-24,
	 scale_contracted},
	{"__bfloat162float", from_bf16, PART_FLOATS, PART_BITS},
	{"__half2float", from_half, PART_FLOATS, PART_VALUES},
	{"__float2bfloat16_rn", to_bf16, PART_FLOATS, PART_BITS},
	{"__float2half_rn", to_half, PART_FLOATS, PART_BITS},
	{"pack_bf16 pack __floats2bfloat162_rn", packed<__nv_bfloat16>, PART_FLOATS, PART_BITS},
	{"pack_half pack __floats2half2_rn", packed<__half>, PART_FLOATS, PART_BITS},
	{"unpack_bf16 unpack __uint_as_float", unpacked<__nv_bfloat16>, PART_FLOATS, PART_BITS},
	{"unpack_half unpack __half22float2", unpacked<__half>, PART_FLOATS, PART_VALUES},
	{"load_element", loaded, PART_FLOATS, PART_VALUES},
	{"store_element", stored, PART_FLOATS, PART_BITS},
	{"store_pair", stored_pairs, PART_FLOATS, PART_BITS},
	{"place_of row_of", places, PART_THREADS * 4, PART_BITS},
	/* logf 2 ulp, three more roundings, one of which may be saved */
	{"lse_of_row weight_shift", lses, PART_FLOATS + 2, PART_PRODUCTS, 0x1p-21, scale_lses},
};

part_list parts_of_numbers()
{
	return {parts, sizeof(parts) / sizeof(*parts)};
}
