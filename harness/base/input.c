/* input.c - regular files, and JSON of limited size. */
#define _GNU_SOURCE
#include "base/input.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/error.h"

/* A path may be longer than a sentence, which must not lose its end. */
#define OF_FILE "%.300s: "

const char *input_kind(mode_t mode)
{
	static const struct {
		mode_t kind;
		const char *name;
	} kinds[] = {
		{S_IFDIR, "a folder"},       {S_IFIFO, "a pipe"},    {S_IFCHR, "a device"},
		{S_IFBLK, "a block device"}, {S_IFSOCK, "a socket"},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (kinds[i].kind == (mode & S_IFMT))
			return kinds[i].name;
	return "something else";
}

/* A pipe without a writer is opened without waiting for one, and then refused. Sockets cannot be
 * opened: what they are is asked first. */
mla_status input_open(const char *path, int *descriptor)
{
	struct stat facts;
	int error;

	*descriptor = -1;
	if (!stat(path, &facts) && !S_ISREG(facts.st_mode))
		return mla_fail(MLA_INVALID, OF_FILE "it is %s, expected a regular file", path,
				input_kind(facts.st_mode));
	*descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	error = errno;
	if (*descriptor >= 0 && !fstat(*descriptor, &facts) && S_ISREG(facts.st_mode))
		return MLA_OK;
	if (*descriptor < 0)
		return mla_fail(MLA_INVALID, OF_FILE "%s", path, strerror(error));
	close(*descriptor);
	*descriptor = -1;
	return mla_fail(MLA_INVALID, OF_FILE "it was replaced meanwhile", path);
}

/* The whole file, at most `most` bytes. */
static mla_status read_whole(const char *path, int descriptor, size_t most, char **text,
			     size_t *length)
{
	struct stat facts;
	ssize_t got = 1;

	*length = 0;
	if (fstat(descriptor, &facts))
		return mla_fail(MLA_INVALID, OF_FILE "%s", path, strerror(errno));
	if ((uintmax_t)facts.st_size > most)
		return mla_fail(MLA_INVALID,
				OF_FILE "it has %jd bytes, expected at most %zu of a file of JSON",
				path, (intmax_t)facts.st_size, most);

	const size_t size = (size_t)facts.st_size;

	*text = malloc(size + 1);
	if (!*text)
		return mla_fail(MLA_NO_MEMORY, OF_FILE "no memory for %zu bytes", path, size);
	while (*length < size && got > 0) {
		got = read(descriptor, *text + *length, size - *length);
		*length += got > 0 ? (size_t)got : 0;
	}
	return got < 0 ? mla_fail(MLA_INVALID, OF_FILE "%s", path, strerror(errno)) : MLA_OK;
}

/* Not less than the values in the text: each but the first stands behind a comma or a bracket. */
static size_t count_values(const char *text, size_t length)
{
	size_t count = 1;

	for (size_t i = 0; i < length; i++)
		count += text[i] == ',' || text[i] == '[' || text[i] == '{';
	return count;
}

static mla_status parse(const char *path, const char *text, size_t length, json_t **root)
{
	const size_t values = count_values(text, length);
	json_error_t error;

	if (!length)
		return mla_fail(MLA_INVALID, OF_FILE "file is empty", path);
	if (values > INPUT_JSON_VALUES)
		return mla_fail(MLA_INVALID,
				OF_FILE "it has about %zu values, expected at most %d of a file of "
					"JSON",
				path, values, INPUT_JSON_VALUES);
	*root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
	if (*root)
		return MLA_OK;
	return mla_fail(MLA_INVALID, OF_FILE "is no JSON: line %d, column %d: %s", path, error.line,
			error.column, error.text);
}

mla_status input_json(const char *path, json_t **root)
{
	char *text = NULL;
	size_t length;
	int descriptor;
	mla_status status = input_open(path, &descriptor);

	*root = NULL;
	if (status)
		return status;
	status = read_whole(path, descriptor, INPUT_JSON_BYTES, &text, &length);
	if (!status)
		status = parse(path, text, length, root);
	free(text);
	close(descriptor);
	return status;
}
