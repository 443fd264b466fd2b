/* suite.h - a suite is a program's own test: it prints a line per test and counts. Suites that need
 * a GPU run wherever the binary runs, without a test framework.
 */
#ifndef MLA_SUITE_SUITE_H
#define MLA_SUITE_SUITE_H

#include "check/check.h"

struct suite_result {
	int passed, failed, skipped;
};

/* Prints "PASS name  detail" on standard output and counts. detail may be NULL. */
void suite_line(struct suite_result *result, enum check_outcome outcome, const char *name,
		const char *detail);

/* Everything about the kernels that needs a GPU. kernels: names of the ladder, num_kernels 0 = all;
 * files: captures to run besides the generated cases. Called only where a GPU is. */
void suite_gpu(const char *const *kernels, int num_kernels, const char *const *files, int num_files,
	       struct suite_result *result);

#endif
