/* bench_files.c - what mla bench writes besides its tables: files after each case, pipes at the
 * end.
 */
#define _GNU_SOURCE /* open_memstream */
#include "cli/bench_files.h"

#include <stdlib.h>

#include "base/text.h"
#include "bench/ceilings.h"
#include "cli/cli.h"
#include "report/results.h"

static mla_status open_both(struct bench_files *files, const char *file, const char *ceilings)
{
	const char *const inputs[] = {file, ceilings}, *const others[] = {files->csv};
	const struct output_plan csv = {.kind = OUTPUT_CSV, .inputs = inputs, .num_inputs = 2};
	const struct output_plan json = {
		.kind = OUTPUT_JSON,
		.schema = RESULTS_SCHEMA,
		.inputs = inputs,
		.num_inputs = 2,
		.others = others,
		.num_others = 1,
	};
	mla_status status = MLA_OK;

	if (files->json)
		status = output_open(&files->json_output, files->json, &json);
	if (!status && files->csv)
		status = output_open(&files->csv_output, files->csv, &csv);
	return status;
}

int bench_files_open(struct bench_files *files, const char *file, const char *ceilings)
{
	char *path = ceilings ? text_format("%s", ceilings) : ceilings_default_path();
	const mla_status status = open_both(files, file, path);

	free(path);
	return status ? cli_fail_output("mla bench", status) : CLI_OK;
}

void bench_files_begin(struct bench_files *files, json_t *root)
{
	files->root = root;
	files->stream = text_need(open_memstream(&files->text, &files->size));
	timings_csv_head(files->stream);
}

static int write_out(struct bench_files *files, bool end)
{
	const bool csv = files->csv && output_streams(&files->csv_output) == end;
	const bool json = files->json && output_streams(&files->json_output) == end;
	mla_status status = MLA_OK;
	int code = CLI_OK;

	fflush(files->stream);
	if (csv)
		status = output_put(&files->csv_output, files->text, files->size);
	if (status)
		code = cli_fail_output("mla bench", status);
	status = json ? output_put_json(&files->json_output, files->root) : MLA_OK;
	if (status)
		code = cli_fail_output("mla bench", status);
	return code;
}

int bench_files_add(struct bench_files *files, const struct timings_shown *shown)
{
	if (files->csv)
		timings_csv_rows(shown, files->stream);
	if (files->json)
		results_add(files->root, shown);
	return write_out(files, false);
}

int bench_files_end(struct bench_files *files)
{
	return write_out(files, true);
}

void bench_files_close(struct bench_files *files)
{
	output_abandon(&files->json_output);
	output_abandon(&files->csv_output);
	if (files->stream)
		fclose(files->stream);
	free(files->text);
	json_decref(files->root);
}
