/* verb_compare.c - mla compare: two result files, or two implementations of one file, time by time;
 * or the files of two programs that ran in turns.
 */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/output.h"
#include "base/text.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "lib/error.h"
#include "report/compare.h"
#include "report/json.h"
#include "report/table.h"

enum { MAX_FILES = 64 };

struct compare_verb {
	const char *files[MAX_FILES]; /* A, B, A, B ... */
	int count;
	const char *json;
	struct compare_pairing pairing;
	char *owned;      /* what the pairing's names lie in */
	double threshold; /* 0: not given */
	bool force;
};

enum { OPT_THRESHOLD = 0x900, OPT_IMPLEMENTATION, OPT_FORCE, OPT_JSON };

static const struct argp_option flags[] = {
	{"implementation", OPT_IMPLEMENTATION, "X=Y", 0,
	 "Compare X of A with Y of B, instead of each with its namesake; X alone means X=X", 0},
	{"threshold", OPT_THRESHOLD, "PERCENT", 0,
	 "Differences up to this mean nothing (default 1% within one file, 3% between two)", 0},
	{"force", OPT_FORCE, 0, 0, "Compare even what ran on different GPUs", 0},
	{"json", OPT_JSON, "FILE", 0, "All pairs as JSON", 0},
	{0},
};

static double parse_percent(struct argp_state *state, const char *text)
{
	char number[32];
	const size_t length = strlen(text);
	const size_t digits = length && text[length - 1] == '%' ? length - 1 : length;

	if (digits >= sizeof(number))
		cli_error(state, "--threshold: found \"%s\", expected a percentage", text);
	memcpy(number, text, digits);
	number[digits] = '\0';

	const double percent = cli_positive(state, "--threshold", number);

	if (percent > 1000)
		cli_error(state, "--threshold: %s is out of range, expected at most 1000%%", text);
	return percent / 100;
}

static void parse_pairing(struct argp_state *state, const char *text, struct compare_verb *verb)
{
	if (verb->owned)
		cli_error(state, "--implementation: one pair at a time");
	verb->owned = text_format("%s", text);

	char *equals = strchr(verb->owned, '=');

	if (equals)
		*equals = '\0';
	verb->pairing.from = verb->owned;
	verb->pairing.to = equals ? equals + 1 : verb->owned;
	if (!*verb->pairing.from || !*verb->pairing.to)
		cli_error(state, "--implementation: found \"%s\", expected X=Y or X", text);
}

static void take_file(struct argp_state *state, const char *file, struct compare_verb *verb)
{
	if (verb->count == MAX_FILES)
		cli_error(state, "%d files are enough, found \"%s\" too", MAX_FILES, file);
	verb->files[verb->count++] = file;
}

static void check_files(struct argp_state *state, const struct compare_verb *verb)
{
	if (!verb->count)
		cli_error(state, "A.json is missing");

	const bool pair = verb->owned && strcmp(verb->pairing.from, verb->pairing.to);

	if (verb->count == 1 && !pair)
		cli_error(state, "B.json is missing; within one file say --implementation X=Y");
	if (verb->count > 1 && verb->count % 2)
		cli_error(state, "%d files: those of A and B come in turns, the last B is missing",
			  verb->count);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct compare_verb *verb = state->input;

	switch (key) {
	case OPT_THRESHOLD:
		verb->threshold = parse_percent(state, arg);
		return 0;
	case OPT_IMPLEMENTATION:
		parse_pairing(state, arg, verb);
		return 0;
	case OPT_FORCE:
		verb->force = true;
		return 0;
	case OPT_JSON:
		verb->json = arg;
		return 0;
	case ARGP_KEY_ARG:
		take_file(state, arg, verb);
		return 0;
	case ARGP_KEY_END:
		check_files(state, verb);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.args_doc = "A.json [B.json [A.json B.json]...]",
	.doc = "Says whether B is faster than A, for every time that both have: same case, "
	       "implementation, mode and state of the cache. More files are further turns of the "
	       "same two programs: the samples of each are taken together.\v"
	       "A/B is A's median over B's: above 1, B is faster. In brackets stands the interval "
	       "that follows from the 95% intervals of the two medians. What the verdicts mean "
	       "stands under the table. Times with fewer than 6 samples have no ratio.\n\n"
	       "Example:\n  mla compare before.json after.json\n"
	       "  mla compare peers_libraries.json --implementation flashinfer:fa3=08_tall\n\n"
	       "Exit codes: 0 good, 1 something is SLOWER or WRONG, 2 wrong usage (different GPUs "
	       "without --force, too), 3 a file cannot be used, or has nothing to compare.",
};

/* ---- the table ------------------------------------------------------------------------------- */

#define SCHEMA "mla-compare"

struct comparison {
	const struct compare_verb *verb;
	struct output output; /* not open without --json */
	struct compare_file a, b;
	const struct compare_file *second; /* &b, or &a if one file is compared with itself */
	double threshold;
	int counts[COMPARE_WRONG + 1], pairs, few, unsettled;
	double sum_of_logs;

	/* times without a partner: of A, with reasons; of B */
	struct missing *missing;
	int num_missing, max_missing, only_b;
	/* pairs whose clocks differ by more than the threshold, and a sentence about the first */
	int other_clocks;
	char *first_clocks;
};

struct missing {
	const struct compare_time *time;
	char *why; /* "is not in b.json" */
};

enum { SHOWN_MISSING = 3 };

static const char *const titles[] = {"case", "implementation", "mode",     "cache",  ">A",
				     ">B",   ">A/B",           "interval", "verdict"};
#define NUM_TITLES (int)(sizeof(titles) / sizeof(titles[0]))

static bool has_ratio(const struct compare_time *a, const struct compare_time *b,
		      const struct compare_result *result)
{
	return result->verdict != COMPARE_WRONG && compare_is_enough(a, b);
}

/* With the signs of mla bench: ! too noisy, ? of too few samples. */
static void time_cell(struct report_table *table, const struct compare_time *time)
{
	char text[32];

	if (time->stats.n)
		report_cell(table, "%s%s%s", report_time(time->stats.median, text, sizeof(text)),
			    time->unsettled ? "!" : "", time->stats.n < STATS_LEAST ? "?" : "");
	else
		report_cell(table, "-");
}

static void add_row(struct report_table *table, const struct compare_time *a,
		    const struct compare_time *b, const struct compare_result *result)
{
	report_cell(table, "%s", a->name);
	if (!strcmp(a->implementation, b->implementation))
		report_cell(table, "%s", a->implementation);
	else
		report_cell(table, "%s, %s", a->implementation, b->implementation);
	report_cell(table, "%s", a->mode);
	report_cell(table, "%s", a->cache);
	time_cell(table, a);
	time_cell(table, b);
	if (has_ratio(a, b, result)) {
		report_cell(table, "%.3f", result->ratio);
		report_cell(table, "[%.3f, %.3f]", result->low, result->high);
	} else {
		report_cell(table, "-");
		report_cell(table, "-");
	}
	report_cell(table, "%s", compare_verdict_name(result->verdict));
	if (result->verdict == COMPARE_WRONG)
		report_note(table, "%s: %s", b->status, b->why);
	else if (!compare_is_enough(a, b))
		report_note(table, "%d and %d samples, at least %d are needed: no ratio",
			    a->stats.n, b->stats.n, STATS_LEAST);
}

/* null where there are too few samples for one. */
static json_t *ratio_json(const struct compare_time *a, const struct compare_time *b, double ratio)
{
	return compare_is_enough(a, b) ? report_json_number(ratio) : json_null();
}

static json_t *pair_json(const struct compare_time *a, const struct compare_time *b,
			 const struct compare_result *result)
{
	json_t *json = json_object();

	report_json_set(json, "case", report_json_string(a->name));
	report_json_set(json, "sha256", report_json_string(a->sha256));
	report_json_set(json, "implementation_a", report_json_string(a->implementation));
	report_json_set(json, "implementation_b", report_json_string(b->implementation));
	report_json_set(json, "mode", report_json_string(a->mode));
	report_json_set(json, "cache", report_json_string(a->cache));
	report_json_set(json, "verdict", json_string(compare_verdict_name(result->verdict)));
	report_json_set(json, "a_us", report_json_stats(&a->stats));
	if (result->verdict == COMPARE_WRONG) {
		report_json_set(json, "why", report_json_string(b->why));
		return json;
	}
	report_json_set(json, "b_us", report_json_stats(&b->stats));
	report_json_set(json, "settled", json_boolean(!a->unsettled && !b->unsettled));
	report_json_set(json, "enough_samples", json_boolean(compare_is_enough(a, b)));
	report_json_set(json, "ratio", ratio_json(a, b, result->ratio));
	report_json_set(json, "ratio_low", ratio_json(a, b, result->low));
	report_json_set(json, "ratio_high", ratio_json(a, b, result->high));
	return json;
}

/* ---- what has no partner --------------------------------------------------------------------- */

/* A skipped measurement of B is no partner: it says why there is none. */
static void miss(struct comparison *c, const struct compare_time *a,
		 const struct compare_time *partner)
{
	const char *why = "is not in";
	struct missing *missing;

	for (int i = 0; i < c->second->count && !partner; i++)
		if (!strcmp(c->second->times[i].name, a->name) &&
		    strcmp(c->second->times[i].sha256, a->sha256))
			why = "has other contents (sha256) in";
	c->missing = text_grow(c->missing, c->num_missing, &c->max_missing, sizeof(*c->missing));
	missing = &c->missing[c->num_missing++];
	missing->time = a;
	missing->why = partner ? text_format("was skipped in %s: %s", c->second->path, partner->why)
			       : text_format("%s %s", why, c->second->path);
}

/* Times of B that nothing of A is compared with; with a pairing all others are left out on purpose.
 */
static void count_only_b(struct comparison *c)
{
	const struct compare_pairing none = {0};

	for (int i = 0; i < c->second->count && !c->verb->pairing.from; i++)
		c->only_b += c->second->times[i].stats.n > 0 &&
			     compare_partner(&c->second->times[i], &c->a, &none) < 0;
}

/* One line, however many there are; --json has them all. */
static void explain_missing(const struct comparison *c)
{
	if (!c->num_missing && !c->only_b)
		return;
	fputs("mla compare: ", stderr);
	if (c->num_missing)
		text_print(stderr, "%d of A's times ha%s no partner: ", c->num_missing,
			   c->num_missing == 1 ? "s" : "ve");
	for (int i = 0; i < c->num_missing && i < SHOWN_MISSING; i++) {
		const struct compare_time *a = c->missing[i].time;

		text_print(stderr, "%scase %s, %s %s %s %s", i ? "; " : "", a->name,
			   a->implementation, a->mode, a->cache, c->missing[i].why);
	}
	if (c->num_missing > SHOWN_MISSING)
		text_print(stderr, "; and %d more", c->num_missing - SHOWN_MISSING);
	if (c->only_b)
		text_print(stderr, "%s%d of B's times ha%s none in %s", c->num_missing ? "; " : "",
			   c->only_b, c->only_b == 1 ? "s" : "ve", c->a.path);
	fputc('\n', stderr);
}

static json_t *missing_json(const struct comparison *c)
{
	json_t *array = json_array();

	for (int i = 0; i < c->num_missing; i++) {
		const struct compare_time *a = c->missing[i].time;
		json_t *json = json_object();

		report_json_set(json, "case", report_json_string(a->name));
		report_json_set(json, "implementation", report_json_string(a->implementation));
		report_json_set(json, "mode", report_json_string(a->mode));
		report_json_set(json, "cache", report_json_string(a->cache));
		report_json_set(json, "why", report_json_string(c->missing[i].why));
		report_json_append(array, json);
	}
	return array;
}

static void free_missing(struct comparison *c)
{
	for (int i = 0; i < c->num_missing; i++)
		free(c->missing[i].why);
	free(c->missing);
	free(c->first_clocks);
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static void compare_clocks(struct comparison *c, const struct compare_time *a,
			   const struct compare_time *b)
{
	if (!(a->sm_mhz > 0 && b->sm_mhz > 0) || fabs(log(a->sm_mhz / b->sm_mhz)) <= c->threshold)
		return;
	if (!c->other_clocks++)
		c->first_clocks = text_format("case %s, %s: %.0f MHz in %s, %.0f MHz in %s",
					      a->name, b->implementation, a->sm_mhz, c->a.path,
					      b->sm_mhz, c->second->path);
}

static void compare_one(struct comparison *c, const struct compare_time *a,
			struct report_table *table, json_t *pairs)
{
	const struct compare_pairing *pairing = &c->verb->pairing;

	if (a->stats.n == 0 || (pairing->from && strcmp(pairing->from, a->implementation)))
		return;

	const int index = compare_partner(a, c->second, pairing);
	const struct compare_time *b = index < 0 ? NULL : &c->second->times[index];

	if (!b || (b->stats.n == 0 && strcmp(b->status, "FAIL"))) {
		miss(c, a, b);
		return;
	}

	const struct compare_result result = compare_times(a, b, c->threshold);

	add_row(table, a, b, &result);
	report_json_append(pairs, pair_json(a, b, &result));
	c->counts[result.verdict]++;
	c->pairs++;
	compare_clocks(c, a, b);
	c->unsettled += a->unsettled || b->unsettled;
	if (has_ratio(a, b, &result))
		c->sum_of_logs += log(result.ratio);
	else
		c->few += result.verdict != COMPARE_WRONG;
}

/* The words and signs that stand in the table. */
static void explain(const struct comparison *c)
{
	putchar('\n');
	for (int v = 0; v <= COMPARE_WRONG; v++)
		if (c->counts[v])
			text_print(stdout, "%-6s  %s\n",
				   compare_verdict_name((enum compare_verdict)v),
				   compare_verdict_meaning((enum compare_verdict)v));
	if (c->unsettled)
		text_print(stdout, "!       noisier than was asked for when its time was over\n");
	if (c->few)
		text_print(stdout,
			   "?       fewer than %d samples, whose median is not known in 95 of 100 "
			   "cases: no ratio\n",
			   STATS_LEAST);
}

static void print_summary(const struct comparison *c)
{
	const int timed = c->pairs - c->counts[COMPARE_WRONG] - c->few;

	for (int v = 0; v <= COMPARE_WRONG; v++)
		text_print(stdout, "%s%d %s", v ? ", " : "", c->counts[v],
			   compare_verdict_name((enum compare_verdict)v));
	text_print(stdout, "; threshold %.3g%%", 100 * c->threshold);
	if (timed)
		text_print(stdout, "; A/B %.3f, geometric mean of %d", exp(c->sum_of_logs / timed),
			   timed);
	putchar('\n');
}

static json_t *comparison_json(const struct comparison *c, json_t *pairs)
{
	json_t *root = report_json_new(SCHEMA), *counts = json_object();

	for (int v = 0; v <= COMPARE_WRONG; v++)
		report_json_set(counts, compare_verdict_name((enum compare_verdict)v),
				json_integer(c->counts[v]));
	report_json_set(root, "a", report_json_string(c->a.path));
	report_json_set(root, "b", report_json_string(c->second->path));
	report_json_set(root, "threshold", report_json_number(c->threshold));
	report_json_set(root, "counts", counts);
	report_json_set(root, "unmatched", json_integer(c->num_missing));
	report_json_set(root, "unmatched_b", json_integer(c->only_b));
	report_json_set(root, "missing", missing_json(c));
	report_json_set(root, "pairs", json_incref(pairs));
	return root;
}

static int finish(struct comparison *c, const struct report_table *table, json_t *pairs)
{
	if (c->pairs == 0) {
		mla_fail(MLA_INVALID,
			 "%s and %s have no time in common: a time is a case, its contents, an "
			 "implementation, a mode and a state of the cache; %d of the first and %d "
			 "of "
			 "the second",
			 c->a.path, c->second->path, c->num_missing, c->only_b);
		return cli_fail_file("mla compare");
	}
	explain_missing(c);
	if (c->other_clocks)
		text_print(stderr,
			   "mla compare: the clocks differ by more than the threshold in %d of %d "
			   "pairs: %s%s\n",
			   c->other_clocks, c->pairs, c->first_clocks,
			   c->other_clocks > 1 ? ", ..." : "");
	report_table_print(table, stdout);
	explain(c);
	print_summary(c);

	json_t *root = comparison_json(c, pairs);
	const mla_status status = c->verb->json ? output_put_json(&c->output, root) : MLA_OK;

	json_decref(root);
	if (status)
		return cli_fail_output("mla compare", status);
	return c->counts[COMPARE_SLOWER] || c->counts[COMPARE_WRONG] ? CLI_FAILED : CLI_OK;
}

static int compare_all(struct comparison *c)
{
	struct report_table *table = report_table_new(titles, NUM_TITLES);
	json_t *pairs = json_array();

	for (int i = 0; i < c->a.count; i++)
		compare_one(c, &c->a.times[i], table, pairs);
	count_only_b(c);

	const int code = finish(c, table, pairs);

	json_decref(pairs);
	report_table_free(table);
	return code;
}

/* ---- what must agree ------------------------------------------------------------------------- */

static const char *gpu_of(const struct compare_file *file)
{
	return *file->gpu ? file->gpu : "no GPU";
}

static bool has_host_times(const struct compare_file *file)
{
	for (int i = 0; i < file->count; i++)
		if (!strcmp(file->times[i].mode, "host"))
			return true;
	return false;
}

/* The GPUs, and where both were timed the CPUs and their threads; a file that does not say which is
 * not refused. */
static bool same_machine(const struct comparison *c)
{
	const struct compare_file *a = &c->a, *b = c->second;
	const bool hosts = has_host_times(a) && has_host_times(b);
	const char *kind = NULL, *on_a = gpu_of(a), *on_b = gpu_of(b);
	char threads[2][32];

	if (strcmp(on_a, on_b)) {
		kind = "GPUs";
	} else if (hosts && *a->cpu && *b->cpu && strcmp(a->cpu, b->cpu)) {
		kind = "CPUs";
		on_a = a->cpu;
		on_b = b->cpu;
	} else if (hosts && a->threads && b->threads && a->threads != b->threads) {
		kind = "numbers of threads";
		snprintf(threads[0], sizeof(threads[0]), "%d thread%s", a->threads,
			 a->threads == 1 ? "" : "s");
		snprintf(threads[1], sizeof(threads[1]), "%d thread%s", b->threads,
			 b->threads == 1 ? "" : "s");
		on_a = threads[0];
		on_b = threads[1];
	}
	if (!kind)
		return true;
	text_print(stderr, "mla compare: %s ran on %s, %s on %s", a->path, on_a, b->path, on_b);
	if (!c->verb->force)
		text_print(
			stderr,
			": times of different %s say nothing about the code; --force compares them "
			"all the same",
			kind);
	fputc('\n', stderr);
	return c->verb->force;
}

static bool has_implementation(const struct compare_file *file, const char *wanted)
{
	for (int i = 0; i < file->count; i++)
		if (!strcmp(file->times[i].implementation, wanted))
			return true;
	text_print(stderr, "mla compare: %s has no implementation \"%s\"; it has", file->path,
		   wanted);
	for (int i = 0; i < file->count; i++) {
		bool said = false;

		for (int j = 0; j < i; j++)
			said |= !strcmp(file->times[i].implementation,
					file->times[j].implementation);
		if (!said)
			text_print(stderr, " %s", file->times[i].implementation);
	}
	fputs(file->count ? "\n" : " none\n", stderr);
	return false;
}

static mla_status read_files(struct comparison *c)
{
	const char *const *files = c->verb->files;
	mla_status status = compare_open(files[0], &c->a);

	if (!status && c->verb->count > 1)
		status = compare_open(files[1], &c->b);
	for (int i = 2; i < c->verb->count && !status; i++)
		status = compare_add_turn(files[i], i % 2 ? &c->b : &c->a);
	return status;
}

static int open_files(struct comparison *c)
{
	const struct compare_verb *verb = c->verb;
	const struct compare_pairing *pairing = &verb->pairing;
	const bool two = verb->count > 1;

	if (read_files(c))
		return cli_fail_file("mla compare");
	c->second = two ? &c->b : &c->a;
	c->threshold = verb->threshold > 0                             ? verb->threshold
		       : two && strcmp(verb->files[0], verb->files[1]) ? COMPARE_TWO_FILES
								       : COMPARE_SAME_FILE;
	if (pairing->from && (!has_implementation(&c->a, pairing->from) ||
			      !has_implementation(c->second, pairing->to)))
		return CLI_USAGE;
	return same_machine(c) ? CLI_OK : CLI_USAGE;
}

/* Before anything is compared. An exit code. */
static int open_json(struct comparison *c)
{
	const struct output_plan plan = {
		.kind = OUTPUT_JSON,
		.schema = SCHEMA,
		.inputs = c->verb->files,
		.num_inputs = c->verb->count,
	};
	const char *json = c->verb->json;
	const mla_status status = json ? output_open(&c->output, json, &plan) : MLA_OK;

	return status ? cli_fail_output("mla compare", status) : CLI_OK;
}

int cli_compare(int argc, char **argv)
{
	struct compare_verb verb = {0};
	struct comparison c = {.verb = &verb};
	int code;

	cli_parse(&argp, argc, argv, 0, &verb);
	code = open_json(&c);
	if (!code)
		code = open_files(&c);
	if (!code)
		code = compare_all(&c);
	free_missing(&c);
	output_abandon(&c.output);
	compare_close(&c.a);
	compare_close(&c.b);
	free(verb.owned);
	return code;
}
