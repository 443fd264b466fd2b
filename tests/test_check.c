/* test_check.c - the checker: its bounds and words, the truth, the poisoned instance, subjects.
 */
#include <math.h>
#include <stdlib.h>

#include "base/poison.h"
#include "check/variants.h"
#include "check_fixture.h"
#include "device/gpu.h"

/* ---- the judge ------------------------------------------------------------------------------- */

/* Outputs of a problem as the truth has them, rounded once; to be spoilt by a test. */
struct outputs {
	void *out;
	float *lse;
};

static int64_t num_rows(const struct problem *p)
{
	return case_total_q(&p->c) * p->c.config.num_heads;
}

static void set_out(const struct problem *p, const struct outputs *o, int64_t row, int64_t dim,
		    double value)
{
	const mla_config *config = &p->c.config;

	ref_store((char *)o->out +
			  (row * config->head_dim_ckv + dim) * ref_dtype_size(config->out_dtype),
		  config->out_dtype, value);
}

static struct outputs right_outputs(const struct problem *p)
{
	const int64_t d = p->c.config.head_dim_ckv, rows = num_rows(p);
	const double unit = p->c.config.lse_base == MLA_LSE_BASE2 ? 1 / log(2) : 1;
	struct outputs o = {calloc((size_t)(rows * d), 4), calloc((size_t)rows, sizeof(float))};

	cr_assert(o.out && o.lse);
	for (int64_t row = 0; row < rows; row++) {
		for (int64_t i = 0; i < d; i++)
			set_out(p, &o, row, i, p->truth.values.out[row * d + i]);
		o.lse[row] = (float)(p->truth.values.lse[row] * unit);
	}
	return o;
}

/* Judges, and frees the outputs. */
static struct check_verdict judge(const struct problem *p, struct outputs *o)
{
	struct check_verdict v = {0};

	const mla_tensors outputs = check_packed(&p->c, o->out, o->lse);

	check_outputs(&p->c, &p->truth, &outputs, &v);
	free(o->out);
	free(o->lse);
	return v;
}

Test(judge, accepts_the_rounded_truth)
{
	for (size_t n = 0; n < COUNT(named_cases); n++) {
		struct problem p;
		struct outputs o;
		struct check_verdict v;

		make_named(named_cases[n].name, &p);
		o = right_outputs(&p);
		v = judge(&p, &o);
		cr_expect_eq(v.outcome, CHECK_PASS, "%s: %s", named_cases[n].name, v.why);
		cr_expect_leq(v.worst_element, 0.51, "one rounding is half of the bound");
		cr_expect_eq(v.num_wrong, 0);
		cr_expect_str_eq(v.why, "");
		free_problem(&p);
	}
}

/* Spoils one element or lse and expects to be told where. */
static void expect_found(double value, bool in_lse)
{
	enum { QUERY = 4, HEAD = 2, DIM = 7 }; /* of "spec": request 1, its query 2 */
	struct problem p;
	struct outputs o;
	struct check_verdict v;

	make_named("spec", &p);
	o = right_outputs(&p);
	if (in_lse)
		o.lse[QUERY * 3 + HEAD] = (float)value;
	else
		set_out(&p, &o, QUERY * 3 + HEAD, DIM, value);
	v = judge(&p, &o);
	cr_expect_eq(v.outcome, CHECK_FAIL, "%g passes", value);
	cr_expect_eq(v.num_wrong, 1, "%g: %lld wrong", value, (long long)v.num_wrong);
	cr_expect_eq(v.first.request, 1);
	cr_expect_eq(v.first.query, 2);
	cr_expect_eq(v.first.head, HEAD);
	cr_expect_eq(v.first.dim, in_lse ? -1 : DIM);
	cr_expect(strstr(v.why, in_lse ? "request 1 query 2 head 2 lse: got"
				       : "request 1 query 2 head 2 dim 7: got"),
		  "%s", v.why);
	free_problem(&p);
}

Test(judge, finds_a_single_number_that_is_none)
{
	expect_found(NAN, false);
	expect_found(INFINITY, false);
	expect_found(-INFINITY, false);
	expect_found(1e30, false);
	expect_found(NAN, true);
	expect_found(INFINITY, true);
	expect_found(-INFINITY, true);
	expect_found(0, true);
}

/* An f32 output can be placed anywhere: just inside and just outside of its bound. */
Test(judge, bounds_are_where_they_are_said_to_be)
{
	const double inside = 0.97, outside = 1.03; /* an lse is stored as f32 */
	struct problem p;

	make_named("q_pos0", &p);
	for (int k = 0; k < 4; k++) {
		const int64_t row = 5, dim = 3, d = p.c.config.head_dim_ckv;
		const double factor = k & 1 ? outside : inside;
		const struct ref_truth *t = &p.truth.values;
		struct outputs o = right_outputs(&p);
		struct check_verdict v;

		if (k < 2)
			set_out(&p, &o, row, dim,
				t->out[row * d + dim] +
					factor * 2 / 256 * t->sum_abs[row * d + dim]);
		else
			o.lse[row] = (float)(t->lse[row] - factor * p.truth.lse_bound[row]);
		v = judge(&p, &o);
		cr_expect_eq(v.outcome, k & 1 ? CHECK_FAIL : CHECK_PASS, "%d: %s", k, v.why);
		cr_expect_float_eq(k < 2 ? v.worst_element : v.worst_lse, factor, 0.02);
	}
	free_problem(&p);
}

Test(judge, lse_bound_is_in_natural_units)
{
	struct problem p;
	struct outputs o;

	make_named("spec", &p); /* base 2 */
	o = right_outputs(&p);
	o.lse[3] += (float)(0.9 / log(2) * p.truth.lse_bound[3]);
	cr_expect_eq(judge(&p, &o).outcome, CHECK_PASS);
	o = right_outputs(&p);
	o.lse[3] += (float)(1.2 / log(2) * p.truth.lse_bound[3]);
	cr_expect_eq(judge(&p, &o).outcome, CHECK_FAIL);
	free_problem(&p);
}

/* Errors that no element shows, but the row does. */
Test(judge, row_rms_finds_what_elements_do_not)
{
	struct problem p;
	struct outputs o;
	struct check_verdict v;
	int64_t d;

	make_named("flat", &p);
	d = p.c.config.head_dim_ckv;
	o = right_outputs(&p);
	for (int64_t i = 0; i < d; i++)
		set_out(&p, &o, 9, i,
			p.truth.values.out[9 * d + i] +
				(i & 1 ? 0.3 : -0.3) * 2 / 256 * p.truth.values.sum_abs[9 * d + i]);
	v = judge(&p, &o);
	cr_expect_eq(v.outcome, CHECK_FAIL);
	cr_expect_eq(v.num_wrong, 0);
	cr_expect_gt(v.worst_rms, 1);
	cr_expect(strstr(v.why, "request 0 query 0 head 9"), "%s", v.why);
	free_problem(&p);
}

Test(judge, rows_that_see_nothing_are_zero_and_minus_infinity)
{
	static const struct {
		double out;
		float lse;
		enum check_outcome outcome;
	} tries[] = {{0, -INFINITY, CHECK_PASS},    {-0.0, -INFINITY, CHECK_PASS},
		     {6e-8, -INFINITY, CHECK_FAIL}, {0, INFINITY, CHECK_FAIL},
		     {0, -1e30f, CHECK_FAIL},       {NAN, -INFINITY, CHECK_FAIL}};
	struct problem p;

	make_named("ragged", &p); /* request 3: 5 queries, no keys; its first query is number 18 */
	cr_assert_eq(p.truth.values.lse[18 * 9], -INFINITY);
	for (size_t k = 0; k < COUNT(tries); k++) {
		struct outputs o = right_outputs(&p);

		set_out(&p, &o, 18 * 9, 11, tries[k].out);
		o.lse[18 * 9] = tries[k].lse;
		cr_expect_eq(judge(&p, &o).outcome, tries[k].outcome, "try %zu", k);
	}
	free_problem(&p);
}

/* Values of 1e5: beyond fp16, so the output must be infinite, with the right sign. */
Test(judge, overflow_of_fp16_is_an_infinity)
{
	static const struct {
		double got;
		enum check_outcome outcome;
	} tries[] = {{INFINITY, CHECK_PASS},
		     {65504, CHECK_FAIL},
		     {-INFINITY, CHECK_FAIL},
		     {NAN, CHECK_FAIL}};
	struct problem p;
	float *values;

	make_named("f32", &p);
	check_truth_free(&p.truth);
	p.c.config.out_dtype = MLA_F16;
	values = p.c.tensors.ckv.data;
	for (int64_t key = 0; key < p.c.tensors.ckv.extent[0]; key++)
		values[key * 512 + 5] = 1e5f;
	make_truth(&p);
	for (size_t k = 0; k < COUNT(tries); k++) {
		struct outputs o = right_outputs(&p);

		set_out(&p, &o, 2, 5, tries[k].got);
		cr_expect_eq(judge(&p, &o).outcome, tries[k].outcome, "%g", tries[k].got);
	}
	free_problem(&p);
}

Test(judge, says_how_much_was_never_written)
{
	struct problem p;
	struct outputs o;
	struct check_verdict v;

	make_named("spec", &p);
	o = right_outputs(&p);
	memset(o.out, 0xff, 512 * 2);
	v = judge(&p, &o);
	cr_expect(strstr(v.why, "512 of 13851 elements are wrong (512 never written)"), "%s",
		  v.why);
	free_problem(&p);
}

/* ---- the truth ------------------------------------------------------------------------------- */

Test(truth, samples_first_last_and_rows_between)
{
	struct problem p;
	struct outputs o;
	struct check_verdict v;
	const int64_t rows[] = {0, 6, 13, 19, 26};

	make_named("spec", &p);
	o = right_outputs(&p);
	check_truth_free(&p.truth);
	cr_assert_eq(check_truth_make(&p.c, 5, &p.truth), MLA_OK);
	cr_assert_eq(p.truth.n, 5);
	for (int k = 0; k < 5; k++)
		cr_expect_eq(p.truth.rows[k], rows[k]);
	set_out(&p, &o, 7, 0, 1e30); /* in a row that nobody knows the truth of */
	v = judge(&p, &o);
	cr_expect_eq(v.outcome, CHECK_PASS, "%s", v.why);
	check_truth_free(&p.truth);
	make_truth(&p);
	o = right_outputs(&p);
	check_truth_free(&p.truth);
	cr_assert_eq(check_truth_make(&p.c, 5, &p.truth), MLA_OK);
	set_out(&p, &o, 7, 0, NAN); /* but a NaN is one anywhere */
	v = judge(&p, &o);
	cr_expect_eq(v.outcome, CHECK_FAIL);
	cr_expect(strstr(v.why, "request 1 query 0 head 1"), "%s", v.why);
	cr_expect(strstr(v.why, "want a number"), "%s", v.why);
	free_problem(&p);
}

/* A row whose truth was not computed may be NaN where its query or a key of its request is. */
Test(truth, rows_between_may_be_nan_where_their_inputs_are)
{
	for (int n = 0; n < 32; n++) {
		struct problem p;
		struct check_verdict v;

		cr_assert_eq(generate_adversarial(1, n, &p.c), MLA_OK);
		cr_assert_eq(check_truth_make(&p.c, 3, &p.truth), MLA_OK);
		v = judge_run(&p, mla_reference);
		cr_expect_eq(v.outcome, CHECK_PASS, "%s: %s", p.c.name, v.why);
		free_problem(&p);
	}
}

Test(truth, rows_between_must_be_written_all_the_same)
{
	struct problem p;
	struct outputs o;
	struct check_verdict v;

	make_named("nan", &p); /* rows 2, 5, ... */
	o = right_outputs(&p);
	check_truth_free(&p.truth);
	cr_assert_eq(check_truth_make(&p.c, 2, &p.truth), MLA_OK);
	memset((char *)o.out + 5 * 512 * 2, 0xff, 512 * 2);
	v = judge(&p, &o);
	cr_expect_eq(v.outcome, CHECK_FAIL);
	cr_expect_eq(v.num_wrong, 512);
	cr_expect(strstr(v.why, "(512 never written)"), "%s", v.why);
	free_problem(&p);
}

/* The last of four queries sees a NaN that the others do not: those may be NaN, in part or all. */
Test(truth, a_nan_that_a_later_query_sees_is_free)
{
	enum { HEADS = 16, FIRST = 2 * HEADS + 3, LAST = 3 * HEADS + 3 };
	struct problem p;
	struct outputs o;
	struct check_verdict v;

	make_named("nan_keys", &p);
	cr_expect(isnan(p.truth.values.lse[LAST]) && !isnan(p.truth.values.lse[FIRST]));
	o = right_outputs(&p);
	v = judge(&p, &o);
	cr_expect_eq(v.outcome, CHECK_PASS, "%s", v.why);
	cr_expect_eq(v.num_free, (3 + 1) * HEADS); /* of both requests */
	cr_expect_eq(v.num_nan, 0);

	o = right_outputs(&p);
	set_out(&p, &o, FIRST, 7, NAN);
	v = judge(&p, &o);
	cr_expect_eq(v.outcome, CHECK_PASS, "%s", v.why);
	cr_expect_eq(v.num_nan, 1);

	o = right_outputs(&p);
	set_out(&p, &o, FIRST, 7, 1e30); /* free to be NaN, not to be wrong */
	cr_expect_eq(judge(&p, &o).outcome, CHECK_FAIL);

	o = right_outputs(&p);
	set_out(&p, &o, LAST, 7, 0); /* sees it, and must not hide it */
	cr_expect_eq(judge(&p, &o).outcome, CHECK_FAIL);
	free_problem(&p);

	make_named("peaked", &p); /* no NaN, no freedom */
	o = right_outputs(&p);
	set_out(&p, &o, FIRST, 7, NAN);
	cr_expect_eq(judge(&p, &o).outcome, CHECK_FAIL);
	free_problem(&p);
}

Test(truth, says_where_a_wrong_scale_would_not_be_noticed)
{
	static const struct {
		const char *name;
		bool low_power;
	} expected[] = {{"peaked", false}, {"spec", false}, {"ragged", false}, {"normal", false},
			{"flat", true},    {"f32", false},  {"empty", true}};

	for (size_t k = 0; k < COUNT(expected); k++) {
		struct problem p;

		make_named(expected[k].name, &p);
		cr_expect_eq(p.truth.low_power, expected[k].low_power, "%s", expected[k].name);
		free_problem(&p);
	}
}

/* ---- the instance ---------------------------------------------------------------------------- */

/* Is slot s of page p (of a 16-bit cache) NaN throughout (1), as in the case (0), or neither? */
static int slot_state(const mla_tensor *in_case, const mla_tensor *in_instance, int64_t p,
		      int64_t s)
{
	const int64_t at = p * in_case->stride[0] + s * in_case->stride[1];
	const char *was = (const char *)in_case->data + at;
	const char *is = (const char *)in_instance->data + at;
	int64_t nan = 0;

	for (int64_t i = 0; i < in_case->extent[2]; i++)
		nan += isnan(ref_load(is + i * in_case->stride[2], in_case->dtype)) != 0;
	if (nan == in_case->extent[2])
		return 1;
	return memcmp(was, is, (size_t)(in_case->extent[2] * in_case->stride[2])) ? -1 : 0;
}

/* Does any request with queries have a key in this slot? The long way round. */
static bool is_seen(const struct mla_case *c, int64_t page, int64_t slot)
{
	for (int32_t r = 0; r < c->batch.batch_size; r++)
		for (int32_t key = 0; key < c->batch.kv_len[r]; key++)
			if (c->batch.qo_indptr[r] < c->batch.qo_indptr[r + 1] &&
			    c->tensors.kv_indices[c->batch.kv_indptr[r] +
						  key / c->config.page_size] == page &&
			    key % c->config.page_size == slot)
				return true;
	return false;
}

static void expect_poison(const char *name)
{
	struct problem p;
	struct check_instance instance;
	int64_t nan = 0, seen = 0;

	make_named(name, &p);
	cr_assert_eq(check_instance_make(&p.c, &instance), MLA_OK);
	for (int64_t page = 0; page < p.c.tensors.ckv.extent[0]; page++)
		for (int64_t slot = 0; slot < p.c.config.page_size; slot++) {
			const int expected = !is_seen(&p.c, page, slot);

			nan += expected;
			seen += !expected;
			cr_expect_eq(slot_state(&p.c.tensors.ckv, &instance.host.ckv, page, slot),
				     expected, "%s: ckv page %lld slot %lld", name, (long long)page,
				     (long long)slot);
			cr_expect_eq(slot_state(&p.c.tensors.kpe, &instance.host.kpe, page, slot),
				     expected, "%s: kpe page %lld slot %lld", name, (long long)page,
				     (long long)slot);
		}
	cr_expect(nan > 0 && seen > 0, "%s shows nothing", name);
	check_instance_free(&instance);
	free_problem(&p);
}

Test(instance, only_slots_that_a_request_sees_hold_numbers)
{
	expect_poison("peaked"); /* fused, unused pages */
	expect_poison("spec");   /* shared pages */
	expect_poison("ragged"); /* a request with keys, but without queries */
}

Test(instance, fused_views_stay_fused)
{
	struct problem p;
	struct check_instance instance;

	make_named("peaked", &p);
	cr_assert_eq(check_instance_make(&p.c, &instance), MLA_OK);
	cr_expect_eq((char *)instance.host.kpe.data - (char *)instance.host.ckv.data, 512 * 2);
	cr_expect_eq(instance.host.ckv.stride[1], 576 * 2);
	cr_expect_neq(instance.host.ckv.data, p.c.tensors.ckv.data);
	check_instance_free(&instance);
	free_problem(&p);
}

Test(instance, unused_page_ids_are_poison)
{
	int gaps = 0;

	for (int n = 0; n < 30; n++) {
		struct mla_case c;
		struct check_instance instance;
		int64_t used = 0;

		cr_assert_eq(generate_adversarial(3, n, &c), 0);
		cr_assert_eq(check_instance_make(&c, &instance), MLA_OK);
		for (int32_t r = 0; r < c.batch.batch_size; r++)
			for (int64_t i = c.batch.kv_indptr[r]; i < c.batch.kv_indptr[r + 1]; i++) {
				const bool in_use =
					(i - c.batch.kv_indptr[r]) * c.config.page_size <
					c.batch.kv_len[r];

				used += in_use;
				gaps += !in_use;
				cr_expect_eq(instance.host.kv_indices[i],
					     in_use ? c.tensors.kv_indices[i] : POISON_PAGE);
			}
		/* and behind the table */
		cr_expect_eq(instance.host.kv_indices[c.tensors.num_kv_indices], POISON_PAGE);
		cr_expect_geq(instance.host.num_kv_indices, used);
		check_instance_free(&instance);
		case_free(&c);
	}
	cr_expect_gt(gaps, 0);
}

/* Changes one byte and expects the sentence to say where; then puts it back. */
static void expect_fault(struct check_instance *instance, void *address, const char *says)
{
	unsigned char *byte = address;
	char why[200] = "";

	*byte ^= 1;
	cr_expect_not(check_instance_intact(instance, why, sizeof(why)), "%s: not noticed", says);
	cr_expect(strstr(why, says), "\"%s\" does not say \"%s\"", why, says);
	*byte ^= 1;
	cr_expect(check_instance_intact(instance, why, sizeof(why)));
}

Test(instance, notices_every_write_where_none_belongs)
{
	struct problem p;
	struct check_instance i;
	mla_tensors *t;
	char *out, *lse;

	make_named("peaked", &p);
	cr_assert_eq(check_instance_make(&p.c, &i), MLA_OK);
	t = &i.host;
	out = t->out.data;
	lse = t->lse.data;
	expect_fault(&i, out - 1, "in front of out, 1 bytes before");
	expect_fault(&i, out - 8192, "in front of out, 8192 bytes before");
	expect_fault(&i, out + 3 * 128 * 512 * 2, "behind out, 0 bytes after");
	expect_fault(&i, lse - 4, "in front of lse, 4 bytes before");
	expect_fault(&i, lse + 3 * 128 * 4 + 5, "behind lse, 5 bytes after");
	expect_fault(&i, (char *)t->q_nope.data + (128 + 2) * 1024 + 6, "q_nope[1, 2, 3]");
	expect_fault(&i, (char *)t->q_pe.data + 2, "q_pe[0, 0, 1]");
	expect_fault(&i, (char *)t->ckv.data + t->ckv.stride[0] + t->ckv.stride[1] + 4,
		     "ckv[1, 1, 2]");
	expect_fault(&i, (char *)t->kpe.data + 2 * t->kpe.stride[1] + 2, "kpe[0, 2, 1]");
	expect_fault(&i, (char *)t->kv_indices + 5 * 4, "kv_indices[5]");
	check_instance_free(&i);
	free_problem(&p);
}

/* Outputs lie as the case says; the gaps between their rows are watched as the guards are. */
Test(instance, places_outputs_as_the_case_says)
{
	struct problem p;
	struct check_instance i;
	char *out, *lse;

	make_named("strided", &p);
	p.c.out_rows = (struct case_rows){.lead = 256, .query = 5 * 160, .head = 160, .spare = 2};
	p.c.lse_rows = (struct case_rows){.lead = 8, .query = 64, .head = 4, .spare = 1};
	cr_assert_eq(check_instance_make(&p.c, &i), MLA_OK);
	cr_expect_eq(i.host.out.stride[0], 800);
	cr_expect_eq(i.host.out.stride[1], 160);
	cr_expect_eq(i.host.out.extent[0], 6 + 2);
	cr_expect_eq(i.host.lse.stride[0], 64);
	out = i.host.out.data;
	lse = i.host.lse.data;
	expect_fault(&i, out + 128, "between the rows of out, 128 bytes after its first");
	expect_fault(&i, out - 1, "in front of out, 1 bytes before");
	expect_fault(&i, out + 5 * 800 + 4 * 160 + 128, "behind out, 0 bytes after");
	expect_fault(&i, out + 6 * 800, "behind out, 32 bytes after");
	expect_fault(&i, lse + 5 * 4, "between the rows of lse, 20 bytes after its first");
	cr_expect_eq(mla_reference(&p.c.config, &p.c.batch, &i.host), MLA_OK);
	cr_expect(check_instance_intact(&i, (char[200]){0}, 200));
	check_instance_free(&i);
	free_problem(&p);
}

/* An lse that is not wanted is not judged either. */
Test(instance, outputs_without_lse)
{
	struct problem p;
	struct check_instance i;

	make_named("spec", &p);
	for (int k = 0; k < variants_count; k++) {
		struct check_verdict v = {0};

		cr_assert_eq(check_instance_make(&p.c, &i), MLA_OK);
		i.host.lse.data = NULL;
		cr_expect_eq(variants[k].run(&p.c.config, &p.c.batch, &i.host), MLA_OK);
		check_outputs(&p.c, &p.truth, &i.host, &v);
		cr_expect_eq(v.outcome, CHECK_PASS, "%s: %s", variants[k].name, v.why);
		check_instance_free(&i);
	}
	free_problem(&p);
}

Test(instance, is_not_made_of_pages_that_are_not_there)
{
	struct problem p;
	struct check_instance i;
	int32_t bad[] = {0, 1 << 20};

	make_named("peaked", &p);
	p.c.tensors.kv_indices = bad;
	p.c.batch.batch_size = 1;
	p.c.tensors.num_kv_indices = 2;
	cr_expect_eq(check_instance_make(&p.c, &i), MLA_INVALID);
	cr_expect(strstr(mla_last_error(), "kv_indices"), "%s", mla_last_error());
	cr_expect_null(i.state);
	check_instance_free(&i);
	free_problem(&p);
}

Test(instance, repoisons_outputs)
{
	struct problem p;
	struct check_instance i;
	const unsigned char *out;
	char why[200];

	make_named("spec", &p);
	cr_assert_eq(check_instance_make(&p.c, &i), MLA_OK);
	out = i.host.out.data;
	cr_expect_eq(mla_reference(&p.c.config, &p.c.batch, &i.host), MLA_OK);
	cr_expect(check_instance_intact(&i, why, sizeof(why)), "%s", why);
	cr_expect_neq(out[1], 0xff);
	check_instance_repoison(&i);
	for (int64_t b = 0; b < 9 * 3 * 512 * 2; b++)
		cr_assert_eq(out[b], 0xff);
	cr_expect(isnan(*(float *)i.host.lse.data));
	check_instance_free(&i);
	free_problem(&p);
}

/* ---- subjects -------------------------------------------------------------------------------- */

static mla_status refuses(const mla_config *config, const mla_batch *batch,
			  const mla_tensors *tensors)
{
	(void)config;
	(void)batch;
	(void)tensors;
	return MLA_REFUSED;
}

static mla_status fails(const mla_config *config, const mla_batch *batch,
			const mla_tensors *tensors)
{
	mla_config bad = *config;

	bad.num_heads = 0;
	return mla_reference(&bad, batch, tensors);
}

Test(subject, refusals_skip_and_errors_fail)
{
	struct problem p;
	struct check_verdict v;

	make_named("spec", &p);
	cr_expect_eq(judge_run(&p, refuses).outcome, CHECK_SKIP);
	v = judge_run(&p, fails);
	cr_expect_eq(v.outcome, CHECK_FAIL);
	cr_expect(strstr(v.why, "config.num_heads is 0"), "%s", v.why);
	free_problem(&p);
}

Test(subject, what_a_status_says_of_it)
{
	static const enum check_outcome expected[] = {
		[MLA_OK] = CHECK_PASS,        [MLA_INVALID] = CHECK_FAIL,
		[MLA_REFUSED] = CHECK_SKIP,   [MLA_CAPACITY] = CHECK_FAIL,
		[MLA_NO_MEMORY] = CHECK_SKIP, [MLA_CUDA] = CHECK_FAIL,
		[MLA_NO_CUDA] = CHECK_SKIP,
	};

	for (size_t status = 0; status < COUNT(expected); status++)
		cr_expect_eq(check_outcome_of((mla_status)status), expected[status], "%s",
			     mla_status_name((mla_status)status));
}

Test(subject, a_bad_page_table_is_named)
{
	struct problem p;
	struct check_verdict v;

	make_named("spec", &p);
	((int32_t *)p.c.tensors.kv_indices)[1] = 1000;
	v = judge_run(&p, mla_reference);
	cr_expect_eq(v.outcome, CHECK_FAIL);
	cr_expect(strstr(v.why, "kv_indices[1] = 1000"), "%s", v.why);
	free_problem(&p);
}

Test(subject, kernels_skip_without_a_gpu)
{
	const struct check_subject subject = {.name = "01_naive", .kernel = "01_naive"};
	struct problem p;
	struct check_verdict v;

	if (!gpu_missing())
		cr_skip_test("there is a GPU");
	make_named("spec", &p);
	check_subject(&p.c, &p.truth, &subject, &v);
	cr_expect_eq(v.outcome, CHECK_SKIP);
	cr_expect_str_eq(v.why, gpu_missing());
	free_problem(&p);
}
