/* verb_profile.c - mla profile: one call of a kernel for a profiler to look at, and the few figures
 * of ncu that say whether the kernel's idea works.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "base/text.h"
#include "check/check.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/shape.h"
#include "cli/source.h"
#include "cli/subjects.h"
#include "device/gpu.h"
#include "device/rig.h"
#include "report/ncu.h"
#include "report/table.h"

#if defined(__has_include) && !defined(MLA_WITHOUT_NVCC)
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define HAS_NVTX
#endif
#endif

#define RANGE "mla profile"

#ifdef HAS_NVTX

static const char *range_missing(void)
{
	return NULL;
}

static void range_begin(void)
{
	nvtxRangePushA(RANGE);
}

static void range_end(void)
{
	nvtxRangePop();
}

#else

static const char *range_missing(void)
{
	return "built without NVTX (nvtx3/nvToolsExt.h of the CUDA toolkit): a profiler would not "
	       "find the call";
}

static void range_begin(void)
{
}

static void range_end(void)
{
}

#endif

/* ---- arguments ------------------------------------------------------------------------------- */

struct profile_verb {
	struct cli_shape shape;
	const char *kernel, *pattern, *file;
	int32_t fixed_split;
	bool once;
};

enum { OPT_ONCE = 0xb00, OPT_FIXED_SPLIT };

static const struct argp_option flags[] = {
	{"kernel", 'k', "NAME", 0, "One kernel of the ladder", 0},
	{"case", 'c', "CASE", 0, "Step/layer of the file, 001/005 (default: the first)", 0},
	{"fixed-split", OPT_FIXED_SPLIT, "N", 0, "Plan with splits at keys N, 2N, ...", 0},
	{"once", OPT_ONCE, 0, 0, "Only the call: what a profiler is given", 0},
	{0},
};

static void check_arguments(const struct profile_verb *profile, struct argp_state *state)
{
	if (!profile->kernel)
		cli_error(state, "-k NAME is missing");
	cli_file_or_shape(state, profile->file, profile->shape.given, profile->pattern);
	if (!profile->file && !profile->shape.given)
		cli_error(state, "a FILE or the flags of a shape are needed");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct profile_verb *profile = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &profile->shape;
		return 0;
	case 'k':
		profile->kernel = arg;
		return 0;
	case 'c':
		profile->pattern = arg;
		return 0;
	case OPT_FIXED_SPLIT:
		profile->fixed_split =
			(int32_t)cli_integer(state, "--fixed-split", arg, 0, 1 << 30);
		return 0;
	case OPT_ONCE:
		profile->once = true;
		return 0;
	case ARGP_KEY_ARG:
		cli_one_file(state, &profile->file, arg);
		return 0;
	case ARGP_KEY_END:
		check_arguments(profile, state);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {{&cli_shape_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	.options = flags,
	.parser = parse,
	.children = children,
	.args_doc = "[FILE]",
	.doc = "Runs a kernel once inside the NVTX range \"" RANGE
	       "\", after a call outside it that "
	       "warms up; says how to look at that call with ncu and, where ncu is on PATH, does "
	       "so.\v"
	       "The table shows the few figures that say whether this kernel's idea works. ncu "
	       "empties the caches before each pass; clocks are left alone. Nothing is checked "
	       "here: that is mla check's work.\n\n"
	       "Example:\n  mla profile -k 02 -c 001/005 "
	       "data/captures/tiny_decode.h5" CLI_EXIT_CODES,
};

/* ---- the call -------------------------------------------------------------------------------- */

/* The first call loads the kernel; the second is the one to look at. */
static mla_status run_twice(const struct rig *rig, const mla_tensors *tensors)
{
	mla_status status = rig_run(rig, tensors);

	if (!status)
		status = gpu_sync(rig_stream(rig));
	if (status)
		return status;
	range_begin();
	status = rig_run(rig, tensors);
	if (!status)
		status = gpu_sync(rig_stream(rig));
	range_end();
	return status;
}

static mla_status call_kernel(const char *kernel, int32_t fixed_split, const struct mla_case *c)
{
	struct check_instance instance = {0};
	struct check_device copy = {0};
	struct rig rig = {0};
	mla_config config = c->config;
	mla_status status = check_instance_make(c, &instance);

	config.fixed_split = fixed_split;
	if (!status)
		status = rig_open(&rig, kernel, &config, &c->batch, NULL);
	if (!status)
		status = check_device_make(&instance, &copy);
	if (!status)
		status = rig_upload(&rig, &c->batch, &copy.device);
	if (!status)
		status = run_twice(&rig, &copy.device);
	check_device_free(&copy);
	rig_close(&rig);
	check_instance_free(&instance);
	return status;
}

static int run_once(const struct profile_verb *profile, const char *kernel,
		    const struct mla_case *c)
{
	const mla_status status = call_kernel(kernel, profile->fixed_split, c);

	if (!status)
		return CLI_OK;
	if (status == MLA_REFUSED) {
		text_print(stdout, "SKIPPED, %s\n", mla_last_error());
		return CLI_SKIPPED;
	}
	text_print(stderr, "mla profile: %s\n", mla_last_error());
	return CLI_FAILED;
}

/* ---- ncu ------------------------------------------------------------------------------------- */

enum { MAX_WORDS = 64 };

/* ncu and its options, this program, and the arguments as they were given. */
struct command {
	const char *words[MAX_WORDS];
	int count;
	char *metrics, *self;
};

static bool add_word(struct command *command, const char *word)
{
	if (command->count + 1 >= MAX_WORDS)
		return false;
	command->words[command->count++] = word;
	return true;
}

static void command_free(struct command *command)
{
	free(command->metrics);
	free(command->self);
}

/* What the kernel shows, in words; "" of "auto", which may be any. */
static const char *ideas_of(const char *kernel)
{
	mla_kernel_info info = {.struct_size = sizeof(info)};

	for (int i = 0; !mla_kernel_get(i, &info); i++)
		if (!strcmp(info.name, kernel) && info.ideas)
			return info.ideas;
	return "";
}

/* log: where ncu writes its figures as CSV; NULL: for people, on standard output. */
static bool command_make(struct command *command, const char *kernel, const char *log,
			 char *const *arguments)
{
	*command =
		(struct command){.metrics = ncu_metrics(ideas_of(kernel)), .self = process_self()};
	const char *const begin[] = {"ncu",       "--nvtx",          "--nvtx-include",
				     RANGE "/",   "--clock-control", "none",
				     "--metrics", command->metrics};
	const char *const to_log[] = {"--csv", "--log-file", log};
	const char *const program[] = {command->self, "profile", "--once"};
	bool good = true;

	for (size_t i = 0; i < sizeof(begin) / sizeof(begin[0]); i++)
		good &= add_word(command, begin[i]);
	for (size_t i = 0; log && i < sizeof(to_log) / sizeof(to_log[0]); i++)
		good &= add_word(command, to_log[i]);
	for (size_t i = 0; i < sizeof(program) / sizeof(program[0]); i++)
		good &= add_word(command, program[i]);
	for (; *arguments; arguments++)
		good &= add_word(command, *arguments);
	return good;
}

static void print_command(const struct command *command)
{
	for (int i = 0; i < command->count; i++) {
		char *word = report_shell_word(command->words[i]);

		text_print(stdout, "%s%s", i ? " " : "", word);
		free(word);
	}
	putchar('\n');
}

/* ncu's own words are shown only if it has no figures. */
static int show_figures(const char *path, int code)
{
	FILE *log = fopen(path, "r");
	struct report_table *table = log ? ncu_figures(log) : NULL;
	const bool good = !code && table && report_table_rows(table) > 0;

	if (good)
		report_table_print(table, stdout);
	else
		text_print(stderr, "mla profile: ncu gave no figures (exit code %d)\n", code);
	if (!good && log)
		ncu_messages(log, stderr);
	report_table_free(table);
	if (log)
		fclose(log);
	return good ? CLI_OK : CLI_FAILED;
}

static int run_ncu(const char *kernel, char *const *arguments)
{
	char path[] = "/tmp/mla-profile-XXXXXX";
	const int descriptor = mkstemp(path);
	struct command command;
	int code = CLI_FAILED, ended;

	if (descriptor < 0) {
		perror("mla profile: /tmp");
		return CLI_FAILED;
	}
	close(descriptor);
	if (command_make(&command, kernel, path, arguments)) {
		const mla_status status = process_run(command.words, false, &ended);

		code = status ? cli_fail("mla profile", status) : show_figures(path, ended);
	}
	command_free(&command);
	unlink(path);
	return code;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static int open_case(const struct profile_verb *profile, struct mla_case *c)
{
	struct cli_source source;
	char id[CLI_ID_SIZE];
	int code;

	if (!profile->file)
		cli_source_shape(&source, &profile->shape);
	else if (cli_source_file(&source, profile->file))
		return cli_fail_file("mla");
	code = cli_source_first(&source, profile->pattern, c, id, sizeof(id));
	cli_source_close(&source);
	return code;
}

/* The kernel's full name, or NULL after a sentence. */
static const char *one_kernel(const struct cli_subjects *subjects, const char *asked)
{
	if (subjects->count == 1 && !subjects->list[0].variant)
		return subjects->list[0].name;
	text_print(stderr,
		   "mla profile: -k %s is not one kernel of the ladder; \"mla list\" shows them\n",
		   asked);
	return NULL;
}

static int profile_case(const struct profile_verb *profile, const char *kernel,
			const struct mla_case *c, char *const *arguments)
{
	const char *missing = gpu_missing() ? gpu_missing() : range_missing();
	struct command command;
	int code;

	if (!profile->once) {
		const bool fits = command_make(&command, kernel, NULL, arguments);

		if (fits)
			print_command(&command);
		command_free(&command);
		if (!fits) {
			text_print(stderr, "mla profile: more than %d arguments\n", MAX_WORDS);
			return CLI_USAGE;
		}
	}
	if (missing) {
		text_print(stdout, "SKIPPED, %s\n", missing);
		return CLI_SKIPPED;
	}
	code = run_once(profile, kernel, c);
	if (code || profile->once)
		return code;
	if (process_exists("ncu"))
		return run_ncu(kernel, arguments);
	puts("ran once; ncu is not on PATH, so the command above is left to you");
	return CLI_OK;
}

int cli_profile(int argc, char **argv)
{
	struct profile_verb profile = {0};
	struct cli_subjects subjects;
	struct mla_case c = {0};
	mla_status status;
	int code = CLI_USAGE;
	/* As they were given: argp moves them about. */
	char **arguments = text_alloc((size_t)(argc + 1) * sizeof(*arguments));

	for (int i = 1; i < argc; i++)
		arguments[i - 1] = argv[i];
	cli_shape_init(&profile.shape);
	cli_parse(&argp, argc, argv, 0, &profile);
	status = cli_subjects_choose(profile.kernel, &subjects);
	if (status) {
		code = cli_fail("mla", status);
	} else {
		const char *kernel = one_kernel(&subjects, profile.kernel);

		if (kernel)
			code = open_case(&profile, &c);
		if (!code)
			code = profile_case(&profile, kernel, &c, arguments);
		cli_subjects_free(&subjects);
	}
	case_free(&c);
	cli_shape_free(&profile.shape);
	free(arguments);
	return code;
}
