/* ceilings.h - what this GPU can do at most, measured: how fast it reads and copies memory, and how
 * fast its tensor cores multiply. mla ceilings measures and keeps them in a file, mla bench says
 * how far a kernel is from them.
 */
#ifndef MLA_BENCH_CEILINGS_H
#define MLA_BENCH_CEILINGS_H

#include <stdbool.h>

#include "base/output.h"
#include "bench/clock.h"
#include "mla.h"

enum ceiling_kind {
	CEILING_READ,  /* GB/s of plain loads */
	CEILING_COPY,  /* GB/s, read and written bytes counted */
	CEILING_MMA,   /* TFLOP/s of mma.sync on registers, bf16 */
	CEILING_WGMMA, /* TFLOP/s of wgmma on shared memory, bf16; compute capability 9.0 */
	CEILING_GEMM,  /* TFLOP/s of cuBLAS, bf16, 8192^3 */
	CEILING_NUM_KINDS,
};
struct ceiling_name {
	const char *key;     /* in files: "read_gbs" */
	const char *title;   /* in tables */
	const char *unit;    /* "GB/s" */
	const char *meaning; /* one line */
};
extern const struct ceiling_name ceiling_names[CEILING_NUM_KINDS];

/* Rates, not times: more is better. stats.n 0: not measured, why says why. */
struct ceiling {
	struct stats stats;
	struct nvml_load load; /* while it was measured; of a file its medians alone */
	char why[256];
};
struct ceilings {
	char gpu[96], date[32];
	struct ceiling of[CEILING_NUM_KINDS];
};

/* The tensor ceiling is the fastest of the three that were measured. 0: not known. */
double ceilings_read_gbs(const struct ceilings *ceilings);
double ceilings_tflops(const struct ceilings *ceilings);

/* Measures on the current GPU; stop as for timings. Returns how many succeeded. */
int ceilings_measure(const struct bench_stop *stop, const struct nvml *nvml,
		     void (*progress)(void *opaque, double share), struct ceilings *ceilings);

/* $XDG_CACHE_HOME/mla/ceilings.json, else ~/.cache/mla/ceilings.json; the caller frees it. NULL
 * without either variable. */
char *ceilings_default_path(void);
/* The entry of one GPU. *found is false if there is no such file or entry; a file that is not what
 * it should be is an error. */
mla_status ceilings_load(const char *path, const char *gpu, struct ceilings *ceilings, bool *found);
/* The same of the file that a user named, which must be there, or of ceilings_default_path() where
 * path is NULL. Nothing is found without that, or without a gpu. */
mla_status ceilings_find(const char *path, const char *gpu, struct ceilings *ceilings, bool *found);
/* The entry of a file that has one alone; another number of them is an error, and so is no file. */
mla_status ceilings_only(const char *path, struct ceilings *ceilings, bool *found);
/* The entries of all GPUs, which the caller frees; none if there is no such file. */
mla_status ceilings_load_all(const char *path, struct ceilings **all, int *count);
/* Opens the file that figures are to be kept in, before they are measured; folders are made. As
 * output_open, and MLA_INVALID for a file that is not what it should be. */
mla_status ceilings_open(const char *path, struct output *output);
/* Puts or replaces the entry of ceilings->gpu, and closes. */
mla_status ceilings_save(struct output *output, const struct ceilings *ceilings);

#endif
