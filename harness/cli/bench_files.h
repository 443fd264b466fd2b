/* bench_files.h - the files of mla bench: results as JSON, medians as CSV. */
#ifndef MLA_CLI_BENCH_FILES_H
#define MLA_CLI_BENCH_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/output.h"
#include "report/timings.h"

struct bench_files {
	const char *json, *csv; /* as they were asked for; NULL: not wanted */

	struct output json_output, csv_output;
	json_t *root;
	FILE *stream; /* writes text, all rows so far */
	char *text;
	size_t size;
};

/* Before anything is timed: file and ceilings, either may be NULL, are what the verb reads. root:
 * what results go to, which is released at the end. An exit code. */
int bench_files_open(struct bench_files *files, const char *file, const char *ceilings);
void bench_files_begin(struct bench_files *files, json_t *root);
/* What was measured so far stays if a later case ends the program. An exit code. */
int bench_files_add(struct bench_files *files, const struct timings_shown *shown);
/* Pipes take all in the end. An exit code. */
int bench_files_end(struct bench_files *files);
void bench_files_close(struct bench_files *files);

#endif
