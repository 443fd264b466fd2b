/* output.c - files are written beside what they replace, and renamed when they are whole. */
#define _GNU_SOURCE /* realpath */
#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/input.h"
#include "base/standing.h"
#include "lib/error.h"
#include "lib/plain.h"

/* A path may be longer than a sentence, which must not lose its end. */
#define CANNOT "%.300s: cannot be written: "

static mla_status fail(const struct output *o, int error)
{
	const mla_status status = error == ENOMEM ? MLA_NO_MEMORY : MLA_INVALID;

	return mla_fail(status, CANNOT "%s", o->name, strerror(error));
}

/* ---- what a signal leaves -------------------------------------------------------------------- */

/* The outputs that are open, where a signal handler finds them: nothing here is ever freed. */
struct output_slot {
	atomic_int owner; /* the process that opened it, whose children leave it alone; 0: unused */
	atomic_bool beside; /* path is a file of ours without its name yet */
	atomic_bool named;
	char path[PATH_MAX], name[256];
};

static struct output_slot slots[8];
enum { NUM_SLOTS = sizeof(slots) / sizeof(*slots) };

static struct output_slot *slot_take(const char *name)
{
	for (int i = 0; i < NUM_SLOTS; i++) {
		struct output_slot *slot = &slots[i];
		int unused = 0;

		if (!atomic_compare_exchange_strong(&slot->owner, &unused, -1))
			continue;
		plain_copy(slot->name, sizeof(slot->name), name);
		slot->beside = slot->named = false;
		slot->owner = getpid();
		return slot;
	}
	return NULL;
}

bool output_any(void)
{
	bool any = false;

	for (int i = 0; i < NUM_SLOTS; i++)
		any |= slots[i].owner == getpid();
	return any;
}

const char *output_rescue(int *at, bool *named)
{
	while (*at < NUM_SLOTS) {
		struct output_slot *slot = &slots[(*at)++];

		if (slot->owner != getpid())
			continue;
		if (slot->beside)
			unlink(slot->path);
		*named = slot->named;
		return slot->name;
	}
	return NULL;
}

/* ---- what may be written --------------------------------------------------------------------- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool is_standard(const char *path)
{
	return !strcmp(path, "-");
}

/* Links are followed. */
static bool find(const char *path, struct stat *found)
{
	return !(is_standard(path) ? fstat(STDOUT_FILENO, found) : stat(path, found));
}

static const char *last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The folder of a file, which need not be there. */
static bool find_folder(const char *path, struct stat *found)
{
	const char *name = last_name(path);
	char folder[PATH_MAX];

	if (strlen(path) >= sizeof(folder))
		return false;
	snprintf(folder, sizeof(folder), "%.*s.", (int)(name - path), path);
	return !stat(folder, found);
}

/* One file under two names: links of both kinds, ./ and the like; or a file that is not there yet,
 * whose folder is. */
static bool same_place(const char *a, const char *b)
{
	struct stat of_a, of_b;
	const bool is_a = find(a, &of_a), is_b = find(b, &of_b);

	if (is_a || is_b)
		return is_a && is_b && same_file(&of_a, &of_b);
	return !strcmp(last_name(a), last_name(b)) && find_folder(a, &of_a) &&
	       find_folder(b, &of_b) && same_file(&of_a, &of_b);
}

/* Nothing is lost in /dev/null and its like. */
static bool is_device(const char *path)
{
	struct stat found;

	return find(path, &found) && S_ISCHR(found.st_mode) && !is_standard(path);
}

/* The first of other files of the command that is this one; NULL: none. */
static const char *met(const struct output *o, const char *const *paths, int count)
{
	for (int i = 0; i < count; i++)
		if (paths[i] && same_place(o->name, paths[i]) && !is_device(o->name))
			return paths[i];
	return NULL;
}

static mla_status check_others(const struct output *o, const struct output_plan *plan)
{
	const char *input = met(o, plan->inputs, plan->num_inputs);
	const char *other = met(o, plan->others, plan->num_others);

	if (!input && !other)
		return MLA_OK;
	return mla_fail(MLA_REFUSED, CANNOT "%s, %.100s; choose another name", o->name,
			input ? "it is an input of the same command"
			      : "another output of the same command goes there",
			input ? input : other);
}

static bool streams(const struct output_plan *plan)
{
	return plan->kind != OUTPUT_CAPTURE && !plan->regular;
}

static mla_status fail_kind(const struct output *o, const struct output_plan *plan, mode_t mode)
{
	return mla_fail(MLA_REFUSED, CANNOT "it is %s, expected a regular file%s", o->name,
			input_kind(mode), streams(plan) ? ", a pipe or a character device" : "");
}

/* ---- opening --------------------------------------------------------------------------------- */

/* A file of our own in the target's folder, under a name that nobody foresees: what someone else
 * has put there is neither followed nor opened. A signal finds it from before it is there. */
static mla_status open_beside(struct output *o)
{
	struct output_slot *slot = o->slot;
	uint64_t bits;
	int length;

	if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
		return fail(o, errno);
	length = snprintf(slot->path, sizeof(slot->path), "%.*s.mla-%016" PRIx64,
			  (int)(last_name(o->target) - o->target), o->target, bits);
	if (length >= (int)sizeof(slot->path))
		return fail(o, ENAMETOOLONG);
	slot->beside = true;
	o->descriptor = open(slot->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			     o->mode ? 0600 : 0666);
	if (o->descriptor < 0) {
		slot->beside = false; /* whatever is there, it is not ours */
		return fail(o, errno);
	}
	o->path = slot->path;
	return MLA_OK;
}

/* Nothing was found, with this errno. */
static mla_status open_new(struct output *o, int error)
{
	struct stat link;

	if (error != ENOENT || !*o->name)
		return fail(o, error);
	if (!lstat(o->name, &link))
		return mla_fail(MLA_REFUSED, CANNOT "it is a symbolic link to nothing", o->name);
	if (!*last_name(o->name))
		return mla_fail(MLA_INVALID, CANNOT "there is no such folder", o->name);
	o->target = strdup(o->name);
	return o->target ? open_beside(o) : fail(o, ENOMEM);
}

/* To rename over a file needs no right to write it; who may not write it shall not replace it. */
static mla_status open_existing(struct output *o, const struct stat *found,
				const struct output_plan *plan)
{
	mla_status status;

	o->mode = found->st_mode & 0777;
	if (!access(o->name, W_OK))
		o->target = realpath(o->name, NULL);
	if (!o->target)
		return fail(o, errno);
	status = standing_check(o->target, o->name, plan);
	return status ? status : open_beside(o);
}

/* A descriptor of its own for what goes to standard output; what is printed goes to standard error
 * from now on, or nowhere if that ends in the same pipe or file. A terminal shows both. */
static int take_standard(void)
{
	struct stat printed, said;
	int own, away = -1;

	fflush(stdout);
	own = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (own < 0)
		return own;
	if (isatty(STDOUT_FILENO) || fstat(STDOUT_FILENO, &printed) ||
	    (!fstat(STDERR_FILENO, &said) && !same_file(&printed, &said)))
		away = dup2(STDERR_FILENO, STDOUT_FILENO);
	if (away < 0) {
		away = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(away, STDOUT_FILENO);
		if (away >= 0)
			close(away);
	}
	return own;
}

/* A pipe that nobody reads cannot be opened. A reader that was started together with this program
 * is waited for, but not for ever. */
static int open_straight(const char *path)
{
	enum { WAIT_MS = 2000, STEP_MS = 10 };
	const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
	int descriptor = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	for (int ms = 0; descriptor < 0 && errno == ENXIO && ms < WAIT_MS; ms += STEP_MS) {
		nanosleep(&step, NULL);
		descriptor = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	}
	if (descriptor >= 0)
		fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
	return descriptor;
}

static mla_status open_stream(struct output *o, const struct stat *found, int printed)
{
	struct stat opened;

	if (printed == STDOUT_FILENO)
		o->descriptor = take_standard();
	else if (printed == STDERR_FILENO)
		o->descriptor = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	else
		o->descriptor = open_straight(o->name);
	if (o->descriptor < 0 && errno == ENXIO)
		return mla_fail(MLA_REFUSED, CANNOT "nobody reads this pipe", o->name);
	if (o->descriptor < 0)
		return fail(o, errno);
	if (fstat(o->descriptor, &opened) || !same_file(&opened, found))
		return mla_fail(MLA_REFUSED, CANNOT "it was replaced meanwhile", o->name);
	return MLA_OK;
}

/* The descriptor that a file is printed to, or -1. */
static int printed_to(const struct stat *found)
{
	struct stat printed;

	for (int i = STDOUT_FILENO; i <= STDERR_FILENO; i++)
		if (!fstat(i, &printed) && same_file(&printed, found))
			return i;
	return -1;
}

static mla_status open_found(struct output *o, const struct stat *found,
			     const struct output_plan *plan)
{
	const int printed = printed_to(found);

	if (S_ISREG(found->st_mode) && printed >= 0 && !streams(plan))
		return mla_fail(MLA_REFUSED, CANNOT "what is printed goes there, too", o->name);
	if (streams(plan) && (S_ISFIFO(found->st_mode) || S_ISCHR(found->st_mode) || printed >= 0))
		return open_stream(o, found, printed);
	return S_ISREG(found->st_mode) ? open_existing(o, found, plan)
				       : fail_kind(o, plan, found->st_mode);
}

mla_status output_open(struct output *o, const char *path, const struct output_plan *plan)
{
	struct stat found;
	mla_status status;
	int error;

	*o = (struct output){.name = path, .descriptor = -1, .slot = slot_take(path)};
	if (!o->slot)
		return fail(o, EMFILE);
	status = check_others(o, plan);
	error = find(path, &found) ? 0 : errno;
	if (!status)
		status = error ? open_new(o, error) : open_found(o, &found, plan);
	if (status)
		output_abandon(o);
	return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_all(int descriptor, const char *text, size_t size)
{
	struct pollfd ready = {.fd = descriptor, .events = POLLOUT};

	while (size > 0) {
		const ssize_t n = write(descriptor, text, size);

		if (n >= 0) {
			text += n;
			size -= (size_t)n;
		} else if (errno == EAGAIN) { /* whoever shares the pipe has made it so */
			poll(&ready, 1, -1);
		} else if (errno != EINTR) {
			return errno;
		}
	}
	return 0;
}

/* The name as well survives a crash of the machine. The file is in place already: what cannot be
 * done here is not done on such a file system. */
static void sync_folder(const char *path)
{
	char folder[PATH_MAX];
	int descriptor;

	snprintf(folder, sizeof(folder), "%.*s.", (int)(last_name(path) - path), path);
	descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (descriptor < 0)
		return;
	(void)fsync(descriptor);
	close(descriptor);
}

/* Data first, then the name: what a crash leaves under the final name is whole. */
static mla_status publish(struct output *o)
{
	int error = (o->mode && fchmod(o->descriptor, o->mode)) || fsync(o->descriptor) ? errno : 0;

	if (close(o->descriptor) && !error)
		error = errno;
	o->descriptor = -1;
	if (!error && rename(o->path, o->target))
		error = errno;
	if (error)
		return fail(o, error);
	o->slot->beside = false;
	o->slot->named = true;
	o->path = NULL;
	sync_folder(o->target);
	return MLA_OK;
}

bool output_streams(const struct output *o)
{
	return !o->target;
}

mla_status output_put(struct output *o, const char *text, size_t size)
{
	mla_status status = MLA_OK;
	int error;

	if (o->target && !o->path)
		status = open_beside(o);
	if (status)
		return status;
	error = write_all(o->descriptor, text, size);
	if (error)
		return fail(o, error);
	return o->target ? publish(o) : MLA_OK;
}

mla_status output_put_json(struct output *o, const struct json_t *root)
{
	char *text = json_dumps(root, JSON_INDENT(1) | JSON_ENSURE_ASCII);
	size_t size = text ? strlen(text) : 0;
	mla_status status;

	if (!text)
		return fail(o, ENOMEM);
	text[size++] = '\n'; /* in place of its end */
	status = output_put(o, text, size);
	free(text);
	return status;
}

mla_status output_commit(struct output *o)
{
	const mla_status status = publish(o);

	output_abandon(o);
	return status;
}

void output_abandon(struct output *o)
{
	if (o->name && o->descriptor >= 0)
		close(o->descriptor);
	if (o->path)
		unlink(o->path);
	if (o->slot) {
		o->slot->beside = false;
		o->slot->owner = 0;
	}
	free(o->target);
	*o = (struct output){0};
}
