/* known.h - figures of GPUs by name, for plans that are made where no such GPU is.
 */
#ifndef MLA_DEVICE_KNOWN_H
#define MLA_DEVICE_KNOWN_H

#include "mla.h"

struct known_gpu {
	const char *name; /* "h200" */
	mla_device device;
};
/* The first is the one that is meant where nobody says which. */
extern const struct known_gpu known_gpus[];
extern const int known_num_gpus;

/* By name, in small or large letters; NULL if no such GPU is known. */
const mla_device *known_device(const char *name);
/* The first of the table with so many multiprocessors: few of them split even small requests. */
mla_device known_with_sms(int32_t sm_count);

#endif
