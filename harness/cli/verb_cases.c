/* verb_cases.c - mla cases: what the cells of the suites, the cases of captures and those of a
 * result file cost, and how fast a GPU can do them at best. What other programs are to know of
 * cells, work, bounds and tolerances, they ask here.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "bench/ceilings.h"
#include "capture/capture.h"
#include "cli/cells.h"
#include "cli/cli.h"
#include "cli/source.h"
#include "device/gpu.h"
#include "lib/error.h"
#include "report/compare.h"
#include "report/json.h"
#include "report/results.h"

struct cases_verb {
	struct cli_cells cells;
	struct cli_strings files;
	const char *pattern, *ceilings, *gpu;
	bool json;

	/* while it runs */
	struct ceilings known;
	bool ceilings_known;
	struct report_table *table;
	json_t *list;
	int count;
};

enum { OPT_CEILINGS = 0xd00, OPT_GPU, OPT_JSON };

static const struct argp_option flags[] = {
	{"case", 'c', "CASE", 0, "Step/layer, 001/005, or names: 'b128_*' (default all)", 0},
	{"ceilings", OPT_CEILINGS, "FILE", 0,
	 "What mla ceilings measured (default: its file in the user's cache; of a RESULT.json: "
	 "its own)",
	 0},
	{"gpu", OPT_GPU, "NAME", 0, "Which GPU's ceilings (default: that of this machine)", 0},
	{"json", OPT_JSON, 0, 0, "JSON instead of a table, with lengths and tolerances", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct cases_verb *verb = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &verb->cells;
		return 0;
	case 'c':
		verb->pattern = arg;
		return 0;
	case OPT_CEILINGS:
		verb->ceilings = arg;
		return 0;
	case OPT_GPU:
		verb->gpu = arg;
		return 0;
	case OPT_JSON:
		verb->json = true;
		return 0;
	case ARGP_KEY_ARG:
		cli_strings_add(&verb->files, arg);
		return 0;
	case ARGP_KEY_END:
		if (!!verb->cells.suite + (verb->cells.names.count > 0) + (verb->files.count > 0) >
		    1)
			cli_error(state, "FILEs, --suite and --cells exclude each other");
		if (verb->ceilings && !verb->gpu && gpu_missing())
			cli_error(state,
				  "--ceilings: this machine has no GPU to look for in %s; "
				  "--gpu NAME says which",
				  verb->ceilings);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {{&cli_cells_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.children = children,
	.args_doc = "\nFILE.h5...\nRESULT.json",
	.doc = "Says what cases cost: the cells of every suite, of one, or of a list; the cases of "
	       "captures; those of a result file. Work is what the problem needs at least, bytes "
	       "moved once and visible pairs; the bound is the least time that measured ceilings "
	       "allow.\v"
	       "--json gives the lengths as drawn as well, the ceilings used, and the tolerances "
	       "of "
	       "mla check.\n\n"
	       "Example:\n  mla cases --suite peers\n"
	       "  mla cases --json --cells b128_4Kv_h128 --gpu 'NVIDIA H200'\n"
	       "  mla cases data/captures/*.h5" CLI_EXIT_CODES,
};

/* ---- a case ---------------------------------------------------------------------------------- */

static const struct ceilings *known_ceilings(const struct cases_verb *verb)
{
	return verb->ceilings_known ? &verb->known : NULL;
}

static json_t *cell_json(const struct cell *cell)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:b}", "batch_size", (int)cell->batch_size,
			 "kv_len", (int)cell->kv_len, "num_heads", (int)cell->num_heads, "qo_len",
			 (int)cell->qo_len, "page_size", (int)cell->page_size, "varied",
			 (int)cell->varied);
}

/* json: the case as result files have it. suite and cell: where it comes from, NULL: from no suite,
 * it is no cell. */
static void add(struct cases_verb *verb, const struct timings_shown *shown, json_t *json,
		const char *suite, const struct cell *cell)
{
	report_json_set(json, "multiply_adds", report_json_number(shown->work.multiply_adds));
	report_json_set(json, "suite", suite ? json_string(suite) : json_null());
	report_json_set(json, "cell", cell ? cell_json(cell) : json_null());
	report_json_append(verb->list, json);
	timings_list_add(verb->table, shown);
	verb->count++;
}

static int show_cell(struct cases_verb *verb, const char *suite, const char *name)
{
	struct mla_case c = {0};
	struct timings_shown shown;
	struct cell cell;
	mla_status status = cell_parse(name, &cell);

	if (!status)
		status = cell_case(&cell, verb->cells.seed, &c);
	if (!status)
		status = timings_begin(&c, cell.name, &verb->cells.seed, known_ceilings(verb),
				       &shown);
	if (!status)
		add(verb, &shown, results_case(&shown), suite, &cell);
	case_free(&c);
	return status ? cli_fail("mla cases", status) : CLI_OK;
}

static int show_names(struct cases_verb *verb, const char *suite, const char *const *names,
		      int count)
{
	int code = CLI_OK;

	for (int i = 0; i < count && !code; i++)
		if (cli_cells_match(names[i], verb->pattern))
			code = show_cell(verb, suite, names[i]);
	return code;
}

/* Of all suites where nothing else was asked for. */
static int show_cells(struct cases_verb *verb)
{
	const struct cell_suite *only = verb->cells.suite;
	int code = CLI_OK;

	if (verb->cells.names.count)
		return show_names(verb, NULL, verb->cells.names.values, verb->cells.names.count);
	for (int i = 0; i < cell_num_suites && !code; i++)
		if (!only || only == &cell_suites[i])
			code = show_names(verb, cell_suites[i].name, cell_suites[i].cells,
					  cell_suites[i].num_cells);
	return code;
}

/* ---- cases of captures ----------------------------------------------------------------------- */

static int show_captured(struct cases_verb *verb, const struct cli_source *source, int index)
{
	struct mla_case c;
	struct timings_shown shown;
	mla_status status = cli_source_load(source, index, &c);
	char *name;

	if (status)
		return cli_source_fail(source, status);
	name = cli_source_name(source, index);
	status = timings_begin(&c, name, NULL, known_ceilings(verb), &shown);
	if (!status)
		add(verb, &shown, results_case(&shown), NULL, NULL);
	free(name);
	case_free(&c);
	return status ? cli_fail("mla cases", status) : CLI_OK;
}

static int show_capture(struct cases_verb *verb, const char *file)
{
	struct cli_source source;
	char id[CLI_ID_SIZE];
	int code = CLI_OK;

	if (cli_source_file(&source, file))
		return cli_fail_file("mla cases");
	for (int i = 0; i < source.count && !code; i++) {
		cli_source_id(&source, i, id, sizeof(id));
		if (cli_id_matches(id, verb->pattern))
			code = show_captured(verb, &source, i);
	}
	cli_source_close(&source);
	return code;
}

/* ---- cases of a result file ------------------------------------------------------------------ */

static int show_results(struct cases_verb *verb, const char *path)
{
	struct compare_file file = {0};

	if (compare_open(path, &file))
		return cli_fail_file("mla cases");
	if (!verb->ceilings && !verb->gpu)
		verb->ceilings_known = results_read_ceilings(file.root, &verb->known);

	const size_t count = json_array_size(json_object_get(file.root, "measurements"));

	for (size_t i = 0; i < count; i++) {
		struct timings_shown shown;
		json_t *json = results_read_case(file.root, i, known_ceilings(verb), &shown);

		if (json && cli_cells_match(shown.name, verb->pattern))
			add(verb, &shown, json, NULL, NULL);
		else
			json_decref(json);
	}
	compare_close(&file);
	return CLI_OK;
}

static int show_files(struct cases_verb *verb)
{
	int code = CLI_OK;

	if (verb->files.count == 1 && !capture_is_hdf5(verb->files.values[0]))
		return show_results(verb, verb->files.values[0]);
	for (int i = 0; i < verb->files.count && !code; i++)
		code = show_capture(verb, verb->files.values[i]);
	return code;
}

/* ---- the verb -------------------------------------------------------------------------------- */

/* Ceilings that were asked for and are not there are said to be missing. */
static int load_ceilings(struct cases_verb *verb)
{
	const char *gpu = verb->gpu ? verb->gpu : gpu_missing() ? NULL : gpu_name();

	if (ceilings_find(verb->ceilings, gpu, &verb->known, &verb->ceilings_known))
		return cli_fail_file("mla cases");
	if (!verb->ceilings_known && (verb->ceilings || verb->gpu))
		text_print(stderr, "mla cases: %s has nothing about %s: no bounds\n",
			   verb->ceilings ? verb->ceilings : "the user's cache", gpu);
	return CLI_OK;
}

static void print_json(const struct cases_verb *verb)
{
	json_t *root = report_json_new("mla-cases");
	const bool known = verb->ceilings_known;

	report_json_set(root, "seed",
			verb->files.count ? json_null()
					  : json_integer((json_int_t)verb->cells.seed));
	report_json_set(root, "gpu", known ? report_json_string(verb->known.gpu) : json_null());
	report_json_set(root, "ceilings", results_ceilings(known_ceilings(verb)));
	report_json_set(root, "tolerances", report_json_tolerances());
	report_json_set(root, "cases", json_incref(verb->list));
	report_json_print(root);
	json_decref(root);
}

static void print_table(const struct cases_verb *verb)
{
	report_table_print(verb->table, stdout);
	putchar('\n');
	if (verb->ceilings_known)
		text_print(stdout, "bound: %s reads %.0f GB/s and multiplies %.0f TFLOP/s\n",
			   verb->known.gpu, ceilings_read_gbs(&verb->known),
			   ceilings_tflops(&verb->known));
	else
		text_print(stdout,
			   "bound unknown: mla ceilings measures what it takes; --ceilings FILE "
			   "--gpu NAME says where it is\n");
}

static int run(struct cases_verb *verb)
{
	int code = load_ceilings(verb);

	if (!code)
		code = verb->files.count ? show_files(verb) : show_cells(verb);
	if (!code && !verb->count)
		code = cli_fail("mla cases", mla_fail(MLA_INVALID, "no case \"%s\"",
						      verb->pattern ? verb->pattern : "*"));
	if (!code)
		(verb->json ? print_json : print_table)(verb);
	return code;
}

int cli_cases(int argc, char **argv)
{
	struct cases_verb verb = {0};

	cli_cells_init(&verb.cells);
	cli_parse(&argp, argc, argv, 0, &verb);
	verb.table = timings_list_new();
	verb.list = json_array();

	const int code = run(&verb);

	json_decref(verb.list);
	report_table_free(verb.table);
	cli_strings_free(&verb.files);
	cli_cells_free(&verb.cells);
	return code;
}
