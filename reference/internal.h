/* internal.h - what the files of reference/ share: a group of rows, a tile of keys, and the two
 * products and one softmax that attention consists of.
 *
 * Layouts are chosen so that a compiler vectorises without changing the order of any sum: scores
 * run over keys (a tile is stored transposed), values over columns. Each score is summed over the
 * columns in order, each output over the keys in order, whatever the grouping and the threads: the
 * same row gives the same bits.
 */
#ifndef MLA_REFERENCE_INTERNAL_H
#define MLA_REFERENCE_INTERNAL_H

#include "reference.h"

/* gcc tells of each of them by __GCC_IEC_559, of contraction too; clang of the first two alone, the
 * tests of the others. */
#if defined(__FAST_MATH__) || __FINITE_MATH_ONLY__ || (defined(__GCC_IEC_559) && !__GCC_IEC_559)
#error "the truth relies on NaN, infinities, -0 and each rounding: build without -ffast-math, \
-ffinite-math-only, -funsafe-math-optimizations, -ffp-contract=fast and their like"
#endif

enum {
	TILE_KEYS = 32,         /* keys that are converted to double at once */
	GROUP_ROWS = 64,        /* rows that share a tile, at most */
	GROUP_SCORES = 1 << 23, /* scores that a group keeps, unless one row alone has more */
};

struct ref_problem {
	const mla_config *config;
	const mla_batch *batch;
	const mla_tensors *tensors;
	const double *q_nope; /* [total_q, H, ckv] in place of tensors->q_nope, or NULL */
};

/* Memory of one thread. */
struct ref_scratch {
	int max_rows;   /* rows of a group */
	int64_t stride; /* of a row of s, in doubles: a multiple of TILE_KEYS */
	double *q;      /* [max_rows, ckv + kpe] */
	double *tile;   /* [ckv + kpe, TILE_KEYS] keys, or [TILE_KEYS, ckv] values */
	double *s;      /* [max_rows, stride] scores, then exp(score - m) */
	double *out;    /* [max_rows, ckv] */
	void *memory;
};

/* For rows that see up to `keys` keys each. 0, or -1 if memory ran out. */
int ref_scratch_make(struct ref_scratch *scratch, const mla_config *config, int64_t keys);
void ref_scratch_free(struct ref_scratch *scratch);

/* The whole of a request as a work item: all its keys, straight to out. */
mla_work ref_whole_request(const mla_config *config, const mla_batch *batch, int32_t request);

/* Packed rows of the batch; rows of n that a thread takes at once, so that few rows still make work
 * for all threads. */
int64_t ref_total_rows(const mla_config *config, const mla_batch *batch);
int64_t ref_block_rows(int64_t n, int threads);

/* Multiply-adds, for ref_threads(), of attention of so many rows over so many keys each. */
double ref_work(const mla_config *config, int64_t rows, int64_t keys);

/* The most keys that a request has. */
int32_t ref_longest(const mla_batch *batch);

/* The request that query (of the whole batch) belongs to. */
int32_t ref_request_of(const mla_batch *batch, int64_t query);

/* The first key of the item that a packed row (of the whole batch) does not see; kv_begin if it
 * sees none. */
int32_t ref_kv_end(const mla_config *config, const mla_work *work, int64_t row);

/* Attention of n rows (of one request, rising) over the keys of an item that they see. Splits into
 * groups by itself. truth's arrays are for these n rows. */
void ref_attend(const struct ref_problem *problem, const mla_work *work, const int64_t *rows,
		int64_t n, const struct ref_truth *truth, struct ref_scratch *scratch);

/* q [n, ckv + kpe] = q_nope | q_pe of n packed rows (of the whole batch). */
void ref_gather_q(const struct ref_problem *problem, const int64_t *rows, int n, double *q);

/* Keys first .. first + n - 1 of an item's request, n <= TILE_KEYS: k [ckv + kpe, TILE_KEYS] =
 * ckv | kpe transposed, columns beyond n zero; v [n, ckv] = ckv. Nothing else is read. */
void ref_gather_keys(const struct ref_problem *problem, const mla_work *work, int32_t first, int n,
		     double *k);
void ref_gather_values(const struct ref_problem *problem, const mla_work *work, int32_t first,
		       int n, double *v);

/* s[r * stride + j] = scale * sum_c a[r * dims + c] * k[c * TILE_KEYS + j], for all TILE_KEYS. */
void ref_scores(int n, int dims, const double *a, const double *k, double scale, double *s,
		int64_t stride);

/* acc[c] += sum_j p[j] * v[j * d + c] */
void ref_accumulate(int64_t n, int d, const double *p, const double *v, double *acc);

struct ref_softmax {
	double l, lse;    /* l 0 and lse -inf: nothing seen, or all scores -inf */
	double tokens;    /* exp(entropy) */
	double max_score; /* max |s| */
};
/* s[j] becomes exp(s[j] - m); dividing by l is left to the caller, who does it once per output. */
struct ref_softmax ref_softmax(double *s, int64_t n);

/* The larger of two, NaN if either is. */
static inline double ref_max(double a, double b)
{
	return b > a || b != b ? b : a;
}

/* The state (out, lse) takes another in: softmax over the union of their keys. Associative and
 * commutative; (anything, -inf) is neutral and its values are not read. */
void ref_merge_state(int64_t d, double *out, double *lse, const double *other, double other_lse);

/* A natural lse in the caller's base. */
double ref_lse_to_base(double lse, int32_t base);

/* n elements of a tensor row as doubles. */
void ref_load_row(const void *row, int32_t dtype, int64_t n, double *out);

static inline const char *ref_at(const mla_tensor *t, int64_t i, int64_t j)
{
	return (const char *)t->data + i * t->stride[0] + j * t->stride[1];
}

#endif
