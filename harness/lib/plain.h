/* plain.h - text that came from outside, made fit for a terminal. Plain is valid UTF-8 without what
 * steers a terminal or reorders a line: controls (C0, DEL, C1), line and paragraph separators,
 * directions of writing, invisible characters, code points that are no characters. The joiners
 * U+200C and U+200D are plain, since words and emoji are made with them.
 */
#ifndef MLA_LIB_PLAIN_H
#define MLA_LIB_PLAIN_H

#include <stddef.h>

/* Bytes of the longest escape, its end included: "\U0010ffff". */
enum { PLAIN_ESCAPE = 11 };

/* Bytes of the character that text, which is not empty, begins with: 1 to 4, 1 if it is no UTF-8.
 * escape becomes "" if it is plain, or what stands for it: \x1b (a byte), \u202e, \U000e0001. */
size_t plain_step(const char *text, char escape[PLAIN_ESCAPE]);
/* text with escapes for all that is not plain, in out[size]; what has no room is left out whole,
 * and
 * "..." says so. */
void plain_copy(char *out, size_t size, const char *text);

#endif
