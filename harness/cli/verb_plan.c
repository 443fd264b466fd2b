/* verb_plan.c - mla plan: how a batch is laid out on a GPU that need not be here.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "case/size.h"
#include "cli/cli.h"
#include "cli/shape.h"
#include "cli/source.h"
#include "device/known.h"
#include "lib/error.h"
#include "lib/geometry.h"
#include "proof/plan_check.h"
#include "report/json.h"
#include "report/table.h"

struct plan_options {
	struct cli_shape shape;
	mla_traits traits;
	mla_device device;
	const char *kernel, *file, *pattern;
	int32_t fixed_split;
	bool traits_given, json;
};

enum {
	OPT_TILE_ROWS = 0x600,
	OPT_GRANULE,
	OPT_CTAS_PER_SM,
	OPT_CTAS_PER_WORKER,
	OPT_ITEM_COST,
	OPT_MERGE,
	OPT_SMS,
	OPT_ARCH,
	OPT_SMEM,
	OPT_FIXED_SPLIT,
	OPT_JSON,
};

static const struct argp_option flags[] = {
	{"case", 'c', "CASE", 0, "Step/layer of the file, 001/005 (default: the first)", 0},
	{"json", OPT_JSON, 0, 0, "JSON instead of text", 0},
	{"fixed-split", OPT_FIXED_SPLIT, "N", 0, "Split every request at keys N, 2N, ...", 0},
	{0, 0, 0, 0, "For whom (default: traits of a plain split-k kernel):", 3},
	{"kernel", 'k', "NAME", 0, "A kernel of the ladder", 3},
	{"tile-rows", OPT_TILE_ROWS, "N", 0, "Packed rows per work item (default 64)", 3},
	{"granule", OPT_GRANULE, "N", 0, "Splits fall on multiples of N keys (default 64)", 3},
	{"ctas-per-sm", OPT_CTAS_PER_SM, "N", 0, "CTAs that a multiprocessor holds (default 1)", 3},
	{"ctas-per-worker", OPT_CTAS_PER_WORKER, "N", 0, "CTAs that share a list (default 1)", 3},
	{"item-cost", OPT_ITEM_COST, "N", 0, "Fixed cost of a work item in keys (default 64)", 3},
	{"merge", OPT_MERGE, "KIND", 0, "none, separate or fused (default separate)", 3},
	{0, 0, 0, 0, "A GPU as values (default: an H200):", 4},
	{"sms", OPT_SMS, "N", 0, "Multiprocessors (default %d)", 4},
	{"arch", OPT_ARCH, "N", 0, "Compute capability times ten (default %d)", 4},
	{"smem", OPT_SMEM, "BYTES", 0, "Shared memory a block can have (default %d)", 4},
	{0},
};

static const char *const merge_kinds[] = {"none", "separate", "fused"};

/* Options whose value is a number that goes to one place. */
static bool parse_number(int key, const char *text, struct plan_options *plan,
			 struct argp_state *state)
{
	const struct {
		int key;
		const char *option;
		int32_t *place;
		long low;
	} table[] = {
		{OPT_TILE_ROWS, "--tile-rows", &plan->traits.tile_rows, 1},
		{OPT_GRANULE, "--granule", &plan->traits.kv_granule, 1},
		{OPT_CTAS_PER_SM, "--ctas-per-sm", &plan->traits.ctas_per_sm, 1},
		{OPT_CTAS_PER_WORKER, "--ctas-per-worker", &plan->traits.ctas_per_worker, 1},
		{OPT_ITEM_COST, "--item-cost", &plan->traits.item_cost, 0},
		{OPT_SMS, "--sms", &plan->device.sm_count, 1},
		{OPT_ARCH, "--arch", &plan->device.arch, 10},
		{OPT_SMEM, "--smem", &plan->device.smem_per_block, 1},
		{OPT_FIXED_SPLIT, "--fixed-split", &plan->fixed_split, 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].key == key) {
			*table[i].place = (int32_t)cli_integer(state, table[i].option, text,
							       table[i].low, INT_MAX);
			plan->traits_given |= key <= OPT_ITEM_COST;
			return true;
		}
	return false;
}

static void check_arguments(const struct plan_options *plan, struct argp_state *state)
{
	if (plan->kernel && plan->traits_given)
		cli_error(state, "--kernel has its own traits: leave --tile-rows and the like");
	cli_file_or_shape(state, plan->file, plan->shape.given, plan->pattern);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct plan_options *plan = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &plan->shape;
		return 0;
	case 'c':
		plan->pattern = arg;
		return 0;
	case 'k':
		plan->kernel = arg;
		return 0;
	case OPT_JSON:
		plan->json = true;
		return 0;
	case OPT_MERGE:
		plan->traits.merge = cli_choice(state, "--merge", arg, merge_kinds, 3);
		plan->traits_given = true;
		return 0;
	case ARGP_KEY_ARG:
		cli_one_file(state, &plan->file, arg);
		return 0;
	case ARGP_KEY_END:
		check_arguments(plan, state);
		return 0;
	}
	return parse_number(key, arg, plan, state) ? 0 : ARGP_ERR_UNKNOWN;
}

/* The words of the three figures of a GPU, with the figure that is taken if none is given. */
static char *fill_help(int key, const char *text, void *input)
{
	const mla_device *device = &known_gpus[0].device;
	const int figure = key == OPT_SMS    ? device->sm_count
			   : key == OPT_ARCH ? device->arch
			   : key == OPT_SMEM ? device->smem_per_block
					     : 0;
	char *filled = NULL;

	(void)input;
	return figure && asprintf(&filled, text, figure) > 0 ? filled : (char *)text;
}

static const struct argp_child children[] = {{&cli_shape_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.children = children,
	.args_doc = "[FILE]",
	.doc = "Shows how a batch is laid out on a GPU, and proves that every visible key of every "
	       "row is covered exactly once. Needs no GPU.\v"
	       "Example:\n  mla plan --batch 2 --heads 16 --kv-len 8192,100 --sms 8" CLI_EXIT_CODES,
	.help_filter = fill_help,
};

/* The batch of the shape alone: page ids and values play no part in a plan. */
static mla_status shape_batch(const struct generate_spec *spec, struct mla_case *c)
{
	const int32_t n = spec->batch_size;
	const size_t bytes = ((size_t)n + 1) * sizeof(int32_t);
	int32_t *qo_indptr = case_alloc(c, bytes), *kv_indptr = case_alloc(c, bytes);
	struct case_size size;

	if (!qo_indptr || !kv_indptr)
		return mla_fail(MLA_NO_MEMORY, "not enough memory for the batch");
	if (case_size_of(&spec->config, n, spec->qo_len, spec->kv_len, &size))
		return MLA_INVALID;
	for (int32_t b = 0; b < n; b++) {
		qo_indptr[b + 1] = qo_indptr[b] + spec->qo_len[b];
		kv_indptr[b + 1] =
			kv_indptr[b] + (int32_t)geometry_pages(&spec->config, spec->kv_len[b]);
	}
	c->config = spec->config;
	c->batch = (mla_batch){.struct_size = sizeof(mla_batch),
			       .batch_size = n,
			       .qo_indptr = qo_indptr,
			       .kv_indptr = kv_indptr,
			       .kv_len = spec->kv_len,
			       .q_pos0 = spec->q_pos0};
	return MLA_OK;
}

static int load(const struct plan_options *options, struct mla_case *c)
{
	struct cli_source source;
	mla_status status;
	int code;

	*c = (struct mla_case){0};
	if (!options->file) {
		status = shape_batch(&options->shape.spec, c);
		return status ? cli_fail("mla plan", status) : CLI_OK;
	}
	if (cli_source_file(&source, options->file))
		return cli_fail_file("mla");
	code = cli_source_first_batch(&source, options->pattern, c);
	cli_source_close(&source);
	return code;
}

/* The whole text of the plan; the caller frees it. */
static char *format_plan(const mla_plan *plan, bool json)
{
	const size_t size = mla_plan_format(plan, json, NULL, 0) + 1;
	char *text = text_alloc(size);

	mla_plan_format(plan, json, text, size);
	return text;
}

static void print_text(const char *text, mla_status covered, const char *why)
{
	fputs(text, stdout);
	fputs("coverage    ", stdout);
	report_outcome(stdout, covered ? CHECK_FAIL : CHECK_PASS);
	text_print(stdout, "  %s\n", covered ? why : "every visible key of every row exactly once");
}

static void print_json(const char *text, mla_status covered, const char *why)
{
	json_error_t error;
	json_t *root = report_json_new("mla-plan"), *plan = json_loads(text, 0, &error);
	json_t *coverage = json_object();

	report_json_set(coverage, "outcome", json_string(covered ? "FAIL" : "PASS"));
	report_json_set(coverage, "why", json_string(why));
	report_json_set(root, "coverage", coverage);
	report_json_set(root, "plan", plan);
	report_json_print(root);
	json_decref(root);
}

static int show(const mla_plan *plan, bool json)
{
	char why[512] = "";
	const mla_status covered = plan_check(plan, why, sizeof(why));
	char *text = format_plan(plan, json);

	(json ? print_json : print_text)(text, covered, why);
	free(text);
	return covered ? CLI_FAILED : CLI_OK;
}

static int plan_case(const struct plan_options *options, struct mla_case *c)
{
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_plan *plan = NULL;
	mla_status status;
	int code;

	c->config.fixed_split = options->fixed_split;
	status = mla_capacity_of(&c->config, &c->batch, &capacity);
	if (!status)
		status = options->kernel
				 ? mla_plan_create(options->kernel, &c->config, &options->device,
						   &capacity, &plan)
				 : mla_plan_create_for_traits(&options->traits, &c->config,
							      &options->device, &capacity, &plan);
	if (!status)
		status = mla_plan_build(plan, &c->batch);
	code = status ? cli_fail("mla plan", status) : show(plan, options->json);
	mla_plan_destroy(plan);
	return code;
}

int cli_plan(int argc, char **argv)
{
	struct plan_options options = {
		.traits = {.struct_size = sizeof(mla_traits),
			   .tile_rows = 64,
			   .kv_granule = 64,
			   .ctas_per_sm = 1,
			   .ctas_per_worker = 1,
			   .item_cost = 64,
			   .merge = MLA_MERGE_SEPARATE,
			   .align = 16},
		.device = known_gpus[0].device,
	};
	struct mla_case c;
	int code;

	cli_shape_init(&options.shape);
	cli_parse(&argp, argc, argv, 0, &options);
	code = load(&options, &c);
	if (!code)
		code = plan_case(&options, &c);
	case_free(&c);
	cli_shape_free(&options.shape);
	return code;
}
