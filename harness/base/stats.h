/* stats.h - order statistics of timing samples. Nothing here assumes a distribution: clocks and
 * caches make timings skewed, so means and deviations would mislead.
 */
#ifndef MLA_BASE_STATS_H
#define MLA_BASE_STATS_H

#include "mla.h"

struct stats {
	int n;
	double min, q1, median, q3, max;
	double low, high; /* interval that holds the true median in 95 of 100 cases */
};

/* Of fewer, not even the fastest and the slowest hold the median between them in 95 of 100 cases.
 */
enum { STATS_LEAST = 6 };

/* Samples need not be sorted and are left alone. MLA_INVALID if n < 1 or a sample is NaN,
 * MLA_NO_MEMORY if that ran out; then everything is 0. */
mla_status stats_of(const double *samples, int n, struct stats *stats);

/* (q3 - q1) / median: the noise, 0 where the median is 0. */
double stats_spread(const struct stats *stats);

#endif
