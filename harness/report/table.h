/* table.h - what the verbs show: aligned tables, colours, progress, lines that reproduce a
 * failure, and the JSON that goes with them.
 */
#ifndef MLA_REPORT_TABLE_H
#define MLA_REPORT_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/stats.h"
#include "check/check.h"

/* Zeroed memory, or the end of the program with a sentence: only for a verb's own small things. */
void *report_alloc(size_t bytes);
char *report_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

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
};
/* "mla check -k 02_splitk -c 001/005 'my file.h5'", quoted for a shell. The caller frees it. */
char *report_rerun_line(const struct report_rerun *rerun);

/* ---- JSON ------------------------------------------------------------------------------------ */

/* {schema, schema_version, program, environment}, ready for more. */
json_t *report_json_new(const char *schema);
/* JSON has no NaN and no infinity: those become the strings "nan", "inf" and "-inf". */
json_t *report_json_number(double value);
/* Bytes that are not UTF-8 (file names may hold any) become '?'. */
json_t *report_json_string(const char *text);
json_t *report_json_verdict(const char *name, const struct check_verdict *verdict);
json_t *report_json_case(const struct mla_case *c, const char *id);
json_t *report_json_stats(const struct stats *stats);
/* Puts value under key; exits if memory ran out, so that no report lacks a part silently. */
void report_json_set(json_t *object, const char *key, json_t *value);
void report_json_append(json_t *array, json_t *value);
/* 0, or -1 after a sentence on standard error. */
int report_json_write(const json_t *root, const char *path);

#endif
