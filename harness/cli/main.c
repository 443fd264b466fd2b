/* main.c - the program mla: a table of verbs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "capture/capture.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/ending.h"
#include "device/gpu.h"
#include "lib/error.h"

static const struct cli_verb verbs[] = {
	{"list", "the implementations, and which of them can run here", cli_list, false, false},
	{"info", "describes a capture file", cli_info, true, false},
	{"verify", "checks that a capture file is sound", cli_verify, true, false},
	{"make", "writes a synthetic case as a file", cli_make, true, false},
	{"cut", "writes a part of a capture file", cli_cut, true, false},
	{"plan", "shows how a batch is laid out on a GPU", cli_plan, true, false},
	{"cases", "what cases cost, and how fast they can be at best", cli_cases, true, false},
	{"check", "compares every implementation with the truth", cli_check, true, false},
	{"bench", "times implementations that are right", cli_bench, true, true},
	{"compare", "says what became faster or slower between results", cli_compare, false, false},
	{"plot", "draws results", cli_plot, false, false},
	{"profile", "one call for a profiler, and what it shows", cli_profile, true, true},
	{"ceilings", "measures what this GPU can do at most", cli_ceilings, false, true},
};
#define NUM_VERBS (int)(sizeof(verbs) / sizeof(verbs[0]))

static void print_version(FILE *out, struct argp_state *state)
{
	(void)state;
	text_print(out, "mla %s\n", mla_version());
}

/* The list of verbs stands between the options and the example. */
static char *add_verbs(int key, const char *text, void *input)
{
	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)text;

	char *help = text_format("%s", "Verbs (each has its own --help):\n");

	for (int i = 0; i < NUM_VERBS; i++) {
		char *longer = text_format("%s  %-8s %s\n", help, verbs[i].name, verbs[i].summary);

		free(help);
		help = longer;
	}

	char *whole = text_format("%s\n%s", help, text);

	free(help);
	return whole; /* argp frees what differs from its text */
}

/* The first word that is no option is the verb; all after it belongs to the verb. */
static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;

	int *verb_index = state->input;

	if (key == ARGP_KEY_ARG) {
		*verb_index = state->next - 1;
		state->next = state->argc;
		return 0;
	}
	if (key == ARGP_KEY_NO_ARGS)
		cli_error(state, "a verb is missing");
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.parser = parse,
	.args_doc = "VERB [OPTION...]",
	.doc = "Reference-plus-optimised testbed for DeepSeek Multi-head Latent Attention.\v"
	       "Example:\n  mla check data/captures/*.h5" CLI_EXIT_CODES,
	.help_filter = add_verbs,
};

static int unknown_verb(const char *word)
{
	const char *names[NUM_VERBS];

	for (int i = 0; i < NUM_VERBS; i++)
		names[i] = verbs[i].name;
	return cli_fail("mla", cli_unknown("unknown verb", word, names, NUM_VERBS,
					   "\"mla --help\" lists the verbs"));
}

static mla_status untimed(void)
{
	return mla_fail(MLA_INVALID,
			"the emulated program is not timed: how long a CPU takes to emulate a "
			"kernel says nothing about a GPU");
}

static int run_verb(int argc, char **argv)
{
	for (int i = 0; i < NUM_VERBS; i++)
		if (!strcmp(argv[0], verbs[i].name)) {
			char name[32]; /* what argp puts before its messages */

			snprintf(name, sizeof(name), "mla %s", verbs[i].name);
			argv[0] = name;
			if (verbs[i].measures && gpu_emulated())
				return cli_fail(name, untimed());
			if (verbs[i].captures) /* where it fails, the verb says so */
				(void)capture_start();
			return verbs[i].run(argc, argv);
		}
	return unknown_verb(argv[0]);
}

int main(int argc, char **argv)
{
	static char name[] = "mla";
	int verb_index = 0;

	ending_prepare();
	argv[0] = name; /* what argp puts before its messages, however the program was called */
	argp_err_exit_status = CLI_USAGE;
	argp_program_version_hook = print_version;
	cli_parse(&argp, argc, argv, ARGP_IN_ORDER, &verb_index);

	return ending_code(run_verb(argc - verb_index, argv + verb_index));
}
