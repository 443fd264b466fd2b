/* identity.h - is a case of one result file that of another? */
#ifndef MLA_CASE_IDENTITY_H
#define MLA_CASE_IDENTITY_H

#include "case/case.h"

#define BENCH_SHA256_TEXT 65

/* Of shapes, page table and all values; seed: not NULL for a cell, whose values follow from it. ""
 * if memory ran out. */
void bench_sha256_of(const struct mla_case *c, const uint64_t *seed, char hex[BENCH_SHA256_TEXT]);

#endif
