/* test_variants.c - the CPU variants on a case whose weights are known, and what the facts of a
 * capture notice: each planted error must be found, and what is right must pass.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "case/generate.h"
#include "check/facts.h"
#include "check/variants.h"

enum { HEADS = 3, NOPE = 8, V = 6, CKV = 16, KPE = 4, QUERIES = 5 };

static double next_value(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (double)(int64_t)*seed / 0x1p63; /* -1 .. 1 */
}

static mla_tensor random_tensor(struct mla_case *c, int64_t a, int64_t b, int64_t d, uint64_t seed)
{
	mla_tensor t = case_tensor(c, MLA_BF16, 3, (const int64_t[]){a, b, d});
	cr_assert(t.data != NULL);
	for (int64_t i = 0; i < a * b * d; i++)
		ref_store((char *)t.data + 2 * i, MLA_BF16, next_value(&seed));
	return t;
}

/* A small model-forward case; the third request has no keys. */
static void make_case(struct mla_case *c)
{
	static const int32_t qo_len[] = {2, 2, 1}, kv_len[] = {70, 9, 0};
	const struct generate_spec spec = {.seed = 9,
					   .config = {.struct_size = sizeof(mla_config),
						      .num_heads = HEADS,
						      .head_dim_ckv = CKV,
						      .head_dim_kpe = KPE,
						      .page_size = 8,
						      .causal = 1,
						      .sm_scale = 0.3},
					   .batch_size = 3,
					   .qo_len = qo_len,
					   .kv_len = kv_len};
	*c = (struct mla_case){0};
	cr_assert(generate_case(&spec, c) == 0);
	c->q_raw = random_tensor(c, QUERIES, HEADS, NOPE, 1);
	c->w_uk = random_tensor(c, HEADS, NOPE, CKV, 2);
	c->w_uv = random_tensor(c, HEADS, V, CKV, 3);
}

/* References that are right: textbook attention, rounded to f32. */
static void add_references(struct mla_case *c)
{
	double out[QUERIES * HEADS * V], lse[QUERIES * HEADS];
	cr_assert(ref_mha(&c->config, &c->batch, &c->tensors, &c->q_raw, &c->w_uk, &c->w_uv, out,
			  lse) == 0);
	c->out_ref = case_tensor(c, MLA_F32, 3, (const int64_t[]){QUERIES, HEADS, V});
	c->lse_ref = case_tensor(c, MLA_F32, 2, (const int64_t[]){QUERIES, HEADS});
	c->out_model = case_tensor(c, MLA_BF16, 3, (const int64_t[]){QUERIES, HEADS, V});
	cr_assert(c->out_ref.data && c->lse_ref.data && c->out_model.data);
	for (int i = 0; i < QUERIES * HEADS * V; i++) {
		((float *)c->out_ref.data)[i] = (float)out[i];
		ref_store((char *)c->out_model.data + 2 * i, MLA_BF16, out[i]);
	}
	for (int i = 0; i < QUERIES * HEADS; i++)
		((float *)c->lse_ref.data)[i] = (float)lse[i];
}

static struct fact textbook_of(const struct mla_case *c)
{
	struct fact fact;

	cr_assert(!facts_textbook(c, &fact));
	return fact;
}

/* On so many rows of the truth; 0 = all. */
static int carried_of(const struct mla_case *c, int64_t rows, struct fact facts[FACTS_CARRIED])
{
	struct check_truth truth;
	int n;

	cr_assert(!check_truth_make(c, rows, &truth));
	cr_assert(!facts_carried(c, &truth, facts, &n));
	check_truth_free(&truth);
	return n;
}

static struct fact fact_of(const struct mla_case *c, const char *name)
{
	struct fact facts[FACTS_CARRIED];
	const int n = carried_of(c, 0, facts);

	for (int k = 0; k < n; k++)
		if (strcmp(facts[k].name, name) == 0)
			return facts[k];
	cr_assert_fail("no fact %s among %d", name, n);
	return facts[0];
}

Test(facts, a_generated_case_has_none)
{
	struct mla_case c;
	struct fact facts[FACTS_CARRIED];
	make_case(&c);
	cr_expect(facts_weights(&c));
	c.q_raw.data = NULL;
	cr_expect(!facts_weights(&c));
	cr_expect_eq(carried_of(&c, 0, facts), 0);
	case_free(&c);
}

Test(facts, what_is_right_passes)
{
	struct mla_case c;
	make_case(&c);
	add_references(&c);
	const struct fact unabsorbed = textbook_of(&c);
	cr_expect(unabsorbed.has_out && unabsorbed.has_lse && facts_good(&unabsorbed));
	cr_expect(unabsorbed.out_worst > 0 && unabsorbed.out_worst < 1e-12,
		  "two different orders of sums differ by %g", unabsorbed.out_worst);
	const struct fact out = fact_of(&c, "out_ref"), lse = fact_of(&c, "lse_ref");
	cr_expect(facts_good(&out) && out.out_worst > 0 && out.out_worst < 1e-6);
	cr_expect(facts_good(&lse) && lse.lse_worst > 0 && lse.lse_worst < 1e-6);
	const struct fact model = fact_of(&c, "out_model");
	cr_expect(facts_good(&model) && model.out_rms > 1e-4 && model.out_rms < 1.0 / 256);
	case_free(&c);
}

/* A sample of rows finds what lies in them, and is the same fact. */
Test(facts, rows_of_a_sample_are_enough)
{
	struct mla_case c;
	struct fact all[FACTS_CARRIED], some[FACTS_CARRIED];
	make_case(&c);
	add_references(&c);
	cr_assert_eq(carried_of(&c, 0, all), FACTS_CARRIED);
	cr_assert_eq(carried_of(&c, 4, some), FACTS_CARRIED);
	for (int k = 0; k < FACTS_CARRIED; k++)
		cr_expect(facts_good(&some[k]) && some[k].out_worst <= all[k].out_worst &&
			  some[k].lse_worst <= all[k].lse_worst);
	((float *)c.lse_ref.data)[0] += 1; /* the first row is always among them */
	carried_of(&c, 4, some);
	cr_expect(!facts_good(&some[2]));
	case_free(&c);
}

/* What a kernel call holds is the attention's own output, before W_UV. */
Test(facts, a_kernel_call_is_judged_by_the_truth)
{
	struct mla_case c;
	struct fact facts[FACTS_CARRIED];
	make_case(&c);
	c.q_raw.data = NULL;
	c.out_model = case_tensor(&c, MLA_BF16, 3, (const int64_t[]){QUERIES, HEADS, CKV});
	struct check_truth truth;
	cr_assert(!check_truth_make(&c, 0, &truth));
	for (int i = 0; i < QUERIES * HEADS * CKV; i++)
		ref_store((char *)c.out_model.data + 2 * i, MLA_BF16, truth.values.out[i]);
	check_truth_free(&truth);
	cr_assert_eq(carried_of(&c, 0, facts), 1);
	cr_expect(facts_good(&facts[0]));
	for (int i = 0; i < QUERIES * HEADS * CKV; i++)
		ref_store((char *)c.out_model.data + 2 * i, MLA_BF16, 1);
	carried_of(&c, 0, facts);
	cr_expect(!facts_good(&facts[0]));
	case_free(&c);
}

/* The same weights with padding between their rows are the same weights. */
Test(facts, absorption_follows_strides)
{
	struct mla_case c;
	make_case(&c);
	const double before = textbook_of(&c).out_worst;
	mla_tensor wide = case_tensor(&c, MLA_BF16, 3, (const int64_t[]){HEADS, NOPE, CKV + 4});
	cr_assert(wide.data != NULL);
	for (int64_t h = 0; h < HEADS; h++)
		for (int64_t d = 0; d < NOPE; d++)
			memcpy((char *)wide.data + h * wide.stride[0] + d * wide.stride[1],
			       (char *)c.w_uk.data + h * c.w_uk.stride[0] + d * c.w_uk.stride[1],
			       2 * CKV);
	wide.extent[2] = CKV;
	c.w_uk = wide;
	cr_expect(textbook_of(&c).out_worst == before);
	case_free(&c);
}

Test(facts, good_means_within_the_bound_and_a_number)
{
	struct fact fact = {.bound = 1e-9, .rms_bound = 1e-10, .has_out = true, .out_worst = 1e-9};
	cr_expect(facts_good(&fact));
	fact.out_worst = 1.1e-9;
	cr_expect(!facts_good(&fact));
	fact.out_worst = NAN;
	cr_expect(!facts_good(&fact));
	fact.out_worst = 0;
	fact.out_rms = 1.1e-10;
	cr_expect(!facts_good(&fact));
	fact.has_out = false;
	cr_expect(facts_good(&fact), "what was not compared counts");
	fact.has_lse = true;
	fact.lse_worst = NAN;
	cr_expect(!facts_good(&fact));
}

Test(facts, planted_errors_are_found)
{
	static const struct {
		const char *name;
		int lse, index;
		float factor;
	} errors[] = {
		{"a value 1 % off", 0, 7, 1.01f},       {"a value of NaN", 0, 3, NAN},
		{"an lse 1 % off", 1, 2, 1.01f},        {"an lse of NaN", 1, 5, NAN},
		{"an lse of infinity", 1, 0, INFINITY},
	};
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct mla_case c;
		make_case(&c);
		add_references(&c);
		const char *fact = errors[i].lse ? "lse_ref" : "out_ref";
		float *values = (errors[i].lse ? c.lse_ref : c.out_ref).data;
		values[errors[i].index] *= errors[i].factor;
		const struct fact found = fact_of(&c, fact);
		cr_expect(!facts_good(&found), "%s passes", errors[i].name);
		case_free(&c);
	}
}

/* The request without keys: only 0 and -inf are right. */
Test(facts, rows_that_see_nothing_are_compared_too)
{
	struct mla_case c;
	make_case(&c);
	add_references(&c);
	((float *)c.out_ref.data)[(QUERIES * HEADS - 1) * V] = 1e-30f;
	((float *)c.lse_ref.data)[QUERIES * HEADS - 1] = -1e30f;
	const struct fact out = fact_of(&c, "out_ref"), lse = fact_of(&c, "lse_ref");
	cr_expect(!facts_good(&out), "out of an empty row: %g", out.out_worst);
	cr_expect(!facts_good(&lse), "lse of an empty row: %g", lse.lse_worst);
	case_free(&c);
}

/* ---- variants -------------------------------------------------------------------------------- */

Test(variants, all_agree_with_the_truth)
{
	struct mla_case c;
	struct check_truth truth;
	make_case(&c);
	cr_assert(check_truth_make(&c, 0, &truth) == 0);
	for (int i = 0; i < variants_count; i++) {
		const struct check_subject subject = {.name = variants[i].name,
						      .run = variants[i].run};
		struct check_verdict verdict;
		check_subject(&c, &truth, &subject, &verdict);
		cr_expect(verdict.outcome == CHECK_PASS, "%s: %s", variants[i].name, verdict.why);
	}
	check_truth_free(&truth);
	case_free(&c);
}

Test(variants, work_counts_what_is_visible_once)
{
	struct mla_case c;
	struct case_work work;
	make_case(&c);
	cr_assert(case_work_of(&c, &work) == 0);
	/* Queries see 69, 70, 8, 9 and 0 keys. */
	cr_expect(work.multiply_adds == 156.0 * HEADS * (2 * CKV + KPE));
	cr_expect(work.flop == 2 * work.multiply_adds);
	cr_expect(work.bytes ==
		  79.0 * 2 * (CKV + KPE) + QUERIES * HEADS * (2.0 * (CKV + KPE) + 2 * CKV + 4));
	case_free(&c);
}

/* A prefix that requests share is read once. */
Test(variants, shared_pages_are_counted_once)
{
	static const int32_t qo_len[] = {1, 1}, kv_len[] = {16, 13};
	struct generate_spec spec = {.seed = 2,
				     .config = {.struct_size = sizeof(mla_config),
						.num_heads = 1,
						.head_dim_ckv = CKV,
						.page_size = 4,
						.sm_scale = 1},
				     .batch_size = 2,
				     .qo_len = qo_len,
				     .kv_len = kv_len};
	struct mla_case c = {0};
	struct case_work apart, shared;
	cr_assert(generate_case(&spec, &c) == 0 && case_work_of(&c, &apart) == 0);
	int32_t *pages = (int32_t *)c.tensors.kv_indices;
	for (int i = 0; i < 4; i++)
		pages[c.batch.kv_indptr[1] + i] = pages[i];
	cr_assert(case_work_of(&c, &shared) == 0);
	cr_expect(apart.bytes - shared.bytes == 13.0 * 2 * CKV, "%g", apart.bytes - shared.bytes);
	cr_expect(apart.flop == shared.flop);
	case_free(&c);
}
