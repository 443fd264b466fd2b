/* verb_bench.c - mla bench: how long implementations take that are right.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "bench/bench.h"
#include "bench/ceilings.h"
#include "case/cell.h"
#include "case/work.h"
#include "cli/bench_files.h"
#include "cli/cells.h"
#include "cli/cli.h"
#include "cli/shape.h"
#include "cli/source.h"
#include "cli/subjects.h"
#include "device/gpu.h"
#include "lib/error.h"
#include "report/json.h"
#include "report/results.h"
#include "report/table.h"
#include "report/timings.h"

struct bench_verb {
	struct cli_shape shape;
	struct bench_options options;
	const char *kernels, *pattern, *file, *ceilings;
	struct cli_cells cells;
	bool list, explain;
	bool host; /* the CPU's implementations are timed */

	/* while it runs */
	struct cli_subjects subjects;
	const char **names; /* [subjects.count] */
	struct ceilings known;
	bool ceilings_known;
	struct nvml *nvml;
	struct bench_files files;
	struct timings_matrix *matrix;
	int done, total, timed, failed;
	struct timings_marks marks;
	struct report_absence absence;
	const char *current;
};

enum {
	OPT_SAMPLES = 0x800,
	OPT_FIXED_SPLIT,
	OPT_JSON,
	OPT_CSV,
	OPT_MODE,
	OPT_CACHE,
	OPT_TIME,
	OPT_NOISE,
	OPT_CEILINGS,
	OPT_LIST,
	OPT_EXPLAIN,
};

static const struct argp_option flags[] = {
	{"kernel", 'k', "NAMES", 0,
	 "Implementations, as for mla check (default all of the modes; of cells and suites: gpu)",
	 0},
	{"case", 'c', "CASE", 0,
	 "Step/layer of the file, 001/005 (default: the first), or cells: 'b128_*'", 0},
	{"mode", OPT_MODE, "LIST", 0,
	 "graph, launch: of kernels; host: of the CPU's (default graph,host)", 0},
	{"cache", OPT_CACHE, "LIST", 0, "L2 cache: cold, hot or both: cold,hot (default cold)", 0},
	{"samples", OPT_SAMPLES, "N", 0,
	 "Exactly so many samples, at least 3, whatever noise and time", 0},
	{"noise", OPT_NOISE, "PERCENT", 0,
	 "Stop when IQR/median is below this, after 20 samples (default 0.5)", 0},
	{"time", OPT_TIME, "SECONDS", 0,
	 "Stop after this long per implementation and mode, and 6 samples (default 1)", 0},
	{"fixed-split", OPT_FIXED_SPLIT, "N", 0, "Plan with splits at keys N, 2N, ...", 0},
	{"json", OPT_JSON, "FILE", 0, "All samples and the environment as JSON", 0},
	{"csv", OPT_CSV, "FILE", 0, "Medians and quartiles as CSV", 0},
	{"ceilings", OPT_CEILINGS, "FILE", 0,
	 "What mla ceilings measured (default: its file in the user's cache)", 0},
	{"list", OPT_LIST, 0, 0, "Show the cells and their work, run nothing", 0},
	{"explain", OPT_EXPLAIN, 0, 0, "Say what the columns mean", 0},
	{0},
};

/* ---- arguments ------------------------------------------------------------------------------- */

/* A list of words that may be there or not: flags[i] is names[i]. */
static void parse_words(struct argp_state *state, const char *option, const char *arg,
			const char *const *names, bool *const *flags, int count)
{
	struct cli_strings words = {0};

	for (int i = 0; i < count; i++)
		*flags[i] = false;
	cli_strings_split(&words, arg);
	for (int i = 0; i < words.count; i++)
		*flags[cli_choice(state, option, words.values[i], names, count)] = true;
	cli_strings_free(&words);
}

static bool parse_measuring(int key, const char *arg, struct bench_verb *bench,
			    struct argp_state *state)
{
	static const char *const caches[] = {"cold", "hot"};
	struct bench_options *options = &bench->options;
	bool *const modes[BENCH_NUM_MODES] = {&options->graph, &options->launch, &bench->host};
	bool *const states[] = {&options->cold, &options->hot};

	switch (key) {
	case OPT_MODE:
		parse_words(state, "--mode", arg, bench_mode_names, modes, BENCH_NUM_MODES);
		return true;
	case OPT_CACHE:
		parse_words(state, "--cache", arg, caches, states, 2);
		return true;
	case OPT_SAMPLES:
		options->stop.samples = (int)cli_integer(state, "--samples", arg, 3, 100000);
		return true;
	case OPT_NOISE:
		options->stop.noise = cli_positive(state, "--noise", arg) / 100;
		return true;
	case OPT_TIME:
		options->stop.seconds = cli_positive(state, "--time", arg);
		return true;
	case OPT_FIXED_SPLIT:
		options->fixed_split =
			(int32_t)cli_integer(state, "--fixed-split", arg, 0, 1 << 30);
		return true;
	}
	return false;
}

static bool parse_choice(int key, const char *arg, struct bench_verb *bench)
{
	switch (key) {
	case 'k':
		bench->kernels = arg;
		return true;
	case 'c':
		bench->pattern = arg;
		return true;
	case OPT_JSON:
		bench->files.json = arg;
		return true;
	case OPT_CSV:
		bench->files.csv = arg;
		return true;
	case OPT_CEILINGS:
		bench->ceilings = arg;
		return true;
	case OPT_LIST:
		bench->list = true;
		return true;
	case OPT_EXPLAIN:
		bench->explain = true;
		return true;
	}
	return false;
}

static void check_arguments(const struct bench_verb *bench, struct argp_state *state)
{
	const bool given[] = {bench->file, bench->shape.given, bench->cells.suite,
			      bench->cells.names.count > 0};
	const int sources = given[0] + given[1] + given[2] + given[3];

	if (sources != 1 && !(sources == 0 && bench->explain))
		cli_error(state, "a FILE or the flags of a shape are needed, or --suite, or "
				 "--cells: exactly one of them");
	if (bench->list && !cli_cells_given(&bench->cells))
		cli_error(state, "--list is for --suite and --cells");
	if (bench->list && (bench->files.json || bench->files.csv))
		cli_error(state, "--list runs nothing: there is nothing for --json and --csv");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct bench_verb *bench = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &bench->shape;
		state->child_inputs[1] = &bench->cells;
		return 0;
	case ARGP_KEY_ARG:
		cli_one_file(state, &bench->file, arg);
		return 0;
	case ARGP_KEY_END:
		check_arguments(bench, state);
		return 0;
	}
	if (parse_measuring(key, arg, bench, state) || parse_choice(key, arg, bench))
		return 0;
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {
	{&cli_shape_argp, 0, NULL, 0}, {&cli_cells_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.children = children,
	.args_doc = "FILE\n--suite NAME\n--cells LIST\n[SHAPE...]",
	.doc = "Times implementations on cases of a file, on cells (N(0,1) values, random page "
	       "order) or on a generated shape. What is wrong is not timed.\v"
	       "Kernels of a case are timed in turns, and so are the CPU's implementations, whose "
	       "samples are a run each. --explain says what the columns mean; the share of the "
	       "bound is known after mla ceilings.\n\n"
	       "Example:\n  mla bench --suite peers -k gpu --json peers.json\n"
	       "  mla bench --cells b4_4K_h16,b1_128K_h128 -k auto --cache cold,hot\n"
	       "  mla bench -c 001/005 data/captures/tiny_decode.h5" CLI_EXIT_CODES,
};

/* ---- progress -------------------------------------------------------------------------------- */

static void show_progress(void *opaque, const char *what, double share)
{
	enum { WIDTH = 24 };
	const struct bench_verb *bench = opaque;
	const double all = bench->total > 0 ? (bench->done + 0.9 * share) / bench->total : 0;
	char bar[WIDTH + 1];

	for (int i = 0; i < WIDTH; i++)
		bar[i] = i < all * WIDTH ? '#' : '.';
	bar[WIDTH] = '\0';
	report_progress("[%s] %d/%d %s: %s %.0f%%", bar, bench->done + 1, bench->total,
			bench->current, what, 100 * share);
}

/* ---- a case ---------------------------------------------------------------------------------- */

static const struct ceilings *known_ceilings(const struct bench_verb *bench)
{
	return bench->ceilings_known ? &bench->known : NULL;
}

/* Where a case's values are. */
enum values { VALUES_OF_CASE, VALUES_OF_CELL_HOST, VALUES_OF_CELL_GPU };

/* Too long for a CPU unless it is asked for by name. */
static bool too_long(const struct cli_subject *subject, const struct case_work *work,
		     struct bench_result *result)
{
	char why[160];

	if (subject->named || work->multiply_adds <= CHECK_CPU_BUDGET)
		return false;
	snprintf(why, sizeof(why), "%.0e multiply-adds take a CPU long; -k %s runs it all the same",
		 work->multiply_adds, subject->name);
	bench_result_end(result, MLA_REFUSED, why);
	return true;
}

/* Will the CPU's implementation be timed on a case? truth NULL: its values are not on the host. */
static bool admit_variant(const struct bench_verb *bench, const struct cli_subject *subject,
			  const struct timings_shown *shown, const struct check_truth *truth,
			  struct bench_result *result)
{
	if (!bench->host) {
		bench_result_end(result, MLA_REFUSED,
				 "--mode lacks host, the only one of the CPU's implementations");
		return false;
	}
	if (!truth) {
		bench_result_end(result, MLA_REFUSED,
				 "the values of this cell are on the GPU alone");
		return false;
	}
	return !too_long(subject, &shown->work, result);
}

static void time_variants(struct bench_verb *bench, const struct timings_shown *shown,
			  const struct check_truth *truth, struct bench_result *results)
{
	const size_t count = (size_t)bench->subjects.count;
	const struct variant **chosen = text_alloc(count * sizeof(*chosen));
	struct bench_result *found = text_alloc(count * sizeof(*found));
	int *owner = text_alloc(count * sizeof(*owner)), n = 0;

	for (int i = 0; i < bench->subjects.count; i++) {
		const struct cli_subject *subject = &bench->subjects.list[i];

		if (!subject->variant || !admit_variant(bench, subject, shown, truth, &results[i]))
			continue;
		owner[n] = i;
		chosen[n++] = subject->variant;
	}
	if (n > 0)
		bench_variants(shown->c, truth, chosen, n, &bench->options, found);
	for (int i = 0; i < n; i++)
		results[owner[i]] = found[i];
	free(chosen);
	free(found);
	free(owner);
}

static mla_status open_problem(const struct mla_case *c, enum values values, uint64_t seed,
			       const struct check_truth *truth, struct bench_problem *problem)
{
	return values == VALUES_OF_CELL_GPU ? bench_problem_fill(c, seed, problem)
					    : bench_problem_upload(c, truth, problem);
}

/* results[n] of the kernels among the subjects. */
static void time_kernels(struct bench_verb *bench, const struct mla_case *c, enum values values,
			 const struct check_truth *truth, const char *const *kernels, int n,
			 struct bench_result *results)
{
	struct bench_problem problem;
	const char *missing = gpu_missing();
	mla_status status = missing ? MLA_NO_CUDA : MLA_OK;

	if (!status && !bench->options.graph && !bench->options.launch) {
		status = MLA_REFUSED;
		missing = "--mode lacks graph and launch, the only ones of kernels";
	}
	if (n > 0 && !status) {
		show_progress(bench, "inputs", 0);
		status = open_problem(c, values, bench->cells.seed, truth, &problem);
		missing = status ? mla_last_error() : NULL;
	}
	for (int i = 0; i < n && status; i++)
		bench_result_end(&results[i], status, missing);
	if (n > 0 && !status) {
		bench_kernels(&problem, kernels, n, &bench->options, results);
		bench_problem_free(&problem);
	}
}

/* Kernels among themselves, because they take turns. */
static void time_all(struct bench_verb *bench, const struct timings_shown *shown,
		     enum values values, const struct check_truth *truth,
		     struct bench_result *results)
{
	const int count = bench->subjects.count;
	const char **kernels = text_alloc((size_t)count * sizeof(*kernels));
	struct bench_result *found = text_alloc((size_t)count * sizeof(*found));
	int n = 0, k = 0;

	for (int i = 0; i < count; i++)
		if (!bench->subjects.list[i].variant)
			kernels[n++] = bench->subjects.list[i].name;
	time_kernels(bench, shown->c, values, truth, kernels, n, found);
	for (int i = 0; i < count; i++)
		if (!bench->subjects.list[i].variant)
			results[i] = found[k++];
	time_variants(bench, shown, values == VALUES_OF_CELL_GPU ? NULL : truth, results);
	free(kernels);
	free(found);
}

static void print_head(const struct bench_verb *bench, const struct timings_shown *shown)
{
	char text[256];

	report_progress("%s", "");
	case_describe(shown->c, text, sizeof(text));
	if (bench->done)
		putchar('\n');
	text_print(stdout, "%s: %s\n", shown->name, text);
	text_print(stdout, "%s%s%.4g MB and %.4g GFLOP per call", gpu_missing() ? "" : gpu_name(),
		   gpu_missing() ? "" : "; ", shown->work.bytes * 1e-6, shown->work.flop * 1e-9);
	if (shown->bound.us > 0)
		text_print(stdout, ", at least %.4g us", shown->bound.us);
	putchar('\n');
}

static int add_results(struct bench_verb *bench, const struct timings_shown *shown)
{
	timings_matrix_add(bench->matrix, shown);
	return bench_files_add(&bench->files, shown);
}

/* What is known of a case before anything runs. */
static mla_status prepare(const struct bench_verb *bench, const struct mla_case *c,
			  const char *name, enum values values, struct timings_shown *shown,
			  struct check_truth *truth)
{
	const uint64_t *seed = values == VALUES_OF_CASE ? NULL : &bench->cells.seed;
	mla_status status = timings_begin(c, name, seed, known_ceilings(bench), shown);

	if (!status && values != VALUES_OF_CELL_GPU &&
	    check_truth_make(c, check_truth_rows(c), truth))
		status = mla_fail(MLA_NO_MEMORY, "not enough memory for the truth");
	return status;
}

static void count_results(struct bench_verb *bench, const struct bench_result *results, int count)
{
	for (int i = 0; i < count; i++) {
		bench->timed += results[i].num_timings > 0;
		bench->failed += results[i].verdict.outcome == CHECK_FAIL;
		report_absence_count(&bench->absence, &results[i].verdict);
		timings_marks_count(&bench->marks, &results[i]);
	}
	bench->done++;
}

static int time_case(struct bench_verb *bench, const struct mla_case *c, const char *name,
		     enum values values)
{
	const int count = bench->subjects.count;
	struct bench_result *results = text_alloc((size_t)count * sizeof(*results));
	struct check_truth truth = {0};
	struct timings_shown shown;
	mla_status status;
	int code;

	bench->current = name;
	show_progress(bench, "truth", 0);
	status = prepare(bench, c, name, values, &shown, &truth);
	if (status) {
		free(results);
		return cli_fail("mla bench", status);
	}
	shown.implementations = bench->names;
	shown.results = results;
	shown.count = count;
	time_all(bench, &shown, values, &truth, results);
	check_truth_free(&truth);
	print_head(bench, &shown);
	timings_show(&shown, stdout);
	fflush(stdout);
	code = add_results(bench, &shown);
	count_results(bench, results, count);
	for (int i = 0; i < count; i++)
		bench_result_free(&results[i]);
	free(results);
	return code;
}

/* ---- cases of a file, or a shape ------------------------------------------------------------- */

static mla_status open_source(const struct bench_verb *bench, struct cli_source *source)
{
	if (bench->file)
		return cli_source_file(source, bench->file);
	cli_source_shape(source, &bench->shape);
	return MLA_OK;
}

/* Without a pattern the first case is enough. */
static bool is_chosen(const struct bench_verb *bench, const char *id, int index)
{
	return bench->pattern ? cli_id_matches(id, bench->pattern) : index == 0;
}

static int time_source_case(struct bench_verb *bench, const struct cli_source *source, int index)
{
	struct mla_case c;
	const mla_status status = cli_source_load(source, index, &c);
	char *name;
	int code;

	if (status)
		return cli_source_fail(source, status);
	name = cli_source_name(source, index);
	code = time_case(bench, &c, name, VALUES_OF_CASE);
	free(name);
	case_free(&c);
	return code;
}

static int time_source(struct bench_verb *bench)
{
	struct cli_source source;
	char id[CLI_ID_SIZE];
	int code = CLI_OK;

	if (open_source(bench, &source))
		return cli_fail_file("mla");
	for (int i = 0; i < source.count; i++) {
		cli_source_id(&source, i, id, sizeof(id));
		bench->total += is_chosen(bench, id, i);
	}
	if (bench->total == 0)
		code = cli_source_lacks(&source, bench->pattern);
	for (int i = 0; i < source.count && !code; i++) {
		cli_source_id(&source, i, id, sizeof(id));
		if (is_chosen(bench, id, i))
			code = time_source_case(bench, &source, i);
	}
	cli_source_close(&source);
	return code;
}

/* ---- cells ----------------------------------------------------------------------------------- */

/* Cells up to this size are made on the host, too, and judged as a file's case is. */
#define HOST_POOL_BYTES (64 << 20)

static bool fits_host(const struct mla_case *c)
{
	return cell_pool_bytes(c) <= HOST_POOL_BYTES && case_multiply_adds(c) <= CHECK_CPU_BUDGET;
}

static int time_cell(struct bench_verb *bench, const struct cell *cell)
{
	struct mla_case c;
	mla_status status = cell_case(cell, bench->cells.seed, &c);
	bool on_host;
	int code;

	if (status)
		return cli_fail("mla bench", status);
	on_host = fits_host(&c);
	if (on_host)
		status = cell_fill(&c, bench->cells.seed);
	if (status)
		code = cli_fail("mla bench", status);
	else
		code = time_case(bench, &c, cell->name,
				 on_host ? VALUES_OF_CELL_HOST : VALUES_OF_CELL_GPU);
	case_free(&c);
	return code;
}

static int list_cell(const struct bench_verb *bench, const struct cell *cell,
		     struct report_table *table)
{
	struct mla_case c;
	struct timings_shown shown;
	mla_status status = cell_case(cell, bench->cells.seed, &c);

	if (!status)
		status = timings_begin(&c, cell->name, &bench->cells.seed, known_ceilings(bench),
				       &shown);
	if (!status)
		timings_list_add(table, &shown);
	case_free(&c);
	return status ? cli_fail("mla bench", status) : CLI_OK;
}

static int go_to_cell(struct bench_verb *bench, const char *name, struct report_table *table)
{
	struct cell cell;
	const mla_status status = cell_parse(name, &cell);

	if (status)
		return cli_fail("mla bench", status);
	return bench->list ? list_cell(bench, &cell, table) : time_cell(bench, &cell);
}

static int go_through_cells(struct bench_verb *bench)
{
	const struct cell_suite *suite = bench->cells.suite;
	const char *const *names = suite ? suite->cells : bench->cells.names.values;
	const int count = suite ? suite->num_cells : bench->cells.names.count;
	struct report_table *table = timings_list_new();
	int code = CLI_OK;

	for (int i = 0; i < count; i++)
		bench->total += cli_cells_match(names[i], bench->pattern);
	for (int i = 0; i < count && !code; i++)
		if (cli_cells_match(names[i], bench->pattern))
			code = go_to_cell(bench, names[i], table);
	if (bench->total == 0)
		code = cli_fail("mla", mla_fail(MLA_INVALID, "no cell \"%s\"", bench->pattern));
	else if (bench->list)
		report_table_print(table, stdout);
	report_table_free(table);
	return code;
}

/* ---- the verb -------------------------------------------------------------------------------- */

/* Before anything is timed. */
static int open_outputs(struct bench_verb *bench, int argc, char **argv)
{
	const int count = bench->subjects.count;
	const int code = bench_files_open(&bench->files, bench->file, bench->ceilings);

	if (code)
		return code;
	bench->names = text_alloc((size_t)count * sizeof(*bench->names));
	for (int i = 0; i < count; i++)
		bench->names[i] = bench->subjects.list[i].name;
	bench->matrix = timings_matrix_new(bench->names, count);
	bench_files_begin(&bench->files,
			  results_new(argc, argv, known_ceilings(bench), bench->nvml));
	return CLI_OK;
}

static void print_foot(const struct bench_verb *bench)
{
	timings_matrix_print(bench->matrix, stdout);
	if (bench->timed > 0 && !gpu_missing() && !bench->ceilings_known)
		puts("\nbound unknown: run mla ceilings first");
	timings_marks_explain(&bench->marks, bench->options.stop.noise, stdout);
	timings_show_clocks(&bench->marks, nvml_max_sm_mhz(bench->nvml), stdout);
	report_absence_show(&bench->absence, stdout);
}

/* Files are whole after each case; where there was none, an earlier CSV stays. */
static void close_outputs(struct bench_verb *bench)
{
	bench_files_close(&bench->files);
	timings_matrix_free(bench->matrix);
	free(bench->names);
}

static int run(struct bench_verb *bench, int argc, char **argv)
{
	const bool cells = cli_cells_given(&bench->cells);
	const bool on_gpu = bench->options.graph || bench->options.launch;
	const char *all = !on_gpu ? "cpu" : cells || !bench->host ? "gpu" : "all";
	const char *kernels = bench->kernels ? bench->kernels : all;
	mla_status status;
	int code = CLI_OK;

	/* without a GPU those of the file that was named, for the bounds of --list */
	if (gpu_missing() && bench->ceilings)
		status = ceilings_only(bench->ceilings, &bench->known, &bench->ceilings_known);
	else
		status = ceilings_find(bench->ceilings, gpu_missing() ? NULL : gpu_name(),
				       &bench->known, &bench->ceilings_known);
	if (status)
		return cli_fail_file("mla bench");
	status = cli_subjects_choose(kernels, &bench->subjects);
	if (status)
		return cli_fail("mla", status);
	bench->nvml = gpu_missing() ? NULL : nvml_open(NULL, gpu_bus_id());
	bench->options.nvml = bench->nvml;
	code = open_outputs(bench, argc, argv);
	if (!code)
		code = cells ? go_through_cells(bench) : time_source(bench);
	if (bench->done) {
		const int unwritten = bench_files_end(&bench->files);

		code = code ? code : unwritten;
	}
	if (!code && !bench->list)
		print_foot(bench);
	close_outputs(bench);
	nvml_close(bench->nvml);
	cli_subjects_free(&bench->subjects);
	if (code)
		return code;
	if (bench->failed)
		return CLI_FAILED;
	return bench->timed || bench->list ? CLI_OK : CLI_SKIPPED;
}

int cli_bench(int argc, char **argv)
{
	struct bench_verb bench = {
		.host = true,
		.options = {.graph = true,
			    .cold = true,
			    .stop = {.noise = BENCH_NOISE, .seconds = 1},
			    .progress = show_progress},
	};
	int code = CLI_OK;

	bench.options.opaque = &bench;
	cli_shape_init(&bench.shape);
	cli_cells_init(&bench.cells);
	cli_parse(&argp, argc, argv, 0, &bench);
	if (bench.explain)
		timings_explain(stdout);
	if (bench.file || bench.shape.given || cli_cells_given(&bench.cells))
		code = run(&bench, argc, argv);
	cli_cells_free(&bench.cells);
	cli_shape_free(&bench.shape);
	return code;
}
