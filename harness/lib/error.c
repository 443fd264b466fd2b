/* error.c - status names and this thread's last error. */
#include "lib/error.h"

#include <stdio.h>

#include "lib/plain.h"

static _Thread_local char last_error[ERROR_SIZE];

mla_status mla_vfail(mla_status status, const char *format, va_list arguments)
{
	/* The arguments may hold the last sentence. Room for a character more, so that none is cut.
	 */
	char text[ERROR_SIZE + 4];

	vsnprintf(text, sizeof(text), format, arguments);
	plain_copy(last_error, sizeof(last_error), text);
	return status;
}

mla_status mla_fail(mla_status status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	mla_vfail(status, format, arguments);
	va_end(arguments);
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
