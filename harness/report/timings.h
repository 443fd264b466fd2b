/* timings.h - what mla bench shows and writes: a table per case, a matrix of all cases, CSV,
 * and JSON ("mla-results", data/results/README.md).
 */
#ifndef MLA_REPORT_TIMINGS_H
#define MLA_REPORT_TIMINGS_H

#include "bench/bench.h"
#include "bench/ceilings.h"
#include "report/table.h"

/* One case with what was measured on it. */
struct bench_shown {
	const struct mla_case *c;
	const char *name;   /* in files and in the matrix */
	const char *sha256; /* of the case; "" unknown */
	struct bench_work work;
	double bound_us; /* 0: the ceilings are not known */
	const char *const *implementations;
	const struct bench_result *results;
	int count;
};

void bench_show_table(const struct bench_shown *shown, FILE *out);
/* What the columns mean. */
void bench_explain(FILE *out);

/* Cases by implementations: microseconds and how much of the bound was reached. */
struct bench_matrix;
struct bench_matrix *bench_matrix_new(const char *const *implementations, int count);
void bench_matrix_free(struct bench_matrix *matrix);
void bench_matrix_add(struct bench_matrix *matrix, const struct bench_shown *shown);
void bench_matrix_print(const struct bench_matrix *matrix, FILE *out);

void bench_csv_head(FILE *out);
void bench_csv_rows(const struct bench_shown *shown, FILE *out);

/* ceilings: NULL if not known. nvml may be NULL. */
json_t *bench_json_new(int argc, char *const *argv, const struct ceilings *ceilings,
		       const struct nvml *nvml);
void bench_json_add(json_t *root, const struct bench_shown *shown);

#endif
