/* planted.h - which of the planted defects is there in this run: plant.py writes calls of it into
 * copies of kernels, so that a program is built once for all of them.
 */
#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Is EMULATE_DEFECT this number? The same all the time. */
bool planted(int number) __attribute__((const));

#ifdef __cplusplus
}
#endif
