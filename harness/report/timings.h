/* timings.h - what mla bench shows: a table per case, a matrix of all cases, CSV.
 */
#ifndef MLA_REPORT_TIMINGS_H
#define MLA_REPORT_TIMINGS_H

#include "bench/bench.h"
#include "bench/ceilings.h"
#include "report/table.h"

/* One case with what was measured on it. */
struct timings_shown {
	const struct mla_case *c;
	const char *name;   /* in files and in the matrix */
	const char *sha256; /* of the case; "" unknown */
	struct case_work work;
	struct case_bound bound; /* us 0: the ceilings are not known */
	const char *const *implementations;
	const struct bench_result *results;
	int count;
};

void timings_show(const struct timings_shown *shown, FILE *out);
/* What the columns mean. */
void timings_explain(FILE *out);

/* Cases by implementations: microseconds and how much of the bound was reached. */
struct timings_matrix;
struct timings_matrix *timings_matrix_new(const char *const *implementations, int count);
void timings_matrix_free(struct timings_matrix *matrix);
void timings_matrix_add(struct timings_matrix *matrix, const struct timings_shown *shown);
void timings_matrix_print(const struct timings_matrix *matrix, FILE *out);

void timings_csv_head(FILE *out);
void timings_csv_rows(const struct timings_shown *shown, FILE *out);

#endif
