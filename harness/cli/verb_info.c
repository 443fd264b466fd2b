/* verb_info.c - mla info and mla verify: what a capture file holds, and whether it is sound.
 */
#include <argp.h>
#include <stdbool.h>
#include <stdio.h>

#include "capture/capture.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "report/table.h"

struct files {
	struct cli_strings list;
	bool strict;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct files *files = state->input;

	switch (key) {
	case 's':
		files->strict = true;
		return 0;
	case ARGP_KEY_ARG:
		cli_strings_add(&files->list, arg);
		return 0;
	case ARGP_KEY_NO_ARGS:
		cli_error(state, "a FILE is missing");
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp info_argp = {
	.parser = parse,
	.args_doc = "FILE...",
	.doc = "Describes capture files: kind, model, shapes, steps, layers, provenance.\v"
	       "Example:\n  mla info data/captures/tiny_decode.h5" CLI_EXIT_CODES,
};

static mla_status info_one(const char *file)
{
	struct capture *capture;
	mla_status status = capture_open(file, &capture);

	if (!status)
		capture_print_info(capture, stdout);
	capture_close(capture);
	return status;
}

int cli_info(int argc, char **argv)
{
	struct files files = {0};
	int code = CLI_OK;

	cli_parse(&info_argp, argc, argv, 0, &files);
	for (int i = 0; i < files.list.count; i++) {
		if (i > 0)
			putchar('\n');
		if (info_one(files.list.values[i]))
			code = cli_fail_file("mla");
	}
	cli_strings_free(&files.list);
	return code;
}

static const struct argp_option verify_options[] = {
	{"strict", 's', 0, 0, "Warnings are errors", 0},
	{0},
};

static const struct argp verify_argp = {
	.options = verify_options,
	.parser = parse,
	.args_doc = "FILE...",
	.doc = "Checks capture files: structure, checksums, sha256, finite values, scale.\v"
	       "Each file is read by a child process with limited memory and time.\n\n"
	       "Example:\n  mla verify --strict data/captures/*.h5" CLI_EXIT_CODES,
};

static mla_status verify_one(const char *file, bool strict)
{
	mla_status status;

	report_progress("verifying %s", file);
	status = capture_verify(file, strict, stdout);
	report_progress("%s", "");
	return status;
}

int cli_verify(int argc, char **argv)
{
	struct files files = {0};
	int code = CLI_OK;

	cli_parse(&verify_argp, argc, argv, 0, &files);
	for (int i = 0; i < files.list.count; i++)
		if (verify_one(files.list.values[i], files.strict))
			code = cli_fail_file("mla");
	cli_strings_free(&files.list);
	return code;
}
