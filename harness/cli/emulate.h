/* emulate.h - mla check --emulate: the same check in the emulated program, which runs kernels on
 * this CPU, once or seed after seed.
 */
#ifndef MLA_CLI_EMULATE_H
#define MLA_CLI_EMULATE_H

#include <argp.h>
#include <stdbool.h>

#include "cli/args.h"

struct emulate_options {
	const char *word;      /* of the command line: "--emulate=1-20"; NULL: not asked for */
	struct cli_ints seeds; /* none: $EMULATE_SEED says, else the emulated program */
	int seconds;           /* that a seed of several may take */
};

/* For the parser of a verb, at --emulate[=SEEDS]. */
void emulate_parse(struct argp_state *state, const char *seeds, struct emulate_options *options);
/* For its end: whether it can be emulated as often as was asked, with this --suite and --json
 * (NULL: none), and what the environment says besides. */
void emulate_parse_end(struct argp_state *state, const char *suite, const char *json,
		       struct emulate_options *options);

/* Runs "mla check WORDS" in the emulated program. words: as they were given, ended by NULL.
 * all_kernels: they choose none. An exit code, of several seeds the worst. */
int emulate_check(const struct emulate_options *options, char *const *words, bool all_kernels);

/* In the emulated program: its seed, for lines that repeat a failure. NULL elsewhere. */
const char *emulate_seed(void);

#endif
