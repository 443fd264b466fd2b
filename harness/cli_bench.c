/* cli_bench.c - mla bench: how long implementations take that are right.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "gpu.h"
#include "report.h"

struct bench_verb {
	struct cli_shape shape;
	struct bench_options options;
	const char *kernels, *pattern, *file, *json;
};

enum { OPT_SAMPLES = 0x800, OPT_FIXED_SPLIT, OPT_JSON };

static const struct argp_option flags[] = {
	{"kernel", 'k', "NAMES", 0, "Implementations, as for mla check (default all)", 0},
	{"case", 'c', "CASE", 0, "Step/layer of the file, 001/005 (default: the first)", 0},
	{"samples", OPT_SAMPLES, "N", 0, "Timed calls of a kernel, at least 3 (default 100)", 0},
	{"fixed-split", OPT_FIXED_SPLIT, "N", 0, "Plan with splits at keys N, 2N, ...", 0},
	{"json", OPT_JSON, "FILE", 0, "All samples as JSON", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct bench_verb *bench = state->input;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &bench->shape;
		return 0;
	case 'k':
		bench->kernels = arg;
		return 0;
	case 'c':
		bench->pattern = arg;
		return 0;
	case OPT_SAMPLES:
		bench->options.samples = (int)cli_integer(state, "--samples", arg, 3, 100000);
		return 0;
	case OPT_FIXED_SPLIT:
		bench->options.fixed_split =
			(int32_t)cli_integer(state, "--fixed-split", arg, 0, 1 << 30);
		return 0;
	case OPT_JSON:
		bench->json = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (bench->file)
			argp_error(state, "one FILE is enough, found \"%s\" too", arg);
		bench->file = arg;
		return 0;
	case ARGP_KEY_END:
		if (!bench->file == !bench->shape.given)
			argp_error(state, "a FILE or the flags of a shape are needed, not both");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {{&cli_shape_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.children = children,
	.args_doc = "[FILE]",
	.doc = "Times implementations on one case, after checking that they are right.\v"
	       "Kernels: inputs rotate so that the L2 cache is cold, calls are queued back to "
	       "back, "
	       "time is the GPU's. GB/s and TFLOP/s count what the problem needs, not what the "
	       "implementation does. IQR is the distance of the quartiles over the median.\n\n"
	       "Example:\n  mla bench -k gpu --batch 128 --kv-len 8192 --json "
	       "times.json" CLI_EXIT_CODES,
};

static int open_case(const struct bench_verb *bench, struct mla_case *c, char *id, size_t size)
{
	struct cli_source source;
	*c = (struct mla_case){0};
	if (!bench->file)
		cli_source_shape(&source, &bench->shape);
	else if (cli_source_file(&source, bench->file) != 0)
		return CLI_BAD_FILE;
	const int code = cli_source_first(&source, bench->pattern, c, id, size);
	cli_source_close(&source);
	return code;
}

static const char *const titles[] = {"name",  "check",    ">median", ">IQR",     ">min",
				     ">GB/s", ">TFLOP/s", ">plan",   ">samples", "L2"};

static void add_row(struct report_table *table, const struct cli_subject *subject,
		    const struct bench_result *result, const struct bench_work *work)
{
	const bool timed = result->verdict.outcome == CHECK_PASS;
	const struct stats *time = &result->time;
	char text[32];
	report_cell(table, "%s", subject->name);
	report_cell(table, "%s", report_outcome_name(result->verdict.outcome));
	if (!timed) {
		for (int i = 2; i < (int)(sizeof(titles) / sizeof(titles[0])); i++)
			report_cell(table, "-");
		report_note(table, "%s", result->verdict.why);
		return;
	}
	report_cell(table, "%s", report_time(time->median, text, sizeof(text)));
	report_cell(table, "%.1f%%", 100 * stats_spread(time));
	report_cell(table, "%s", report_time(time->min, text, sizeof(text)));
	report_cell(table, "%.3g", work->bytes / time->median * 1e-3);
	report_cell(table, "%.3g", work->flop / time->median * 1e-6);
	report_cell(table, "%s",
		    result->plan.n ? report_time(result->plan.median, text, sizeof(text)) : "-");
	report_cell(table, "%d", time->n);
	report_cell(table, "%s", result->plan.n == 0 ? "-" : result->cold ? "cold" : "not cold");
}

static json_t *result_json(const struct cli_subject *subject, const struct bench_result *result)
{
	json_t *json = json_object(), *samples = json_array();
	report_json_set(json, "verdict", report_json_verdict(subject->name, &result->verdict));
	report_json_set(json, "name", json_string(subject->name));
	if (result->verdict.outcome == CHECK_PASS) {
		report_json_set(json, "microseconds", report_json_stats(&result->time));
		for (int i = 0; i < result->time.n; i++)
			report_json_append(samples, report_json_number(result->samples[i]));
	}
	report_json_set(json, "samples", samples);
	if (result->plan.n > 0) {
		report_json_set(json, "plan_microseconds", report_json_stats(&result->plan));
		report_json_set(json, "copies", json_integer(result->copies));
		report_json_set(json, "cold", json_boolean(result->cold));
	}
	return json;
}

/* Too long for a CPU unless it is asked for by name. */
static bool too_long(const struct cli_subject *subject, const struct bench_work *work,
		     struct bench_result *result)
{
	if (!subject->variant || subject->named || work->multiply_adds <= CLI_CPU_BUDGET)
		return false;
	*result = (struct bench_result){.verdict.outcome = CHECK_SKIP};
	snprintf(result->verdict.why, sizeof(result->verdict.why),
		 "%.0e multiply-adds take a CPU long; -k %s runs it all the same",
		 work->multiply_adds, subject->name);
	return true;
}

struct totals {
	int timed, failed;
};

static json_t *time_all(const struct bench_verb *bench, const struct mla_case *c,
			const struct check_truth *truth, const struct cli_subjects *subjects,
			const struct bench_work *work, struct totals *totals)
{
	struct report_table *table =
		report_table_new(titles, (int)(sizeof(titles) / sizeof(titles[0])));
	json_t *results = json_array();
	for (int i = 0; i < subjects->count; i++) {
		const struct cli_subject *subject = &subjects->list[i];
		struct bench_result result;
		report_progress("timing %s", subject->name);
		if (!too_long(subject, work, &result)) {
			if (subject->variant)
				bench_variant(c, truth, subject->variant, &bench->options, &result);
			else
				bench_kernel(c, truth, subject->name, &bench->options, &result);
		}
		add_row(table, subject, &result, work);
		report_json_append(results, result_json(subject, &result));
		totals->timed += result.verdict.outcome == CHECK_PASS;
		totals->failed += result.verdict.outcome == CHECK_FAIL;
		bench_result_free(&result);
	}
	report_progress("%s", "");
	report_table_print(table, stdout);
	report_table_free(table);
	return results;
}

static int write_json(const struct bench_verb *bench, const struct mla_case *c, const char *id,
		      const struct bench_work *work, json_t *results)
{
	json_t *root = report_json_new("mla-bench"), *json = report_json_case(c, id);
	report_json_set(json, "bytes", report_json_number(work->bytes));
	report_json_set(json, "flop", report_json_number(work->flop));
	if (bench->file)
		report_json_set(json, "file", report_json_string(bench->file));
	report_json_set(json, "results", results);
	json_t *cases = json_array();
	report_json_append(cases, json);
	report_json_set(root, "cases", cases);
	report_json_set(root, "fixed_split", json_integer(bench->options.fixed_split));
	const int failed = bench->json ? report_json_write(root, bench->json) : 0;
	json_decref(root);
	return failed;
}

static int bench_case(const struct bench_verb *bench, const struct mla_case *c, const char *id,
		      const struct cli_subjects *subjects)
{
	struct check_truth truth = {0};
	struct bench_work work;
	struct totals totals = {0};
	char text[256];
	report_progress("%s truth", id);
	if (bench_work_of(c, &work) != 0 || check_truth_make(c, cli_truth_rows(c), &truth) != 0) {
		fprintf(stderr, "mla bench: not enough memory for the truth\n");
		return CLI_FAILED;
	}
	cli_describe(c, text, sizeof(text));
	report_progress("%s", "");
	printf("%s %s: %s\n", bench->file ? bench->file : "generated", id, text);
	printf("%s; %.4g MB and %.4g GFLOP per call\n", gpu_missing() ? gpu_missing() : gpu_name(),
	       work.bytes * 1e-6, work.flop * 1e-9);
	json_t *results = time_all(bench, c, &truth, subjects, &work, &totals);
	check_truth_free(&truth);
	if (write_json(bench, c, id, &work, results) != 0)
		return CLI_BAD_FILE;
	if (totals.failed)
		return CLI_FAILED;
	return totals.timed ? CLI_OK : CLI_SKIPPED;
}

int cli_bench(int argc, char **argv)
{
	struct bench_verb bench = {.options = {.samples = 100}};
	struct cli_subjects subjects;
	struct mla_case c = {0};
	char id[CLI_ID_SIZE];
	int code = CLI_USAGE;
	cli_shape_init(&bench.shape);
	argp_parse(&argp, argc, argv, 0, NULL, &bench);
	if (cli_subjects_choose(bench.kernels, &subjects) == 0) {
		code = open_case(&bench, &c, id, sizeof(id));
		if (code == CLI_OK)
			code = bench_case(&bench, &c, id, &subjects);
		cli_subjects_free(&subjects);
	}
	case_free(&c);
	cli_shape_free(&bench.shape);
	return code;
}
