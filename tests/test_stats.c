/* test_stats.c - order statistics against values worked out by hand.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>

#include "base/stats.h"

Test(stats, one_sample_is_everything)
{
	const double one[] = {7.5};
	struct stats s;
	cr_assert(stats_of(one, 1, &s) == 0);
	cr_assert(s.n == 1);
	cr_assert(s.min == 7.5 && s.q1 == 7.5 && s.median == 7.5 && s.q3 == 7.5 && s.max == 7.5);
	cr_assert(s.low == 7.5 && s.high == 7.5);
}

Test(stats, odd_and_even_counts)
{
	const double odd[] = {30, 10, 50, 20, 40}; /* 10 20 30 40 50 */
	const double even[] = {4, 1, 3, 2};
	struct stats s;
	cr_assert(stats_of(odd, 5, &s) == 0);
	cr_assert(s.min == 10 && s.q1 == 20 && s.median == 30 && s.q3 == 40 && s.max == 50);
	cr_assert(stats_of(even, 4, &s) == 0);
	cr_assert(s.q1 == 1.5 && s.median == 2.5 && s.q3 == 3.5);
}

Test(stats, samples_are_left_alone)
{
	double samples[] = {3, 1, 2};
	struct stats s;
	cr_assert(stats_of(samples, 3, &s) == 0);
	cr_assert(samples[0] == 3 && samples[1] == 1 && samples[2] == 2);
}

/* A slow outlier, which timings always have, moves the mean and nothing here but the maximum. */
Test(stats, an_outlier_moves_the_maximum_only)
{
	double samples[99];
	struct stats calm, disturbed;
	for (int i = 0; i < 99; i++)
		samples[i] = 100 + (i * 37) % 99;
	cr_assert(stats_of(samples, 99, &calm) == 0);
	for (int i = 0; i < 99; i++)
		if (samples[i] == 198)
			samples[i] = 1e9;
	cr_assert(stats_of(samples, 99, &disturbed) == 0);
	cr_assert(disturbed.max == 1e9 && calm.max == 198);
	cr_assert(calm.median == 149 && disturbed.median == 149);
	cr_assert(disturbed.q3 == calm.q3 && disturbed.high == calm.high);
}

Test(stats, interval_of_the_median_is_ranks_40_and_61_of_100)
{
	double samples[100];
	struct stats s;
	for (int i = 0; i < 100; i++)
		samples[i] = 100 - i; /* ranks are values */
	cr_assert(stats_of(samples, 100, &s) == 0);
	cr_assert(s.low == 40, "low %g", s.low);
	cr_assert(s.high == 61, "high %g", s.high);
}

Test(stats, few_samples_give_the_whole_range_as_interval)
{
	const double samples[] = {1, 2, 3};
	struct stats s;
	cr_assert(stats_of(samples, 3, &s) == 0);
	cr_assert(s.low == 1 && s.high == 3);
}

Test(stats, refuses_nothing_and_nan)
{
	const double samples[] = {1, NAN, 3};
	struct stats s;
	cr_assert(stats_of(samples, 3, &s) == MLA_INVALID);
	cr_expect_str_eq(mla_last_error(), "the timings are not numbers");
	cr_assert(s.n == 0 && s.median == 0);
	cr_assert(stats_of(samples, 0, &s) == MLA_INVALID);
	cr_assert(stats_of(samples, 1, &s) == 0, "NaN behind the samples was read");
}

Test(stats, spread_is_the_interquartile_range_over_the_median)
{
	const double samples[] = {10, 20, 30, 40, 50};
	const double zeros[] = {0, 0, 0};
	struct stats s;
	cr_assert(stats_of(samples, 5, &s) == 0);
	cr_assert_float_eq(stats_spread(&s), 20.0 / 30.0, 1e-15);
	cr_assert(stats_of(zeros, 3, &s) == 0);
	cr_assert(stats_spread(&s) == 0);
}

/* splitmix64 */
static double uniform(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Distributions whose quantiles are known, one of them as skewed as timings are. */
Test(stats, quantiles_of_known_distributions)
{
	enum { N = 20001 };
	static double even[N], skewed[N];
	uint64_t state = 1;
	struct stats s;
	for (int i = 0; i < N; i++) {
		even[i] = uniform(&state);
		skewed[i] = 10 - log(1 - uniform(&state)); /* exponential, from 10 */
	}
	cr_assert(stats_of(even, N, &s) == 0);
	cr_expect_float_eq(s.q1, 0.25, 0.01);
	cr_expect_float_eq(s.median, 0.5, 0.01);
	cr_expect_float_eq(s.q3, 0.75, 0.01);
	cr_assert(stats_of(skewed, N, &s) == 0);
	cr_expect_float_eq(s.q1, 10 + log(4.0 / 3), 0.03);
	cr_expect_float_eq(s.median, 10 + log(2), 0.03);
	cr_expect_float_eq(s.q3, 10 + log(4), 0.04);
}

/* The interval holds the true median about 95 times of 100, also of a skewed distribution: that is
 * what it promises without assuming anything. */
Test(stats, the_interval_holds_the_median_as_often_as_it_says)
{
	enum { TRIALS = 4000, N = 50 };
	const double median = log(2);
	uint64_t state = 7;
	int held = 0;
	for (int t = 0; t < TRIALS; t++) {
		double samples[N];
		struct stats s;
		for (int i = 0; i < N; i++)
			samples[i] = -log(1 - uniform(&state));
		cr_assert(stats_of(samples, N, &s) == 0);
		held += s.low <= median && median <= s.high;
	}
	cr_expect(held >= 0.94 * TRIALS && held <= 0.985 * TRIALS, "%d of %d", held, TRIALS);
}

/* A fifth of the samples disturbed, always upwards, as by another process. */
Test(stats, a_fifth_of_outliers_moves_the_median_little)
{
	enum { N = 500 };
	double samples[N], sum = 0;
	uint64_t state = 3;
	struct stats s;
	for (int i = 0; i < N; i++) {
		samples[i] = 100 + uniform(&state) + (i % 5 == 0 ? 1000 * uniform(&state) : 0);
		sum += samples[i];
	}
	cr_assert(stats_of(samples, N, &s) == 0);
	cr_expect(s.median > 100.4 && s.median < 100.8, "median %g", s.median);
	cr_expect(sum / N > 150, "the mean %g would have misled", sum / N);
}
