/* verb_check.c - mla check: every implementation against the truth.
 */
#include <argp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/output.h"
#include "base/text.h"
#include "case/work.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/emulate.h"
#include "cli/source.h"
#include "cli/subjects.h"
#include "cli/view.h"
#include "device/gpu.h"
#include "lib/error.h"
#include "report/json.h"
#include "report/table.h"
#include "suite/suite.h"

struct check_options {
	const char *kernels, *pattern, *suite, *json;
	struct cli_strings files;
	uint64_t seed;
	int random;
	int64_t rows; /* of truth; -1: as many as the budget allows */
	int32_t fixed_split;
	bool graph, verbose;
	struct emulate_options emulate;
};

enum {
	OPT_SUITE = 0x700,
	OPT_RANDOM,
	OPT_SEED,
	OPT_FIXED_SPLIT,
	OPT_GRAPH,
	OPT_JSON,
	OPT_ROWS,
	OPT_EMULATE,
};

static const struct argp_option flags[] = {
	{"kernel", 'k', "NAMES", 0,
	 "Implementations: 01,splitk,online, or cpu, gpu, auto, all (default all)", 0},
	{"case", 'c', "CASE", 0, "Step/layer of the files: 001/005, '*/005'; or random:7.3", 0},
	{"suite", OPT_SUITE, "NAME", 0,
	 "gpu: all about the kernels; host: CPU alone, many random cases; smoke: a minute", 0},
	{"random", OPT_RANDOM, "N", 0, "Also N adversarial generated cases", 0},
	{"seed", OPT_SEED, "N", 0, "Of the generated cases (default 1)", 0},
	{"fixed-split", OPT_FIXED_SPLIT, "N", 0, "Plan with splits at keys N, 2N, ...", 0},
	{"graph", OPT_GRAPH, 0, 0, "Run kernels by replaying a CUDA graph", 0},
	{"rows", OPT_ROWS, "N", 0,
	 "Rows compared with the truth, spread over the batch; 0 = all (default: all, fewer if the "
	 "case is large)",
	 0},
	{"emulate", OPT_EMULATE, "SEEDS", OPTION_ARG_OPTIONAL,
	 "Run kernels on this CPU, under an adversary of this seed or each of these, 1-20 (default "
	 "1; -k is gpu then)",
	 0},
	{"verbose", 'v', 0, 0, "A line for each case instead of the worst of all", 0},
	{"json", OPT_JSON, "FILE", 0, "All verdicts as JSON", 0},
	{0},
};

static const char *const suites[] = {"gpu", "host", "smoke"};

static error_t parse_numbers(int key, char *arg, struct check_options *options,
			     struct argp_state *state)
{
	switch (key) {
	case OPT_RANDOM:
		options->random = (int)cli_integer(state, "--random", arg, 0, 1000000);
		return 0;
	case OPT_SEED:
		options->seed = (uint64_t)cli_integer(state, "--seed", arg, 0, LONG_MAX);
		return 0;
	case OPT_FIXED_SPLIT:
		options->fixed_split =
			(int32_t)cli_integer(state, "--fixed-split", arg, 0, 1 << 30);
		return 0;
	case OPT_ROWS:
		options->rows = cli_integer(state, "--rows", arg, 0, LONG_MAX);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct check_options *options = state->input;
	struct cli_source source;

	switch (key) {
	case 'k':
		options->kernels = arg;
		return 0;
	case 'c':
		options->pattern = arg;
		return 0;
	case 'v':
		options->verbose = true;
		return 0;
	case OPT_SUITE:
		options->suite = suites[cli_choice(state, "--suite", arg, suites, 3)];
		return 0;
	case OPT_GRAPH:
		options->graph = true;
		return 0;
	case OPT_JSON:
		options->json = arg;
		return 0;
	case OPT_EMULATE:
		emulate_parse(state, arg, &options->emulate);
		return 0;
	case ARGP_KEY_ARG:
		cli_strings_add(&options->files, arg);
		return 0;
	case ARGP_KEY_END:
		if (!options->files.count && !options->random && !options->suite &&
		    !cli_random_id(options->pattern, &source))
			cli_error(state, "a FILE, --random or --suite is missing");
		emulate_parse_end(state, options->suite, options->json, &options->emulate);
		return 0;
	}
	return parse_numbers(key, arg, options, state);
}

static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.args_doc = "[FILE...]",
	.doc = "Compares every implementation with the truth: two passes in fp64, on poisoned "
	       "copies of the inputs.\v"
	       "Errors are shown over their bounds: up to 1 passes. Power \"low\": the attention "
	       "is so flat that a wrong scale would not be noticed.\n\n"
	       "With --emulate no GPU is needed: the emulator (make emulated) runs kernels in an "
	       "order that "
	       "the seed chooses, and reports races, missing waits, deadlocks and what was never "
	       "written. Several seeds run side by side, each for 600 s at most "
	       "($EMULATE_TIMEOUT); "
	       "the exit code is the worst: 70, 1, 0. A signal or a lack of time is a failure; "
	       "what no seed can change (2, 3, 77) ends the run. --json takes one seed.\n\n"
	       "Example:\n  mla check -k 01,splitk data/captures/tiny_decode.h5\n"
	       "  mla check --random 100 --seed 7 -k cpu\n"
	       "  mla check --emulate=1-20 -k 07 --random 10" CLI_EXIT_CODES,
};

/* ---- one source ------------------------------------------------------------------------------ */

struct run {
	const struct check_options *options;
	struct cli_subjects subjects;
	struct suite_result total;
	struct report_absence absence;
	struct output output;
	json_t *cases; /* NULL: no JSON wanted */
	int matched;
	int unusable; /* exit code of a source that could not be used, CLI_OK if all could */
};

static void count(struct run *run, enum check_outcome outcome)
{
	int *const counts[] = {&run->total.passed, &run->total.failed, &run->total.skipped};

	++*counts[outcome];
}

static void check_one(const struct run *run, const struct mla_case *c,
		      const struct check_truth *truth, const struct cli_subject *subject,
		      struct check_verdict *verdict)
{
	const double cost = case_multiply_adds(c);

	*verdict = (struct check_verdict){0};
	if (subject->variant && !subject->named && cost > CHECK_CPU_BUDGET) {
		verdict->outcome = CHECK_SKIP;
		snprintf(verdict->why, sizeof(verdict->why),
			 "%.0e multiply-adds take a CPU long; -k %s runs it all the same", cost,
			 subject->name);
		return;
	}

	const struct check_subject what = {
		.name = subject->name,
		.run = subject->variant ? subject->variant->run : NULL,
		.kernel = subject->variant ? NULL : subject->name,
		.fixed_split = run->options->fixed_split,
		.graph = run->options->graph,
	};
	struct mla_case same = *c; /* a view: variants take what they are asked from the config */

	same.config.fixed_split = subject->variant ? run->options->fixed_split : 0;
	check_subject(&same, truth, &what, verdict);
}

static char *rerun_line(const struct run *run, const struct cli_source *source, const char *subject,
			const char *id)
{
	const struct report_rerun rerun = {.subject = subject,
					   .case_id = id,
					   .file = source->file,
					   .fixed_split = run->options->fixed_split,
					   .graph = run->options->graph,
					   .seed = emulate_seed()};

	return report_rerun_line(&rerun);
}

static json_t *check_subjects(struct run *run, const struct cli_source *source,
			      const struct mla_case *c, const char *id,
			      const struct check_truth *truth, struct view *view)
{
	json_t *verdicts = json_array();

	for (int s = 0; s < run->subjects.count; s++) {
		const struct cli_subject *subject = &run->subjects.list[s];
		struct check_verdict verdict;

		report_progress("%s %s", id, subject->name);
		check_one(run, c, truth, subject, &verdict);
		count(run, verdict.outcome);
		report_absence_count(&run->absence, &verdict);
		report_json_append(verdicts, report_json_verdict(subject->name, &verdict));
		view_verdict(view, s, &verdict, id, rerun_line(run, source, subject->name, id));
	}
	return verdicts;
}

/* Of what could not be computed. */
static void fail_case(struct run *run, const char *id)
{
	text_print(stderr, "mla check: %s: %s\n", id, mla_last_error());
	count(run, CHECK_FAIL);
}

static json_t *fact_json(const struct fact *fact)
{
	json_t *json = json_object();

	report_json_set(json, "name", json_string(fact->name));
	report_json_set(json, "outcome", json_string(facts_good(fact) ? "PASS" : "FAIL"));
	if (fact->has_out) {
		report_json_set(json, "out_rms", report_json_number(fact->out_rms));
		report_json_set(json, "out_worst", report_json_number(fact->out_worst));
		report_json_set(json, "rms_bound", report_json_number(fact->rms_bound));
	}
	if (fact->has_lse)
		report_json_set(json, "lse_worst", report_json_number(fact->lse_worst));
	report_json_set(json, "bound", report_json_number(fact->bound));
	return json;
}

static void judge_facts(struct run *run, const struct cli_source *source, const char *id,
			const struct fact *facts, int n, struct view *view, json_t *array)
{
	for (int k = 0; k < n; k++) {
		count(run, facts_good(&facts[k]) ? CHECK_PASS : CHECK_FAIL);
		view_fact(view, &facts[k], id, rerun_line(run, source, FACTS_NAME, id));
		report_json_append(array, fact_json(&facts[k]));
	}
}

static void check_textbook(struct run *run, const struct cli_source *source,
			   const struct mla_case *c, const char *id, struct view *view,
			   json_t *array)
{
	struct fact fact;

	if (!run->subjects.facts_named && facts_textbook_cost(c) > CHECK_CPU_BUDGET) {
		count(run, CHECK_SKIP);
		view_skip_facts(view);
	} else if (facts_textbook(c, &fact)) {
		fail_case(run, id);
	} else {
		judge_facts(run, source, id, &fact, 1, view, array);
	}
}

/* What a capture carries is judged whoever was asked for: a wrong reference is a wrong capture. */
static json_t *check_facts(struct run *run, const struct cli_source *source,
			   const struct mla_case *c, const char *id,
			   const struct check_truth *truth, struct view *view)
{
	struct fact facts[FACTS_CARRIED];
	json_t *array = json_array();
	int n;

	report_progress("%s %s", id, FACTS_NAME);
	if (run->subjects.facts && facts_weights(c))
		check_textbook(run, source, c, id, view, array);
	if (facts_carried(c, truth, facts, &n))
		fail_case(run, id);
	judge_facts(run, source, id, facts, n, view, array);
	return array;
}

static void check_loaded(struct run *run, const struct cli_source *source, const struct mla_case *c,
			 const char *id, struct view *view)
{
	const int64_t rows = run->options->rows >= 0 ? run->options->rows : check_truth_rows(c);
	struct check_truth truth = {0};

	report_progress("%s truth", id);
	if (check_truth_make(c, rows, &truth)) {
		text_print(stderr, "mla check: %s: not enough memory for the truth\n", id);
		count(run, CHECK_FAIL);
		return;
	}

	json_t *json = report_json_case(c, id);

	if (source->file)
		report_json_set(json, "file", report_json_string(source->file));
	report_json_set(json, "rows_checked",
			json_integer(truth.rows ? truth.n : case_total_q(c) * c->config.num_heads));
	report_json_set(json, "verdicts", check_subjects(run, source, c, id, &truth, view));
	report_json_set(json, "facts", check_facts(run, source, c, id, &truth, view));
	if (run->cases)
		report_json_append(run->cases, json);
	else
		json_decref(json);
	check_truth_free(&truth);
}

static void check_case(struct run *run, const struct cli_source *source, int index, const char *id,
		       struct view *view)
{
	struct mla_case c;
	mla_status status;

	report_progress("%s loading", id);
	status = cli_source_load(source, index, &c);
	if (status) {
		run->unusable = cli_source_fail(source, status);
		return;
	}
	view_case(view, &c);
	check_loaded(run, source, &c, id, view);
	case_free(&c);
}

static void check_source(struct run *run, struct cli_source *source)
{
	const enum view_style style = run->options->suite     ? VIEW_LINES
				      : run->options->verbose ? VIEW_CASES
							      : VIEW_SUMMARY;
	struct view view;
	char id[CLI_ID_SIZE];

	view_open(&view, style, &run->subjects);
	for (int i = 0; i < source->count; i++) {
		cli_source_id(source, i, id, sizeof(id));
		if (!cli_id_matches(id, run->options->pattern))
			continue;
		run->matched++;
		check_case(run, source, i, id, &view);
	}
	if (view.cases)
		view_print(&view, source);
	view_close(&view);
	cli_source_close(source);
}

/* ---- the verb -------------------------------------------------------------------------------- */

static void print_total(const struct suite_result *total)
{
	text_print(stdout, "%d passed, %d failed, %d skipped\n", total->passed, total->failed,
		   total->skipped);
}

static int exit_code(const struct suite_result *total)
{
	if (total->failed)
		return CLI_FAILED;
	return total->passed ? CLI_OK : CLI_SKIPPED;
}

static int run_suite_gpu(const struct check_options *options, const struct cli_subjects *subjects)
{
	if (gpu_missing()) {
		text_print(stdout, "SKIPPED, %s\n", gpu_missing());
		return CLI_SKIPPED;
	}

	const char **kernels = text_alloc(((size_t)subjects->count + 1) * sizeof(*kernels));
	struct suite_result result = {0};
	int n = 0;

	for (int i = 0; i < subjects->count && options->kernels; i++)
		if (!subjects->list[i].variant)
			kernels[n++] = subjects->list[i].name;
	if (options->kernels && n == 0)
		fputs("mla check: -k names no kernel: nothing for the GPU to do\n", stderr);
	else
		suite_gpu(kernels, n, options->files.values, options->files.count, &result);
	free(kernels);
	print_total(&result);
	return exit_code(&result);
}

static void check_sources(struct run *run)
{
	const struct check_options *options = run->options;
	struct cli_source source;

	for (int i = 0; i < options->files.count; i++)
		if (!cli_source_file(&source, options->files.values[i]))
			check_source(run, &source);
		else
			run->unusable = cli_fail_file("mla");
	if (options->random) {
		cli_source_random(&source, options->seed, 0, options->random);
		check_source(run, &source);
	} else if (!options->files.count && cli_random_id(options->pattern, &source)) {
		check_source(run, &source);
	}
}

#define SCHEMA "mla-check"

/* Before anything is checked. An exit code. */
static int open_json(struct run *run)
{
	const struct check_options *options = run->options;
	const struct output_plan plan = {
		.kind = OUTPUT_JSON,
		.schema = SCHEMA,
		.inputs = options->files.values,
		.num_inputs = options->files.count,
	};
	mla_status status;

	if (!options->json)
		return CLI_OK;
	status = output_open(&run->output, options->json, &plan);
	if (status)
		return cli_fail_output("mla check", status);
	run->cases = json_array();
	return CLI_OK;
}

/* An exit code. */
static int write_json(struct run *run)
{
	if (!run->cases)
		return CLI_OK;

	json_t *root = report_json_new(SCHEMA), *total = json_object();

	report_json_set(total, "passed", json_integer(run->total.passed));
	report_json_set(total, "failed", json_integer(run->total.failed));
	report_json_set(total, "skipped", json_integer(run->total.skipped));
	report_json_set(root, "total", total);
	report_json_set(root, "fixed_split", json_integer(run->options->fixed_split));
	report_json_set(root, "graph", json_boolean(run->options->graph));
	report_json_set(root, "cases", run->cases);

	const mla_status status = output_put_json(&run->output, root);

	json_decref(root);
	return status ? cli_fail_output("mla check", status) : CLI_OK;
}

static int run_checks(struct run *run)
{
	const char *pattern = run->options->pattern ? run->options->pattern : "*";
	int unwritten, code = open_json(run);

	if (code)
		return code;
	check_sources(run);
	unwritten = write_json(run);
	output_abandon(&run->output);
	code = run->unusable;
	report_absence_show(&run->absence, stdout);
	if (run->matched)
		print_total(&run->total);
	else if (!code)
		code = cli_fail("mla check", mla_fail(MLA_INVALID, "no case \"%s\"", pattern));
	if (run->total.failed)
		return CLI_FAILED;
	if (unwritten || code)
		return unwritten ? unwritten : code;
	return exit_code(&run->total);
}

/* host and smoke are the ordinary check with fixed choices. */
static void apply_suite(struct check_options *options)
{
	const bool host = !strcmp(options->suite, "host");

	if (!options->kernels && host)
		options->kernels = "cpu";
	if (!options->random)
		options->random = host ? 200 : 16;
}

static int check(struct check_options *options)
{
	const bool gpu = options->suite && !strcmp(options->suite, "gpu");
	struct run run = {.options = options};
	mla_status status;
	int code;

	if (options->suite && !gpu)
		apply_suite(options);
	status = cli_subjects_choose(options->kernels, &run.subjects);
	if (status)
		code = cli_fail("mla", status);
	else
		code = gpu ? run_suite_gpu(options, &run.subjects) : run_checks(&run);
	cli_subjects_free(&run.subjects);
	return code;
}

int cli_check(int argc, char **argv)
{
	struct check_options options = {.seed = 1, .rows = -1};
	char **words =
		text_alloc((size_t)argc * sizeof(*words)); /* as they were given: argp moves them */
	int code;

	memcpy(words, argv + 1, (size_t)(argc - 1) * sizeof(*words));
	cli_parse(&argp, argc, argv, 0, &options);
	code = options.emulate.word ? emulate_check(&options.emulate, words, !options.kernels)
				    : check(&options);
	free(words);
	cli_ints_free(&options.emulate.seeds);
	cli_strings_free(&options.files);
	return code;
}
