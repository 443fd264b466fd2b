/* text.h - small pieces of memory and text. All functions end the program with a sentence if memory
 * ran out: for a verb's own small things, never for tensors or what a library does.
 */
#ifndef MLA_BASE_TEXT_H
#define MLA_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The same memory, unless it is NULL. */
void *text_need(void *memory);
/* Zeroed memory. */
void *text_alloc(size_t bytes);
/* Room for one more element of an array that grows: the array, moved if `used` has reached *max. */
void *text_grow(void *array, int used, int *max, size_t element);

/* What printf would write. The caller frees it. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *text_vformat(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));

/* Whether text is fit for a terminal as it is (lib/plain.h says what is). If not, *at (or NULL) is
 * the first byte of it that is not. */
bool text_is_plain(const char *text, size_t *at);
/* text with escapes for what is not plain. The caller frees it. */
char *text_shown(const char *text);
/* What printf would write, shown. The caller frees it. */
char *text_vshown(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
/* printf for what people read: what is not plain is escaped, but for a newline at the end of
 * format. */
void text_print(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
