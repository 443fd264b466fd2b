/* args.h - strict numbers, lists and words of a command line. Anything wrong ends the program with
 * a sentence and exit code 2.
 */
#ifndef MLA_CLI_ARGS_H
#define MLA_CLI_ARGS_H

#include <argp.h>
#include <stdbool.h>

#include "mla.h"

/* argp_parse for a verb, whose words may hold anything: argp's own messages give unknown options
 * back as they are. */
void cli_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input);
/* argp_error with a sentence that is escaped as those of mla_fail are. */
void cli_error(const struct argp_state *state, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

long cli_integer(struct argp_state *state, const char *option, const char *text, long low,
		 long high);
double cli_positive(struct argp_state *state, const char *option, const char *text);
/* A softmax scale: validate_scale() has the rule. */
double cli_scale(struct argp_state *state, const char *option, const char *text);
/* The FILE of a verb that takes one. */
void cli_one_file(struct argp_state *state, const char **file, const char *arg);
/* Of a verb that takes a FILE or the flags of a shape: both is too much, and pattern, the -c, is
 * about a FILE. Each may be NULL or false. */
void cli_file_or_shape(struct argp_state *state, const char *file, bool shape_given,
		       const char *pattern);
/* Index of text in names[n]. */
int cli_choice(struct argp_state *state, const char *option, const char *text,
	       const char *const *names, int n);

struct cli_ints {
	int *values;
	int count, max;
};
/* "3", "0,2,5", "0-7", "0-3,8". Appends. At most 2^20 numbers, with those that were there. */
void cli_int_list(struct argp_state *state, const char *option, const char *text, long low,
		  long high, struct cli_ints *list);
void cli_ints_free(struct cli_ints *list);

struct cli_strings {
	const char **values; /* of argv, or of owned */
	int count, max;
	char *owned;
};
void cli_strings_add(struct cli_strings *list, const char *text);
/* Splits at commas. */
void cli_strings_split(struct cli_strings *list, const char *text);
void cli_strings_free(struct cli_strings *list);

/* The most similar of n names, or NULL if none is close. */
const char *cli_similar(const char *text, const char *const *names, int n);
/* MLA_INVALID, and: WHAT "text"; did you mean "SIMILAR"? WHERE */
mla_status cli_unknown(const char *what, const char *text, const char *const *names, int n,
		       const char *where);

#endif
