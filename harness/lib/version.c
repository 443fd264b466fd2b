/* version.c - what this was built from. The one file that is compiled with the commit. */
#include "lib/version.h"
#include "mla.h"

#ifndef MLA_COMMIT
#define MLA_COMMIT "unknown"
#endif

const char version_commit[] = MLA_COMMIT;

const char *mla_version(void)
{
	return MLA_VERSION " (commit " MLA_COMMIT ")";
}
