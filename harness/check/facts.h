/* facts.h - what a capture itself says about the truth: what it carries, or textbook attention,
 * against it.
 */
#ifndef MLA_CHECK_FACTS_H
#define MLA_CHECK_FACTS_H

#include <stdbool.h>

#include "case/case.h"

/* Errors are relative: a row's largest difference over that row's largest value, worst row. */
struct fact {
	const char *name;    /* "unabsorbed", "out_ref" ... */
	const char *meaning; /* one line */
	double out_rms;      /* root of summed squares of differences over that of values */
	double out_worst;
	double lse_worst;      /* |difference| over max(1, |lse|) */
	bool has_out, has_lse; /* what was compared */
	double bound;          /* on the worst; 0: for information */
};

/* The name under which -k asks for the facts. */
#define FACTS_NAME "unabsorbed"
/* Textbook attention and absorbed attention differ by the order of fp64 sums alone. */
#define FACTS_ABSORPTION_BOUND 1e-9
#define FACTS_MOST             4

/* Does the case carry anything to compare? */
bool facts_given(const struct mla_case *c);
/* Multiply-adds that the facts of this case take. */
double facts_cost(const struct mla_case *c);
mla_status facts_find(const struct mla_case *c, struct fact facts[FACTS_MOST], int *count);
/* Within its bound; NaN is not. A fact without bound is always good. */
bool facts_good(const struct fact *fact);

#endif
