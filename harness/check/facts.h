/* facts.h - what a capture itself says about the truth: what it carries against it, and textbook
 * attention.
 */
#ifndef MLA_CHECK_FACTS_H
#define MLA_CHECK_FACTS_H

#include <stdbool.h>

#include "check/check.h"

/* Errors are relative: a row's largest difference over that row's largest value, worst row. */
struct fact {
	const char *name;    /* "unabsorbed", "out_ref" ... */
	const char *meaning; /* one line */
	double out_rms;      /* root of summed squares of differences over that of values */
	double out_worst;
	double lse_worst;      /* |difference| over max(1, |lse|) */
	bool has_out, has_lse; /* what was compared */
	double bound;          /* on the worst */
	double rms_bound;
};

/* The name under which -k asks for textbook attention. */
#define FACTS_NAME "unabsorbed"
/* Textbook attention and absorbed attention differ by the order of fp64 sums alone. */
#define FACTS_ABSORPTION_BOUND 1e-9
/* In eps of the capture's dtype (2^-8 in bf16; f32 is taken as the TF32 that engines multiply in,
 * as fp16). A model rounds its scores, its weights or both to its dtype, and out_model
 * itself: 2.5e-3 rms in bf16 is usual, 1.5e-2 in a row. A wrong scale, mask, head or page is above
 * 0.1 rms. */
#define FACTS_MODEL_RMS   16
#define FACTS_MODEL_WORST 128
/* How many kinds facts_carried() finds, and how many there are: textbook attention besides. */
#define FACTS_CARRIED 3
#define FACTS_KINDS   (FACTS_CARRIED + 1)

/* What a capture carries (out_model, out_ref, lse_ref), on the rows of the truth. */
mla_status facts_carried(const struct mla_case *c, const struct check_truth *truth,
			 struct fact facts[FACTS_CARRIED], int *count);

/* Has the case a model's weights, so that textbook attention can be computed? */
bool facts_weights(const struct mla_case *c);
/* Multiply-adds that it takes. */
double facts_textbook_cost(const struct mla_case *c);
/* Absorbed attention, projected, against textbook attention, all rows, both fp64. */
mla_status facts_textbook(const struct mla_case *c, struct fact *fact);

/* Within its bounds; NaN is not. */
bool facts_good(const struct fact *fact);

#endif
