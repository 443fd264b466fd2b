/* verb_cut.c - mla cut: a part of a capture file as a file.
 */
#include <argp.h>
#include <limits.h>
#include <stdio.h>

#include "base/output.h"
#include "base/text.h"
#include "capture/capture.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "lib/error.h"

struct cut_options {
	struct cli_ints steps, layers, heads, requests;
	const char *in, *out;
	bool force;
};

enum { OPT_STEPS = 0x500, OPT_LAYERS, OPT_HEADS, OPT_REQUESTS, OPT_FORCE };

static const struct argp_option options[] = {
	{"steps", OPT_STEPS, "LIST", 0, "Steps by number, as mla info shows them: 0,2", 0},
	{"layers", OPT_LAYERS, "LIST", 0, "Layers by number: 5, or 0-3", 0},
	{"heads", OPT_HEADS, "LIST", 0, "Neighbouring heads, first to last: 0-7", 0},
	{"requests", OPT_REQUESTS, "LIST", 0, "Requests, counted from 0: 0-2", 0},
	{"force", OPT_FORCE, 0, 0, "Replace a capture that is there", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct cut_options *cut = state->input;
	struct cli_ints *const lists[] = {&cut->steps, &cut->layers, &cut->heads, &cut->requests};

	if (key >= OPT_STEPS && key <= OPT_REQUESTS) {
		char option[32];

		snprintf(option, sizeof(option), "--%s", options[key - OPT_STEPS].name);
		/* One less, since the head behind the last must be a number, too. */
		cli_int_list(state, option, arg, 0, INT_MAX - 1, lists[key - OPT_STEPS]);
		return 0;
	}
	if (key == OPT_FORCE) {
		cut->force = true;
		return 0;
	}
	if (key == ARGP_KEY_ARG && state->arg_num < 2) {
		*(state->arg_num == 0 ? &cut->in : &cut->out) = arg;
		return 0;
	}
	if (key == ARGP_KEY_ARG)
		cli_error(state, "unexpected argument \"%s\"", arg);
	if (key == ARGP_KEY_END && !cut->out)
		cli_error(state, "IN and OUT are needed");
	for (int i = 1; key == ARGP_KEY_END && i < cut->heads.count; i++)
		if (cut->heads.values[i] != cut->heads.values[i - 1] + 1)
			cli_error(state, "--heads: heads must be neighbours, found %d after %d",
				  cut->heads.values[i], cut->heads.values[i - 1]);
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "IN OUT",
	.doc = "Writes a part of a capture file: chosen steps, layers, heads, requests.\v"
	       "Example:\n  mla cut --steps 0,2 --layers 5 --heads 0-7 in.h5 out.h5" CLI_EXIT_CODES,
};

/* Numbers as the file has them become indices, in place. */
static mla_status to_indices(const struct capture *capture, const char *what, struct cli_ints *list,
			     int count, int (*number_of)(const struct capture *, int))
{
	if (list->count > count)
		return mla_fail(MLA_INVALID, "%d %ss are chosen, the file has %d", list->count,
				what, count);
	for (int i = 0; i < list->count; i++) {
		int index = 0;

		while (index < count && number_of(capture, index) != list->values[i])
			index++;
		if (index == count)
			return mla_fail(MLA_INVALID, "there is no %s %d; \"mla info\" lists them",
					what, list->values[i]);
		list->values[i] = index;
	}
	return MLA_OK;
}

static int choose(struct cut_options *cut)
{
	struct capture *capture;
	mla_status status;

	if (capture_open(cut->in, &capture))
		return cli_fail_file("mla");
	status = to_indices(capture, "step", &cut->steps, capture_num_steps(capture),
			    capture_step_number);
	if (!status)
		status = to_indices(capture, "layer", &cut->layers, capture_num_layers(capture),
				    capture_layer_number);
	capture_close(capture);
	return status ? cli_fail("mla cut", status) : CLI_OK;
}

static int write_part(const struct cut_options *cut, struct output *output)
{
	const int n = cut->heads.count;
	const struct capture_part part = {
		.steps = cut->steps.values,
		.num_steps = cut->steps.count,
		.layers = cut->layers.values,
		.num_layers = cut->layers.count,
		.requests = cut->requests.values,
		.num_requests = cut->requests.count,
		.head_begin = n ? cut->heads.values[0] : 0,
		.head_end = n ? cut->heads.values[n - 1] + 1 : 0,
	};
	mla_status status;

	fflush(stdout);
	status = capture_cut(cut->in, output, &part);
	if (status)
		return cli_fail_output("mla", status);
	text_print(stdout, "wrote %s\n", cut->out);
	return CLI_OK;
}

int cli_cut(int argc, char **argv)
{
	struct cut_options cut = {0};
	struct output_plan plan = {.kind = OUTPUT_CAPTURE, .inputs = &cut.in, .num_inputs = 1};
	struct output output;
	mla_status status;
	int code;

	cli_parse(&argp, argc, argv, 0, &cut);
	plan.force = cut.force;
	status = output_open(&output, cut.out, &plan);
	code = status ? cli_fail_output("mla", status) : choose(&cut);
	if (!code)
		code = write_part(&cut, &output);
	output_abandon(&output);
	cli_ints_free(&cut.steps);
	cli_ints_free(&cut.layers);
	cli_ints_free(&cut.heads);
	cli_ints_free(&cut.requests);
	return code;
}
