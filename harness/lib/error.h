/* error.h - how the library says what went wrong: a status and a sentence of this thread. */
#ifndef MLA_LIB_ERROR_H
#define MLA_LIB_ERROR_H

#include "mla.h"

/* Bytes of a sentence, its end included. */
enum { ERROR_SIZE = 512 };

/* Sets mla_last_error() and returns status, so that a check reads "return mla_fail(...)". */
mla_status mla_fail(mla_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
