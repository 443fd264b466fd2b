/* timings.h - what mla bench and mla cases show: a list of cases, a table per case, a matrix of all
 * cases, CSV.
 */
#ifndef MLA_REPORT_TIMINGS_H
#define MLA_REPORT_TIMINGS_H

#include "base/sha256.h"
#include "bench/bench.h"
#include "bench/ceilings.h"
#include "report/table.h"

/* One case with what was measured on it: count 0, nothing. */
struct timings_shown {
	const struct mla_case *c; /* NULL: known from a result file alone */
	const char *name;         /* in files and in the matrix */
	char sha256[SHA256_TEXT]; /* of the case; "" unknown */
	struct case_work work;
	struct case_bound bound; /* us 0: the ceilings are not known */
	const char *const *implementations;
	const struct bench_result *results;
	int count;
};

/* What is known of a case before anything is measured. seed: as for identity_sha256; ceilings NULL:
 * not known. MLA_NO_MEMORY if that ran out. */
mla_status timings_begin(const struct mla_case *c, const char *name, const uint64_t *seed,
			 const struct ceilings *ceilings, struct timings_shown *shown);
struct case_bound timings_bound(const struct case_work *work, const struct ceilings *ceilings);

/* A line per case: its work, its bound, its shape. */
struct report_table *timings_list_new(void);
void timings_list_add(struct report_table *list, const struct timings_shown *shown);

/* What is to be said once of all timings of a run. Zeroed: nothing yet. */
struct timings_marks {
	int timed, unsettled, few;
	struct {
		double least, most; /* of the medians; 0: nobody told */
	} sm_mhz, mem_mhz, power_w;
};
void timings_marks_count(struct timings_marks *marks, const struct bench_result *result);
/* What the signs ! and ? mean, and how many bear them; nothing if none does. noise: what was asked.
 */
void timings_marks_explain(const struct timings_marks *marks, double noise, FILE *out);
/* A line about clocks and power while samples were taken; none if nobody told. */
void timings_show_clocks(const struct timings_marks *marks, double max_sm_mhz, FILE *out);

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
