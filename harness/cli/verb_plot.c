/* verb_plot.c - mla plot: a picture of a result file or of a trace of the emulator, drawn by
 * plot.py with matplotlib.
 */
#include <argp.h>
#include <stdlib.h>

#include "base/process.h"
#include "base/text.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "lib/error.h"

#define SCRIPT   "../share/mla/python/mla/plot.py"
#define MAX_STEP 1000000000000000

struct plot_verb {
	const char *file, *out, *kind, *pattern, *mode, *cache, *from, *to;
};

enum { OPT_KIND = 0xa00, OPT_MODE, OPT_CACHE, OPT_FROM, OPT_TO };

static const struct argp_option flags[] = {
	{"output", 'o', "FILE", 0, "The picture: .svg or .png", 0},
	{"kind", OPT_KIND, "KIND", 0, "roofline (default), rungs or kvlen", 0},
	{"case", 'c', "CASE", 0, "Names of cases, a shell pattern (default: all)", 0},
	{"mode", OPT_MODE, "MODE", 0, "graph, launch or host (default: the first there is)", 0},
	{"cache", OPT_CACHE, "STATE", 0, "cold or hot (default: cold where there is one)", 0},
	{"from", OPT_FROM, "STEP", 0, "Of a trace: the first step that is shown", 0},
	{"to", OPT_TO, "STEP", 0, "Of a trace: the last one", 0},
	{0},
};

static const char *const kinds[] = {"roofline", "rungs", "kvlen"};
static const char *const modes[] = {"graph", "launch", "host"};
static const char *const caches[] = {"cold", "hot"};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct plot_verb *plot = state->input;

	switch (key) {
	case 'o':
		plot->out = arg;
		return 0;
	case 'c':
		plot->pattern = arg;
		return 0;
	case OPT_KIND:
		plot->kind = kinds[cli_choice(state, "--kind", arg, kinds, 3)];
		return 0;
	case OPT_MODE:
		plot->mode = modes[cli_choice(state, "--mode", arg, modes, 3)];
		return 0;
	case OPT_CACHE:
		plot->cache = caches[cli_choice(state, "--cache", arg, caches, 2)];
		return 0;
	case OPT_FROM:
		cli_integer(state, "--from", arg, 0, MAX_STEP);
		plot->from = arg;
		return 0;
	case OPT_TO:
		cli_integer(state, "--to", arg, 0, MAX_STEP);
		plot->to = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (plot->file)
			cli_error(state, "one file is enough, found \"%s\" too", arg);
		plot->file = arg;
		return 0;
	case ARGP_KEY_END:
		if (!plot->file)
			cli_error(state, "RESULT.json or a trace is missing");
		if (!plot->out)
			cli_error(state, "-o FILE is missing");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.args_doc = "RESULT.json|TRACE",
	.doc = "Draws the results of a run, or what the threads of an emulated block waited for.\v"
	       "roofline: useful work per second over useful work per byte, under the measured "
	       "ceilings. rungs: every implementation's time, case by case. kvlen: time over the "
	       "length of the cache, of shapes that were timed at two at least. Hollow marks and "
	       "the signs ! and ? are those of mla bench. A trace of the emulator "
	       "($EMULATE_TRACE) is known by its first line; --from and --to choose some of its "
	       "steps. Needs a python3 with matplotlib: $MLA_PYTHON, that of the build, or one on "
	       "PATH.\n\n"
	       "Example:\n  mla plot bench.json -o roofline.svg --kind roofline\n"
	       "  mla plot trace.txt -o trace.svg --from 80000 --to 280000" CLI_EXIT_CODES,
};

static bool can_draw(const char *python)
{
	const char *words[] = {python, "-c", "import matplotlib", NULL};
	int code;

	return python && *python && process_exists(python) && !process_run(words, true, &code) &&
	       !code;
}

/* The first Python that can draw. The caller frees it. */
static mla_status find_python(char **found)
{
	const char *chosen = getenv("MLA_PYTHON");
	char *built = process_beside("../venv/bin/python");
	const char *candidates[] = {chosen, built, "python3", "/usr/bin/python3"};
	const int count = chosen && *chosen ? 1 : 4;

	*found = NULL;
	for (int i = 0; i < count && !*found; i++)
		if (can_draw(candidates[i]))
			*found = text_format("%s", candidates[i]);
	free(built);
	return *found ? MLA_OK
		      : mla_fail(
				MLA_REFUSED,
				"%s has no matplotlib, which draws the picture: install it "
				"(Debian: apt-get install python3-matplotlib), or say which Python "
				"has it: MLA_PYTHON=/path/to/python3 mla plot ...",
				count == 1 ? chosen : "python3");
}

static mla_status find_script(char **script)
{
	*script = process_beside(SCRIPT);
	return *script ? MLA_OK
		       : mla_fail(MLA_REFUSED,
				  "there is no %s beside the program: it was moved away from its "
				  "build, bundle or installation",
				  SCRIPT);
}

/* Joined by '=', so that a value may begin with a dash. Returns only if there is no drawing. */
static mla_status draw(const struct plot_verb *plot, const char *python, const char *script)
{
	const struct {
		const char *option, *value;
	} options[] = {{"--output", plot->out}, {"--kind", plot->kind},   {"--case", plot->pattern},
		       {"--mode", plot->mode},  {"--cache", plot->cache}, {"--from", plot->from},
		       {"--to", plot->to}};
	enum { OPTIONS = sizeof(options) / sizeof(*options) };
	char *joined[OPTIONS] = {0};
	const char *words[16] = {python, "-B", script};
	mla_status status;
	int n = 3;

	for (int i = 0; i < OPTIONS; i++)
		if (options[i].value)
			words[n++] = joined[i] =
				text_format("%s=%s", options[i].option, options[i].value);
	words[n++] = "--";
	words[n] = plot->file;
	status = process_become(words);
	for (int i = 0; i < OPTIONS; i++)
		free(joined[i]);
	return status;
}

int cli_plot(int argc, char **argv)
{
	struct plot_verb plot = {0};
	char *script = NULL, *python = NULL;
	mla_status status;

	cli_parse(&argp, argc, argv, 0, &plot);
	if (find_script(&script))
		return cli_fail_file("mla plot");
	status = find_python(&python);
	if (!status)
		status = draw(&plot, python, script);
	free(script);
	free(python);
	return cli_fail("mla plot", status);
}
