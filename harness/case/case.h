/* case.h - a problem in host memory: what a capture file or the generator yields and what the
 * checker, the planner and the benchmark consume.
 */
#ifndef MLA_CASE_CASE_H
#define MLA_CASE_CASE_H

#include <stddef.h>

#include "mla.h"

/* Where the rows of an output lie in their memory, in bytes. Zeros: one behind the other. */
struct case_rows {
	int64_t lead;        /* in front of the first row */
	int64_t query, head; /* from query to query, from head to head */
	int64_t spare;       /* rows (of all heads) behind those of the last query */
};

struct mla_case {
	char name[96];       /* "tiny_decode.h5:001/005", "random:17" */
	mla_config config;   /* fixed_split is 0 */
	mla_batch batch;     /* arrays below belong to the case */
	mla_tensors tensors; /* host; q, caches and kv_indices set; out, lse, scratch NULL */

	struct case_rows out_rows, lse_rows; /* where those who run the case place outputs */
	int32_t no_lse;                      /* 1: they want no lse, its tensor has no data */

	/* What a capture may carry besides; data NULL where absent. */
	mla_tensor q_raw;     /* [total_q, H, nope] un-absorbed q_nope */
	mla_tensor w_uk;      /* [H, nope, ckv] */
	mla_tensor w_uv;      /* [H, v, ckv] */
	mla_tensor out_model; /* what the model's own attention gave: [total_q, H, v] */
	mla_tensor out_ref;   /* f32, [total_q, H, v] if q_raw is there, else [total_q, H, ckv] */
	mla_tensor lse_ref;   /* f32, [total_q, H], natural log */

	struct case_block *owned; /* every allocation of this case */
};

/* Zeroed memory that lives as long as the case, 64-byte aligned; NULL if memory ran out, or
 * all cases together would need more than there is. */
void *case_alloc(struct mla_case *c, size_t bytes);

/* A contiguous tensor of the case; extent[ndim]. data is NULL if memory ran out. */
mla_tensor case_tensor(struct mla_case *c, int32_t dtype, int32_t ndim, const int64_t *extent);

/* Frees everything and zeroes the struct. A zeroed case is an empty one. */
void case_free(struct mla_case *c);

/* Queries of the batch. */
int64_t case_total_q(const struct mla_case *c);

/* In one line: "B=4 H=16 q 1 kv 3..1000 page 64 bf16 causal scale 0.1147". */
void case_describe(const struct mla_case *c, char *text, size_t size);

#endif
