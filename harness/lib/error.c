/* error.c - status names and this thread's last error. */
#include "lib/error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[ERROR_SIZE];

mla_status mla_fail(mla_status status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	return status;
}

const char *mla_last_error(void)
{
	return last_error;
}

const char *mla_status_name(mla_status status)
{
	static const char *const names[] = {
		[MLA_OK] = "ok",
		[MLA_INVALID] = "invalid",
		[MLA_REFUSED] = "refused",
		[MLA_CAPACITY] = "capacity",
		[MLA_NO_MEMORY] = "no memory",
		[MLA_CUDA] = "cuda",
		[MLA_NO_CUDA] = "no cuda",
	};
	const unsigned index = (unsigned)status;

	return index < sizeof(names) / sizeof(names[0]) ? names[index] : "unknown";
}
