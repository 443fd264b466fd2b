/* plan_check.h - proves a built plan right from the contract in mla.h alone. Shares no code and no
 * reasoning with the planner, so that a mistake would have to be made twice.
 */
#ifndef MLA_PROOF_PLAN_CHECK_H
#define MLA_PROOF_PLAN_CHECK_H

#include "mla.h"

/* MLA_OK: every (packed row, key) pair that is visible is covered by exactly one work item, every
 * row of out is written exactly once, by one direct item or by one merge of all its splits, and
 * scratch, workers, tile sizes, split points and the copied fields keep what mla.h promises.
 * MLA_INVALID: why[size] holds the first violation as a sentence. MLA_NO_MEMORY: not checked.
 * O(n log n) in items + merges, whatever the number of keys. */
mla_status plan_check(const mla_plan *plan, char *why, size_t size);

#endif
