/* view.h - what mla check shows of one source of cases: tables for people, lines for suites.
 */
#ifndef MLA_CLI_VIEW_H
#define MLA_CLI_VIEW_H

#include "cli/source.h"
#include "cli/subjects.h"
#include "report/tally.h"

enum view_style {
	VIEW_SUMMARY, /* a row per implementation: the worst of all cases */
	VIEW_CASES,   /* a row per implementation and case */
	VIEW_LINES,   /* a line per implementation that begins with its outcome */
};

struct view {
	enum view_style style;
	const struct cli_subjects *subjects;
	struct report_table *table, *facts;
	struct tally *tallies; /* [subjects->count] */
	struct tally_fact fact_tallies[FACTS_KINDS];
	int num_facts, cases, skipped_facts;
	char description[256]; /* of the first case */
};

void view_open(struct view *view, enum view_style style, const struct cli_subjects *subjects);
void view_close(struct view *view);
void view_case(struct view *view, const struct mla_case *c);
/* rerun belongs to the view afterwards. */
void view_verdict(struct view *view, int subject, const struct check_verdict *verdict,
		  const char *case_id, char *rerun);
void view_fact(struct view *view, const struct fact *fact, const char *case_id, char *rerun);
/* The facts of a case would take too long. */
void view_skip_facts(struct view *view);
void view_print(struct view *view, const struct cli_source *source);

#endif
