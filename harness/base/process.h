/* process.h - other programs that a verb calls: python3 for plots, ncu for profiles, itself
 * emulated.
 */
#ifndef MLA_BASE_PROCESS_H
#define MLA_BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mla.h"

/* Runs argv[0], looked up on PATH unless it has a '/', and waits for it. quiet: its output goes
 * nowhere. *code: its exit code, 128 + signal if it was killed. MLA_REFUSED if it cannot be
 * started. */
mla_status process_run(const char *const *argv, bool quiet, int *code);

/* Becomes argv[0], found as above, with nothing to read: what a signal is to end is that program
 * itself. Returns only if it cannot be started, MLA_REFUSED. */
mla_status process_become(const char *const *argv);

enum { PROCESS_KEPT = 1 << 16 };

/* A program that runs beside this one and those like it. Zeroed: none. */
struct process_child {
	pid_t id; /* 0: it does not run */
	int pipe;
	int64_t deadline; /* ms, as CLOCK_MONOTONIC has it */
	bool late;        /* it was killed: its time was up */
	int code;         /* when it has ended: its exit code, 128 + signal if it was killed */
	char *output;     /* what it printed on both streams, the first PROCESS_KEPT bytes */
	size_t kept, left_out;
};

/* Starts argv[0], found as above, with nothing to read. It is killed after that many seconds, and
 * when this program ends, however that ends. A program that turns out not to start says so in its
 * output, and its code is 127. MLA_NO_MEMORY. */
mla_status process_start(const char *const *argv, int seconds, struct process_child *child);

/* Waits until one of children[count] has ended, of which one runs at least. Its index. */
int process_await(struct process_child *children, int count);

/* Kills it if it runs, and frees what it printed. */
void process_drop(struct process_child *child);

/* Can a program of this name be run? With a '/' it is a path, else PATH is searched. */
bool process_exists(const char *program);

/* The path of a file given relative to the folder that this program lies in ("../share/mla/..."):
 * how a build, a bundle and an installation find what belongs to them. NULL if there is no such
 * file. The caller frees it. */
char *process_beside(const char *relative);

/* This program's own path. The caller frees it. */
char *process_self(void);

#endif
