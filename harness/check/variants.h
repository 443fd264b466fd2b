/* variants.h - the CPU implementations beside the ladder: what is checked and timed where no GPU
 * is.
 */
#ifndef MLA_CHECK_VARIANTS_H
#define MLA_CHECK_VARIANTS_H

#include "check/check.h"

struct variant {
	const char *name, *summary;
	check_host_run run;
};

extern const struct variant variants[];
extern const int variants_count;

#endif
