/* subjects.h - what is checked and timed, as -k chooses it: CPU variants and kernels of the ladder.
 */
#ifndef MLA_CLI_SUBJECTS_H
#define MLA_CLI_SUBJECTS_H

#include <stdbool.h>

#include "check/variants.h"

struct cli_subject {
	const char *name;
	const struct variant *variant; /* NULL: a kernel of the ladder */
	bool named;                    /* asked for by name, not by "all" */
};
struct cli_subjects {
	struct cli_subject *list;
	int count;
	bool facts;       /* "unabsorbed" is wanted */
	bool facts_named; /* however long it takes */
};
/* names: -k's value: "01,splitk", "cpu", "gpu", "all"; NULL = all. MLA_INVALID and a sentence about
 * the first unknown one. */
mla_status cli_subjects_choose(const char *names, struct cli_subjects *subjects);
void cli_subjects_free(struct cli_subjects *subjects);

#endif
