/* text.c - small pieces of memory and text of a verb. */
#define _GNU_SOURCE /* vasprintf */
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/plain.h"

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

bool text_is_plain(const char *text, size_t *at)
{
	char escape[PLAIN_ESCAPE] = "";
	size_t i = 0, step = 0;

	for (; text[i] && !*escape; i += step)
		step = plain_step(text + i, escape);
	if (*escape && at)
		*at = i - step;
	return !*escape;
}

char *text_shown(const char *text)
{
	const size_t size = strlen(text) * (PLAIN_ESCAPE - 1) + 1;
	char *shown = text_alloc(size);

	plain_copy(shown, size, text);
	return shown;
}

char *text_vshown(const char *format, va_list arguments)
{
	char *text = text_vformat(format, arguments), *shown = text_shown(text);

	free(text);
	return shown;
}

void text_print(FILE *out, const char *format, ...)
{
	const size_t length = strlen(format);
	const bool line = length && format[length - 1] == '\n';
	va_list arguments;
	char *text, *shown;

	va_start(arguments, format);
	text = text_vformat(format, arguments);
	va_end(arguments);
	if (line)
		text[strlen(text) - 1] = '\0';
	shown = text_shown(text);
	fprintf(out, "%s%s", shown, line ? "\n" : "");
	free(shown);
	free(text);
}
