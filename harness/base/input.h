/* input.h - a file that the program reads, whatever lies under the name that it was given: what is
 * no regular file is not waited for, and what is too large is not taken.
 */
#ifndef MLA_BASE_INPUT_H
#define MLA_BASE_INPUT_H

#include <sys/types.h>

#include "mla.h"

/* Of a file of JSON: its bytes, and its values, which take more memory than they have letters. */
enum { INPUT_JSON_BYTES = 64 << 20, INPUT_JSON_VALUES = 4 << 20 };

/* "a pipe": what a file that is not regular is. */
const char *input_kind(mode_t mode);

/* A descriptor of a regular file, to be read; errors are MLA_INVALID. */
mla_status input_open(const char *path, int *descriptor);

/* A file of JSON as a whole: UTF-8, no key twice in an object, no number beyond a double. */
struct json_t;
mla_status input_json(const char *path, struct json_t **root);

#endif
