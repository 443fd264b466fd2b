/* ladder.h - the table of kernels, made from optimized/ladder.def. */
#ifndef MLA_LADDER_H
#define MLA_LADDER_H

#include "mla.h"

struct mla_kernel;

struct ladder_rung {
	const char *name;                /* "01_naive" */
	const char *arch;                /* "sm_80" */
	const struct mla_kernel *kernel; /* NULL: built without nvcc */
};

/* Finds the rung that takes the config on the device. "auto": the highest rung that does and whose
 * tiles a request of so many packed rows does not leave more than half empty. */
mla_status ladder_find(const char *kernel, const mla_config *config, const mla_device *device,
		       int64_t rows, const struct ladder_rung **rung);

#endif
