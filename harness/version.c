/* version.c - what this was built from. */
#include "mla.h"

#ifndef MLA_COMMIT
#define MLA_COMMIT "unknown"
#endif

const char *mla_version(void)
{
	return MLA_VERSION " (commit " MLA_COMMIT ")";
}
