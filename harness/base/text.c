/* text.c - small pieces of memory and text of a verb. */
#define _GNU_SOURCE /* vasprintf */
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

void *text_need(void *memory)
{
	if (!memory) {
		fputs("mla: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

void *text_alloc(size_t bytes)
{
	return text_need(calloc(1, bytes ? bytes : 1));
}

void *text_grow(void *array, int used, int *max, size_t element)
{
	if (used < *max)
		return array;
	*max = *max ? 2 * *max : 32;
	return text_need(realloc(array, (size_t)*max * element));
}

char *text_vformat(const char *format, va_list arguments)
{
	char *text = NULL;

	return text_need(vasprintf(&text, format, arguments) < 0 ? NULL : text);
}

char *text_format(const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	text = text_vformat(format, arguments);
	va_end(arguments);
	return text;
}
