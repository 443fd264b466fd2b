/* cell.h - cells: synthetic problems named by their shape, "b128_8Kv_h128_q2", and the suites
 * that list them. Inputs are N(0, 1) in bf16, pages lie in random order in one fused pool
 * [pages, page_size, 576], the scale is 192^-0.5, and more than one query per request is causal.
 * Slots that no key fills hold NaN.
 */
#ifndef MLA_CASE_CELL_H
#define MLA_CASE_CELL_H

#include <stdbool.h>
#include <stddef.h>

#include "case/case.h"

struct cell {
	char name[48];
	int32_t batch_size, kv_len, num_heads, qo_len, page_size;
	bool varied; /* kv_len is the middle of lengths drawn from [0.5, 1.5] times it */
};
/* "b4_1000v_h16" with blanks or underscores between: b, the keys (K = 1,024; v = varied), h, and
 * where they are not 1 and 64, q and p (page size). */
mla_status cell_parse(const char *text, struct cell *cell);

struct cell_suite {
	const char *name, *summary;
	const char *const *cells;
	int num_cells;
};
extern const struct cell_suite cell_suites[];
extern const int cell_num_suites;

/* Everything but the values: q, ckv and kpe have extents and strides, and data NULL. MLA_CAPACITY
 * if the cell is too large for a page table. */
mla_status cell_case(const struct cell *cell, uint64_t seed, struct mla_case *c);
/* Bytes of the pool. */
int64_t cell_pool_bytes(const struct mla_case *c);
/* The values, in host memory: the same bits that bulk_fill and bulk_fill_pool make. */
mla_status cell_fill(struct mla_case *c, uint64_t seed);

/* How many keys each entry of kv_indices holds; the caller frees it. NULL without memory. */
int32_t *cell_keys(const struct mla_case *c);
/* The seeds that the inputs of a cell are made with. */
uint64_t cell_seed_q_nope(uint64_t seed);
uint64_t cell_seed_q_pe(uint64_t seed);
uint64_t cell_seed_pool(uint64_t seed);

#endif
