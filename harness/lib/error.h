/* error.h - how the library says what went wrong: a status and a sentence of this thread. */
#ifndef MLA_LIB_ERROR_H
#define MLA_LIB_ERROR_H

#include "mla.h"

/* Sets mla_last_error() and returns status, so that a check reads "return mla_fail(...)". */
mla_status mla_fail(mla_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
