/* threads.c - how many threads share a loop. One where the work is not worth a team: waking one and
 * waiting for its last member takes microseconds on an idle machine, but a time slice of the
 * scheduler, milliseconds, where others keep the cores busy. One, too, in a process that was forked
 * off a process with threads: they are gone there, and OpenMP would wait for them for ever.
 */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <omp.h>
#include <pthread.h>
#include <stdbool.h>

#include "internal.h"

/* Multiply-adds that are worth a team: a millisecond or two of one core. */
enum { WORTH_A_TEAM = 1 << 22 };

static bool threads_at_fork; /* of the parent, at its last fork */
static bool lost_threads;    /* this process, or one that it comes from, was forked so */

/* Where /proc does not say, there may have been any. */
static void count_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int found = 0;

	if (tasks)
		for (const struct dirent *task = readdir(tasks); task; task = readdir(tasks))
			found += task->d_name[0] != '.';
	threads_at_fork = found != 1;
	if (tasks)
		closedir(tasks);
}

static void note_lost(void)
{
	lost_threads = lost_threads || threads_at_fork;
}

/* When the library is loaded, because whose threads they are does not matter: a team of the
 * caller's own is OpenMP's as well. */
static void __attribute__((constructor)) watch_forks(void)
{
	pthread_atfork(count_threads, NULL, note_lost);
}

int ref_threads(double work)
{
	return work < WORTH_A_TEAM || lost_threads ? 1 : omp_get_max_threads();
}

double ref_work(const mla_config *config, int64_t rows, int64_t keys)
{
	/* a row and a key cost something by themselves: they are found and converted */
	const double row = 2.0 * config->head_dim_ckv + config->head_dim_kpe + 64;

	return (double)rows * ((double)keys + 8) * row;
}
