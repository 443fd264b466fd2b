/* number.c - bf16 and fp16 to double and back. Loading is exact; storing rounds once, to nearest
 * even, straight from double: through float it would round twice.
 */
#include <math.h>
#include <string.h>

#include "internal.h"

/* Both 16-bit formats are sign, exponent, mantissa; only the widths differ. */
struct format {
	int mantissa; /* bits */
	int bias; /* of the exponent; the largest exponent field, 2 * bias + 1, is inf and NaN */
};
static const struct format bf16 = {.mantissa = 7, .bias = 127};
static const struct format f16 = {.mantissa = 10, .bias = 15};

static double bits_to_double(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static double decode_bf16(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16; /* bf16 is the upper half of a float */
	float value;

	memcpy(&value, &wide, sizeof(value));
	return value;
}

static double decode_f16(uint16_t bits)
{
	const uint64_t sign = (uint64_t)(bits >> 15) << 63;
	const uint64_t exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;

	if (exponent == 0) { /* zero and subnormals: multiples of 2^-24 */
		const double value = (double)mantissa * 0x1p-24;

		return sign ? -value : value;
	}
	if (exponent == 0x1f)
		return bits_to_double(sign | 0x7ffull << 52 | mantissa << 42);
	return bits_to_double(sign | (exponent + 1023 - 15) << 52 | mantissa << 42);
}

static uint16_t encode(const struct format *format, double value)
{
	const int mantissa = format->mantissa, bias = format->bias;
	const int infinity = (2 * bias + 1) << mantissa;
	const int sign = signbit(value) ? 0x8000 : 0;
	int exponent, bits;

	if (isnan(value))
		return (uint16_t)(sign | infinity | 1 << (mantissa - 1));
	if (isinf(value))
		return (uint16_t)(sign | infinity);

	frexp(value, &exponent); /* |value| in [2^(exponent-1), 2^exponent) */
	exponent -= 1;
	if (value == 0 || exponent < 1 - bias) /* subnormals share the smallest exponent */
		exponent = 1 - bias;

	/* Whole units of the last place: at most 2^(mantissa+1), the hidden one included. A carry
	 * out of the mantissa moves into the exponent field by itself, up to infinity. */
	bits = (int)nearbyint(ldexp(fabs(value), mantissa - exponent));
	bits += (exponent + bias - 1) << mantissa;
	return (uint16_t)(sign | (bits < infinity ? bits : infinity));
}

static void load_bf16(const void *row, int64_t n, double *out)
{
	const uint16_t *in = row;

	for (int64_t i = 0; i < n; i++)
		out[i] = decode_bf16(in[i]);
}

static void load_f16(const void *row, int64_t n, double *out)
{
	const uint16_t *in = row;

	for (int64_t i = 0; i < n; i++)
		out[i] = decode_f16(in[i]);
}

static void load_f32(const void *row, int64_t n, double *out)
{
	const float *in = row;

	for (int64_t i = 0; i < n; i++)
		out[i] = in[i];
}

static void store_bf16(void *element, double value)
{
	*(uint16_t *)element = encode(&bf16, value);
}

static void store_f16(void *element, double value)
{
	*(uint16_t *)element = encode(&f16, value);
}

static void store_f32(void *element, double value)
{
	*(float *)element = (float)value;
}

static const struct {
	int size;
	void (*load)(const void *row, int64_t n, double *out);
	void (*store)(void *element, double value);
} dtypes[] = {
	[MLA_BF16] = {2, load_bf16, store_bf16},
	[MLA_F16] = {2, load_f16, store_f16},
	[MLA_F32] = {4, load_f32, store_f32},
};

const char *const ref_dtype_names[] = {
	[MLA_BF16] = "bf16", [MLA_F16] = "fp16", [MLA_F32] = "f32", [MLA_E4M3] = "e4m3"};

const char *ref_dtype_name(int32_t dtype)
{
	return dtype >= MLA_BF16 && dtype <= MLA_E4M3 ? ref_dtype_names[dtype] : "unknown";
}

int ref_dtype_size(int32_t dtype)
{
	const int32_t known = sizeof(dtypes) / sizeof(dtypes[0]);

	return dtype >= 0 && dtype < known ? dtypes[dtype].size : 0;
}

void ref_load_row(const void *row, int32_t dtype, int64_t n, double *out)
{
	dtypes[dtype].load(row, n, out);
}

double ref_load(const void *element, int32_t dtype)
{
	double value;

	dtypes[dtype].load(element, 1, &value);
	return value;
}

void ref_store(void *element, int32_t dtype, double value)
{
	dtypes[dtype].store(element, value);
}
