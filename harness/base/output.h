/* output.h - a file that the program writes, and what it may replace. What stood under its name
 * before stays until the new one is whole: that is written beside, under a name of its own, and
 * takes the place at the end. A link keeps pointing where it did, to the new file. Pipes and
 * character devices that the user names, and standard output, are written straight to. Every file
 * is written through this door.
 *
 * Whether it may be written is asked once, when it is opened, before the work: what comes under the
 * name after that is replaced, so that of two writers each ends whole and the last one stays.
 *
 * Errors: MLA_REFUSED for what must not be replaced, MLA_INVALID for what the system does not let
 * write, MLA_NO_MEMORY. The sentence is "FILE: cannot be written: ...".
 */
#ifndef MLA_BASE_OUTPUT_H
#define MLA_BASE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "mla.h"

enum output_kind {
	OUTPUT_CAPTURE, /* HDF5, written by its path: a regular file only */
	OUTPUT_JSON,
	OUTPUT_CSV,
};

/* What is written, and what else the command has to do with. */
struct output_plan {
	enum output_kind kind;
	const char *schema; /* of JSON: what says another one is not replaced */
	bool force;         /* replace a capture */
	bool regular;       /* what is not read back is of no use: no pipe, no device */
	/* What the command reads, and what else it writes: never the same file by any name. NULL
	 * among them, and what is not there, are no files. */
	const char *const *inputs, *const *others;
	int num_inputs, num_others;
};

struct output {
	const char *name; /* as it was asked for; belongs to the caller. NULL: not open */
	int descriptor;   /* -1: what was written has its name, nothing is open */
	char *path;       /* where it is written; NULL: straight to its own name */
	char *target;     /* what path is renamed to; NULL: not a regular file */
	mode_t mode;      /* who may read and write what it replaces, and then this; 0: new */
	struct output_slot *slot;
};

/* "-" is standard output. Where that is written to, what is printed on it goes to standard error
 * from now on: a reader gets the file alone. */
mla_status output_open(struct output *o, const char *path, const struct output_plan *plan);

/* A pipe, a device or standard output: what is put there cannot be replaced. */
bool output_streams(const struct output *o);

/* The whole file as it is by now: it stands under its name. More may follow and replaces that. */
mla_status output_put(struct output *o, const char *text, size_t size);

/* The same, of JSON: indented, in ASCII, with a line feed at its end. */
struct json_t;
mla_status output_put_json(struct output *o, const struct json_t *root);

/* Gives a file that was written by its path its name, and closes. */
mla_status output_commit(struct output *o);

/* Closes and leaves nothing behind that has no name yet. Nothing to do after a commit. */
void output_abandon(struct output *o);

/* For the handler of a signal. Is any output open? */
bool output_any(void);
/* For the handler of a signal that ends the program: removes what is not whole. The name of an
 * output that is open, each once, NULL after the last; *named: an earlier state of it has its
 * name. *at: 0 at first. */
const char *output_rescue(int *at, bool *named);

#endif
