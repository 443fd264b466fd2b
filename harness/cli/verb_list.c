/* verb_list.c - mla list: the implementations, and which of them can run here.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "check/facts.h"
#include "check/variants.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "device/gpu.h"
#include "device/known.h"
#include "report/json.h"
#include "report/table.h"

enum { OPT_JSON = 0xe00 };

static const struct argp_option flags[] = {
	{"json", OPT_JSON, 0, 0, "JSON instead of a table, with what kernels tell the planner", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;

	(void)arg;
	if (key == ARGP_KEY_ARG)
		cli_error(state, "takes no arguments");
	if (key != OPT_JSON)
		return ARGP_ERR_UNKNOWN;
	*json = true;
	return 0;
}

static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.doc = "Lists the implementations of attention, and which of them can run here.\v"
	       "Example:\n  mla list" CLI_EXIT_CODES,
};

static const mla_config deepseek_v3 = {
	.struct_size = sizeof(mla_config),
	.num_heads = 128,
	.head_dim_ckv = 512,
	.head_dim_kpe = 64,
	.page_size = 64,
	.causal = 1,
	.sm_scale = 0.1352,
};

/* ---- as a table ------------------------------------------------------------------------------ */

static void add_kernel(struct report_table *table, const mla_kernel_info *info,
		       const mla_device *device)
{
	const char *missing = gpu_missing();
	const bool runs =
		info->built && !missing && !mla_kernel_accepts(info->name, &deepseek_v3, device);

	report_cell(table, "%s", info->name);
	report_cell(table, "%s", info->arch);
	report_cell(table, "%s", info->built ? "yes" : "no");
	report_cell(table, "%s", runs ? "yes" : "no");
	report_cell(table, "%s", info->built ? info->summary : "-");
	if (info->built && !missing && !runs)
		report_note(table, "%s", mla_last_error());
}

static void print_device(const mla_device *device)
{
	if (gpu_missing())
		text_print(stdout, "GPU: %s\n", gpu_missing());
	else
		text_print(
			stdout,
			"GPU: %s, sm_%d, %d multiprocessors, %d bytes of shared memory per block\n",
			gpu_name(), device->arch, device->sm_count, device->smem_per_block);
}

static void print_table(const mla_device *device)
{
	static const char *const titles[] = {"name", "arch", "built", "runs here", "summary"};
	struct report_table *table = report_table_new(titles, 5);

	print_device(device);
	for (int i = 0; i < variants_count; i++) {
		report_cell(table, "%s", variants[i].name);
		report_cell(table, "CPU");
		report_cell(table, "yes");
		report_cell(table, "yes");
		report_cell(table, "%s", variants[i].summary);
	}
	report_cell(table, FACTS_NAME);
	report_cell(table, "CPU");
	report_cell(table, "yes");
	report_cell(table, "yes");
	report_cell(table, "textbook attention; only captures that carry W_UK and W_UV");
	for (int i = 0; i < mla_kernel_count(); i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};

		if (!mla_kernel_get(i, &info))
			add_kernel(table, &info, device);
	}
	report_table_print(table, stdout);
	report_table_free(table);
}

/* ---- as JSON --------------------------------------------------------------------------------- */

/* A GPU that kernels are asked about: the one here, or one by its figures alone. */
struct listed_device {
	const char *name;
	mla_device device;
	bool here;
};

/* list[1 + known_num_gpus]; how many. */
static int gather_devices(const mla_device *here, struct listed_device *list)
{
	int n = 0;

	if (here->arch > 0)
		list[n++] = (struct listed_device){gpu_name(), *here, true};
	for (int i = 0; i < known_num_gpus; i++)
		list[n++] = (struct listed_device){known_gpus[i].name, known_gpus[i].device, false};
	return n;
}

static json_t *device_json(const struct listed_device *listed)
{
	const mla_device *device = &listed->device;

	return json_pack("{s:o, s:b, s:i, s:i, s:i}", "name", report_json_string(listed->name),
			 "here", (int)listed->here, "arch", (int)device->arch, "sm_count",
			 (int)device->sm_count, "smem_per_block", (int)device->smem_per_block);
}

static json_t *traits_json(const mla_traits *traits)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "tile_rows",
			 (int)traits->tile_rows, "kv_granule", (int)traits->kv_granule,
			 "ctas_per_sm", (int)traits->ctas_per_sm, "ctas_per_worker",
			 (int)traits->ctas_per_worker, "item_cost", (int)traits->item_cost,
			 "merge_cost", (int)traits->merge_cost, "merge", (int)traits->merge,
			 "align", (int)traits->align, "threads", (int)traits->threads);
}

/* Either why it refuses, or what it tells the planner. */
static json_t *answer_json(const char *kernel, const struct listed_device *listed)
{
	mla_traits traits = {.struct_size = sizeof(traits)};
	const mla_status status = mla_kernel_traits(kernel, &deepseek_v3, &listed->device, &traits);
	json_t *json = json_object();

	report_json_set(json, "device", report_json_string(listed->name));
	report_json_set(json, "refusal",
			status ? report_json_string(mla_last_error()) : json_null());
	report_json_set(json, "traits", status ? json_null() : traits_json(&traits));
	return json;
}

static json_t *kernel_json(const mla_kernel_info *info, const struct listed_device *list, int count)
{
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "name", info->name, "summary",
				 info->summary, "arch", info->arch, "ideas", info->ideas,
				 "fixed_split", (int)info->fixed_split, "built", (int)info->built);
	json_t *answers = json_array();

	for (int i = 0; i < count; i++)
		report_json_append(answers, answer_json(info->name, &list[i]));
	report_json_set(json, "on", answers);
	return json;
}

static json_t *config_json(void)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:b, s:s}", "num_heads", (int)deepseek_v3.num_heads,
			 "head_dim_ckv", (int)deepseek_v3.head_dim_ckv, "head_dim_kpe",
			 (int)deepseek_v3.head_dim_kpe, "page_size", (int)deepseek_v3.page_size,
			 "causal", (int)deepseek_v3.causal, "dtype",
			 ref_dtype_name(deepseek_v3.q_dtype));
}

static void print_json(const mla_device *here)
{
	json_t *root = report_json_new("mla-list"), *devices = json_array();
	json_t *cpu = json_array(), *kernels = json_array();
	struct listed_device *list = text_alloc((size_t)(1 + known_num_gpus) * sizeof(*list));
	const int count = gather_devices(here, list);

	for (int i = 0; i < count; i++)
		report_json_append(devices, device_json(&list[i]));
	for (int i = 0; i < variants_count; i++)
		report_json_append(cpu, json_pack("{s:s, s:s}", "name", variants[i].name, "summary",
						  variants[i].summary));
	for (int i = 0; i < mla_kernel_count(); i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};

		if (!mla_kernel_get(i, &info))
			report_json_append(kernels, kernel_json(&info, list, count));
	}
	report_json_set(root, "config", config_json());
	report_json_set(root, "devices", devices);
	report_json_set(root, "cpu", cpu);
	report_json_set(root, "kernels", kernels);
	report_json_print(root);
	json_decref(root);
	free(list);
}

int cli_list(int argc, char **argv)
{
	mla_device device = {.struct_size = sizeof(device)};
	mla_status status = MLA_OK;
	bool json = false;

	cli_parse(&argp, argc, argv, 0, &json);
	if (!gpu_missing())
		status = mla_device_query(&device);
	if (status)
		cli_fail("mla", status); /* what is built can be listed all the same */
	(json ? print_json : print_table)(&device);
	return CLI_OK;
}
