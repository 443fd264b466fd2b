/* work.h - what a case costs at least, from the problem alone, not from what an implementation
 * happens to do.
 */
#ifndef MLA_CASE_WORK_H
#define MLA_CASE_WORK_H

#include "case/case.h"

struct case_work {
	double multiply_adds; /* visible (query, key) pairs * heads * (2 * ckv + kpe) */
	double flop;          /* twice that */
	double bytes;         /* every visible cache slot once, q once, out and lse once */
};
/* MLA_NO_MEMORY if that ran out. */
mla_status case_work_of(const struct mla_case *c, struct case_work *work);
/* The multiply-adds alone, which need no memory to count. */
double case_multiply_adds(const struct mla_case *c);

/* What a GPU can do at most, as measured (mla ceilings); 0: not known. */
struct case_ceilings {
	double read_gbs; /* read stream, 10^9 bytes per second */
	double tflops;   /* tensor cores, 10^12 FLOP per second */
};

enum case_limit { CASE_LIMIT_UNKNOWN, CASE_LIMIT_BYTES, CASE_LIMIT_FLOP };
extern const char *const case_limit_names[]; /* "", "bytes", "flop" */

/* The least time that a GPU of these ceilings needs and which of them it is that limits it. */
struct case_bound {
	double us; /* 0: not known */
	enum case_limit by;
};
struct case_bound case_bound_of(const struct case_work *work, const struct case_ceilings *ceilings);

#endif
