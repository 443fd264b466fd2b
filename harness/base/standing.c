/* standing.c - what a file holds, told from its contents: names lie. */
#define _GNU_SOURCE /* memmem */
#include "base/standing.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/error.h"

/* What is looked at, from either end: root attributes lie near an end of a capture. */
#define END_BYTES ((size_t)4 << 20)
/* What is larger was never written as JSON by this program. */
#define JSON_BYTES ((size_t)1 << 28)

struct contents {
	char *data; /* the first bytes, and behind them the last, if those are not all */
	size_t size;
	bool whole;
};

static mla_status fail(const char *name, int error)
{
	return mla_fail(error == ENOMEM ? MLA_NO_MEMORY : MLA_INVALID,
			"%.300s: cannot be written: what it holds cannot be seen: %s", name,
			strerror(error));
}

/* Appends what there is. */
static int read_part(int descriptor, off_t at, size_t size, struct contents *contents)
{
	while (size > 0) {
		const ssize_t n = pread(descriptor, contents->data + contents->size, size, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : 0;
		contents->size += (size_t)n;
		size -= (size_t)n;
		at += n;
	}
	return 0;
}

static int read_ends(int descriptor, size_t most, struct contents *contents)
{
	struct stat found;
	size_t size, rest;
	int error;

	if (fstat(descriptor, &found))
		return errno;
	if (!S_ISREG(found.st_mode))
		return EBUSY;
	size = (size_t)found.st_size < most ? (size_t)found.st_size : most;
	rest = (size_t)found.st_size - size < END_BYTES ? (size_t)found.st_size - size : END_BYTES;
	contents->whole = !rest;
	contents->data = malloc(size + rest + 1);
	if (!contents->data)
		return ENOMEM;
	error = read_part(descriptor, 0, size, contents);
	return error ? error : read_part(descriptor, found.st_size - (off_t)rest, rest, contents);
}

/* A file that became a pipe meanwhile is not waited for. */
static mla_status contents_open(const char *path, const char *name, size_t most,
				struct contents *contents)
{
	const int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int error = descriptor < 0 ? errno : 0;

	*contents = (struct contents){0};
	if (!error)
		error = read_ends(descriptor, most, contents);
	if (descriptor >= 0)
		close(descriptor);
	return error ? fail(name, error) : MLA_OK;
}

static bool begins(const struct contents *contents, size_t at, const char *with, size_t size)
{
	return contents->size >= at + size && !memcmp(contents->data + at, with, size);
}

/* The signature stands at the start, or behind a user block of 512 bytes, 1024, ... */
static bool is_hdf5(const struct contents *contents)
{
	static const char signature[8] = {'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
	bool found = begins(contents, 0, signature, sizeof(signature));

	for (size_t at = 512; !found && at < contents->size; at *= 2)
		found = begins(contents, at, signature, sizeof(signature));
	return found;
}

static bool is_capture(const struct contents *contents)
{
	static const char schema[] = "mla-capture";

	return is_hdf5(contents) &&
	       memmem(contents->data, contents->size, schema, sizeof(schema) - 1);
}

/* The first columns of what mla bench writes: a table of someone else's has others. */
static bool is_csv(const struct contents *contents)
{
	static const char head[] = "case,implementation,";

	return begins(contents, 0, head, sizeof(head) - 1);
}

/* An object that names no schema, or this one. Else what it is, in words. */
static bool is_json(const struct contents *contents, const char *schema, char *what, size_t size)
{
	json_t *root = contents->whole ? json_loadb(contents->data, contents->size, 0, NULL) : NULL;
	const char *found = json_string_value(json_object_get(root, "schema"));
	const bool good = json_is_object(root) && (!found || !schema || !strcmp(found, schema));

	if (found)
		snprintf(what, size, "JSON of schema \"%.40s\"", found);
	else if (root)
		snprintf(what, size, "JSON, but no object");
	json_decref(root);
	return good;
}

static void describe(const struct contents *contents, char *what, size_t size)
{
	static const struct {
		const char *start, *name;
	} known[] = {{"\x89PNG", "a picture"},
		     {"\x7f"
		      "ELF",
		      "a program"},
		     {"#!", "a script"},
		     {"<?xml", "XML"},
		     {"<svg", "a picture"},
		     {"PK\x03\x04", "an archive"}};
	const size_t seen = contents->size < 4096 ? contents->size : 4096;

	snprintf(what, size, "%s", memchr(contents->data, 0, seen) ? "binary data" : "other text");
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (begins(contents, 0, known[i].start, strlen(known[i].start)))
			snprintf(what, size, "%s", known[i].name);
	if (is_hdf5(contents))
		snprintf(what, size, "%s",
			 is_capture(contents) ? "a capture" : "HDF5, but no capture");
}

static mla_status judge(const struct contents *contents, const char *name,
			const struct output_plan *plan)
{
	static const char *const expected[] = {[OUTPUT_CAPTURE] = "a capture",
					       [OUTPUT_JSON] = "JSON",
					       [OUTPUT_CSV] = "CSV of mla bench"};
	char what[96];
	bool same;

	describe(contents, what, sizeof(what));
	same = plan->kind == OUTPUT_CAPTURE ? is_capture(contents)
	       : plan->kind == OUTPUT_CSV   ? is_csv(contents)
					    : is_json(contents, plan->schema, what, sizeof(what));
	if (same && plan->kind == OUTPUT_CAPTURE && !plan->force)
		return mla_fail(MLA_REFUSED,
				"%.300s: cannot be written: there is a capture already; --force "
				"replaces it",
				name);
	if (same)
		return MLA_OK;
	return mla_fail(MLA_REFUSED,
			"%.300s: cannot be written: it holds %s and would be lost, expected no "
			"file, an empty one or %s%s%s%s; choose another name, or remove it first",
			name, what, expected[plan->kind], plan->schema ? " (\"" : "",
			plan->schema ? plan->schema : "", plan->schema ? "\")" : "");
}

mla_status standing_check(const char *path, const char *name, const struct output_plan *plan)
{
	struct contents contents;
	const size_t most = plan->kind == OUTPUT_JSON ? JSON_BYTES : END_BYTES;
	mla_status status = contents_open(path, name, most, &contents);

	if (!status && contents.size > 0)
		status = judge(&contents, name, plan);
	free(contents.data);
	return status;
}
