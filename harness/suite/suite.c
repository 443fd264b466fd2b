/* suite.c - lines and counts of a suite.
 */
#include "suite/suite.h"

#include <stdio.h>

#include "base/text.h"
#include "report/table.h"

void suite_line(struct suite_result *result, enum check_outcome outcome, const char *name,
		const char *detail)
{
	int *const counts[] = {&result->passed, &result->failed, &result->skipped};
	++*counts[outcome];
	report_outcome(stdout, outcome);
	if (detail && *detail)
		text_print(stdout, " %-40s %s\n", name, detail);
	else
		text_print(stdout, " %s\n", name);
	fflush(stdout); /* a hanging kernel is found by the last line seen */
}
