/* emulate.c - the emulated program, called by mla check --emulate: one seed in place of this
 * program, several as processes side by side, whose output is shown where it matters.
 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "cli/emulate.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/process.h"
#include "base/text.h"
#include "capture/capture.h"
#include "cli/cli.h"
#include "device/gpu.h"
#include "lib/error.h"
#include "report/table.h"

enum {
	MAX_SEED = 1000000,
	SEED_SECONDS =
		600, /* that one of several may take, unless EMULATE_TIMEOUT says otherwise */
	MAX_SECONDS = 86400,
	NUM_SHOWN = 3,  /* failures whose output is shown */
	NUM_LISTED = 8, /* seeds that the last line names, of each kind */
};

static const char who[] = "mla check";

/* ---- the command line ------------------------------------------------------------------------ */

void emulate_parse(struct argp_state *state, const char *seeds, struct emulate_options *options)
{
	if (options->word)
		cli_error(state, "--emulate is given twice; several seeds are --emulate=1-20");
	options->word = state->argv[state->next - 1];
	if (seeds)
		cli_int_list(state, "--emulate", seeds, 1, MAX_SEED, &options->seeds);
}

void emulate_parse_end(struct argp_state *state, const char *suite, const char *json,
		       struct emulate_options *options)
{
	const char *seconds = getenv("EMULATE_TIMEOUT"), *trace = getenv("EMULATE_TRACE");
	const char *file = json ? "--json" : trace && *trace ? "EMULATE_TRACE" : NULL;

	if (!options->word)
		return;
	if (suite && !strcmp(suite, "host"))
		cli_error(state, "--suite host runs no kernel, and only those are emulated");
	if (options->seeds.count > 1 && file)
		cli_error(state,
			  "%s names one file, and --emulate %d seeds that would each write it; "
			  "choose one seed",
			  file, options->seeds.count);
	options->seconds = SEED_SECONDS;
	if (seconds && *seconds)
		options->seconds =
			(int)cli_integer(state, "EMULATE_TIMEOUT", seconds, 1, MAX_SECONDS);
}

const char *emulate_seed(void)
{
	const char *seed = getenv("EMULATE_SEED");

	if (!gpu_emulated())
		return NULL;
	return seed && *seed ? seed : "1";
}

/* ---- the emulated program -------------------------------------------------------------------- */

/* This program, if it is one; else where a build has it, seen from bin/ and from rung/NAME/. An
 * installation has none: it needs the sources at hand, for their lines and waivers. The caller
 * frees it. */
static char *find_program(void)
{
	static const char *const places[] = {"../emulated/mla", "../../emulated/mla"};
	char *found = gpu_emulated() ? process_self() : NULL;

	for (int i = 0; i < 2 && !found; i++)
		found = process_beside(places[i]);
	return found;
}

static int fail_without_program(void)
{
	char *self = process_self();
	const int code = cli_fail(
		who, mla_fail(MLA_REFUSED,
			      "there is no emulated program beside %s; in the project's folder "
			      "\"make emulated\" builds it",
			      self));

	free(self);
	return code;
}

/* Its own words: all but --emulate. Kernels are what is emulated, so they are what is checked. The
 * caller frees the array, not the words. */
static const char **words_for(const char *program, const struct emulate_options *options,
			      char *const *words, bool all_kernels)
{
	int count = 0, n = 0;

	while (words[count])
		count++;

	const char **own = text_alloc((size_t)(count + 5) * sizeof(*own));

	own[n++] = program;
	own[n++] = "check";
	if (all_kernels) {
		own[n++] = "-k";
		own[n++] = "gpu";
	}
	for (int i = 0; i < count; i++)
		if (words[i] != options->word)
			own[n++] = words[i];
	return own;
}

static void set_seed(int seed)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", seed);
	setenv("EMULATE_SEED", text, 1);
}

/* What a signal is to end is then that program itself, and a debugger follows. */
static int run_one(const struct emulate_options *options, const char *const *words)
{
	if (options->seeds.count)
		set_seed(options->seeds.values[0]);
	capture_stop();
	return cli_fail(who, process_become(words));
}

/* ---- several seeds --------------------------------------------------------------------------- */

enum verdict { CLEAN, REPORTS, WRONG, KILLED, LATE, NUM_VERDICTS };

struct ended {
	int index; /* of its seed */
	struct process_child child;
};

struct run {
	const struct emulate_options *options;
	const char *const *words;       /* of the emulated program */
	int jobs;                       /* that run at once */
	struct process_child *children; /* [jobs] */
	int *at;                        /* [jobs] index of the seed that each has */
	int started, done, failed;
	unsigned char *verdicts;       /* [seeds] */
	struct ended shown[NUM_SHOWN]; /* failures, the first of the list */
	int num_shown;
	struct ended first; /* the list's first seed, where that was clean */
};

static int worst_code(const struct run *run)
{
	int count[NUM_VERDICTS] = {0};

	for (int i = 0; i < run->done; i++)
		count[run->verdicts[i]]++;
	if (count[REPORTS])
		return CLI_REPORTS;
	return run->failed ? CLI_FAILED : CLI_OK;
}

static enum verdict verdict_of(const struct process_child *child)
{
	if (child->late)
		return LATE;
	if (child->code > 128)
		return KILLED;
	return !child->code ? CLEAN : child->code == CLI_REPORTS ? REPORTS : WRONG;
}

/* No other seed can change that: the command line, a file, or the kernel does not allow it. */
static bool is_final(const struct process_child *child)
{
	return !child->late && (child->code == CLI_USAGE || child->code == CLI_BAD_FILE ||
				child->code == CLI_SKIPPED);
}

/* Line by line, so that the ends of lines are not escaped. */
static void print_output(const struct process_child *child, FILE *out)
{
	char *rest = child->output;

	while (*rest) {
		char *end = strchr(rest, '\n');

		if (end)
			*end = '\0';
		text_print(out, "%s\n", rest);
		rest = end ? end + 1 : rest + strlen(rest);
	}
	if (child->left_out)
		text_print(out, "... and %zu bytes more\n", child->left_out);
}

/* Of the failures those whose seeds stand first in the list are kept, whenever they ended. */
static void keep_failure(struct run *run, struct ended *failure)
{
	int place = run->num_shown;

	while (place > 0 && run->shown[place - 1].index > failure->index)
		place--;
	if (run->num_shown == NUM_SHOWN)
		process_drop(place < NUM_SHOWN ? &run->shown[NUM_SHOWN - 1].child
					       : &failure->child);
	else
		run->num_shown++;
	if (place == NUM_SHOWN)
		return;
	memmove(&run->shown[place + 1], &run->shown[place],
		(size_t)(run->num_shown - 1 - place) * sizeof(*run->shown));
	run->shown[place] = *failure;
}

static void count_ended(struct run *run, struct ended *ended)
{
	const enum verdict verdict = verdict_of(&ended->child);

	run->done++;
	run->verdicts[ended->index] = (unsigned char)verdict;
	run->failed += verdict != CLEAN;
	if (verdict != CLEAN)
		keep_failure(run, ended);
	else if (!ended->index)
		run->first = *ended;
	else
		process_drop(&ended->child);
}

static mla_status start_next(struct run *run, int job)
{
	run->at[job] = run->started;
	set_seed(run->options->seeds.values[run->started]);
	run->started++;
	return process_start(run->words, run->options->seconds, &run->children[job]);
}

/* Until all have ended, or one as all others would: *final is its code then, else CLI_OK. */
static mla_status run_seeds(struct run *run, int *final)
{
	const int count = run->options->seeds.count;
	mla_status status = MLA_OK;

	for (int job = 0; job < run->jobs && !status; job++)
		status = start_next(run, job);
	while (!status && run->done < count) {
		report_progress("%d of %d seeds, %d failed", run->done, count, run->failed);

		const int job = process_await(run->children, run->jobs);
		struct ended ended = {.index = run->at[job], .child = run->children[job]};

		run->children[job] = (struct process_child){0};
		if (is_final(&ended.child)) {
			*final = ended.child.code;
			report_progress("%s", "");
			print_output(&ended.child, *final == CLI_SKIPPED ? stdout : stderr);
			process_drop(&ended.child);
			break;
		}
		count_ended(run, &ended);
		if (run->started < count)
			status = start_next(run, job);
	}
	report_progress("%s", "");
	for (int job = 0; job < run->jobs; job++)
		process_drop(&run->children[job]);
	return status;
}

static const char *const kinds[] = {
	[CLEAN] = "clean",      [REPORTS] = "with reports",
	[WRONG] = "failed",     [KILLED] = "ended by a signal",
	[LATE] = "out of time",
};

static void show_ended(const struct run *run, const struct ended *ended)
{
	const struct process_child *child = &ended->child;

	text_print(stdout, "== seed %d: %s", run->options->seeds.values[ended->index],
		   kinds[verdict_of(child)]);
	if (child->late)
		text_print(stdout, ", %d s (EMULATE_TIMEOUT)\n", run->options->seconds);
	else
		text_print(stdout, ", exit code %d\n", child->code);
	print_output(child, stdout);
}

/* ", 2 with reports (seeds 7, 9)" */
static void show_kind(const struct run *run, enum verdict verdict)
{
	int count = 0, listed = 0;

	for (int i = 0; i < run->done; i++)
		count += run->verdicts[i] == verdict;
	if (verdict == CLEAN || count)
		text_print(stdout, "%s %d %s", verdict == CLEAN ? ":" : ",", count, kinds[verdict]);
	if (verdict == CLEAN || !count)
		return;
	text_print(stdout, " (seed%s", count == 1 ? "" : "s");
	for (int i = 0; i < run->done && listed < NUM_LISTED; i++)
		if (run->verdicts[i] == verdict)
			text_print(stdout, "%s%d", listed++ ? ", " : " ",
				   run->options->seeds.values[i]);
	text_print(stdout, "%s)", count > listed ? ", ..." : "");
}

static void show_repeat(const struct emulate_options *options, int seed, char *const *words)
{
	text_print(stdout, "repeat: mla check --emulate=%d", seed);
	for (; *words; words++)
		if (*words != options->word) {
			char *word = report_shell_word(*words);

			text_print(stdout, " %s", word);
			free(word);
		}
	putchar('\n');
}

static void show_all(const struct run *run, char *const *words)
{
	const struct emulate_options *options = run->options;

	for (int i = 0; i < run->num_shown; i++)
		show_ended(run, &run->shown[i]);
	if (run->failed > run->num_shown)
		text_print(stdout, "== the output of %d more is not shown\n",
			   run->failed - run->num_shown);
	if (!run->failed)
		show_ended(run, &run->first);
	text_print(stdout, "%d seeds", run->done);
	for (int verdict = CLEAN; verdict < NUM_VERDICTS; verdict++)
		show_kind(run, (enum verdict)verdict);
	putchar('\n');
	if (run->failed)
		show_repeat(options, options->seeds.values[run->shown[0].index], words);
}

static void run_free(struct run *run)
{
	for (int i = 0; i < run->num_shown; i++)
		process_drop(&run->shown[i].child);
	process_drop(&run->first.child);
	free(run->children);
	free(run->at);
	free(run->verdicts);
}

/* Each has a share of the cores: together they would ask for all of them each. */
static void share_cores(int cores, int jobs)
{
	char threads[16];

	snprintf(threads, sizeof(threads), "%d", cores / jobs);
	setenv("OMP_NUM_THREADS", threads, 0);
}

static int run_several(const struct emulate_options *options, const char *const *own,
		       char *const *words)
{
	const int count = options->seeds.count, cores = omp_get_num_procs();
	struct run run = {
		.options = options,
		.words = own,
		.jobs = count < cores ? count : cores,
	};
	int final = CLI_OK;
	mla_status status;

	run.children = text_alloc((size_t)run.jobs * sizeof(*run.children));
	run.at = text_alloc((size_t)run.jobs * sizeof(*run.at));
	run.verdicts = text_alloc((size_t)count);
	share_cores(cores, run.jobs);
	status = run_seeds(&run, &final);
	if (status)
		final = cli_fail(who, status);
	else if (!final)
		show_all(&run, words);
	if (!final)
		final = worst_code(&run);
	run_free(&run);
	return final;
}

int emulate_check(const struct emulate_options *options, char *const *words, bool all_kernels)
{
	char *program = find_program();
	const char **own;
	int code;

	if (!program)
		return fail_without_program();
	own = words_for(program, options, words, all_kernels);
	code = options->seeds.count > 1 ? run_several(options, own, words) : run_one(options, own);
	free(own);
	free(program);
	return code;
}
