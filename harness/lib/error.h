/* error.h - how the library says what went wrong: a status and a sentence of this thread. */
#ifndef MLA_LIB_ERROR_H
#define MLA_LIB_ERROR_H

#include <stdarg.h>

#include "mla.h"

/* Bytes of a sentence, its end included. */
enum { ERROR_SIZE = 512 };

/* Sets mla_last_error() and returns status, so that a check reads "return mla_fail(...)". The
 * sentence is one line: what of it is not plain (lib/plain.h) is escaped. */
mla_status mla_fail(mla_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
mla_status mla_vfail(mla_status status, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

#endif
