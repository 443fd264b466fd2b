/* variants.c - the CPU implementations: the same attention computed in different ways, so that an
 * idea (running maximum, split keys, absorption) is shown right before a kernel uses it.
 */
#include "check/variants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "case/work.h"
#include "lib/error.h"

static int64_t rows_of(const mla_config *config, const mla_batch *batch)
{
	const int32_t n = batch->batch_size;
	return n > 0 ? (int64_t)batch->qo_indptr[n] * config->num_heads : 0;
}

static double *doubles(int64_t n)
{
	return malloc((size_t)(n > 0 ? n : 1) * sizeof(double));
}

static void store_row(const mla_config *config, const mla_tensors *tensors, int64_t row,
		      const double *out, double lse)
{
	const mla_tensor *o = &tensors->out, *l = &tensors->lse;
	const int64_t query = row / config->num_heads, head = row % config->num_heads;
	char *element = (char *)o->data + query * o->stride[0] + head * o->stride[1];
	for (int32_t c = 0; c < config->head_dim_ckv; c++)
		ref_store(element + c * o->stride[2], o->dtype, out[c]);
	if (l->data)
		ref_store((char *)l->data + query * l->stride[0] + head * l->stride[1], l->dtype,
			  config->lse_base == MLA_LSE_BASE2 ? lse / log(2.0) : lse);
}

/* Two passes, the exact maximum first: what the truth does, rounded once to the output's dtype. */
static mla_status run_absorbed(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	const int64_t rows = rows_of(config, batch), d = config->head_dim_ckv;
	const struct ref_truth truth = {.out = doubles(rows * d), .lse = doubles(rows)};
	const bool done = truth.out && truth.lse &&
			  ref_attention(config, batch, tensors, NULL, rows, &truth) == 0;
	for (int64_t row = 0; done && row < rows; row++)
		store_row(config, tensors, row, truth.out + row * d, truth.lse[row]);
	free(truth.out);
	free(truth.lse);
	return done ? MLA_OK : mla_fail(MLA_NO_MEMORY, "no memory for the fp64 outputs");
}

/* A plan for a pretended small GPU: 16 workers share the batch, so that requests are split and
 * their partial states merged. */
static mla_status run_split_k(const mla_config *config, const mla_batch *batch,
			      const mla_tensors *tensors)
{
	static const mla_device device = {
		.struct_size = sizeof(device), .arch = 90, .sm_count = 8, .smem_per_block = 232448};
	mla_traits traits = {.struct_size = sizeof(traits),
			     .tile_rows = 16,
			     .kv_granule = 64,
			     .ctas_per_sm = 2,
			     .ctas_per_worker = 1,
			     .item_cost = 16,
			     .merge = MLA_MERGE_SEPARATE,
			     .align = 1};
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_plan *plan = NULL;
	if (config->fixed_split > 0) /* the CPU splits anywhere */
		traits.kv_granule = config->fixed_split;
	mla_status status = mla_capacity_of(config, batch, &capacity);
	if (!status)
		status = mla_plan_create_for_traits(&traits, config, &device, &capacity, &plan);
	if (!status)
		status = mla_plan_build(plan, batch);
	if (!status)
		status = mla_reference_plan(plan, tensors);
	mla_plan_destroy(plan);
	return status;
}

const struct variant variants[] = {
	{"absorbed", "two passes over the keys, exact maximum first, fp64: the truth itself",
	 run_absorbed},
	{"online", "one pass over the keys with a running maximum, fp64", mla_reference},
	{"split-k", "keys split by a plan, partial states merged, fp64", run_split_k},
};
const int num_variants = sizeof(variants) / sizeof(variants[0]);

/* ---- facts ----------------------------------------------------------------------------------- */

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
			struct variant_fact *fact)
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
			struct variant_fact *fact)
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

bool variant_has_facts(const struct mla_case *c)
{
	return has_weights(c) || c->out_ref.data || c->lse_ref.data;
}

double variant_facts_cost(const struct mla_case *c)
{
	const double attention = case_multiply_adds(c);
	if (!has_weights(c))
		return attention;
	double keys = 0;
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

static int compute_plain(const struct mla_case *c, int64_t rows, struct states *s)
{
	const struct ref_truth truth = {.out = s->latent, .lse = s->latent_lse};
	return ref_attention(&c->config, &c->batch, &c->tensors, NULL, rows, &truth);
}

static int compute_textbook(const struct mla_case *c, int64_t rows, struct states *s)
{
	const struct ref_truth truth = {.out = s->latent, .lse = s->latent_lse};
	const int64_t v = c->w_uv.extent[1];
	s->q = doubles(rows * c->config.head_dim_ckv);
	s->out = doubles(rows * v);
	s->projected = doubles(rows * v);
	s->lse = doubles(rows);
	if (!s->q || !s->out || !s->projected || !s->lse)
		return -1;
	ref_absorb_q(&c->q_raw, &c->w_uk, s->q);
	if (ref_attention_absorbed(&c->config, &c->batch, &c->tensors, s->q, &truth) != 0 ||
	    ref_mha(&c->config, &c->batch, &c->tensors, &c->q_raw, &c->w_uk, &c->w_uv, s->out,
		    s->lse) != 0)
		return -1;
	ref_project_out(case_total_q(c), s->latent, &c->w_uv, s->projected);
	return 0;
}

static const struct variant_fact fact_kinds[] = {
	{.name = VARIANT_FACTS,
	 .meaning = "absorbed, projected with W_UV, against textbook attention, both fp64",
	 .bound = VARIANT_ABSORPTION_BOUND},
	{.name = "out_model", .meaning = "what the model's own attention gave (its dtype)"},
	{.name = "out_ref", .meaning = "the capture's reference output", .bound = CARRIED_BOUND},
	{.name = "lse_ref", .meaning = "the capture's reference lse", .bound = CARRIED_BOUND},
};

static int compare_all(const struct mla_case *c, int64_t n, const struct states *s,
		       struct variant_fact *facts)
{
	const int64_t heads = c->config.num_heads;
	const bool textbook = s->out != NULL;
	const struct rows out = {textbook ? s->out : s->latent, NULL, heads,
				 textbook ? c->w_uv.extent[1] : c->config.head_dim_ckv};
	const struct rows lse = {textbook ? s->lse : s->latent_lse, NULL, heads, 1};
	const struct rows projected = {s->projected, NULL, heads, out.d};
	const struct rows absorbed_lse = {s->latent_lse, NULL, heads, 1};
	const mla_tensor *const outs[] = {NULL, &c->out_model, &c->out_ref, NULL};
	int count = 0;
	for (int k = 0; k < VARIANT_MAX_FACTS; k++) {
		struct variant_fact fact = fact_kinds[k];
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

int variant_facts(const struct mla_case *c, struct variant_fact facts[VARIANT_MAX_FACTS])
{
	if (!variant_has_facts(c))
		return 0;
	const int64_t rows = rows_of(&c->config, &c->batch);
	struct states s = {.latent = doubles(rows * c->config.head_dim_ckv),
			   .latent_lse = doubles(rows)};
	int count = -1;
	if (s.latent && s.latent_lse &&
	    (has_weights(c) ? compute_textbook : compute_plain)(c, rows, &s) == 0)
		count = compare_all(c, rows, &s, facts);
	states_free(&s);
	return count;
}

bool variant_fact_good(const struct variant_fact *fact)
{
	const bool out_good = !fact->has_out || fact->out_worst <= fact->bound;
	const bool lse_good = !fact->has_lse || fact->lse_worst <= fact->bound;
	return fact->bound == 0 || (out_good && lse_good);
}
