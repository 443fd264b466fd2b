/* facts.c - what a capture itself says about the truth: what it carries, and textbook attention.
 */
#include "check/facts.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "case/work.h"
#include "check/internal.h"
#include "lib/error.h"

/* An fp32 reference whose scores reach 166 is off by about 166 * 2^-23 * a few in the exponent;
 * a wrong scale, mask or page is off by far more. */
#define CARRIED_BOUND 1e-3

/* A double or a stored tensor, row by row: [total_q, H, d] or, for an lse, [total_q, H]. */
struct rows {
	const double *values;     /* contiguous, or NULL: */
	const mla_tensor *tensor; /* as stored */
	int64_t num_heads, d;
};

static double value_at(const struct rows *rows, int64_t row, int64_t c)
{
	if (rows->values)
		return rows->values[row * rows->d + c];

	const mla_tensor *t = rows->tensor;

	return ref_load((const char *)t->data + row / rows->num_heads * t->stride[0] +
				row % rows->num_heads * t->stride[1] +
				(t->ndim == 3 ? c * t->stride[2] : 0),
			t->dtype);
}

/* Not fmax: NaN must not be lost. */
static double larger(double a, double b)
{
	return b > a || isnan(b) ? b : a;
}

static void compare_out(const struct rows *got, const struct rows *want, int64_t n,
			struct fact *fact)
{
	double squares = 0, wanted = 0, worst = 0;

	for (int64_t row = 0; row < n; row++) {
		double difference = 0, size = 0;

		for (int64_t c = 0; c < want->d; c++) {
			const double w = value_at(want, row, c), e = value_at(got, row, c) - w;

			difference = larger(difference, fabs(e));
			size = larger(size, fabs(w));
			squares += e * e;
			wanted += w * w;
		}
		if (difference != 0) /* a row that saw no key: 0 is asked for and 0 is right */
			worst = larger(worst, difference / size);
	}
	fact->has_out = true;
	fact->out_worst = worst;
	fact->out_rms = squares == 0 ? 0 : sqrt(squares / wanted);
}

static void compare_lse(const struct rows *got, const struct rows *want, int64_t n,
			struct fact *fact)
{
	double worst = 0;

	for (int64_t row = 0; row < n; row++) {
		const double g = value_at(got, row, 0), w = value_at(want, row, 0);

		if (g != w) /* -inf - -inf is NaN */
			worst = larger(worst, fabs(g - w) / fmax(1, fabs(w)));
	}
	fact->has_lse = true;
	fact->lse_worst = worst;
}

static bool has_weights(const struct mla_case *c)
{
	return c->q_raw.data && c->w_uk.data && c->w_uv.data;
}

bool facts_given(const struct mla_case *c)
{
	return has_weights(c) || c->out_ref.data || c->lse_ref.data;
}

double facts_cost(const struct mla_case *c)
{
	const double attention = case_multiply_adds(c);
	double keys = 0;

	if (!has_weights(c))
		return attention;
	for (int32_t b = 0; b < c->batch.batch_size; b++)
		keys += c->batch.kv_len[b];

	const double expanded = (double)c->w_uk.extent[1] + (double)c->w_uv.extent[1];

	return 2 * attention + keys * c->config.num_heads * expanded * c->config.head_dim_ckv;
}

/* Everything in fp64: what is compared. */
struct states {
	double *latent, *latent_lse; /* absorbed: [rows, ckv], [rows] */
	double *out, *lse;           /* textbook: [rows, v], [rows] */
	double *q, *projected;       /* absorbed query; latent behind W_UV */
};

static void states_free(struct states *s)
{
	double *all[] = {s->latent, s->latent_lse, s->out, s->lse, s->q, s->projected};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		free(all[i]);
}

/* Both: false if memory ran out. */
static bool compute_plain(const struct mla_case *c, int64_t rows, struct states *s)
{
	const struct ref_truth truth = {.out = s->latent, .lse = s->latent_lse};

	return !ref_attention(&c->config, &c->batch, &c->tensors, NULL, rows, &truth);
}

static bool compute_textbook(const struct mla_case *c, int64_t rows, struct states *s)
{
	const struct ref_truth truth = {.out = s->latent, .lse = s->latent_lse};
	const int64_t v = c->w_uv.extent[1];

	s->q = check_array(rows, c->config.head_dim_ckv);
	s->out = check_array(rows, v);
	s->projected = check_array(rows, v);
	s->lse = check_array(rows, 1);
	if (!s->q || !s->out || !s->projected || !s->lse)
		return false;
	ref_absorb_q(&c->q_raw, &c->w_uk, s->q);
	if (ref_attention_absorbed(&c->config, &c->batch, &c->tensors, s->q, &truth) ||
	    ref_mha(&c->config, &c->batch, &c->tensors, &c->q_raw, &c->w_uk, &c->w_uv, s->out,
		    s->lse))
		return false;
	ref_project_out(case_total_q(c), s->latent, &c->w_uv, s->projected);
	return true;
}

static const struct fact fact_kinds[] = {
	{.name = FACTS_NAME,
	 .meaning = "absorbed, projected with W_UV, against textbook attention, both fp64",
	 .bound = FACTS_ABSORPTION_BOUND},
	{.name = "out_model", .meaning = "what the model's own attention gave (its dtype)"},
	{.name = "out_ref", .meaning = "the capture's reference output", .bound = CARRIED_BOUND},
	{.name = "lse_ref", .meaning = "the capture's reference lse", .bound = CARRIED_BOUND},
};

static int compare_all(const struct mla_case *c, int64_t n, const struct states *s,
		       struct fact *facts)
{
	const int64_t heads = c->config.num_heads;
	const bool textbook = s->out;
	const struct rows out = {textbook ? s->out : s->latent, NULL, heads,
				 textbook ? c->w_uv.extent[1] : c->config.head_dim_ckv};
	const struct rows lse = {textbook ? s->lse : s->latent_lse, NULL, heads, 1};
	const struct rows projected = {s->projected, NULL, heads, out.d};
	const struct rows absorbed_lse = {s->latent_lse, NULL, heads, 1};
	const mla_tensor *const outs[] = {NULL, &c->out_model, &c->out_ref, NULL};
	int count = 0;

	for (int k = 0; k < FACTS_MOST; k++) {
		struct fact fact = fact_kinds[k];

		if (k == 0 && textbook) {
			compare_out(&projected, &out, n, &fact);
			compare_lse(&absorbed_lse, &lse, n, &fact);
		} else if (outs[k] && outs[k]->data && outs[k]->extent[2] == out.d) {
			compare_out(&(struct rows){NULL, outs[k], heads, out.d}, &out, n, &fact);
		} else if (k == 3 && c->lse_ref.data) {
			compare_lse(&(struct rows){NULL, &c->lse_ref, heads, 1}, &lse, n, &fact);
		} else {
			continue;
		}
		facts[count++] = fact;
	}
	return count;
}

mla_status facts_find(const struct mla_case *c, struct fact facts[FACTS_MOST], int *count)
{
	const int64_t rows = case_total_q(c) * c->config.num_heads;
	struct states s = {0};
	bool computed;

	*count = 0;
	if (!facts_given(c))
		return MLA_OK;
	s.latent = check_array(rows, c->config.head_dim_ckv);
	s.latent_lse = check_array(rows, 1);
	computed = s.latent && s.latent_lse &&
		   (has_weights(c) ? compute_textbook : compute_plain)(c, rows, &s);
	if (computed)
		*count = compare_all(c, rows, &s, facts);
	states_free(&s);
	return computed ? MLA_OK : mla_fail(MLA_NO_MEMORY, "no memory for textbook attention");
}

bool facts_good(const struct fact *fact)
{
	const bool out_good = !fact->has_out || fact->out_worst <= fact->bound;
	const bool lse_good = !fact->has_lse || fact->lse_worst <= fact->bound;

	return fact->bound == 0 || (out_good && lse_good);
}
