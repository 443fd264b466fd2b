/* tally.c - one implementation's verdicts over many cases as one row of a table.
 */
#include "report/tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* NaN is the worst of all. */
static double worse(double a, double b)
{
	return b > a || isnan(b) ? b : a;
}

static void add_failure(struct tally *tally, const char *why, const char *case_id, char *rerun)
{
	if (tally->failed < TALLY_NOTES) {
		tally->failures[tally->failed] = text_format("%s: %s", case_id, why);
		tally->reruns[tally->failed] = rerun;
	} else {
		free(rerun);
	}
	tally->failed++;
}

void tally_add(struct tally *tally, const struct check_verdict *verdict, const char *case_id,
	       char *rerun)
{
	if (verdict->outcome == CHECK_SKIP) {
		tally->skipped++;
		if (!tally->skip && !report_is_absence(verdict))
			tally->skip = text_format("%s", verdict->why);
		else if (tally->skip && strcmp(tally->skip, verdict->why))
			tally->other_skips = true;
		free(rerun);
		return;
	}
	tally->compared +=
		verdict->outcome == CHECK_PASS || verdict->num_wrong > 0 || verdict->worst_rms;
	tally->worst_element = worse(tally->worst_element, verdict->worst_element);
	tally->worst_rms = worse(tally->worst_rms, verdict->worst_rms);
	tally->worst_lse = worse(tally->worst_lse, verdict->worst_lse);
	tally->microseconds = worse(tally->microseconds, verdict->microseconds);
	tally->low_power += verdict->low_power;
	if (verdict->outcome == CHECK_FAIL) {
		add_failure(tally, verdict->why, case_id, rerun);
		return;
	}
	tally->passed++;
	free(rerun);
}

void tally_free(struct tally *tally)
{
	for (int i = 0; i < TALLY_NOTES; i++) {
		free(tally->failures[i]);
		free(tally->reruns[i]);
	}
	free(tally->skip);
	*tally = (struct tally){0};
}

static const char *const titles[] = {"name",     "check", "cases", ">err",
				     ">lse err", ">rms",  "power", ">longest"};

struct report_table *tally_table_new(void)
{
	return report_table_new(titles, (int)(sizeof(titles) / sizeof(titles[0])));
}

enum check_outcome tally_outcome(const struct tally *tally)
{
	if (tally->failed)
		return CHECK_FAIL;
	return tally->passed ? CHECK_PASS : CHECK_SKIP;
}

/* "6", or "4/6" if some were skipped. */
static void count_cell(struct report_table *table, int ran, int all)
{
	if (ran == all || ran == 0)
		report_cell(table, "%d", all);
	else
		report_cell(table, "%d/%d", ran, all);
}

static void power_cell(struct report_table *table, const struct tally *tally, int ran)
{
	if (tally->low_power == 0)
		report_cell(table, "%s", ran ? "good" : "-");
	else if (tally->low_power == ran)
		report_cell(table, "low");
	else
		report_cell(table, "low %d/%d", tally->low_power, ran);
}

static void number_cells(struct report_table *table, const struct tally *tally)
{
	const double ratios[] = {tally->worst_element, tally->worst_lse, tally->worst_rms};
	const int ran = tally->passed + tally->failed;
	char text[32];

	for (int i = 0; i < 3; i++)
		report_cell(table, "%s",
			    tally->compared ? report_ratio(ratios[i], text, sizeof(text)) : "-");
	power_cell(table, tally, ran);
	report_cell(table, "%s",
		    tally->compared ? report_time(tally->microseconds, text, sizeof(text)) : "-");
}

static void notes(struct report_table *table, const struct tally *tally)
{
	for (int i = 0; i < TALLY_NOTES && tally->failures[i]; i++) {
		report_note(table, "%s", tally->failures[i]);
		report_note(table, "rerun: %s", tally->reruns[i]);
	}
	if (tally->failed > TALLY_NOTES)
		report_note(table, "and %d more failures; -v shows each",
			    tally->failed - TALLY_NOTES);
	if (tally->skip)
		report_note(table, "%s%s", tally->skip,
			    tally->other_skips ? " (and other reasons; -v shows each)" : "");
}

void tally_row(struct report_table *table, const char *name, const char *label,
	       const struct tally *tally)
{
	const int ran = tally->passed + tally->failed;

	report_cell(table, "%s", name);
	report_cell(table, "%s", report_outcome_name(tally_outcome(tally)));
	if (label)
		report_cell(table, "%s", label);
	else
		count_cell(table, ran, ran + tally->skipped);
	number_cells(table, tally);
	notes(table, tally);
}

/* ---- facts ----------------------------------------------------------------------------------- */

void tally_fact_add(struct tally_fact *tally, const struct fact *fact, const char *case_id,
		    char *rerun)
{
	const bool good = facts_good(fact);

	if (!good && !tally->failed) {
		tally->failure = text_format("%s is the first beyond the bound", case_id);
		tally->rerun = rerun;
	} else {
		free(rerun);
	}
	if (tally->passed + tally->failed == 0)
		tally->worst = *fact;
	tally->passed += good;
	tally->failed += !good;
	tally->worst.has_out |= fact->has_out;
	tally->worst.has_lse |= fact->has_lse;
	tally->worst.out_rms = worse(tally->worst.out_rms, fact->out_rms);
	tally->worst.out_worst = worse(tally->worst.out_worst, fact->out_worst);
	tally->worst.lse_worst = worse(tally->worst.lse_worst, fact->lse_worst);
}

void tally_fact_free(struct tally_fact *tally)
{
	free(tally->failure);
	free(tally->rerun);
	*tally = (struct tally_fact){0};
}

static const char *const fact_titles[] = {"capture", "check", "cases",  ">rms",
					  ">worst",  ">lse",  ">bound", "what"};

struct report_table *tally_fact_table_new(void)
{
	return report_table_new(fact_titles, (int)(sizeof(fact_titles) / sizeof(fact_titles[0])));
}

static void error_cell(struct report_table *table, bool has, double error)
{
	if (has)
		report_cell(table, "%.1e", error);
	else
		report_cell(table, "-");
}

void tally_fact_row(struct report_table *table, const char *label, const struct tally_fact *tally)
{
	const struct fact *worst = &tally->worst;

	report_cell(table, "%s", worst->name);
	report_cell(table, "%s", tally->failed ? "FAIL" : "PASS");
	if (label)
		report_cell(table, "%s", label);
	else
		report_cell(table, "%d", tally->passed + tally->failed);
	error_cell(table, worst->has_out, worst->out_rms);
	error_cell(table, worst->has_out, worst->out_worst);
	error_cell(table, worst->has_lse, worst->lse_worst);
	error_cell(table, true, worst->bound);
	report_cell(table, "%s", worst->meaning);
	if (tally->failure) {
		report_note(table, "%s", tally->failure);
		report_note(table, "rerun: %s", tally->rerun);
	}
}
