/* tally.h - one implementation's verdicts over many cases as one row of a table.
 */
#ifndef MLA_REPORT_TALLY_H
#define MLA_REPORT_TALLY_H

#include "check/check.h"
#include "check/facts.h"
#include "report/table.h"

enum { TALLY_NOTES = 3 }; /* failures that are told in full, per row */

/* Zeroed: nothing yet. */
struct tally {
	int passed, failed, skipped, low_power;
	int compared; /* with numbers: a run that ended in an error has none */
	double worst_element, worst_rms, worst_lse, microseconds; /* the largest of each */
	char *failures[TALLY_NOTES], *reruns[TALLY_NOTES];
	char *skip; /* why, first reason */
	bool other_skips;
};
/* rerun belongs to the tally afterwards; NULL where no row is made of the tally. */
void tally_add(struct tally *tally, const struct check_verdict *verdict, const char *case_id,
	       char *rerun);
void tally_free(struct tally *tally);
/* FAIL if any failed, PASS if any passed, else SKIP. */
enum check_outcome tally_outcome(const struct tally *tally);

/* A table for rows of tallies. label: the case, or NULL for counts. */
struct report_table *tally_table_new(void);
void tally_row(struct report_table *table, const char *name, const char *label,
	       const struct tally *tally);

/* The same for facts of captures: the worst of each kind. */
struct tally_fact {
	struct fact worst;
	int passed, failed;
	char *failure, *rerun; /* of the case that failed first */
};
/* rerun belongs to the tally afterwards. */
void tally_fact_add(struct tally_fact *tally, const struct fact *fact, const char *case_id,
		    char *rerun);
void tally_fact_free(struct tally_fact *tally);
struct report_table *tally_fact_table_new(void);
void tally_fact_row(struct report_table *table, const char *label, const struct tally_fact *tally);

#endif
