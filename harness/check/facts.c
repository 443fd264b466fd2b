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
	const double *values;     /* contiguous, row k of the list; or NULL: */
	const mla_tensor *tensor; /* as stored, packed row list[k] */
	const int64_t *list;      /* NULL: every row */
	int64_t num_heads, d;
};

static double value_at(const struct rows *rows, int64_t row, int64_t c)
{
	if (rows->values)
		return rows->values[row * rows->d + c];

	const mla_tensor *t = rows->tensor;
	const int64_t packed = rows->list ? rows->list[row] : row;

	return ref_load((const char *)t->data + packed / rows->num_heads * t->stride[0] +
				packed % rows->num_heads * t->stride[1] +
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

bool facts_good(const struct fact *fact)
{
	const bool out_good = !fact->has_out ||
			      (fact->out_worst <= fact->bound && fact->out_rms <= fact->rms_bound);
	const bool lse_good = !fact->has_lse || fact->lse_worst <= fact->bound;

	return out_good && lse_good;
}

/* ---- what is compared with ------------------------------------------------------------------- */

bool facts_weights(const struct mla_case *c)
{
	return c->q_raw.data && c->w_uk.data && c->w_uv.data;
}

/* Everything in fp64. */
struct states {
	int64_t n;
	const int64_t *rows;         /* NULL: every row */
	double *latent, *latent_lse; /* absorbed: [n, ckv], [n] */
	double *q;                   /* absorbed query, every row */
	double *projected;           /* latent behind W_UV: [n, v] */
};

static void states_free(struct states *s)
{
	double *all[] = {s->latent, s->latent_lse, s->q, s->projected};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		free(all[i]);
}

/* Absorbed attention whose query was not rounded, projected. false if memory ran out. */
static bool compute_projected(const struct mla_case *c, struct states *s)
{
	struct ref_truth truth;

	s->latent = check_array(s->n, c->config.head_dim_ckv);
	s->latent_lse = check_array(s->n, 1);
	s->projected = check_array(s->n, c->w_uv.extent[1]);
	s->q = check_array(case_total_q(c) * c->config.num_heads, c->config.head_dim_ckv);
	if (!s->latent || !s->latent_lse || !s->projected || !s->q)
		return false;
	truth = (struct ref_truth){.out = s->latent, .lse = s->latent_lse};
	ref_absorb_q(&c->q_raw, &c->w_uk, s->q);
	if (ref_attention_absorbed(&c->config, &c->batch, &c->tensors, s->q, s->rows, s->n, &truth))
		return false;
	ref_project_out(s->rows, s->n, s->latent, &c->w_uv, s->projected);
	return true;
}

/* ---- what a capture carries ------------------------------------------------------------------ */

static double eps_of(int32_t dtype)
{
	return dtype == MLA_BF16 ? CHECK_EPS_BF16 : CHECK_EPS_F16;
}

/* out: [n, D] of the truth, D that of the capture's outputs. */
static int compare_carried(const struct mla_case *c, const struct states *s, const double *out,
			   int64_t d, const double *lse, struct fact facts[FACTS_CARRIED])
{
	const int64_t heads = c->config.num_heads;
	const struct rows want = {.values = out, .d = d}, want_lse = {.values = lse, .d = 1};
	const double eps = eps_of(c->out_model.dtype);
	const struct {
		struct fact fact;
		const mla_tensor *tensor;
	} carried[] = {
		{{.name = "out_model",
		  .meaning = "what the captured attention gave, in its dtype",
		  .bound = FACTS_MODEL_WORST * eps,
		  .rms_bound = FACTS_MODEL_RMS * eps},
		 &c->out_model},
		{{.name = "out_ref",
		  .meaning = "the capture's reference output",
		  .bound = CARRIED_BOUND,
		  .rms_bound = CARRIED_BOUND},
		 &c->out_ref},
		{{.name = "lse_ref",
		  .meaning = "the capture's reference lse",
		  .bound = CARRIED_BOUND},
		 &c->lse_ref},
	};
	int count = 0;

	for (size_t i = 0; i < sizeof(carried) / sizeof(*carried); i++) {
		const mla_tensor *tensor = carried[i].tensor;
		const struct rows got = {.tensor = tensor,
					 .list = s->rows,
					 .num_heads = heads,
					 .d = tensor->ndim == 3 ? d : 1};

		if (!tensor->data)
			continue;
		facts[count] = carried[i].fact;
		if (tensor->ndim == 3)
			compare_out(&got, &want, s->n, &facts[count++]);
		else
			compare_lse(&got, &want_lse, s->n, &facts[count++]);
	}
	return count;
}

mla_status facts_carried(const struct mla_case *c, const struct check_truth *truth,
			 struct fact facts[FACTS_CARRIED], int *count)
{
	struct states s = {.n = truth->n, .rows = truth->rows};
	mla_status status = MLA_OK;

	*count = 0;
	if (!c->out_model.data && !c->out_ref.data && !c->lse_ref.data)
		return MLA_OK;
	if (!facts_weights(c))
		*count = compare_carried(c, &s, truth->values.out, c->config.head_dim_ckv,
					 truth->values.lse, facts);
	else if (compute_projected(c, &s))
		*count =
			compare_carried(c, &s, s.projected, c->w_uv.extent[1], s.latent_lse, facts);
	else
		status = mla_fail(MLA_NO_MEMORY, "no memory for the attention of a capture");
	states_free(&s);
	return status;
}

/* ---- textbook attention ---------------------------------------------------------------------- */

double facts_textbook_cost(const struct mla_case *c)
{
	double keys = 0;

	for (int32_t b = 0; b < c->batch.batch_size; b++)
		keys += c->batch.kv_len[b];

	const double expanded = (double)c->w_uk.extent[1] + (double)c->w_uv.extent[1];

	return 2 * case_multiply_adds(c) +
	       keys * c->config.num_heads * expanded * c->config.head_dim_ckv;
}

mla_status facts_textbook(const struct mla_case *c, struct fact *fact)
{
	const int64_t d = c->w_uv.extent[1];
	struct states s = {.n = case_total_q(c) * c->config.num_heads};
	double *out = check_array(s.n, d), *lse = check_array(s.n, 1);
	const bool computed = out && lse && compute_projected(c, &s) &&
			      !ref_mha(&c->config, &c->batch, &c->tensors, &c->q_raw, &c->w_uk,
				       &c->w_uv, out, lse);

	*fact = (struct fact){
		.name = FACTS_NAME,
		.meaning = "absorbed, projected with W_UV, against textbook attention, both fp64",
		.bound = FACTS_ABSORPTION_BOUND,
		.rms_bound = FACTS_ABSORPTION_BOUND,
	};
	if (computed) {
		compare_out(&(struct rows){.values = s.projected, .d = d},
			    &(struct rows){.values = out, .d = d}, s.n, fact);
		compare_lse(&(struct rows){.values = s.latent_lse, .d = 1},
			    &(struct rows){.values = lse, .d = 1}, s.n, fact);
	}
	states_free(&s);
	free(out);
	free(lse);
	return computed ? MLA_OK : mla_fail(MLA_NO_MEMORY, "no memory for textbook attention");
}
