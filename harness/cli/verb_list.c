/* verb_list.c - mla list: the implementations, and which of them can run here.
 */
#include <argp.h>
#include <stdio.h>

#include "check/facts.h"
#include "check/variants.h"
#include "cli/cli.h"
#include "device/gpu.h"
#include "report/table.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key == ARGP_KEY_ARG)
		argp_error(state, "takes no arguments");
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
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
		printf("GPU: %s\n", gpu_missing());
	else
		printf("GPU: %s, sm_%d, %d multiprocessors, %d bytes of shared memory per block\n",
		       gpu_name(), device->arch, device->sm_count, device->smem_per_block);
}

int cli_list(int argc, char **argv)
{
	static const char *const titles[] = {"name", "arch", "built", "runs here", "summary"};
	mla_device device = {.struct_size = sizeof(device)};
	mla_status status = MLA_OK;

	argp_parse(&argp, argc, argv, 0, NULL, NULL);

	struct report_table *table = report_table_new(titles, 5);

	if (!gpu_missing())
		status = mla_device_query(&device);
	if (status)
		cli_fail("mla", status); /* what is built can be listed all the same */
	print_device(&device);
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
			add_kernel(table, &info, &device);
	}
	report_table_print(table, stdout);
	report_table_free(table);
	return CLI_OK;
}
