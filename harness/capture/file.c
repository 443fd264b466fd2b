/* file.c - the way into a capture: what can be said of a file before HDF5 sees it, what the process
 * that parses it found, and how everything here says what is wrong.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- errors --------------------------------------------------------------------------------- */

/* A name that leaves no room for a sentence is left out. */
static mla_status fail(mla_status status, const char *file, const char *sentence)
{
	char text[ERROR_SIZE];
	int used = snprintf(text, sizeof(text), "%s: ", file);

	if (used < 0 || (size_t)used >= sizeof(text))
		used = 0;
	snprintf(text + used, sizeof(text) - (size_t)used, "%s", sentence);
	return mla_fail(status, "%s", text);
}

mla_status cap_fail(const char *file, const char *format, ...)
{
	char text[ERROR_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return fail(MLA_INVALID, file, text);
}

mla_status cap_fail_memory(const char *file)
{
	return fail(MLA_NO_MEMORY, file, "out of memory");
}

mla_status cap_check_memory(const struct capture *capture, const char *what, double bytes)
{
	const double most = (double)CAP_MEMORY_BYTES(capture->file_bytes);

	if (bytes <= most)
		return MLA_OK;
	return cap_fail(capture->path,
			"%s would take %.0f bytes of memory, at most 256 MiB and 64 times the "
			"file's %" PRIu64 " bytes are given",
			what, bytes, capture->file_bytes);
}

void cap_join(char path[CAP_PATH], const char *group, const char *name)
{
	const char *base = strcmp(group, "/") ? group : "";

	if (snprintf(path, CAP_PATH, "%s/%s", base, name) >= CAP_PATH)
		path[0] = 0; /* names no object */
}

const struct cap_object *cap_find(const struct capture *capture, const char *path)
{
	return cap_listing_find(&capture->listing, path);
}

const char *cap_text_of(const struct capture *capture, const char *object, const char *name)
{
	const struct cap_attribute *one =
		cap_attributes_find(&capture->listing.attributes, object, name);

	return one && one->type == CAP_STRING ? one->text : NULL;
}

/* ---- before HDF5 ---------------------------------------------------------------------------- */

static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

enum { HEAD_BYTES = 24 }; /* of a file, as a string */

/* -1 with errno. What is no regular file is given back at once, a pipe without a writer too. */
static int open_input(const char *path, struct stat *facts)
{
	const int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (descriptor >= 0 && !fstat(descriptor, facts))
		return descriptor;
	if (descriptor >= 0)
		close(descriptor);
	return -1;
}

static bool signature_at(int descriptor, off_t at)
{
	unsigned char head[sizeof(signature)];

	return pread(descriptor, head, sizeof(head), at) == sizeof(head) &&
	       !memcmp(head, signature, sizeof(head));
}

bool capture_is_hdf5(const char *path)
{
	struct stat facts;
	const int descriptor = open_input(path, &facts);
	bool is = false;

	if (descriptor >= 0) {
		is = S_ISREG(facts.st_mode) && signature_at(descriptor, 0);
		close(descriptor);
	}
	return is;
}

/* HDF5 may begin behind a block of the user's, of 512 bytes or twice, four times that, ... */
static off_t user_block(int descriptor, off_t bytes)
{
	for (off_t at = 512; at < bytes; at *= 2)
		if (signature_at(descriptor, at))
			return at;
	return 0;
}

/* Says what a file that is not HDF5 seems to be. */
static mla_status check_signature(const char *path, int descriptor, off_t bytes)
{
	char head[HEAD_BYTES] = "";
	const ssize_t n = pread(descriptor, head, HEAD_BYTES - 1, 0);
	off_t begin;

	if (n < 0)
		return cap_fail(path, "%s", strerror(errno));
	if (signature_at(descriptor, 0))
		return MLA_OK;
	if (!n)
		return cap_fail(path, "file is empty");
	begin = user_block(descriptor, bytes);
	if (begin)
		return cap_fail(path,
				"has a user block of %" PRId64 " bytes, expected HDF5 from the "
				"first byte (h5unjam removes it)",
				(int64_t)begin);
	for (ssize_t i = 0; i < n; i++)
		if (!isprint((unsigned char)head[i]))
			head[i] = '.';
	return cap_fail(path, "not an HDF5 file (first bytes: \"%s\")%s", head,
			strncmp(head, "version https://git-lfs", 23)
				? ""
				: ": this is a Git LFS pointer, fetch the real file");
}

/* ---- the parser's findings ------------------------------------------------------------------ */

/* A copy: what is looked at twice does not change in between. */
static mla_status read_listing(struct capture *capture, size_t bytes)
{
	void *copy = bytes <= CAP_WINDOW_BYTES ? malloc(bytes + 1) : NULL;
	mla_status status;

	if (!copy)
		return cap_fail_memory(capture->path);
	memcpy(copy, cap_reader_window(), bytes);
	status = cap_listing_read(&capture->listing, capture->path, copy, bytes);
	free(copy);
	return status;
}

static mla_status open_descriptor(struct capture *capture, int descriptor, const struct stat *facts)
{
	size_t bytes;
	mla_status status;

	if (!S_ISREG(facts->st_mode))
		return cap_fail(capture->path, "not a regular file");
	capture->file_bytes = (uint64_t)facts->st_size;
	status = check_signature(capture->path, descriptor, facts->st_size);
	if (!status)
		status = cap_reader_open(capture->path, descriptor, &capture->reader, &bytes);
	return status ? status : read_listing(capture, bytes);
}

static mla_status open_once(struct capture *capture, bool *replaced)
{
	struct stat facts;
	const int descriptor = open_input(capture->path, &facts), error = errno;
	mla_status status;

	*replaced = false;
	if (descriptor < 0) {
		cap_fail(capture->path, "%s",
			 error == ENXIO ? "not a regular file" : strerror(error));
		/* nothing is known about the file then */
		return error == EMFILE || error == ENFILE || error == ENOMEM ? MLA_NO_MEMORY
									     : MLA_INVALID;
	}
	status = open_descriptor(capture, descriptor, &facts);
	*replaced = status && !fstat(descriptor, &facts) && !facts.st_nlink;
	close(descriptor);
	return status;
}

/* HDF5 opens no file that has lost its name meanwhile: another one has it now, or none. */
mla_status cap_file_open(struct capture *capture)
{
	enum { TRIES = 100 };
	bool replaced = true;
	mla_status status = MLA_OK;

	for (int i = 0; replaced && i < TRIES; i++)
		status = open_once(capture, &replaced);
	return status;
}
