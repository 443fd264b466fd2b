/* guarded.h - an output in device memory between two guard bands (base/poison.h): what is written
 * beside it shows, and so does what is not written at all.
 */
#ifndef MLA_DEVICE_GUARDED_H
#define MLA_DEVICE_GUARDED_H

#include <stdbool.h>
#include <stddef.h>

#include "mla.h"

/* Zeroed: none. */
struct guarded {
	char *block; /* as allocated: the first guard */
	char *data;  /* what lies between the guards */
	size_t bytes;
};

/* Allocates; what it holds is not defined before the first guarded_poison. On failure: none. */
mla_status guarded_make(struct guarded *guarded, size_t bytes);
void guarded_free(struct guarded *guarded);

/* Bytes of the block, guards included. */
size_t guarded_size(size_t bytes);

/* Both guards anew, NaN in between. Not ordered by other streams than the default one: to be waited
 * for with gpu_sync(NULL). */
mla_status guarded_poison(const struct guarded *guarded);
/* Are both guards as they were? Reads them at once: what was running must have ended. */
mla_status guarded_look(const struct guarded *guarded, bool *intact);

#endif
