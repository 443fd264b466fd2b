/* output.c - files are written beside what they replace, and renamed when they are whole. */
#define _GNU_SOURCE /* asprintf */
#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/input.h"
#include "lib/error.h"

/* A path may be longer than a sentence, which must not lose its end. */
#define CANNOT "%.300s: cannot be written: "

static mla_status fail(const struct output *o, int error)
{
	const mla_status status = error == ENOMEM ? MLA_NO_MEMORY : MLA_INVALID;

	return mla_fail(status, CANNOT "%s", o->name, strerror(error));
}

static mla_status fail_kind(const struct output *o, enum output_use use, mode_t mode)
{
	return mla_fail(MLA_INVALID, CANNOT "it is %s, expected a regular file%s", o->name,
			input_kind(mode),
			use == OUTPUT_STREAM ? ", a pipe or a character device" : "");
}

/* descriptor: what open gave, -1 and errno included. */
static mla_status attach(struct output *o, int descriptor)
{
	int error = errno;

	if (descriptor < 0)
		return fail(o, error);
	o->stream = fdopen(descriptor, "w");
	if (o->stream)
		return MLA_OK;
	error = errno;
	close(descriptor);
	return fail(o, error);
}

/* A file of our own in the target's folder, under a name that nobody foresees: what someone else
 * has put there is neither followed nor opened. */
static mla_status open_beside(struct output *o)
{
	const char *slash = strrchr(o->target, '/');
	const int folder = slash ? (int)(slash + 1 - o->target) : 0;
	uint64_t bits;
	char *path;
	int descriptor;
	mla_status status;

	if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits) ||
	    asprintf(&path, "%.*s.mla-%016" PRIx64, folder, o->target, bits) < 0)
		return fail(o, errno);
	descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (descriptor >= 0)
		o->path = path; /* there from now on, and ours to remove */
	status = attach(o, descriptor);
	if (!o->path)
		free(path);
	return status;
}

/* Nothing was found, with this errno. */
static mla_status open_new(struct output *o, int error)
{
	struct stat link;

	if (error != ENOENT || !*o->name)
		return fail(o, error);
	if (!lstat(o->name, &link))
		return mla_fail(MLA_INVALID, CANNOT "it is a symbolic link to nothing", o->name);
	o->target = strdup(o->name);
	return o->target ? open_beside(o) : fail(o, ENOMEM);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* To rename over a file needs no right to write it; who may not write it shall not replace it. One
 * that the shell has opened for this program would lose what is printed. */
static mla_status open_existing(struct output *o, const struct stat *found)
{
	struct stat printed;

	for (int descriptor = STDOUT_FILENO; descriptor <= STDERR_FILENO; descriptor++)
		if (!fstat(descriptor, &printed) && same_file(&printed, found))
			return mla_fail(MLA_INVALID, CANNOT "what is printed goes there, too",
					o->name);
	if (!access(o->name, W_OK))
		o->target = realpath(o->name, NULL);
	return o->target ? open_beside(o) : fail(o, errno);
}

static mla_status open_straight(struct output *o, const struct stat *found)
{
	struct stat opened;
	mla_status status = attach(o, open(o->name, O_WRONLY | O_NOCTTY | O_CLOEXEC));

	if (!status && (fstat(fileno(o->stream), &opened) || !same_file(&opened, found)))
		status = mla_fail(MLA_INVALID, CANNOT "it was replaced meanwhile", o->name);
	return status;
}

mla_status output_open(struct output *o, const char *path, enum output_use use)
{
	struct stat found;
	mla_status status;

	*o = (struct output){.name = path};
	if (stat(path, &found))
		status = open_new(o, errno);
	else if (S_ISREG(found.st_mode))
		status = open_existing(o, &found);
	else if (use == OUTPUT_STREAM && (S_ISFIFO(found.st_mode) || S_ISCHR(found.st_mode)))
		status = open_straight(o, &found);
	else
		status = fail_kind(o, use, found.st_mode);
	if (status)
		output_abandon(o);
	return status;
}

/* Data first, then the name: what a crash leaves under the final name is whole. */
mla_status output_publish(struct output *o)
{
	bool bad;

	errno = 0;
	bad = fflush(o->stream) || ferror(o->stream);
	if (!bad && o->target)
		bad = fsync(fileno(o->stream));
	if (!bad && o->path)
		bad = rename(o->path, o->target);
	if (bad) /* an earlier error of the stream has left no reason */
		return fail(o, errno ? errno : EIO);
	free(o->path);
	o->path = NULL;
	return MLA_OK;
}

mla_status output_commit(struct output *o)
{
	const mla_status status = output_publish(o);

	output_abandon(o);
	return status;
}

void output_abandon(struct output *o)
{
	if (o->stream)
		fclose(o->stream);
	if (o->path)
		unlink(o->path);
	free(o->path);
	free(o->target);
	*o = (struct output){0};
}

mla_status output_json(const char *path, const struct json_t *root)
{
	struct output output;
	mla_status status = output_open(&output, path, OUTPUT_STREAM);

	if (status)
		return status;
	if (json_dumpf(root, output.stream, JSON_INDENT(1) | JSON_ENSURE_ASCII) &&
	    !ferror(output.stream))
		status = fail(&output, ENOMEM);
	fputc('\n', output.stream);
	if (!status)
		status = output_commit(&output);
	output_abandon(&output);
	return status;
}
