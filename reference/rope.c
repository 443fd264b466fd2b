/* rope.c - rotary position embedding (RoFormer, arXiv:2104.09864) and its stretching to long
 * contexts (YaRN, arXiv:2309.00071) as DeepSeek configures it.
 *
 * Rotations keep dot products of equal shifts, so a score depends on the distance of query and key.
 * They also stand between q and W_UK, which is why MLA carries its position in 64 columns of their
 * own (kpe) that are never absorbed.
 */
#include <math.h>

#include "reference.h"

static void rotate(double *a, double *b, double angle)
{
	const double c = cos(angle), s = sin(angle), x = *a, y = *b;

	*a = x * c - y * s;
	*b = y * c + x * s;
}

void ref_rope(enum ref_rope_layout layout, int64_t rows, int32_t dim, const double *inv_freq,
	      const int32_t *positions, double *x)
{
	const int32_t half = dim / 2;
	const int32_t step = layout == REF_ROPE_INTERLEAVED ? 2 : 1;
	const int32_t partner = layout == REF_ROPE_INTERLEAVED ? 1 : half;

	for (int64_t r = 0; r < rows; r++, x += dim)
		for (int32_t i = 0; i < half; i++)
			rotate(&x[i * step], &x[i * step + partner], positions[r] * inv_freq[i]);
}

/* The index of the pair that turns `turns` times within the original context. */
static double pair_of(const struct ref_yarn *yarn, int32_t dim, double turns)
{
	const double pi = 3.14159265358979323846;

	return dim * log(yarn->original_max_position / (turns * 2 * pi)) / (2 * log(yarn->theta));
}

/* Pairs that turn often keep their frequency (they tell neighbours apart), pairs that do not
 * complete a turn are slowed by the factor (else longer contexts reach angles never trained on),
 * and those between are blended. */
void ref_yarn_frequencies(const struct ref_yarn *yarn, int32_t dim, double *inv_freq)
{
	const double low = fmax(floor(pair_of(yarn, dim, yarn->beta_fast)), 0);
	const double high = fmin(ceil(pair_of(yarn, dim, yarn->beta_slow)), dim - 1);
	const double width = high == low ? 0.001 : high - low;

	for (int32_t i = 0; i < dim / 2; i++) {
		const double plain = pow(yarn->theta, -2.0 * i / dim);
		const double slowed = fmin(fmax((i - low) / width, 0), 1);

		inv_freq[i] = yarn->factor <= 1
				      ? plain
				      : plain * (1 - slowed) + plain / yarn->factor * slowed;
	}
}

double ref_yarn_softmax_scale(const struct ref_yarn *yarn, int32_t head_dim_qk)
{
	const double scale = 1 / sqrt(head_dim_qk);
	const double m = yarn->factor <= 1 ? 1 : 0.1 * yarn->mscale * log(yarn->factor) + 1;

	return scale * m * m;
}
