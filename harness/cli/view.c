/* view.c - what mla check shows of one source of cases.
 */
#include "cli/view.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "suite/suite.h"

void view_open(struct view *view, enum view_style style, const struct cli_subjects *subjects)
{
	*view = (struct view){.style = style,
			      .subjects = subjects,
			      .table = tally_table_new(),
			      .facts = tally_fact_table_new()};
	view->tallies = text_alloc((size_t)subjects->count * sizeof(*view->tallies));
}

void view_close(struct view *view)
{
	for (int s = 0; view->tallies && s < view->subjects->count; s++)
		tally_free(&view->tallies[s]);
	for (int k = 0; k < FACTS_KINDS; k++)
		tally_fact_free(&view->fact_tallies[k]);
	free(view->tallies);
	report_table_free(view->table);
	report_table_free(view->facts);
}

void view_case(struct view *view, const struct mla_case *c)
{
	if (view->cases++ == 0)
		case_describe(c, view->description, sizeof(view->description));
}

void view_verdict(struct view *view, int subject, const struct check_verdict *verdict,
		  const char *case_id, char *rerun)
{
	struct tally *tally = &view->tallies[subject];

	tally_add(tally, verdict, case_id, rerun);
	if (view->style == VIEW_CASES) {
		tally_row(view->table, view->subjects->list[subject].name, case_id, tally);
		tally_free(tally);
	}
}

void view_fact(struct view *view, const struct fact *fact, const char *case_id, char *rerun)
{
	int k = 0;

	while (k < view->num_facts && strcmp(view->fact_tallies[k].worst.name, fact->name))
		k++;

	struct tally_fact *tally = &view->fact_tallies[k];

	tally_fact_add(tally, fact, case_id, rerun);
	if (view->style == VIEW_CASES) {
		tally_fact_row(view->facts, case_id, tally);
		tally_fact_free(tally);
	} else if (k == view->num_facts) {
		view->num_facts++;
	}
}

void view_skip_facts(struct view *view)
{
	view->skipped_facts++;
}

static void print_skipped_facts(const struct view *view)
{
	char why[128];
	struct suite_result uncounted = {0};

	snprintf(why, sizeof(why),
		 "textbook attention takes a CPU long for %d case%s; -k %s runs it",
		 view->skipped_facts, view->skipped_facts == 1 ? "" : "s", FACTS_NAME);
	if (view->skipped_facts)
		suite_line(&uncounted, CHECK_SKIP, FACTS_NAME, why);
}

static void print_tables(struct view *view)
{
	for (int s = 0; s < view->subjects->count && view->style == VIEW_SUMMARY; s++)
		tally_row(view->table, view->subjects->list[s].name, NULL, &view->tallies[s]);
	for (int k = 0; k < view->num_facts; k++)
		tally_fact_row(view->facts, NULL, &view->fact_tallies[k]);
	if (view->subjects->count)
		report_table_print(view->table, stdout);
	if (view->subjects->count && report_table_rows(view->facts))
		putchar('\n');
	if (report_table_rows(view->facts))
		report_table_print(view->facts, stdout);
	else if (view->subjects->count == 0 && !view->skipped_facts)
		puts("no facts: the cases carry neither W_UK and W_UV nor references");
	print_skipped_facts(view);
	putchar('\n');
}

static void print_line(const char *name, enum check_outcome outcome, const char *detail,
		       const char *rerun)
{
	struct suite_result uncounted = {0}; /* verdicts were counted when they came */

	suite_line(&uncounted, outcome, name, detail);
	if (outcome == CHECK_FAIL && rerun)
		text_print(stdout, "    rerun: %s\n", rerun);
}

static void print_lines(const struct view *view)
{
	for (int s = 0; s < view->subjects->count; s++) {
		const struct tally *tally = &view->tallies[s];
		char detail[96], ratio[32];

		snprintf(detail, sizeof(detail), "%d cases, largest error %s of its bound",
			 tally->passed, report_ratio(tally->worst_element, ratio, sizeof(ratio)));

		const char *const details[] = {
			[CHECK_PASS] = detail,
			[CHECK_FAIL] = tally->failures[0],
			[CHECK_SKIP] = tally->skip,
		};
		const enum check_outcome outcome = tally_outcome(tally);

		print_line(view->subjects->list[s].name, outcome, details[outcome],
			   tally->reruns[0]);
	}
	for (int k = 0; k < view->num_facts; k++) {
		const struct tally_fact *fact = &view->fact_tallies[k];

		if (fact->worst.bound > 0)
			print_line(fact->worst.name, fact->failed ? CHECK_FAIL : CHECK_PASS,
				   fact->failed ? fact->failure : fact->worst.meaning, fact->rerun);
	}
}

void view_print(struct view *view, const struct cli_source *source)
{
	report_progress("%s", "");
	text_print(stdout, "%s: %d case%s, %s%s\n", source->file ? source->file : "generated",
		   view->cases, view->cases == 1 ? "" : "s", view->cases > 1 ? "the first " : "",
		   view->description);
	if (view->style == VIEW_LINES)
		print_lines(view);
	else
		print_tables(view);
}
