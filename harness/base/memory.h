/* memory.h - whether there is enough memory, asked before it is taken: Linux promises more than it
 * has and ends a program that believes it.
 */
#ifndef MLA_BASE_MEMORY_H
#define MLA_BASE_MEMORY_H

#include <stdint.h>

#include "mla.h"

/* a + b and a * b of sizes, which are not negative; INT64_MAX if they are beyond that. */
int64_t memory_sum(int64_t a, int64_t b);
int64_t memory_product(int64_t a, int64_t b);

/* Bytes that this process can have at most: the machine's memory, its control group's, ulimit -v.
 */
int64_t memory_most(void);

/* MLA_INVALID, and that `what` needs so many bytes, if that is more than memory_most(). */
mla_status memory_ask(int64_t bytes, const char *what);

#endif
