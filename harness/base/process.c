/* process.c - other programs that a verb calls.
 */
#define _GNU_SOURCE
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "lib/error.h"

static int redirect(posix_spawn_file_actions_t *actions, bool quiet)
{
	int error = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);

	for (int stream = 1; stream <= 2 && quiet && !error; stream++)
		error = posix_spawn_file_actions_addopen(actions, stream, "/dev/null", O_WRONLY, 0);
	return error;
}

static int code_of(int ended)
{
	return WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
}

mla_status process_run(const char *const *argv, bool quiet, int *code)
{
	posix_spawn_file_actions_t actions;
	pid_t child;
	int ended = 0, error = posix_spawn_file_actions_init(&actions);

	if (!error) {
		error = redirect(&actions, quiet);
		fflush(NULL); /* what was said before the child speaks comes before it */
		if (!error)
			error = posix_spawnp(&child, argv[0], &actions, NULL, (char **)argv,
					     environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	if (!error && waitpid(child, &ended, 0) != child)
		error = errno;
	if (error)
		return mla_fail(error == ENOMEM ? MLA_NO_MEMORY : MLA_REFUSED,
				"%s cannot be started: %s", argv[0], strerror(error));
	*code = code_of(ended);
	return MLA_OK;
}

mla_status process_become(const char *const *argv)
{
	const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (nothing >= 0)
		dup2(nothing, STDIN_FILENO);
	fflush(NULL);
	execvp(argv[0], (char **)argv);
	return mla_fail(MLA_REFUSED, "%s cannot be started: %s", argv[0], strerror(errno));
}

/* ---- programs side by side --------------------------------------------------------------------
 */

/* How long the end of a child may go unnoticed where something else holds its pipe open. */
enum { LOOK_AGAIN_MS = 20 };

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The kernel ends it with its parent: no handler sees a SIGKILL. */
static void be_child(const char *const *argv, int output, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127); /* it has ended already */
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	process_become(argv);
	dprintf(STDERR_FILENO, "%s\n", mla_last_error());
	_exit(127);
}

mla_status process_start(const char *const *argv, int seconds, struct process_child *child)
{
	const pid_t self = getpid();
	int ends[2];

	*child = (struct process_child){0};
	if (pipe2(ends, O_CLOEXEC))
		return mla_fail(MLA_NO_MEMORY, "no pipe to %s: %s", argv[0], strerror(errno));
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	fflush(NULL); /* what waits to be printed is the parent's alone */

	const pid_t id = fork();

	if (!id)
		be_child(argv, ends[1], self);
	close(ends[1]);
	if (id < 0) {
		close(ends[0]);
		return mla_fail(MLA_NO_MEMORY, "%s cannot be started: %s", argv[0],
				strerror(errno));
	}
	child->id = id;
	child->pipe = ends[0];
	child->deadline = now_ms() + (int64_t)seconds * 1000;
	child->output = text_alloc(PROCESS_KEPT + 1);
	return MLA_OK;
}

/* What a pipe can hold, and more; what has no room is counted. One that prints without end is read
 * again after the others. */
static void drain(struct process_child *child)
{
	static char beyond[PROCESS_KEPT];

	for (int i = 0; i < 4 && child->pipe >= 0; i++) {
		const size_t room = PROCESS_KEPT - child->kept;
		const ssize_t n = read(child->pipe, room ? child->output + child->kept : beyond,
				       room ? room : sizeof(beyond));

		if (n < 0)
			return;
		if (room)
			child->kept += (size_t)n;
		else
			child->left_out += (size_t)n;
		if (!n) {
			close(child->pipe);
			child->pipe = -1; /* as poll() leaves out */
		}
	}
}

static void close_pipe(struct process_child *child)
{
	drain(child);
	if (child->pipe >= 0)
		close(child->pipe);
	child->pipe = -1;
}

static bool has_ended(struct process_child *child)
{
	int ended;

	if (now_ms() >= child->deadline) {
		kill(child->id, SIGKILL);
		child->late = true;
	}
	if (waitpid(child->id, &ended, WNOHANG) != child->id)
		return false;
	child->id = 0;
	child->code = code_of(ended);
	child->late = child->late && child->code == 128 + SIGKILL;
	close_pipe(child);
	return true;
}

int process_await(struct process_child *children, int count)
{
	struct pollfd *pipes = text_alloc((size_t)count * sizeof(*pipes));
	int found = -1;

	while (found < 0) {
		for (int i = 0; i < count; i++)
			pipes[i] = (struct pollfd){.fd = children[i].id ? children[i].pipe : -1,
						   .events = POLLIN};
		poll(pipes, (nfds_t)count, LOOK_AGAIN_MS);
		for (int i = 0; i < count; i++)
			if (children[i].id)
				drain(&children[i]);
		for (int i = 0; i < count && found < 0; i++)
			if (children[i].id && has_ended(&children[i]))
				found = i;
	}
	free(pipes);
	return found;
}

void process_drop(struct process_child *child)
{
	if (child->id) {
		kill(child->id, SIGKILL);
		waitpid(child->id, NULL, 0);
		close_pipe(child);
	}
	free(child->output);
	*child = (struct process_child){0};
}

/* ---- where programs are -----------------------------------------------------------------------
 */

static bool runnable(const char *path)
{
	struct stat found;

	return !stat(path, &found) && S_ISREG(found.st_mode) && !access(path, X_OK);
}

bool process_exists(const char *program)
{
	if (strchr(program, '/'))
		return runnable(program);

	const char *path = getenv("PATH");
	char *folders = text_format("%s", path ? path : ""), *rest = folders;
	bool found = false;

	for (char *folder; !found && (folder = strsep(&rest, ":"));) {
		char *file = text_format("%s/%s", *folder ? folder : ".", program);

		found = runnable(file);
		free(file);
	}
	free(folders);
	return found;
}

char *process_self(void)
{
	char path[PATH_MAX];
	const ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[length > 0 ? length : 0] = '\0';
	return text_format("%s", path);
}

char *process_beside(const char *relative)
{
	char *self = process_self(), *slash = strrchr(self, '/');

	if (slash)
		*slash = '\0';

	char *path = text_format("%s/%s", self, relative);

	free(self);
	if (slash && !access(path, F_OK))
		return path;
	free(path);
	return NULL;
}
