/* sha256.h - a running sha256. */
#ifndef MLA_BASE_SHA256_H
#define MLA_BASE_SHA256_H

#include <stddef.h>

enum { SHA256_TEXT = 65 }; /* 64 hex digits and a terminator */

/* NULL if memory ran out. Finish frees it; hex[SHA256_TEXT] NULL: only free. */
struct sha256;
struct sha256 *sha256_begin(void);
void sha256_add(struct sha256 *sha, const void *data, size_t bytes);
void sha256_finish(struct sha256 *sha, char *hex);

#endif
