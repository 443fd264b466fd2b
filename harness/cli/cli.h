/* cli.h - the verbs of the program, their exit codes, and how they say what went wrong.
 */
#ifndef MLA_CLI_CLI_H
#define MLA_CLI_CLI_H

#include <stdbool.h>

#include "mla.h"

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_BAD_FILE = 3,
	CLI_REPORTS = 70, /* the emulator's */
	CLI_SKIPPED = 77, /* as automake has it: nothing could run */
};

#define CLI_EXIT_CODES                                                                             \
	"\n\nExit codes: 0 good, 1 a check failed, 2 wrong usage, 3 a file cannot be used, "       \
	"70 the emulator has reports, 77 skipped: nothing could run here."

struct cli_verb {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
	bool captures; /* opens some: what parses them is started before the verb's threads */
	bool measures; /* a GPU, which the emulated program has not */
};

int cli_list(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_make(int argc, char **argv);
int cli_cut(int argc, char **argv);
int cli_plan(int argc, char **argv);
int cli_cases(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_compare(int argc, char **argv);
int cli_plot(int argc, char **argv);
int cli_profile(int argc, char **argv);
int cli_ceilings(int argc, char **argv);

/* Says what mla_last_error() holds, "mla bench: SENTENCE" on standard error (who: "mla", "mla
 * bench"), and what status is as an exit code: a refusal is no failure, this kernel or this build
 * cannot; what is invalid was asked for. */
int cli_fail(const char *who, mla_status status);
/* The same about a file that the verb was given: CLI_BAD_FILE, whatever the status. */
int cli_fail_file(const char *who);
/* The same about a file that the verb writes (base/output.h): CLI_USAGE where it must not replace
 * what is there, else CLI_BAD_FILE. */
int cli_fail_output(const char *who, mla_status status);

#endif
