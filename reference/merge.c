/* merge.c - attention over some keys, merged with attention over others.
 *
 * A state is (out, lse). Two of them over disjoint keys merge as if the softmax had run over the
 * union: each output is weighted with its share exp(lse_s - lse) of the whole sum. This one
 * operator is split-k, shared-prefix cascades and context parallelism.
 */
#include <math.h>
#include <stdbool.h>

#include "internal.h"

double ref_lse_to_base(double lse, int32_t base)
{
	return base == MLA_LSE_BASE2 ? lse / log(2.0) : lse;
}

static double from_base(double lse, int32_t base)
{
	return base == MLA_LSE_BASE2 ? lse * log(2.0) : lse;
}

void ref_merge_state(int64_t d, double *out, double *lse, const double *other, double other_lse)
{
	if (other_lse == -INFINITY)
		return;

	const double m = ref_max(*lse, other_lse);
	const double a = exp(*lse - m), b = exp(other_lse - m), l = a + b;
	const bool is_first = l == 1 && *lse == -INFINITY; /* l is NaN if other_lse is */

	for (int64_t c = 0; c < d; c++)
		out[c] = is_first ? other[c] : (a * out[c] + b * other[c]) / l;
	*lse = m + log(l);
}

/* Columns first .. first + n - 1 of a row, n <= 64; the lse is the same for all of them. */
static double merge_columns(const mla_merge_args *args, int64_t row, int64_t first, int64_t n,
			    double *out)
{
	const mla_tensor *states = &args->states, *states_lse = &args->states_lse;
	const int64_t skip = first * ref_dtype_size(states->dtype);
	double lse = -INFINITY, other[64];

	for (int64_t c = 0; c < n; c++)
		out[c] = 0;
	for (int64_t s = 0; s < states->extent[0]; s++) {
		const double other_lse = ref_load(ref_at(states_lse, s, row), states_lse->dtype);

		ref_load_row(ref_at(states, s, row) + skip, states->dtype, n, other);
		ref_merge_state(n, out, &lse, other, from_base(other_lse, args->lse_base));
	}
	return lse;
}

static void merge_row(const mla_merge_args *args, int64_t row)
{
	const mla_tensor *to = &args->out, *to_lse = &args->lse;
	const int64_t d = to->extent[1];
	double out[64], lse = -INFINITY;

	for (int64_t first = 0; first < d; first += 64) {
		const int64_t n = d - first < 64 ? d - first : 64;
		char *element = (char *)to->data + row * to->stride[0] + first * to->stride[1];

		lse = merge_columns(args, row, first, n, out);
		for (int64_t c = 0; c < n; c++)
			ref_store(element + c * to->stride[1], to->dtype, out[c]);
	}
	if (to_lse->data)
		ref_store((char *)to_lse->data + row * to_lse->stride[0], to_lse->dtype,
			  ref_lse_to_base(lse, args->lse_base));
}

void ref_merge(const mla_merge_args *args)
{
	const mla_tensor *states = &args->states;
	const double values =
		(double)states->extent[0] * (double)states->extent[1] * (double)states->extent[2];

#pragma omp parallel for num_threads(ref_threads(8 * values))
	for (int64_t row = 0; row < states->extent[1]; row++)
		merge_row(args, row);
}
