/* internal.h - what the files of the checker share: bounds, and the blocks of an instance.
 */
#ifndef MLA_CHECK_INTERNAL_H
#define MLA_CHECK_INTERNAL_H

#include <stddef.h>

#include "check/check.h"

/* ---- bounds (judge.c) ------------------------------------------------------------------------ */

/* What the truth says of one packed row. */
struct check_row {
	const double *want, *sum_abs; /* [head_dim_ckv] */
	double floor;                 /* least sum_abs that an element is judged by */
	double lse, lse_bound;
};
struct check_row check_row_of(const struct check_truth *truth, int32_t head_dim_ckv, int64_t k);

/* How far an element, a whole row (rms) and the lse are off, in bounds: <= 1 is accepted. A NaN
 * where none is wanted gives infinity. */
double check_element_ratio(const mla_config *config, const struct check_row *row, int32_t dim,
			   double got);
double check_rms_ratio(const mla_config *config, const struct check_row *row, const double *got);
double check_lse_ratio(const struct check_row *row, double got_natural);

/* ---- what inputs hold (truth.c) ---------------------------------------------------------------
 */

/* Of the keys of a request. */
struct check_keys {
	double longest;        /* |key|, of those that are finite */
	int64_t last_infinite; /* the last that is not, of those that a query sees; -1: none */
};
struct check_keys check_keys_of(const struct mla_case *c, int32_t request);
/* |query|^2; not finite where an element is not. */
double check_query_squares(const struct mla_case *c, int64_t query, int64_t head);

/* ---- memory (truth.c) ------------------------------------------------------------------------ */

/* Zeros [rows, columns], never empty; NULL if memory ran out. */
double *check_array(int64_t rows, int64_t columns);

/* ---- the blocks of an instance (instance.c) -------------------------------------------------- */

enum {
	CHECK_MAX_BLOCKS = 10, /* 6 input tensors, kv_indices, 2 outputs */
};

/* One piece of memory: an input buffer, which several tensors may view, or an output between its
 * guards. */
struct check_block {
	const char *name;        /* "out"; NULL for an input, whose tensors tell */
	unsigned char *image;    /* what the subject works on */
	unsigned char *pristine; /* what the image was */
	/* outputs: [bytes] 1 where a row of a query lies; inputs: NULL */
	unsigned char *rows;
	size_t first, end; /* outputs: where those rows begin and end; the same if there are none */
	size_t bytes;      /* guards included */
	size_t lead;       /* input's address modulo 64 in the case, kept in every copy */
};

struct check_blocks {
	struct check_block block[CHECK_MAX_BLOCKS];
	int count;
	int out, lse; /* indices of the outputs */
};
const struct check_blocks *check_blocks_of(const struct check_instance *instance);

/* Are bytes[n], found at `offset` of a block after a run, what they must be? Says nothing of the
 * outputs between the guards. false and a sentence in why. */
bool check_bytes_intact(const struct check_instance *instance, int block, size_t offset,
			const unsigned char *bytes, size_t n, char *why, size_t size);

/* The tensors of a mla_tensors that stand for memory, by name. */
struct check_view {
	const char *name;
	size_t offset; /* of the mla_tensor in mla_tensors */
};
enum { CHECK_NUM_VIEWS = 8, CHECK_NUM_INPUT_VIEWS = 6 };
extern const struct check_view check_views[CHECK_NUM_VIEWS]; /* inputs, out, lse */
mla_tensor *check_view_of(mla_tensors *tensors, int view);

#endif
