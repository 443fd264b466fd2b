/* reader.c - the process that parses a file, seen from the verb. HDF5 does not survive every file,
 * so none is parsed where a verb works: whatever a hostile file does to the parser, the verb gets a
 * sentence.
 *
 * Three processes stand behind a verb. The keeper is forked while the program is still small,
 * before a GPU or a team of threads is started, and does nothing but start parsers. A watcher waits
 * for its parser and tells how it ended. The parser is confined: memory, time, no core file. All
 * end when the verb does, since their sockets close.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WORK_SECONDS = 4,  /* of processor time, for one piece of work: 4,096 objects, or one box */
	WAIT_SECONDS = 60, /* the same, by the clock: a disk may be slow */
	NUM_HANDED = 3,    /* descriptors of a launch */
};

/* Beyond what is mapped when the parser starts, the window included: four chunks on their way
 * through the filters, and the listing. */
#define PARSER_BYTES ((rlim_t)512 << 20)

enum { HAND_FILE, HAND_SOCKET, HAND_STATUS };

struct cap_reader {
	char *path;
	int socket, status; /* to the parser; from its watcher */
};

/* The verb's end of the keeper's socket. */
static int keeper = -1;
static pid_t keeper_process;
static pid_t keeper_of; /* the process that started it: a fork of a verb starts its own */

/* Shared with the keeper and all that it starts; a verb asks one parser at a time, and takes what
 * it asked for. Memory without a file: a limit on the size of files is not one on what is read. */
static void *window;

/* ---- the parser ----------------------------------------------------------------------------- */

/* Sanitizers need address space without end. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Winds the clocks up again. */
static void begin_work(void)
{
	const struct itimerval work = {.it_value = {.tv_sec = WORK_SECONDS}};

	setitimer(ITIMER_PROF, &work, NULL);
	alarm(WAIT_SECONDS);
}

static rlim_t mapped_bytes(void)
{
	FILE *stream = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (stream) {
		if (fscanf(stream, "%lu", &pages) != 1)
			pages = 0;
		fclose(stream);
	}
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void confine(void)
{
	const rlim_t limit = mapped_bytes() + PARSER_BYTES;
	const struct rlimit memory = {limit, limit}, none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	if (!SANITIZED)
		setrlimit(RLIMIT_AS, &memory);
}

static void parse(const char *path, const int *handed)
{
	confine();
	cap_parser_serve(path, handed[HAND_FILE], handed[HAND_SOCKET], window, begin_work);
	_exit(0);
}

/* ---- keeper and watcher --------------------------------------------------------------------- */

static void watch(const char *path, const int *handed)
{
	const pid_t parser = fork();
	int ended = 0;

	if (!parser)
		parse(path, handed);
	close(handed[HAND_SOCKET]); /* now it closes when the parser ends */
	if (parser < 0)
		_exit(1);
	while (waitpid(parser, &ended, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	_exit(write(handed[HAND_STATUS], &ended, sizeof(ended)) != sizeof(ended));
}

/* A message of the verb: a path, and the descriptors of a launch. false: the verb has ended. */
static bool receive(int socket, char path[PATH_MAX], int handed[NUM_HANDED])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(NUM_HANDED * sizeof(int))];
	} control;
	struct iovec text = {path, PATH_MAX - 1};
	struct msghdr message = {.msg_iov = &text,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	const ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *first = CMSG_FIRSTHDR(&message);

	if (length <= 0 || !first || first->cmsg_len != CMSG_LEN(NUM_HANDED * sizeof(int)))
		return false;
	path[length] = '\0';
	memcpy(handed, CMSG_DATA(first), NUM_HANDED * sizeof(int));
	return true;
}

/* Neither the terminal's signals nor the verb's streams are the keeper's. */
static void detach(void)
{
	const int null = open("/dev/null", O_RDWR);
	sigset_t all;

	setpgid(0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* parsers that have lost their watcher are its own */
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	signal(SIGCHLD, SIG_IGN); /* watchers are nobody's to wait for */
	for (int stream = 0; null >= 0 && stream <= 2; stream++)
		dup2(null, stream);
}

/* Nobody asks any more: what still works for the verb ends, and is waited for. */
static void clear(void)
{
	if (getpgrp() != getpid())
		return;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) >= 0 || errno == EINTR)
		;
}

static void keep(int socket)
{
	char path[PATH_MAX];
	int handed[NUM_HANDED];

	detach();
	while (receive(socket, path, handed)) {
		if (!fork()) {
			close(socket);
			signal(SIGCHLD, SIG_DFL);
			watch(path, handed);
		}
		for (int i = 0; i < NUM_HANDED; i++)
			close(handed[i]);
	}
	clear();
	_exit(0);
}

/* At exit, too, so that nobody else has to wait for the keeper. */
void capture_stop(void)
{
	if (keeper < 0 || keeper_of != getpid())
		return;
	close(keeper);
	keeper = -1;
	while (waitpid(keeper_process, NULL, 0) < 0 && errno == EINTR)
		;
}

mla_status capture_start(void)
{
	static bool stops;

	int ends[2];
	pid_t child;

	if (keeper >= 0 && keeper_of == getpid())
		return MLA_OK;
	window = mmap(NULL, CAP_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (window == MAP_FAILED)
		return mla_fail(MLA_NO_MEMORY, "no memory to share with the reading process: %s",
				strerror(errno));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return mla_fail(MLA_NO_MEMORY, "no socket to the reading process: %s",
				strerror(errno));
	fflush(NULL); /* what waits to be printed is the verb's alone */
	child = fork();
	if (!child) {
		close(ends[0]);
		keep(ends[1]);
	}
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return mla_fail(MLA_NO_MEMORY, "no reading process: %s", strerror(errno));
	}
	keeper = ends[0];
	keeper_process = child;
	keeper_of = getpid();
	stops = stops || !atexit(capture_stop);
	return MLA_OK;
}

/* ---- the verb's end ------------------------------------------------------------------------- */

static bool hand_over(const char *path, const int handed[NUM_HANDED])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(NUM_HANDED * sizeof(int))];
	} control = {0};
	struct iovec text = {(char *)path, strlen(path)};
	const struct msghdr message = {.msg_iov = &text,
				       .msg_iovlen = 1,
				       .msg_control = &control,
				       .msg_controllen = sizeof(control)};
	struct cmsghdr *first = CMSG_FIRSTHDR(&message);

	first->cmsg_level = SOL_SOCKET;
	first->cmsg_type = SCM_RIGHTS;
	first->cmsg_len = CMSG_LEN(NUM_HANDED * sizeof(int));
	memcpy(CMSG_DATA(first), handed, NUM_HANDED * sizeof(int));
	return sendmsg(keeper, &message, MSG_NOSIGNAL) == (ssize_t)text.iov_len;
}

/* Nothing is known about the file then. */
static mla_status fail_to_read(const char *path, const char *what)
{
	cap_fail(path, "%s: %s", what, strerror(errno));
	return MLA_NO_MEMORY;
}

/* How the parser ended, as a sentence. */
static mla_status judge(const struct cap_reader *reader)
{
	int ended, number;

	errno = ESRCH; /* where the watcher said nothing */
	if (read(reader->status, &ended, sizeof(ended)) != sizeof(ended))
		return fail_to_read(reader->path, "lost the reading process");
	number = WIFSIGNALED(ended) ? WTERMSIG(ended) : 0;
	if (number == SIGPROF || number == SIGALRM)
		return cap_fail(reader->path,
				"parser made no progress in %d s: treat it as hostile or damaged",
				number == SIGPROF ? WORK_SECONDS : WAIT_SECONDS);
	if (number)
		return cap_fail(reader->path,
				"parser crashed (signal %d) reading this file: treat it as hostile "
				"or damaged",
				number);
	return cap_fail(reader->path,
			"parser ended with status %d reading this file: treat it as hostile or "
			"damaged",
			WIFEXITED(ended) ? WEXITSTATUS(ended) : -1);
}

static mla_status await(const struct cap_reader *reader, uint64_t *bytes)
{
	struct cap_reply reply;
	ssize_t got;

	do
		got = recv(reader->socket, &reply, sizeof(reply), 0);
	while (got < 0 && errno == EINTR);
	if (got != sizeof(reply))
		return judge(reader);
	*bytes = reply.bytes;
	if (!reply.status)
		return MLA_OK;
	return mla_fail(reply.status == MLA_NO_MEMORY ? MLA_NO_MEMORY : MLA_INVALID, "%.*s",
			(int)sizeof(reply.sentence) - 1, reply.sentence);
}

/* What is handed over is closed here: the parser holds it now, or nobody does. */
static mla_status launch(struct cap_reader *reader, int file)
{
	int sockets[2] = {-1, -1}, statuses[2] = {-1, -1};
	mla_status status = MLA_OK;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) ||
	    pipe2(statuses, O_CLOEXEC)) {
		status = fail_to_read(reader->path, "no socket to the reading process");
	} else {
		const int handed[NUM_HANDED] = {[HAND_FILE] = file,
						[HAND_SOCKET] = sockets[1],
						[HAND_STATUS] = statuses[1]};

		if (!hand_over(reader->path, handed))
			status = fail_to_read(reader->path, "no reading process");
	}
	reader->socket = sockets[0];
	reader->status = statuses[0];
	if (sockets[1] >= 0)
		close(sockets[1]);
	if (statuses[1] >= 0)
		close(statuses[1]);
	return status;
}

mla_status cap_reader_open(const char *path, int descriptor, struct cap_reader **reader,
			   size_t *bytes)
{
	uint64_t listed = 0;
	mla_status status = capture_start();

	*reader = NULL;
	if (status) {
		cap_fail(path, "%s", mla_last_error());
		return status;
	}
	*reader = calloc(1, sizeof(**reader));
	if (!*reader)
		return cap_fail_memory(path);
	(*reader)->socket = (*reader)->status = -1;
	(*reader)->path = strdup(path);
	status = (*reader)->path ? launch(*reader, descriptor) : cap_fail_memory(path);
	if (!status)
		status = await(*reader, &listed);
	*bytes = listed;
	if (status) {
		cap_reader_close(*reader);
		*reader = NULL;
	}
	return status;
}

const void *cap_reader_window(void)
{
	return window;
}

mla_status cap_reader_ask(struct cap_reader *reader, const struct cap_request *request)
{
	uint64_t bytes;

	/* A parser that has ended is told by what it does not answer. */
	(void)!send(reader->socket, request, sizeof(*request), MSG_NOSIGNAL);
	return await(reader, &bytes);
}

void cap_reader_close(struct cap_reader *reader)
{
	int ended;

	if (!reader)
		return;
	if (reader->socket >= 0)
		close(reader->socket);
	/* The parser locks the file against writers until it has ended. */
	while (reader->status >= 0 && read(reader->status, &ended, sizeof(ended)) > 0)
		;
	if (reader->status >= 0)
		close(reader->status);
	free(reader->path);
	free(reader);
}
