/* process.h - other programs that a verb calls: python3 for plots, ncu for profiles. */
#ifndef MLA_BASE_PROCESS_H
#define MLA_BASE_PROCESS_H

#include <stdbool.h>

#include "mla.h"

/* Runs argv[0], looked up on PATH unless it has a '/', and waits for it. quiet: its output goes
 * nowhere. *code: its exit code, 128 + signal if it was killed. MLA_REFUSED if it cannot be
 * started. */
mla_status process_run(const char *const *argv, bool quiet, int *code);

/* Becomes argv[0], found as above, with nothing to read: what a signal is to end is that program
 * itself. Returns only if it cannot be started, MLA_REFUSED. */
mla_status process_become(const char *const *argv);

/* Can a program of this name be run? With a '/' it is a path, else PATH is searched. */
bool process_exists(const char *program);

/* The path of a file given relative to the folder that this program lies in ("../share/mla/..."):
 * how a build, a bundle and an installation find what belongs to them. NULL if there is no such
 * file. The caller frees it. */
char *process_beside(const char *relative);

/* This program's own path. The caller frees it. */
char *process_self(void);

#endif
