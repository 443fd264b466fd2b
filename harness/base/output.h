/* output.h - a file that the program writes. What stood under its name before stays until the new
 * one is whole: it is written beside, under a name of its own, and takes the place at the end. A
 * link keeps pointing where it did, to the new file. Pipes and character devices that the user
 * names are written straight to. Every file is written through this door.
 */
#ifndef MLA_BASE_OUTPUT_H
#define MLA_BASE_OUTPUT_H

#include <stdio.h>

#include "mla.h"

enum output_use {
	OUTPUT_STREAM, /* written front to back: pipes and character devices will do */
	OUTPUT_NAMED,  /* a library opens it by its path and seeks: a regular file only */
};

struct output {
	FILE *stream;     /* NULL: not open */
	char *path;       /* where it is written; NULL: under its own name */
	char *target;     /* what path is renamed to; NULL: not a regular file */
	const char *name; /* as it was asked for; belongs to the caller */
};

mla_status output_open(struct output *o, const char *path, enum output_use use);

/* What was written so far now stands under the file's name; more may follow. */
mla_status output_publish(struct output *o);

/* Writes what is left, gives the file its name and closes, in good times and bad. */
mla_status output_commit(struct output *o);

/* Closes and leaves nothing behind that was not published. Nothing to do after a commit. */
void output_abandon(struct output *o);

/* A whole file of JSON, indented, in ASCII, with a line feed at its end. */
struct json_t;
mla_status output_json(const char *path, const struct json_t *root);

#endif
