/* ending.c - signals while files are written, and what is printed last. */
#define _GNU_SOURCE /* on_exit */
#include "cli/ending.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/output.h"
#include "cli/cli.h"

static const struct {
	int number;
	const char *name;
} signals[] = {
	{SIGHUP, "SIGHUP"},   {SIGINT, "SIGINT"},       {SIGQUIT, "SIGQUIT"}, {SIGTERM, "SIGTERM"},
	{SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"},     {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"},
	{SIGXCPU, "SIGXCPU"}, {SIGVTALRM, "SIGVTALRM"}, {SIGPROF, "SIGPROF"}, {SIGXFSZ, "SIGXFSZ"},
};
enum { NUM_SIGNALS = sizeof(signals) / sizeof(*signals) };

/* For a handler, which may not print. */
static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return; /* nobody hears it */
}

static const char *name_of(int number)
{
	for (int i = 0; i < NUM_SIGNALS; i++)
		if (signals[i].number == number)
			return signals[i].name;
	return "a signal";
}

/* Whether there was any. */
static bool end_outputs(const char *by)
{
	int at = 0;
	bool named, any = false;

	for (const char *name; (name = output_rescue(&at, &named)); any = true) {
		say("mla: ");
		say(name);
		say(named ? ": holds what was known before the end by "
			  : ": cannot be written: ended by ");
		say(by);
		say("\n");
	}
	return any;
}

/* A write() of this program that nobody reads, or beyond a limit, says so itself. */
static bool is_told(int number, const siginfo_t *info)
{
	if (info->si_pid != getpid())
		return false;
	return number == SIGXFSZ || (number == SIGPIPE && output_any());
}

static void end(int number, siginfo_t *info, void *context)
{
	sigset_t one;

	(void)context;
	if (is_told(number, info))
		return;
	if (end_outputs(name_of(number)))
		_exit(CLI_BAD_FILE);
	signal(number, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	raise(number);
}

static bool returned; /* from the verb */

/* A library may end the program where it stands: libgomp does where there is no thread to be had.
 * That is no verdict of a verb, whatever code it gives. */
static void end_early(int code, void *context)
{
	(void)context;
	if (returned || (code != EXIT_FAILURE && !output_any()))
		return;
	fflush(NULL);
	end_outputs("a library, or for want of memory");
	_exit(CLI_BAD_FILE);
}

/* What was ignored when the program started (nohup) stays so. */
static void watch(int number)
{
	struct sigaction action = {.sa_sigaction = end, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct sigaction before;

	sigfillset(&action.sa_mask); /* one end is enough */
	if (!sigaction(number, NULL, &before) && before.sa_handler == SIG_DFL)
		sigaction(number, &action, NULL);
}

/* They are opened the wrong way round, so that using them fails as it did. */
static void fill_standard(void)
{
	int descriptor;

	for (descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++)
		if (fcntl(descriptor, F_GETFD) < 0 &&
		    open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return;
}

void ending_prepare(void)
{
	fill_standard();
	on_exit(end_early, NULL);
	for (int i = 0; i < NUM_SIGNALS; i++)
		watch(signals[i].number);
}

/* Has the reader of a pipe gone? It has seen what it wanted. */
static bool reader_gone(void)
{
	struct pollfd pipe = {.fd = STDOUT_FILENO, .events = POLLOUT};

	return poll(&pipe, 1, 0) == 1 && pipe.revents & POLLERR;
}

int ending_code(int code)
{
	returned = true;
	if ((!fflush(stdout) && !ferror(stdout)) || reader_gone())
		return code;
	fputs("mla: standard output cannot be written\n", stderr);
	return CLI_FAILED;
}
