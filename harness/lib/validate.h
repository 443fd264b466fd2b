/* validate.h - checks of values that reach the library by other ways, too: from files and options,
 * which are refused by the same rule and in the same words.
 */
#ifndef MLA_LIB_VALIDATE_H
#define MLA_LIB_VALIDATE_H

#include "mla.h"

/* A softmax scale, of any sign, as kernels can hold it: in f32, by itself and times log2 e, it is
 * neither 0 nor denormal, infinite or NaN. what: "config.sm_scale", "--scale", for the sentence.
 * MLA_OK or MLA_INVALID. */
mla_status validate_scale(double scale, const char *what);

/* A config and a batch, as mla_plan_batch and mla_reference take them. MLA_OK, MLA_INVALID or
 * MLA_REFUSED. */
mla_status validate_problem(const mla_config *config, const mla_batch *batch);

#endif
