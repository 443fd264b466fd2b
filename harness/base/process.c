/* process.c - other programs that a verb calls.
 */
#define _GNU_SOURCE
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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
	*code = WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
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
