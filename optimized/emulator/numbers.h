/* numbers.h - CUDA's 16-bit floats and intrinsics on a CPU. Conversions, directed rounding and
 * division are exact by construction; exponentials and logarithms are the nearest float, where the
 * hardware's may be off by a few units in the last place.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define CUDART_INF_F __builtin_inff()

struct __nv_bfloat16 {
	uint16_t bits;
};
struct __half {
	uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
	__nv_bfloat16 x, y;
};
struct alignas(4) __half2 {
	__half x, y;
};

static inline float __uint_as_float(uint32_t x)
{
	float f;

	memcpy(&f, &x, 4);
	return f;
}
static inline uint32_t __float_as_uint(float f)
{
	uint32_t x;

	memcpy(&x, &f, 4);
	return x;
}
static inline float __int_as_float(int x)
{
	return __uint_as_float((uint32_t)x);
}
static inline int __float_as_int(float f)
{
	return (int)__float_as_uint(f);
}

/* a + b rounded down or up: to the nearest first, then a step if that went the other way. The sum
 * in double and what it lost are exact together (two-sum). */
static inline float emulator_add_directed(float a, float b, bool up)
{
	const double s = (double)a + b, t = s - a, lost = ((double)a - (s - t)) + (b - t);
	const float f = (float)s;

	if (!(fabs(s) < INFINITY))
		return f;
	if (s == 0. && lost == 0. && signbit(a) != signbit(b))
		return up ? 0.f : -0.f;
	if (up)
		return (double)f < s || ((double)f == s && lost > 0) ? nextafterf(f, INFINITY) : f;
	return (double)f > s || ((double)f == s && lost < 0) ? nextafterf(f, -INFINITY) : f;
}
static inline float __fadd_rd(float a, float b)
{
	return emulator_add_directed(a, b, false);
}
static inline float __fadd_ru(float a, float b)
{
	return emulator_add_directed(a, b, true);
}
static inline float __fsub_ru(float a, float b)
{
	return emulator_add_directed(a, -b, true);
}
static inline float __fadd_rn(float a, float b)
{
	return a + b;
}
/* Not contracted into what follows. */
static inline __attribute__((noinline)) float __fmul_rn(float a, float b)
{
	return a * b;
}
static inline float __fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}
static inline float __frcp_rn(float x)
{
	return 1.f / x;
}
static inline float __fdividef(float a, float b)
{
	return a / b;
}
/* Names that the C library has for itself. Of two zeros CUDA's maximum is the positive one. */
#define fmaxf emulator_fmaxf
static inline float emulator_fmaxf(float a, float b)
{
	if (a == b)
		return signbit(a) ? b : a;
	return a != a || a < b ? b : a;
}
#define fminf emulator_fminf
static inline float emulator_fminf(float a, float b)
{
	if (a == b)
		return signbit(a) ? a : b;
	return a != a || b < a ? b : a;
}
#define __log2f emulator_log2f
static inline float emulator_log2f(float x)
{
	return (float)log2((double)x);
}
#define __logf emulator_logf
static inline float emulator_logf(float x)
{
	return (float)log((double)x);
}
#define __expf emulator_expf
static inline float emulator_expf(float x)
{
	return (float)exp((double)x);
}

/* ---- conversions: to the nearest, ties to even; NaN becomes CUDA's 0x7fff -------------------- */

static inline float __bfloat162float(__nv_bfloat16 x)
{
	return __uint_as_float((uint32_t)x.bits << 16);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
	const uint32_t x = __float_as_uint(f);

	if (f != f)
		return {0x7fff};
	return {(uint16_t)((x + 0x7fff + (x >> 16 & 1)) >> 16)};
}
static inline __nv_bfloat16 __float2bfloat16(float f)
{
	return __float2bfloat16_rn(f);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
	return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 x)
{
	return make_float2(__bfloat162float(x.x), __bfloat162float(x.y));
}

static inline float __half2float(__half x)
{
	const uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16;
	const uint32_t exponent = x.bits >> 10 & 31, mantissa = x.bits & 0x3ff;

	if (exponent == 31)
		return __uint_as_float(mantissa ? 0x7fffffff : sign | 0x7f800000);
	if (exponent)
		return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
	return (sign ? -1.f : 1.f) * ((float)mantissa * 0x1p-24f);
}
static inline __half __float2half_rn(float f)
{
	const uint32_t x = __float_as_uint(f), sign = x >> 16 & 0x8000, a = x & 0x7fffffff;

	if (f != f)
		return {0x7fff};
	if (a >= 0x477ff000) /* rounds to 65,536 or more */
		return {(uint16_t)(sign | 0x7c00)};
	if (a < 0x38800000) /* subnormal: the addition rounds */
		return {(uint16_t)(sign | (__float_as_uint(fabsf(f) + 0.5f) - 0x3f000000))};
	return {(uint16_t)(sign | ((a + 0xfff + (a >> 13 & 1)) - 0x38000000) >> 13)};
}
static inline __half __float2half(float f)
{
	return __float2half_rn(f);
}
static inline __half2 __floats2half2_rn(float x, float y)
{
	return {__float2half_rn(x), __float2half_rn(y)};
}
static inline float2 __half22float2(__half2 x)
{
	return make_float2(__half2float(x.x), __half2float(x.y));
}
