/* cli.h - what the verbs of the program share: exit codes, strict numbers, shapes from flags, and
 * where cases and subjects come from.
 */
#ifndef MLA_CLI_CLI_H
#define MLA_CLI_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#include "capture/capture.h"
#include "case/generate.h"
#include "check/check.h"
#include "check/variants.h"

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_BAD_FILE = 3,
	CLI_SKIPPED = 77, /* as automake has it: nothing could run */
};

#define CLI_EXIT_CODES                                                                             \
	"\n\nExit codes: 0 good, 1 a check failed, 2 wrong usage, 3 a file cannot be used, "       \
	"77 skipped: nothing could run here."

struct cli_verb {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
};

int cli_list(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_make(int argc, char **argv);
int cli_cut(int argc, char **argv);
int cli_plan(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_compare(int argc, char **argv);
int cli_plot(int argc, char **argv);
int cli_profile(int argc, char **argv);
int cli_ceilings(int argc, char **argv);

/* ---- arguments: anything wrong ends the program with a sentence and exit code 2 ---------------
 */

long cli_integer(struct argp_state *state, const char *option, const char *text, long low,
		 long high);
double cli_positive(struct argp_state *state, const char *option, const char *text);
/* The FILE of a verb that takes one. */
void cli_one_file(struct argp_state *state, const char **file, const char *arg);
/* Of a verb that takes a FILE or the flags of a shape: both is too much, and pattern, the -c, is
 * about a FILE. Each may be NULL or false. */
void cli_file_or_shape(struct argp_state *state, const char *file, bool shape_given,
		       const char *pattern);
/* arg, the file that a report is to be written to; never one that holds a capture (HDF5). */
const char *cli_report_file(struct argp_state *state, const char *option, const char *arg);
/* Index of text in names[n]. */
int cli_choice(struct argp_state *state, const char *option, const char *text,
	       const char *const *names, int n);

struct cli_ints {
	int *values;
	int count;
};
/* "3", "0,2,5", "0-7", "0-3,8". Appends. */
void cli_int_list(struct argp_state *state, const char *option, const char *text, long low,
		  long high, struct cli_ints *list);

struct cli_strings {
	const char **values; /* of argv, or of owned */
	int count;
	char *owned;
};
void cli_strings_add(struct cli_strings *list, const char *text);
/* Splits at commas. */
void cli_strings_split(struct cli_strings *list, const char *text);
void cli_strings_free(struct cli_strings *list);

/* The most similar of n names, or NULL if none is close. */
const char *cli_similar(const char *text, const char *const *names, int n);

/* ---- a shape from flags: --batch, --heads, --kv-len ... ---------------------------------------
 */

struct cli_shape {
	struct generate_spec spec; /* qo_len, kv_len and q_pos0 are the lists below */
	struct cli_ints qo_len, kv_len, q_pos0;
	long batch_size; /* 0: as long as the lists are */
	long low, high;  /* --kv-len uniform:LOW-HIGH; high < 0 if not asked for */
	bool given;      /* a flag of the shape was used */
};
/* A child for argp: its input is a struct cli_shape that cli_shape_init filled. */
extern const struct argp cli_shape_argp;
void cli_shape_init(struct cli_shape *shape);
void cli_shape_free(struct cli_shape *shape);

/* ---- where cases come from --------------------------------------------------------------------
 */

struct cli_source {
	const char *file; /* NULL unless a capture file */
	struct capture *capture;
	const struct cli_shape *shape; /* NULL unless from flags */
	uint64_t seed;                 /* else generated: number first ... of the sequence */
	int first, count;
};
/* Each opens the source; 0, or -1 after a sentence on standard error. */
int cli_source_file(struct cli_source *source, const char *file);
void cli_source_random(struct cli_source *source, uint64_t seed, int first, int count);
void cli_source_shape(struct cli_source *source, const struct cli_shape *shape);
void cli_source_close(struct cli_source *source);

/* "001/005" (step/layer), "random:7.3" (seed.number) or "shape". */
#define CLI_ID_SIZE 64
void cli_source_id(const struct cli_source *source, int index, char *id, size_t size);
/* Does -c choose this case? pattern NULL chooses all; else a shell pattern, or step/layer with or
 * without leading zeros. */
bool cli_id_matches(const char *id, const char *pattern);
/* "random:7.3" as a source of its own. */
bool cli_random_id(const char *pattern, struct cli_source *source);
/* 0, or -1 after a sentence on standard error. */
int cli_source_load(const struct cli_source *source, int index, struct mla_case *c);
/* The first case that the pattern chooses, loaded; CLI_OK, CLI_USAGE or CLI_BAD_FILE. */
int cli_source_first(const struct cli_source *source, const char *pattern, struct mla_case *c,
		     char *id, size_t size);

/* ---- what is checked and timed ----------------------------------------------------------------
 */

struct cli_subject {
	const char *name;
	const struct variant *variant; /* NULL: a kernel of the ladder */
	bool named;                    /* asked for by name, not by "all" */
};
struct cli_subjects {
	struct cli_subject *list;
	int count;
	bool facts;       /* "unabsorbed" and the references that a capture carries are wanted */
	bool facts_named; /* however long they take */
};
/* names: -k's value: "01,splitk", "cpu", "gpu", "all"; NULL = all. 0, or -1 after a sentence on
 * standard error that names the unknown one. */
int cli_subjects_choose(const char *names, struct cli_subjects *subjects);
void cli_subjects_free(struct cli_subjects *subjects);

#endif
