/* cli_fixture.h - the program as its users meet it, run by tests: its exit code, what it says
 * where, and a folder to do it in.
 *
 * The binary is $MLA_BIN, else bin/mla of $MLA_BUILD, else build/bin/mla.
 */
#ifndef MLA_TESTS_CLI_FIXTURE_H
#define MLA_TESTS_CLI_FIXTURE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))

/* ---- running the program --------------------------------------------------------------------- */

enum { MAX_ARGS = 32 };

struct result {
	int code; /* 128 + signal if it was killed */
	char *out, *err;
};

static inline const char *binary(void)
{
	static char *absolute;
	char path[PATH_MAX];
	const char *file = getenv("MLA_BIN"), *build = getenv("MLA_BUILD");
	snprintf(path, sizeof(path), "%s%s",
		 file    ? file
		 : build ? build
			 : "build",
		 file ? "" : "/bin/mla");
	free(absolute);
	absolute = realpath(path, NULL);
	cr_assert(absolute != NULL, "%s is not there: build it first", path);
	return absolute;
}

static inline char *slurp(FILE *file)
{
	cr_assert(fseek(file, 0, SEEK_END) == 0);
	const long size = ftell(file);
	char *text = calloc(1, (size_t)size + 1);
	cr_assert(text != NULL);
	rewind(file);
	cr_assert(fread(text, 1, (size_t)size, file) == (size_t)size);
	return text;
}

static inline void spawn(const char *file, char **argv, struct result *result)
{
	FILE *out = tmpfile(), *err = tmpfile();
	posix_spawn_file_actions_t actions;
	pid_t child;
	int status;
	cr_assert(out && err);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fileno(out), 1);
	posix_spawn_file_actions_adddup2(&actions, fileno(err), 2);
	cr_assert(posix_spawn(&child, file, &actions, NULL, argv, environ) == 0, "%s", file);
	posix_spawn_file_actions_destroy(&actions);
	cr_assert(waitpid(child, &status, 0) == child);
	result->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	result->out = slurp(out);
	result->err = slurp(err);
	fclose(out);
	fclose(err);
}

/* The words of a command line, at blanks. */
static inline struct result mla(const char *words)
{
	struct result result;
	char *copy = strdup(words), *argv[MAX_ARGS] = {"mla"}, *save = NULL;
	int n = 1;
	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		cr_assert(n < MAX_ARGS - 1);
		argv[n++] = word;
	}
	spawn(binary(), argv, &result);
	free(copy);
	return result;
}

static inline struct result shell(const char *command)
{
	struct result result;
	char *argv[] = {"sh", "-c", (char *)command, NULL};
	spawn("/bin/sh", argv, &result);
	return result;
}

static inline void done(struct result *result)
{
	free(result->out);
	free(result->err);
}

static inline void expect(const char *words, int code, const char *out, const char *err)
{
	struct result r = mla(words);
	cr_expect(r.code == code, "mla %s: exit code %d, expected %d\n%s%s", words, r.code, code,
		  r.out, r.err);
	if (out)
		cr_expect(strstr(r.out, out), "mla %s: no \"%s\" in\n%s", words, out, r.out);
	else
		cr_expect(*r.out == '\0', "mla %s: standard output has\n%s", words, r.out);
	if (err)
		cr_expect(strstr(r.err, err), "mla %s: no \"%s\" in\n%s", words, err, r.err);
	else
		cr_expect(*r.err == '\0', "mla %s: standard error has\n%s", words, r.err);
	done(&r);
}

/* ---- a folder of its own for each test ------------------------------------------------------- */

static char folder[64];

static inline void enter(void)
{
	binary(); /* resolved before the working directory changes */
	setenv("MLA_BIN", binary(), 1);
	snprintf(folder, sizeof(folder), "/tmp/mla-test-XXXXXX");
	cr_assert(mkdtemp(folder) != NULL);
	cr_assert(chdir(folder) == 0);
}

static inline void leave(void)
{
	char command[128];
	cr_assert(chdir("/") == 0);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_assert(system(command) == 0);
}

#endif
