/* stats.c - order statistics of timing samples.
 */
#include "base/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Between order statistics: the mean of the two neighbours, which for p = 1/2 is the median and for
 * quartiles is the inverse of the empirical distribution, averaged where it jumps. */
static double quantile(const double *sorted, int n, int numerator, int denominator)
{
	const long product = (long)n * numerator;
	const long rank = product / denominator;

	if (product % denominator)
		return sorted[rank];
	return 0.5 * (sorted[rank - 1] + sorted[rank]);
}

/* Ranks k and n + 1 - k enclose the median as often as a fair coin falls between k and n - k heads:
 * the normal approximation of that binomial, 40 and 61 of 100. */
static void median_interval(const double *sorted, struct stats *stats)
{
	const int n = stats->n;
	int k = (int)floor(0.5 * (n - 1.96 * sqrt(n)));

	if (k < 1)
		k = 1;
	stats->low = sorted[k - 1];
	stats->high = sorted[n - k];
}

mla_status stats_of(const double *samples, int n, struct stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	for (int i = 0; i < n; i++)
		if (isnan(samples[i]))
			return mla_fail(MLA_INVALID, "the timings are not numbers");
	if (n < 1)
		return mla_fail(MLA_INVALID, "there are no timings");

	double *sorted = malloc((size_t)n * sizeof(*sorted));

	if (!sorted)
		return mla_fail(MLA_NO_MEMORY, "not enough memory for %d samples", n);
	memcpy(sorted, samples, (size_t)n * sizeof(*sorted));
	qsort(sorted, (size_t)n, sizeof(*sorted), compare);
	stats->n = n;
	stats->min = sorted[0];
	stats->max = sorted[n - 1];
	stats->q1 = quantile(sorted, n, 1, 4);
	stats->median = quantile(sorted, n, 1, 2);
	stats->q3 = quantile(sorted, n, 3, 4);
	median_interval(sorted, stats);
	free(sorted);
	return MLA_OK;
}

double stats_spread(const struct stats *stats)
{
	return stats->median > 0 ? (stats->q3 - stats->q1) / stats->median : 0;
}
