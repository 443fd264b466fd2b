/* variants.h - the CPU implementations beside the ladder: what is checked and timed where no GPU
 * is, and what a capture itself says about the truth.
 */
#ifndef MLA_CHECK_VARIANTS_H
#define MLA_CHECK_VARIANTS_H

#include "check/check.h"

struct variant {
	const char *name, *summary;
	check_host_run run;
};

extern const struct variant variants[];
extern const int num_variants;

/* A fact about a capture: something it carries, or textbook attention, against the truth. Errors
 * are relative: a row's largest difference over that row's largest value, worst row. */
struct variant_fact {
	const char *name;    /* "unabsorbed", "out_ref" ... */
	const char *meaning; /* one line */
	double out_rms;      /* root of summed squares of differences over that of values */
	double out_worst;
	double lse_worst;      /* |difference| over max(1, |lse|) */
	bool has_out, has_lse; /* what was compared */
	double bound;          /* on the worst; 0: for information */
};

/* The name under which -k asks for the facts. */
#define VARIANT_FACTS "unabsorbed"
/* Textbook attention and absorbed attention differ by the order of fp64 sums alone. */
#define VARIANT_ABSORPTION_BOUND 1e-9
#define VARIANT_MAX_FACTS        4

bool variant_has_facts(const struct mla_case *c);
/* Multiply-adds that the facts of this case take. */
double variant_facts_cost(const struct mla_case *c);
/* How many, or -1 if memory ran out. */
int variant_facts(const struct mla_case *c, struct variant_fact facts[VARIANT_MAX_FACTS]);
/* Within its bound; NaN is not. A fact without bound is always good. */
bool variant_fact_good(const struct variant_fact *fact);

#endif
