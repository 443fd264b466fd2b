/* version.h - which commit this was built from; mla_version() says it too. */
#ifndef MLA_LIB_VERSION_H
#define MLA_LIB_VERSION_H

extern const char version_commit[]; /* "1a2b3c4", or "unknown" */

#endif
