/* identity.h - is a case of one result file that of another? */
#ifndef MLA_CASE_IDENTITY_H
#define MLA_CASE_IDENTITY_H

#include "base/sha256.h"
#include "case/case.h"

/* Of shapes, page table and all values; seed: not NULL for a cell, whose values follow from it. */
mla_status identity_sha256(const struct mla_case *c, const uint64_t *seed, char hex[SHA256_TEXT]);

#endif
