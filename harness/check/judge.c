/* judge.c - outputs against the truth. Every comparison is written so that NaN fails. The
 * bounds are derived in tests/README.md.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "check/internal.h"

/* A row's rms is a statistic: with fewer dimensions a correct row may exceed its bound by chance.
 */
enum { RMS_DIMS = 256 };

/* ---- bounds ---------------------------------------------------------------------------------- */

/* What an output type can do: its unit roundoff and its smallest step. */
struct precision {
	double eps, step;
};
static const struct precision precisions[] = {
	[MLA_BF16] = {CHECK_EPS_BF16, 0x1p-126}, /* below, a GPU may flush to zero */
	[MLA_F16] = {CHECK_EPS_F16, 0x1p-24},
	[MLA_F32] = {0, 0x1p-126},
};

/* The probabilities are rounded to the type of the values they multiply, the sum to that of the
 * output. Where both are f32, what remains is the error of the score: the lse's bound. */
static double eps_of(const mla_config *config, const struct check_row *row)
{
	const double eps =
		fmax(precisions[config->out_dtype].eps, precisions[config->ckv_dtype].eps);

	return eps > 0 ? eps : row->lse_bound;
}

static bool sees_nothing(const struct check_row *row)
{
	return isinf(row->lse) && row->lse < 0;
}

static double element_bound(const mla_config *config, const struct check_row *row, int32_t dim)
{
	if (sees_nothing(row))
		return 0; /* exactly */
	return CHECK_ELEMENT_FACTOR * eps_of(config, row) * fmax(row->sum_abs[dim], row->floor) +
	       precisions[config->out_dtype].step;
}

/* err over bound, never NaN. */
static double ratio_of(double err, double bound)
{
	const double ratio = err == 0 ? 0 : err / bound;

	return ratio >= 0 ? ratio : INFINITY;
}

static bool overflows(double value, int32_t dtype)
{
	char element[4];

	ref_store(element, dtype, value);
	return isinf(ref_load(element, dtype));
}

/* Infinite where the truth, or a value within its bound, is beyond the output type. */
static bool is_overflow(const mla_config *config, double got, double want, double bound)
{
	return isinf(got) && signbit(got) == signbit(want) &&
	       overflows(fabs(want) + bound, config->out_dtype);
}

double check_element_ratio(const mla_config *config, const struct check_row *row, int32_t dim,
			   double got)
{
	const double want = row->want[dim], bound = element_bound(config, row, dim);

	if (isnan(want))
		return isnan(got) ? 0 : INFINITY;
	if (is_overflow(config, got, want, bound))
		return 0;
	return ratio_of(fabs(got - want), bound);
}

double check_rms_ratio(const mla_config *config, const struct check_row *row, const double *got)
{
	const double step = precisions[config->out_dtype].step;
	const int32_t d = config->head_dim_ckv;
	double err2 = 0, want2 = 0;

	if (d < RMS_DIMS || sees_nothing(row))
		return 0;
	for (int32_t i = 0; i < d; i++) {
		const double want = row->want[i];

		if (isnan(want) || is_overflow(config, got[i], want, element_bound(config, row, i)))
			continue;
		err2 += (got[i] - want) * (got[i] - want);
		want2 += want * want;
	}
	return ratio_of(sqrt(err2 / d), CHECK_ROW_RMS * sqrt(want2 / d) + step);
}

double check_lse_ratio(const struct check_row *row, double got_natural)
{
	if (isnan(row->lse))
		return isnan(got_natural) ? 0 : INFINITY;
	if (isinf(row->lse))
		return got_natural == row->lse ? 0 : INFINITY;
	return ratio_of(fabs(got_natural - row->lse), row->lse_bound);
}

struct check_row check_row_of(const struct check_truth *truth, int32_t head_dim_ckv, int64_t k)
{
	const double *sum_abs = truth->values.sum_abs + k * head_dim_ckv;
	double sum = 0;

	for (int32_t i = 0; i < head_dim_ckv; i++)
		sum += sum_abs[i] * sum_abs[i];
	return (struct check_row){
		.want = truth->values.out + k * head_dim_ckv,
		.sum_abs = sum_abs,
		.floor = CHECK_ELEMENT_FLOOR * sqrt(sum / head_dim_ckv),
		.lse = truth->values.lse[k],
		.lse_bound = truth->lse_bound[k],
	};
}

/* ---- judging --------------------------------------------------------------------------------- */

enum { DIM_LSE = -1 };

struct judge {
	const struct mla_case *c;
	const mla_tensor *out, *lse;
	double *got;           /* [head_dim_ckv] the current row */
	bool may_be_nan;       /* the current row, element by element */
	bool is_nan;           /* it is, somewhere */
	int64_t request;       /* whose keys were last searched for a NaN; -1: none yet */
	bool request_has_nan;  /* what was found */
	int64_t elements;      /* looked at */
	int64_t unwritten;     /* wrong ones that still hold the poison */
	int64_t worst_rms_row; /* packed row of the batch */
	struct check_verdict *verdict;
};

/* The last request that begins at or before a query: those without queries begin where the next
 * one does. */
static int64_t request_of(const struct mla_case *c, int64_t query)
{
	int64_t low = 0, high = c->batch.batch_size - 1;

	while (low < high) {
		const int64_t middle = (low + high + 1) / 2;

		if (c->batch.qo_indptr[middle] <= query)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

static struct check_element locate(const struct judge *j, int64_t row, int32_t dim)
{
	const int64_t heads = j->c->config.num_heads, query = row / heads;
	const int32_t *qo_indptr = j->c->batch.qo_indptr;
	int64_t request = request_of(j->c, query);

	return (struct check_element){.request = request,
				      .query = query - qo_indptr[request],
				      .head = row % heads,
				      .dim = dim};
}

/* One element or lse: `bits` are its stored bytes. */
static void note(struct judge *j, int64_t row, int32_t dim, double got, double want, double ratio,
		 const void *bits, int32_t size)
{
	static const unsigned char poison[4] = {POISON_BYTE, POISON_BYTE, POISON_BYTE, POISON_BYTE};
	struct check_verdict *v = j->verdict;
	double *worst = dim == DIM_LSE ? &v->worst_lse : &v->worst_element;
	const bool unwritten = !memcmp(bits, poison, (size_t)size);

	j->elements++;
	if (j->may_be_nan && isnan(got)) {
		j->is_nan = true;
		ratio = 0;
	}
	if (unwritten) /* the poison is NaN: no answer, even where NaN is wanted */
		ratio = INFINITY;
	if (!(ratio <= *worst))
		*worst = ratio;
	if (ratio <= 1)
		return;

	if (v->num_wrong == 0 || !(ratio <= v->worst.ratio)) {
		v->worst = locate(j, row, dim);
		v->worst.got = got;
		v->worst.want = want;
		v->worst.ratio = ratio;
	}
	if (v->num_wrong == 0)
		v->first = v->worst;
	v->num_wrong++;
	j->unwritten += unwritten;
}

static const char *row_at(const struct judge *j, const mla_tensor *t, int64_t row)
{
	const int64_t heads = j->c->config.num_heads;

	return (const char *)t->data + row / heads * t->stride[0] + row % heads * t->stride[1];
}

/* Returns where it is. */
static const char *load_row(struct judge *j, int64_t row)
{
	const int32_t d = j->c->config.head_dim_ckv, dtype = j->c->config.out_dtype;
	const int32_t size = ref_dtype_size(dtype);
	const char *first = row_at(j, j->out, row);

	for (int32_t i = 0; i < d; i++)
		j->got[i] = ref_load(first + (int64_t)i * size, dtype);
	return first;
}

/* A lse as stored, in natural units. */
static double natural(const mla_config *config, double lse)
{
	return config->lse_base == MLA_LSE_BASE2 ? lse * 0.69314718055994530942 : lse;
}

/* may_be_nan: see check_truth. */
static void judge_row(struct judge *j, int64_t row, const struct check_row *truth, bool may_be_nan)
{
	const mla_config *config = &j->c->config;
	const int32_t d = config->head_dim_ckv, size = ref_dtype_size(config->out_dtype);
	const char *out = load_row(j, row);
	double rms;

	j->may_be_nan = may_be_nan;
	j->is_nan = false;
	for (int32_t i = 0; i < d; i++)
		note(j, row, i, j->got[i], truth->want[i],
		     check_element_ratio(config, truth, i, j->got[i]), out + (int64_t)i * size,
		     size);
	if (j->lse->data) {
		const char *lse = row_at(j, j->lse, row);
		const double got = natural(config, ref_load(lse, MLA_F32));

		note(j, row, DIM_LSE, got, truth->lse, check_lse_ratio(truth, got), lse,
		     sizeof(float));
	}
	j->verdict->num_free += may_be_nan;
	j->verdict->num_nan += j->is_nan;
	if (j->is_nan)
		return;
	rms = check_rms_ratio(config, truth, j->got);
	if (!(rms <= j->verdict->worst_rms)) {
		j->verdict->worst_rms = rms;
		j->worst_rms_row = row;
	}
}

/* Could a row whose truth was not computed be NaN: is there one in its query, or in a key of its
 * request? */
static bool nan_is_possible(struct judge *j, int64_t row)
{
	const int64_t heads = j->c->config.num_heads, query = row / heads;
	const int64_t request = request_of(j->c, query);

	if (request != j->request) {
		j->request = request;
		j->request_has_nan = check_keys_of(j->c, (int32_t)request).last_infinite >= 0;
	}
	return j->request_has_nan || !isfinite(check_query_squares(j->c, query, row % heads));
}

/* A row whose truth was not computed: at least it must have been written, with numbers where its
 * inputs are numbers. */
static void judge_unknown_row(struct judge *j, int64_t row)
{
	const int32_t d = j->c->config.head_dim_ckv;
	const int32_t size = ref_dtype_size(j->c->config.out_dtype);
	const char *out = load_row(j, row);
	const char *lse = j->lse->data ? row_at(j, j->lse, row) : NULL;
	const double got = lse ? ref_load(lse, MLA_F32) : 0;
	bool any = isnan(got);

	for (int32_t i = 0; i < d && !any; i++)
		any = isnan(j->got[i]);
	if (!any)
		return;
	j->may_be_nan = nan_is_possible(j, row);
	for (int32_t i = 0; i < d; i++)
		if (isnan(j->got[i]))
			note(j, row, i, j->got[i], NAN, INFINITY, out + (int64_t)i * size, size);
	if (isnan(got))
		note(j, row, DIM_LSE, got, NAN, INFINITY, lse, sizeof(float));
}

static void judge_rows(struct judge *j, const struct check_truth *truth)
{
	const int64_t rows = case_total_q(j->c) * j->c->config.num_heads;
	const int32_t d = j->c->config.head_dim_ckv;

	for (int64_t row = 0, k = 0; row < rows; row++) {
		if (k < truth->n && (truth->rows ? truth->rows[k] : k) == row) {
			const struct check_row known = check_row_of(truth, d, k);

			judge_row(j, row, &known, truth->may_be_nan[k]);
			k++;
		} else {
			judge_unknown_row(j, row);
		}
	}
}

/* ---- the verdict in words -------------------------------------------------------------------- */

static void print_element(char *text, size_t size, const struct check_element *e)
{
	/* want is NaN where the truth is, and where it is not known: there any number would do */
	const char *no_number = isnan(e->got) ? "a number" : "nan";
	char dim[24], got[32] = "nan", want[32], ratio[48] = "";

	snprintf(dim, sizeof(dim), e->dim == DIM_LSE ? "lse" : "dim %" PRId64, e->dim);
	if (!isnan(e->got)) /* printf may say -nan */
		snprintf(got, sizeof(got), "%.6g", e->got);
	if (isnan(e->want))
		snprintf(want, sizeof(want), "%s", no_number);
	else
		snprintf(want, sizeof(want), "%.6g", e->want);
	if (isfinite(e->ratio))
		snprintf(ratio, sizeof(ratio), " (%.3gx the bound)", e->ratio);
	snprintf(text, size,
		 "request %" PRId64 " query %" PRId64 " head %" PRId64 " %s: got %s, want %s%s",
		 e->request, e->query, e->head, dim, got, want, ratio);
}

static void say_wrong_elements(const struct judge *j)
{
	struct check_verdict *v = j->verdict;
	char first[200], worst[200] = "", unwritten[48] = "";

	print_element(first, sizeof(first), &v->first);
	if (v->worst.ratio > v->first.ratio)
		print_element(worst, sizeof(worst), &v->worst);
	if (j->unwritten)
		snprintf(unwritten, sizeof(unwritten), " (%" PRId64 " never written)",
			 j->unwritten);
	snprintf(v->why, sizeof(v->why),
		 "%" PRId64 " of %" PRId64 " elements are wrong%s; "
		 "first: %s%s%s",
		 v->num_wrong, j->elements, unwritten, first, *worst ? "; worst: " : "", worst);
}

static void say_wrong_row(const struct judge *j)
{
	const struct check_element e = locate(j, j->worst_rms_row, 0);
	struct check_verdict *v = j->verdict;

	snprintf(v->why, sizeof(v->why),
		 "each element is within its bound, but the row of request %" PRId64
		 " query %" PRId64 " head %" PRId64
		 " has a relative rms error of %.4g, at most %g is accepted",
		 e.request, e.query, e.head, v->worst_rms * CHECK_ROW_RMS, CHECK_ROW_RMS);
}

mla_tensors check_packed(const struct mla_case *c, void *out, float *lse)
{
	const int64_t heads = c->config.num_heads, d = c->config.head_dim_ckv;
	const int64_t size = ref_dtype_size(c->config.out_dtype), number = sizeof(float);

	return (mla_tensors){.struct_size = sizeof(mla_tensors),
			     .out = {.data = out,
				     .dtype = c->config.out_dtype,
				     .ndim = 3,
				     .extent = {case_total_q(c), heads, d},
				     .stride = {heads * d * size, d * size, size}},
			     .lse = {.data = lse,
				     .dtype = MLA_F32,
				     .ndim = 2,
				     .extent = {case_total_q(c), heads},
				     .stride = {heads * number, number}}};
}

void check_outputs(const struct mla_case *c, const struct check_truth *truth,
		   const mla_tensors *outputs, struct check_verdict *verdict)
{
	struct judge j = {.c = c,
			  .out = &outputs->out,
			  .lse = &outputs->lse,
			  .request = -1,
			  .verdict = verdict};

	*verdict = (struct check_verdict){.low_power = truth->low_power,
					  .microseconds = verdict->microseconds};
	j.got = malloc((size_t)c->config.head_dim_ckv * sizeof(*j.got));
	if (!j.got) {
		verdict->outcome = CHECK_FAIL;
		snprintf(verdict->why, sizeof(verdict->why), "no memory to judge a row");
		return;
	}
	judge_rows(&j, truth);
	free(j.got);
	if (verdict->num_wrong > 0)
		say_wrong_elements(&j);
	else if (!(verdict->worst_rms <= 1))
		say_wrong_row(&j);
	verdict->outcome = *verdict->why ? CHECK_FAIL : CHECK_PASS;
}
