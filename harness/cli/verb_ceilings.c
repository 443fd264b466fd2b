/* verb_ceilings.c - mla ceilings: measures what this GPU can do at most, and keeps it for mla
 * bench.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "bench/ceilings.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "device/gpu.h"
#include "lib/error.h"
#include "report/table.h"

struct ceilings_verb {
	struct bench_stop stop;
	const char *file;
	bool show;
};

enum { OPT_FILE = 0x900, OPT_TIME, OPT_SHOW };

static const struct argp_option flags[] = {
	{"ceilings", OPT_FILE, "FILE", 0,
	 "Where to keep them (default: mla/ceilings.json in $XDG_CACHE_HOME or ~/.cache)", 0},
	{"time", OPT_TIME, "SECONDS", 0, "For each figure (default 1)", 0},
	{"show", OPT_SHOW, 0, 0,
	 "Show what the file holds, of this machine's GPU and others; measure nothing", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct ceilings_verb *verb = state->input;

	switch (key) {
	case OPT_FILE:
		verb->file = arg;
		return 0;
	case OPT_TIME:
		verb->stop.seconds = cli_positive(state, "--time", arg);
		return 0;
	case OPT_SHOW:
		verb->show = true;
		return 0;
	case ARGP_KEY_ARG:
		cli_error(state, "takes no arguments, found \"%s\"", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.doc = "Measures how fast this GPU reads memory, copies it and multiplies on tensor cores, "
	       "and keeps the figures: mla bench says how much of them a kernel reaches.\v"
	       "A kernel is bound by the read stream or by the fastest of the tensor figures. "
	       "cuBLAS is used where libcublas.so is found.\n\n"
	       "Example:\n  mla ceilings" CLI_EXIT_CODES,
};

static void show_progress(void *opaque, double share)
{
	(void)opaque;
	report_progress("measuring the ceilings: %.0f%%", 100 * share);
}

/* Signs as mla bench has them, although a ceiling is measured more strictly. */
static void print_ceilings(const struct ceilings *ceilings)
{
	static const char *const titles[] = {"ceiling", ">median", "unit", ">IQR",     ">min",
					     ">max",    ">MHz",    ">W",   ">samples", "what"};
	struct report_table *table = report_table_new(titles, 10);
	bool noisy = false, few = false;

	for (int i = 0; i < CEILING_NUM_KINDS; i++) {
		const struct ceiling *ceiling = &ceilings->of[i];
		const struct nvml_load *load = &ceiling->load;
		const struct stats *s = &ceiling->stats;

		report_cell(table, "%s", ceiling_names[i].title);
		if (s->n == 0) {
			for (int k = 0; k < 8; k++)
				report_cell(table, "-");
			report_cell(table, "%s", ceiling->why);
			continue;
		}
		report_cell(table, "%.0f", s->median);
		report_cell(table, "%s", ceiling_names[i].unit);
		report_cell(table, "%.1f%%%s", 100 * stats_spread(s),
			    stats_spread(s) < BENCH_NOISE ? "" : "!");
		report_cell(table, "%.0f", s->min);
		report_cell(table, "%.0f", s->max);
		report_cell(table, load->sm_mhz.median > 0 ? "%.0f" : "-", load->sm_mhz.median);
		report_cell(table, load->power_w.median > 0 ? "%.0f" : "-", load->power_w.median);
		report_cell(table, "%d%s", s->n, s->n < STATS_LEAST ? "?" : "");
		report_cell(table, "%s", ceiling_names[i].meaning);
		noisy |= stats_spread(s) >= BENCH_NOISE;
		few |= s->n < STATS_LEAST;
	}
	text_print(stdout, "%s, %s\n", ceilings->gpu, ceilings->date);
	report_table_print(table, stdout);
	if (noisy)
		text_print(stdout, "! noisier than %.1f%%; a longer --time may settle it\n",
			   100 * BENCH_NOISE);
	if (few)
		text_print(
			stdout,
			"? fewer than %d samples, whose median is not known in 95 of 100 cases\n",
			STATS_LEAST);
	report_table_free(table);
}

/* All that the file holds: it may be another machine's, and needs no GPU. */
static int show(const struct ceilings_verb *verb, const char *path)
{
	struct ceilings *all;
	int count;

	if (ceilings_load_all(path, &all, &count))
		return cli_fail_file("mla ceilings");
	for (int i = 0; i < count; i++) {
		if (i)
			putchar('\n');
		print_ceilings(&all[i]);
	}
	free(all);
	if (count)
		return CLI_OK;
	if (verb->file) {
		mla_fail(MLA_INVALID,
			 "%s: holds no ceilings, expected a file that mla ceilings wrote", path);
		return cli_fail_file("mla ceilings");
	}
	text_print(stdout, "SKIPPED, %s holds no ceilings: mla ceilings measures them, on a GPU\n",
		   path);
	return CLI_SKIPPED;
}

static int measure(const struct ceilings_verb *verb, struct output *output)
{
	const char *path = output->name;
	struct nvml *nvml;
	struct ceilings ceilings;
	mla_status status;
	int measured;

	if (gpu_missing()) {
		text_print(stdout, "SKIPPED, %s\n", gpu_missing());
		return CLI_SKIPPED;
	}
	nvml = nvml_open(NULL, gpu_bus_id());
	measured = ceilings_measure(&verb->stop, nvml, show_progress, &ceilings);
	nvml_close(nvml);
	report_progress("%s", "");
	print_ceilings(&ceilings);
	if (measured == 0)
		return CLI_FAILED;
	status = ceilings_save(output, &ceilings);
	if (status)
		return cli_fail_output("mla ceilings", status);
	text_print(stdout, "kept in %s\n", path);
	return CLI_OK;
}

/* A file that must not be replaced is told before anything else. */
static int open_and_measure(const struct ceilings_verb *verb, const char *path)
{
	struct output output;
	const mla_status status = ceilings_open(path, &output);
	int code;

	if (status)
		return cli_fail_output("mla ceilings", status);
	code = measure(verb, &output);
	output_abandon(&output);
	return code;
}

int cli_ceilings(int argc, char **argv)
{
	struct ceilings_verb verb = {.stop = {.noise = 0.002, .seconds = 1}};
	char *path;
	int code;

	cli_parse(&argp, argc, argv, 0, &verb);
	path = verb.file ? text_format("%s", verb.file) : ceilings_default_path();
	if (!path)
		return cli_fail("mla ceilings",
				mla_fail(MLA_INVALID, "neither XDG_CACHE_HOME nor HOME is set; "
						      "--ceilings FILE says where to keep the "
						      "figures"));
	if (verb.show) {
		code = show(&verb, path);
	} else if (gpu_missing() && !verb.file) {
		text_print(stdout, "SKIPPED, %s\n", gpu_missing());
		code = CLI_SKIPPED;
	} else {
		code = open_and_measure(&verb, path);
	}
	free(path);
	return code;
}
