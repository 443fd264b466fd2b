/* table.h - what the verbs show: aligned tables, colours, progress, lines that reproduce a
 * failure.
 */
#ifndef MLA_REPORT_TABLE_H
#define MLA_REPORT_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/stats.h"
#include "check/check.h"

/* Checks or timings of kernels that could not be, because there is no GPU: said once, at the end of
 * a run, and not in each row. */
struct report_absence {
	int skipped;
};
/* Is that why? */
bool report_is_absence(const struct check_verdict *verdict);
void report_absence_count(struct report_absence *absence, const struct check_verdict *verdict);
/* A line with the count; none if nothing was skipped. */
void report_absence_show(const struct report_absence *absence, FILE *out);

/* "PASS", "FAIL", "SKIP" */
const char *report_outcome_name(enum check_outcome outcome);
/* The same, coloured if the stream is a terminal and NO_COLOR is not set. */
void report_outcome(FILE *out, enum check_outcome outcome);

/* One line on standard error that the next one replaces; silent unless that is a terminal. An empty
 * text takes it away. */
void report_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- tables ---------------------------------------------------------------------------------- */

/* Collected first, printed once, so that columns fit. A title that begins with '>' is a column of
 * numbers: aligned to the right. */
struct report_table;
struct report_table *report_table_new(const char *const *titles, int num_columns);
void report_table_free(struct report_table *table);
/* The next cell, left to right, row after row. Outcomes are recognised and coloured. */
void report_cell(struct report_table *table, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A line under the row that was completed last. */
void report_note(struct report_table *table, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int report_table_rows(const struct report_table *table);
void report_table_print(const struct report_table *table, FILE *out);

/* "812 us", "12.3 ms", "4.56 s" */
const char *report_time(double microseconds, char *buffer, size_t size);
/* An error over its bound: "0.42", "1.3e+05", "nan" */
const char *report_ratio(double ratio, char *buffer, size_t size);

/* ---- reproduction ---------------------------------------------------------------------------- */

/* Quoted only if a shell would read it otherwise. The caller frees it. */
char *report_shell_word(const char *text);

struct report_rerun {
	const char *subject; /* kernel or variant */
	const char *case_id; /* "001/005", "random:7.3" */
	const char *file;    /* NULL: the case needs none */
	int32_t fixed_split; /* 0: none */
	bool graph;
	const char *seed; /* of the emulator; NULL: it was not emulated */
};
/* "mla check -k 02_splitk -c 001/005 'my file.h5'", quoted for a shell. The caller frees it. */
char *report_rerun_line(const struct report_rerun *rerun);

#endif
