/* verb_make.c - mla make: a synthetic case as a file.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/output.h"
#include "base/text.h"
#include "capture/capture.h"
#include "cli/cli.h"
#include "cli/shape.h"
#include "cli/source.h"
#include "report/table.h"

struct make_options {
	struct cli_shape shape;
	const char *out;
	bool compress, force;
};

enum { OPT_FORCE = 0x300 };

static const struct argp_option options[] = {
	{"output", 'o', "FILE", 0, "Where to write (needed)", 0},
	{"force", OPT_FORCE, 0, 0, "Replace a capture that is there", 0},
	{"compress", 'z', 0, 0, "Smaller and slower: shuffle and deflate", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct make_options *make = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &make->shape;
		return 0;
	case 'o':
		make->out = arg;
		return 0;
	case 'z':
		make->compress = true;
		return 0;
	case OPT_FORCE:
		make->force = true;
		return 0;
	case ARGP_KEY_ARG:
		cli_error(state, "unexpected argument \"%s\"; the file to write is -o FILE", arg);
		return 0;
	case ARGP_KEY_END:
		if (!make->out)
			cli_error(state, "-o FILE is missing");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {{&cli_shape_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	.options = options,
	.parser = parse,
	.children = children,
	.doc = "Writes a synthetic case as a capture file; the same flags give the same bits.\v"
	       "Example:\n  mla make --batch 4 --heads 128 --kv-len 1000,2000,0,17 --causal "
	       "-o case.h5" CLI_EXIT_CODES,
};

/* The command that makes the same file again, as the file's own provenance. */
static char *command_line(int argc, char **argv)
{
	char *line = text_format("%s", "mla make");

	for (int i = 1; i < argc; i++) {
		char *word = report_shell_word(argv[i]);
		char *longer = text_format("%s %s", line, word);

		free(word);
		free(line);
		line = longer;
	}
	return line;
}

static mla_status write_case(const struct make_options *make, const char *notes,
			     struct output *output, const struct mla_case *c)
{
	const struct capture_writing how = {
		.notes = notes, .tool = "mla make", .compress = make->compress};

	fflush(stdout);
	return capture_write(output, c, &how);
}

static int make_case(const struct make_options *make, const char *notes, struct output *output)
{
	struct mla_case c;
	struct cli_source source;
	char text[256];
	mla_status status;
	int code = CLI_OK;

	cli_source_shape(&source, &make->shape);
	status = cli_source_load(&source, 0, &c);
	if (status)
		return cli_source_fail(&source, status);
	case_describe(&c, text, sizeof(text));
	status = write_case(make, notes, output, &c);
	if (status)
		code = cli_fail_output("mla", status);
	else
		text_print(stdout, "wrote %s: %s\n", make->out, text);
	case_free(&c);
	return code;
}

int cli_make(int argc, char **argv)
{
	struct make_options make = {0};
	struct output output;
	mla_status status;
	char *notes = command_line(argc, argv); /* argp reorders argv */
	int code;

	cli_shape_init(&make.shape);
	cli_parse(&argp, argc, argv, 0, &make);
	status = output_open(&output, make.out,
			     &(struct output_plan){.kind = OUTPUT_CAPTURE, .force = make.force});
	code = status ? cli_fail_output("mla", status) : make_case(&make, notes, &output);
	output_abandon(&output);
	free(notes);
	cli_shape_free(&make.shape);
	return code;
}
