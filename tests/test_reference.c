/* test_reference.c - the truth is tested by what attention must satisfy, and against attention
 * written once more in long double (reference_fixture.h).
 */
#define _GNU_SOURCE
#include <omp.h>
#include <sys/mman.h>

#include "device/known.h"
#include "reference/internal.h"
#include "reference_fixture.h"

/* fp64 sums of some hundred terms of order 1. */
static const double rounding = 1e-13;

static const struct shape shapes[] = {
	{.name = "one of everything",
	 .requests = 1,
	 .qo = {1},
	 .kv = {1},
	 .heads = 1,
	 .ckv = 1,
	 .kpe = 1,
	 .page = 1,
	 .scale = 0.5},
	{.name = "decode, pages of 3",
	 .requests = 4,
	 .qo = {1, 1, 0, 1},
	 .kv = {70, 0, 5, 33},
	 .heads = 3,
	 .ckv = 21,
	 .kpe = 6,
	 .page = 3,
	 .scale = 0.3},
	{.name = "causal, fused, a group of more than 64 rows",
	 .requests = 3,
	 .qo = {5, 4, 1},
	 .kv = {101, 4, 32},
	 .heads = 17,
	 .ckv = 16,
	 .kpe = 8,
	 .page = 16,
	 .causal = 1,
	 .fused = true,
	 .scale = 0.2},
	{.name = "causal, more queries than keys, fp16",
	 .requests = 3,
	 .qo = {9, 3, 2},
	 .kv = {4, 0, 64},
	 .heads = 2,
	 .ckv = 13,
	 .kpe = 5,
	 .page = 1,
	 .causal = 1,
	 .q_dtype = MLA_F16,
	 .ckv_dtype = MLA_F16,
	 .kpe_dtype = MLA_F16,
	 .scale = 0.4},
	{.name = "causal, q_pos0 below 0, inside and far beyond",
	 .requests = 4,
	 .qo = {6, 2, 3, 2},
	 .kv = {40, 12, 50, 7},
	 .pos0 = {-3, 30, 31, -9},
	 .has_pos0 = true,
	 .heads = 4,
	 .ckv = 9,
	 .kpe = 3,
	 .page = 7,
	 .causal = 1,
	 .q_dtype = MLA_F32,
	 .ckv_dtype = MLA_BF16,
	 .kpe_dtype = MLA_F32,
	 .scale = 0.7},
	{.name = "no rope part, f32 cache",
	 .requests = 2,
	 .qo = {2, 1},
	 .kv = {65, 31},
	 .heads = 5,
	 .ckv = 66,
	 .page = 64,
	 .ckv_dtype = MLA_F32,
	 .scale = 0.15},
	{.name = "q_pos0 without causal is nothing",
	 .requests = 1,
	 .qo = {2},
	 .kv = {20},
	 .pos0 = {3},
	 .has_pos0 = true,
	 .heads = 2,
	 .ckv = 8,
	 .kpe = 2,
	 .page = 4,
	 .scale = 0.5},
	{.name = "a negative scale",
	 .requests = 2,
	 .qo = {2, 3},
	 .kv = {41, 70},
	 .heads = 3,
	 .ckv = 12,
	 .kpe = 4,
	 .page = 8,
	 .causal = 1,
	 .scale = -0.4},
	{.name = "enough for a team of threads",
	 .requests = 2,
	 .qo = {24, 40},
	 .kv = {120, 120},
	 .heads = 16,
	 .ckv = 32,
	 .kpe = 8,
	 .page = 16,
	 .causal = 1,
	 .scale = 0.2},
};

/* One request that sees everything, pages of one key: page ids are tokens. */
static struct shape simple(int32_t qo, int32_t kv)
{
	return (struct shape){
		.name = "simple",
		.requests = 1,
		.qo = {qo},
		.kv = {kv},
		.heads = 3,
		.ckv = 10,
		.kpe = 4,
		.page = 1,
		.scale = 0.4,
	};
}

/* ---- numbers ------------------------------------------------------------------------------- */

static const struct {
	int32_t dtype;
	int mantissa, infinity;
} formats[] = {{MLA_BF16, 7, 0x7f80}, {MLA_F16, 10, 0x7c00}};

static uint16_t store16(int32_t dtype, double value)
{
	uint16_t bits;

	ref_store(&bits, dtype, value);
	return bits;
}

Test(number, all_65536_patterns_load_and_store)
{
	for (size_t f = 0; f < COUNT(formats); f++)
		for (uint32_t i = 0; i < 65536; i++) {
			const uint16_t bits = (uint16_t)i;
			const double got = ref_load(&bits, formats[f].dtype);
			const double want = plain_decode(bits, formats[f].mantissa);
			const uint16_t back = store16(formats[f].dtype, got);

			if (isnan(want)) {
				cr_assert(isnan(got), "pattern %04x is not NaN", bits);
				cr_assert((back & 0x7fff) > formats[f].infinity,
					  "NaN %04x became %04x", bits, back);
				cr_assert_eq(back & 0x8000, bits & 0x8000);
				continue;
			}
			cr_assert(got == want && !signbit(got) == !signbit(want),
				  "pattern %04x is %g, expected %g", bits, got, want);
			cr_assert_eq(back, bits, "%04x became %04x", bits, back);
		}
}

/* Between any two neighbours: halfway goes to the even one, the least bit beyond to the nearer.
 * Rounding through float first would take the beyond for halfway. */
Test(number, halfway_cases_round_to_even_once)
{
	for (size_t f = 0; f < COUNT(formats); f++)
		for (int i = 0; i < formats[f].infinity - 1; i++) {
			const int32_t dtype = formats[f].dtype;
			const double low = plain_decode((uint16_t)i, formats[f].mantissa);
			const double high = plain_decode((uint16_t)(i + 1), formats[f].mantissa);
			const double half = low + (high - low) / 2;
			const int even = i % 2 ? i + 1 : i;

			cr_assert_eq(store16(dtype, half), even);
			cr_assert_eq(store16(dtype, -half), even | 0x8000);
			cr_assert_eq(store16(dtype, nextafter(half, 0)), i);
			cr_assert_eq(store16(dtype, nextafter(half, INFINITY)), i + 1);
			cr_assert_eq(store16(dtype, -nextafter(half, INFINITY)), (i + 1) | 0x8000);
		}
}

Test(number, overflow_goes_to_infinity)
{
	for (size_t f = 0; f < COUNT(formats); f++) {
		const int32_t dtype = formats[f].dtype;
		const int infinity = formats[f].infinity;
		const double largest = plain_decode((uint16_t)(infinity - 1), formats[f].mantissa);
		const double before = plain_decode((uint16_t)(infinity - 2), formats[f].mantissa);
		const double half = largest + (largest - before) / 2;

		cr_assert_eq(store16(dtype, nextafter(half, 0)), infinity - 1);
		cr_assert_eq(store16(dtype, half), infinity);
		cr_assert_eq(store16(dtype, -1e300), infinity | 0x8000);
		cr_assert_eq(store16(dtype, INFINITY), infinity);
		cr_assert_eq(store16(dtype, 5e-324), 0);
		cr_assert_eq(store16(dtype, -5e-324), 0x8000);
	}
}

Test(number, f32_and_sizes)
{
	const float in = 0.1f;
	float out;

	cr_assert(ref_load(&in, MLA_F32) == (double)0.1f);
	ref_store(&out, MLA_F32, 0.1);
	cr_assert(out == 0.1f);
	ref_store(&out, MLA_F32, 1e39);
	cr_assert(isinf(out));
	cr_assert_eq(ref_dtype_size(MLA_BF16), 2);
	cr_assert_eq(ref_dtype_size(MLA_F16), 2);
	cr_assert_eq(ref_dtype_size(MLA_F32), 4);
	cr_assert_eq(ref_dtype_size(MLA_E4M3), 0, "fp8 cannot be loaded yet");
	cr_assert_eq(ref_dtype_size(-1), 0);
}

/* ---- attention ----------------------------------------------------------------------------- */

Test(attention, equals_the_plain_one)
{
	for (size_t i = 0; i < COUNT(shapes); i++) {
		const char *name = shapes[i].name;
		struct problem *p = problem_new(&shapes[i]);
		struct ref_truth got = truth_of(p), want = plain_attention(p);
		const int64_t n = p->rows, d = p->config.head_dim_ckv;

		expect_all_near(name, "out", got.out, want.out, n * d, rounding);
		expect_all_near(name, "sum_abs", got.sum_abs, want.sum_abs, n * d, rounding);
		expect_all_near(name, "lse", got.lse, want.lse, n, rounding);
		expect_all_near(name, "tokens", got.tokens, want.tokens, n, 1e-12);
		expect_all_near(name, "max_score", got.max_score, want.max_score, n, rounding);
		truth_free(&got);
		truth_free(&want);
		problem_free(p);
	}
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

/* What -ffp-contract, -fassociative-math, -freciprocal-math and -fno-signed-zeros would change. The
 * compiler does not see the values. gcc stops at them in internal.h; clang has no macro for them.
 */

enum { WIDE = 64 };

static void same(volatile double *values, double value, int n)
{
	for (int i = 0; i < n; i++)
		values[i] = value;
}

/* (1 + e) (1 - e) is 1 once rounded; a fused product keeps -e^2. */
Test(arithmetic, products_are_rounded)
{
	const double e = 0x1p-30;
	double p[5], v[5 * WIDE], acc[WIDE], tile[4 * 32], s[32];

	for (int n = 1; n <= 5; n++) { /* four at a time, and what is left */
		same(p, 0, 5);
		same(v, 0, 5 * WIDE);
		same(acc, -1, WIDE);
		same(p + n - 1, 1 + e, 1);
		same(v + (n - 1) * WIDE, 1 - e, WIDE);
		ref_accumulate(n, WIDE, p, v, acc);
		for (int c = 0; c < WIDE; c++)
			cr_assert_eq(acc[c], 0, "%d keys: %g", n, acc[c]);
	}
	for (int n = 2; n <= 4; n++) {
		same(p, 0, 5);
		same(tile, 0, 4 * 32);
		same(p, -1, 1);
		same(tile, 1, 32);
		same(p + n - 1, 1 + e, 1);
		same(tile + (n - 1) * 32, 1 - e, 32);
		ref_scores(1, n, p, tile, 1, s, 32);
		for (int j = 0; j < 32; j++)
			cr_assert_eq(s[j], 0, "%d columns: %g", n, s[j]);
	}
}

/* 1 + 2^54 - 2^54 is 0 from the left, and 1 in another order. */
Test(arithmetic, sums_keep_their_order)
{
	double p[8], v[8 * WIDE], acc[WIDE], scores[8];
	struct ref_softmax row;

	for (int at = 0; at < 7; at++) {
		same(p, 1, 8);
		same(v, 0, 8 * WIDE);
		same(acc, 1, WIDE);
		same(v + at * WIDE, 0x1p54, WIDE);
		same(v + (at + 1) * WIDE, -0x1p54, WIDE);
		ref_accumulate(8, WIDE, p, v, acc);
		for (int c = 0; c < WIDE; c++)
			cr_assert_eq(acc[c], 0, "at %d: %g", at, acc[c]);
	}
	same(scores, -37, 8); /* each is lost beside 1, all seven together are not */
	same(scores, 0, 1);
	row = ref_softmax(scores, 8);
	cr_expect_eq(row.l, 1);
}

/* 49 / 49 is 1, 49 * (1 / 49) is not. */
Test(arithmetic, quotients_are_quotients)
{
	struct shape s = simple(1, 49);
	struct problem *p = problem_new(&s);
	struct ref_truth t;

	for (int32_t h = 0; h < 3; h++) { /* all keys weigh the same */
		memset(element(&p->tensors.q_nope, 0, h, 0), 0, 20);
		memset(element(&p->tensors.q_pe, 0, h, 0), 0, 8);
	}
	for (int32_t j = 0; j < 49; j++)
		for (int32_t c = 0; c < 10; c++)
			ref_store(key_element(p, &p->tensors.ckv, 0, j, c), MLA_BF16, 1);
	t = truth_of(p);
	for (int i = 0; i < 30; i++)
		cr_expect_eq(t.out[i], 1);
	truth_free(&t);
	problem_free(p);
}

Test(arithmetic, zeros_keep_their_sign)
{
	double out[3], other[3], lse = -INFINITY;
	float stored;

	same(out, 0, 3);
	same(other, -0., 3);
	ref_merge_state(3, out, &lse, other, 1);
	ref_store(&stored, MLA_F32, out[0]);
	cr_expect(signbit(out[0]) && signbit(stored));
}

/* Row, neighbours and threads do not matter to a row's bits. */
Test(attention, chosen_rows_have_the_same_bits)
{
	for (size_t i = 0; i < COUNT(shapes); i++) {
		struct problem *p = problem_new(&shapes[i]);
		const int32_t d = p->config.head_dim_ckv;
		struct ref_truth all = truth_of(p), some = truth_new(p->rows, d);
		int64_t *rows = allocate(p->rows, sizeof(*rows)), n = 0;

		for (int64_t row = 0; row < p->rows; row += 1 + row % 4)
			rows[n++] = row;
		omp_set_num_threads(3);
		cr_assert_eq(ref_attention(&p->config, &p->batch, &p->tensors, rows, n, &some), 0);
		omp_set_num_threads(1);
		for (int64_t k = 0; k < n; k++) {
			const struct ref_truth a = {all.out + rows[k] * d, all.lse + rows[k],
						    all.sum_abs + rows[k] * d, all.tokens + rows[k],
						    all.max_score + rows[k]};
			const struct ref_truth b = {some.out + k * d, some.lse + k,
						    some.sum_abs + k * d, some.tokens + k,
						    some.max_score + k};

			expect_same_bits(shapes[i].name, &a, &b, 1, d);
		}
		free(rows);
		truth_free(&all);
		truth_free(&some);
		problem_free(p);
	}
}

Test(attention, takes_only_what_is_asked_for)
{
	struct problem *p = problem_new(&shapes[1]);
	struct ref_truth all = truth_of(p);
	double *lse = doubles(p->rows);
	const struct ref_truth only_lse = {.lse = lse};

	cr_assert_eq(ref_attention(&p->config, &p->batch, &p->tensors, NULL, p->rows, &only_lse),
		     0);
	cr_assert_eq(memcmp(lse, all.lse, (size_t)p->rows * sizeof(*lse)), 0);
	free(lse);
	truth_free(&all);
	problem_free(p);
}

Test(attention, order_of_cached_tokens_does_not_matter)
{
	const struct shape s = simple(2, 97);
	struct problem *p = problem_new(&s);
	struct ref_truth before = truth_of(p), after;
	int32_t *ids = (int32_t *)p->tensors.kv_indices;
	const int64_t d = p->config.head_dim_ckv;

	for (int32_t i = 0; i < 97 / 2; i += 3) { /* swap a third of them end for end */
		const int32_t id = ids[i];

		ids[i] = ids[96 - i];
		ids[96 - i] = id;
	}
	after = truth_of(p);
	cr_assert_neq(memcmp(before.out, after.out, sizeof(double) * (size_t)(p->rows * d)), 0,
		      "nothing was permuted");
	expect_all_near("permuted", "out", after.out, before.out, p->rows * d, rounding);
	expect_all_near("permuted", "lse", after.lse, before.lse, p->rows, rounding);
	expect_all_near("permuted", "tokens", after.tokens, before.tokens, p->rows, 1e-12);
	truth_free(&before);
	truth_free(&after);
	problem_free(p);
}

Test(attention, constant_values_give_the_constant)
{
	const struct shape s = simple(2, 75);
	struct problem *p = problem_new(&s);
	struct ref_truth t;

	for (int32_t j = 0; j < 75; j++)
		for (int32_t c = 0; c < 10; c++)
			ref_store(key_element(p, &p->tensors.ckv, 0, j, c), MLA_BF16, c - 4.5);
	t = truth_of(p);
	for (int64_t i = 0; i < p->rows * 10; i++) {
		expect_near("constant", "out", i, t.out[i], (double)(i % 10) - 4.5, rounding);
		expect_near("constant", "sum_abs", i, t.sum_abs[i], fabs((double)(i % 10) - 4.5),
			    rounding);
	}
	cr_assert(fabs(t.lse[0] - t.lse[1]) > 1e-3, "scores still differ by the rope part");
	truth_free(&t);
	problem_free(p);
}

Test(attention, one_token_gives_its_value)
{
	const struct shape s = simple(3, 1);
	struct problem *p = problem_new(&s);
	struct ref_truth t = truth_of(p);

	for (int64_t row = 0; row < p->rows; row++) {
		const double score = (double)plain_score(p, 0, row / 3, (int32_t)(row % 3), 0);

		for (int32_t c = 0; c < 10; c++)
			cr_assert(t.out[row * 10 + c] ==
				  plain_load(key_element(p, &p->tensors.ckv, 0, 0, c), MLA_BF16));
		expect_near("one token", "lse", row, t.lse[row], score, rounding);
		expect_near("one token", "max_score", row, t.max_score[row], fabs(score), rounding);
		cr_assert(t.tokens[row] == 1);
	}
	truth_free(&t);
	problem_free(p);
}

Test(attention, zero_query_takes_the_mean)
{
	const struct shape s = simple(1, 80);
	struct problem *p = problem_new(&s);
	struct ref_truth t;

	for (int32_t h = 0; h < 3; h++) {
		for (int32_t c = 0; c < 10; c++)
			ref_store(element(&p->tensors.q_nope, 0, h, c), MLA_BF16, 0);
		for (int32_t c = 0; c < 4; c++)
			ref_store(element(&p->tensors.q_pe, 0, h, c), MLA_BF16, 0);
	}
	t = truth_of(p);
	expect_near("mean", "lse", 0, t.lse[2], log(80), rounding);
	expect_near("mean", "tokens", 0, t.tokens[2], 80, 1e-11);
	cr_assert(t.max_score[2] == 0);
	for (int32_t c = 0; c < 10; c++) {
		double sum = 0;

		for (int32_t j = 0; j < 80; j++)
			sum += plain_load(key_element(p, &p->tensors.ckv, 0, j, c), MLA_BF16);
		expect_near("mean", "out", c, t.out[c], sum / 80, rounding);
	}
	truth_free(&t);
	problem_free(p);
}

/* Not a bit changes, although what is appended is NaN. */
Test(attention, appended_masked_tokens_change_nothing)
{
	struct shape s = simple(4, 90);
	struct problem *p;
	struct ref_truth longer, shorter;

	s.causal = 1;
	s.has_pos0 = true;
	s.pos0[0] = 40; /* the last query sees keys 0 .. 43 */
	p = problem_new(&s);
	for (int32_t j = 44; j < 90; j++) {
		for (int32_t c = 0; c < 10; c++)
			ref_store(key_element(p, &p->tensors.ckv, 0, j, c), MLA_BF16, NAN);
		for (int32_t c = 0; c < 4; c++)
			ref_store(key_element(p, &p->tensors.kpe, 0, j, c), MLA_BF16, NAN);
	}
	longer = truth_of(p);
	p->kv_len[0] = 44;
	shorter = truth_of(p);
	expect_same_bits("appended", &longer, &shorter, p->rows, 10);
	for (int64_t i = 0; i < p->rows * 10; i++)
		cr_assert(isfinite(longer.out[i]));

	/* NaN that the last query sees is no business of the others. */
	p->kv_len[0] = 90;
	ref_store(key_element(p, &p->tensors.ckv, 0, 43, 5), MLA_BF16, NAN);
	truth_free(&shorter);
	shorter = truth_of(p);
	expect_same_bits("earlier queries", &longer, &shorter, p->rows - 3, 10);
	for (int64_t row = p->rows - 3; row < p->rows; row++)
		cr_assert(isnan(shorter.out[row * 10]) && isnan(shorter.lse[row]));
	truth_free(&longer);
	truth_free(&shorter);
	problem_free(p);
}

Test(attention, constant_added_to_all_scores_moves_only_the_lse)
{
	const struct shape s = simple(2, 70);
	struct problem *p = problem_new(&s);
	struct ref_truth before, after;

	for (int32_t j = 0; j < 70; j++)
		ref_store(key_element(p, &p->tensors.kpe, 0, j, 3), MLA_BF16, 1);
	for (int64_t row = 0; row < p->rows; row++)
		ref_store(element(&p->tensors.q_pe, row / 3, row % 3, 3), MLA_BF16, 0);
	before = truth_of(p);
	for (int64_t row = 0; row < p->rows; row++)
		ref_store(element(&p->tensors.q_pe, row / 3, row % 3, 3), MLA_BF16, 2000);
	after = truth_of(p);
	for (int64_t row = 0; row < p->rows; row++) {
		expect_near("shift", "lse", row, after.lse[row], before.lse[row] + 800, 1e-11);
		expect_near("shift", "tokens", row, after.tokens[row], before.tokens[row], 1e-10);
	}
	expect_all_near("shift", "out", after.out, before.out, p->rows * 10, 1e-11);
	truth_free(&before);
	truth_free(&after);
	problem_free(p);
}

Test(attention, rows_that_see_nothing)
{
	const struct shape s = shapes[4]; /* request 3: q_pos0 -9, two queries */
	struct problem *p = problem_new(&s);
	struct ref_truth t = truth_of(p);
	const int64_t first = (int64_t)p->qo_indptr[3] * s.heads;

	for (int64_t row = first; row < p->rows; row++) {
		cr_assert(t.lse[row] == -INFINITY);
		cr_assert(t.tokens[row] == 0 && t.max_score[row] == 0);
		for (int32_t c = 0; c < s.ckv; c++)
			cr_assert(t.out[row * s.ckv + c] == 0 && t.sum_abs[row * s.ckv + c] == 0);
	}
	truth_free(&t);
	problem_free(p);
}

/* Sets the rope part of key j so that its score is +-inf for positive q_pe. */
static void set_rope(const struct problem *p, int32_t j, double value)
{
	for (int32_t c = 0; c < 4; c++)
		ref_store(key_element(p, &p->tensors.kpe, 0, j, c), MLA_BF16, value);
}

static struct problem *positive_rope_query(void)
{
	const struct shape s = simple(1, 40);
	struct problem *p = problem_new(&s);

	for (int32_t h = 0; h < 3; h++)
		for (int32_t c = 0; c < 4; c++)
			ref_store(element(&p->tensors.q_pe, 0, h, c), MLA_BF16, 0.5);
	return p;
}

static void expect_online_agrees(const struct problem *p, const struct ref_truth *t)
{
	cr_assert_eq(ref_attention_online(&p->config, &p->batch, &p->tensors), 0);
	for (int64_t row = 0; row < p->rows; row++) {
		const float lse = *(const float *)element(&p->tensors.lse, 0, row, 0);

		cr_assert_eq(!isnan(lse), !isnan(t->lse[row]));
		cr_assert_eq(lse == -INFINITY, t->lse[row] == -INFINITY);
		for (int32_t c = 0; c < 10; c++) {
			const float out = *(const float *)element(&p->tensors.out, 0, row, c);

			cr_assert_eq(!isnan(out), !isnan(t->out[row * 10 + c]));
			cr_assert_eq(!isinf(out), !isinf(t->out[row * 10 + c]));
		}
	}
}

Test(attention, scores_of_minus_infinity_weigh_nothing)
{
	struct problem *p = positive_rope_query();
	struct ref_truth whole, part;

	for (int32_t j = 0; j < 35; j++) /* the whole first tile: the running maximum is -inf */
		set_rope(p, j, -INFINITY);
	whole = truth_of(p);
	expect_online_agrees(p, &whole);
	p->tensors.kv_indices += 35;
	p->kv_len[0] = 5;
	part = truth_of(p);
	p->tensors.kv_indices -= 35;
	expect_all_near("-inf", "out", whole.out, part.out, p->rows * 10, rounding);
	expect_all_near("-inf", "lse", whole.lse, part.lse, p->rows, rounding);
	expect_all_near("-inf", "tokens", whole.tokens, part.tokens, p->rows, rounding);
	truth_free(&part);
	truth_free(&whole);

	p->kv_len[0] = 33; /* nothing but -inf: as if nothing were seen */
	whole = truth_of(p);
	expect_online_agrees(p, &whole);
	cr_assert(whole.lse[1] == -INFINITY && whole.out[10] == 0 && whole.tokens[1] == 0);
	truth_free(&whole);
	problem_free(p);
}

Test(attention, infinities_and_nan_go_where_arithmetic_takes_them)
{
	struct problem *p = positive_rope_query();
	struct ref_truth t;

	set_rope(p, 36, INFINITY); /* inf - inf */
	t = truth_of(p);
	expect_online_agrees(p, &t);
	cr_assert(isnan(t.lse[0]) && isnan(t.out[0]));
	truth_free(&t);

	set_rope(p, 36, NAN);
	t = truth_of(p);
	expect_online_agrees(p, &t);
	cr_assert(isnan(t.lse[0]) && isnan(t.out[0]) && isnan(t.max_score[0]));
	truth_free(&t);

	for (int32_t j = 0; j < 40; j++) /* all NaN is not "nothing seen" */
		set_rope(p, j, NAN);
	t = truth_of(p);
	expect_online_agrees(p, &t);
	cr_assert(isnan(t.lse[0]) && isnan(t.out[0]));
	truth_free(&t);

	for (int32_t j = 0; j < 40; j++)
		set_rope(p, j, 0.25);
	for (int32_t h = 0; h < 3; h++) /* an infinite value that the scores do not feel */
		ref_store(element(&p->tensors.q_nope, 0, h, 7), MLA_BF16, 1);
	ref_store(key_element(p, &p->tensors.ckv, 0, 2, 7), MLA_BF16, -INFINITY);
	t = truth_of(p);
	expect_online_agrees(p, &t);
	cr_assert(isfinite(t.lse[0]) && isfinite(t.out[6]) && isnan(t.out[7]), "0 * -inf is NaN");
	truth_free(&t);
	problem_free(p);
}

Test(attention, scores_of_several_hundred_do_not_overflow)
{
	struct shape s = simple(2, 70);
	struct problem *p;
	struct ref_truth t;

	s.scale = 400;
	p = problem_new(&s);
	t = truth_of(p);
	for (int64_t row = 0; row < p->rows; row++) {
		double most = -INFINITY;

		for (int32_t j = 0; j < 70; j++)
			most = fmax(most,
				    (double)plain_score(p, 0, row / 3, (int32_t)(row % 3), j));
		cr_assert(fabs(most) > 750, "exp(%g) would not have overflowed", most);
		expect_near("huge", "lse", row, t.lse[row], most, log(70));
		cr_assert(t.tokens[row] >= 1 && t.tokens[row] < 70);
	}
	truth_free(&t);
	problem_free(p);
}

/* Pages 3 GiB apart: a 32-bit offset, signed or not, reads somewhere else. */
Test(attention, pools_beyond_4_gib)
{
	const int64_t stride = 3ll << 30;
	struct shape s = simple(1, 3);
	struct problem *p = problem_new(&s);
	struct ref_truth near = truth_of(p), far;
	const mla_tensor ckv = p->tensors.ckv;
	void *pool = mmap(NULL, (size_t)(3 * stride), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	const int32_t ids[] = {2, 0, 1}, *old = p->tensors.kv_indices;

	if (pool == MAP_FAILED)
		cr_skip_test("no 9 GiB of address space here");
	for (int32_t j = 0; j < 3; j++)
		memcpy((char *)pool + ids[j] * stride, key_element(p, &ckv, 0, j, 0), 20);
	for (int32_t j = 0; j < 3; j++) /* kpe pages follow the new ids */
		for (int32_t c = 0; c < 4; c++)
			memcpy(element(&p->tensors.kpe, ids[j], 0, c),
			       key_element(p, &p->tensors.kpe, 0, j, c), 2);
	p->tensors.ckv.data = pool;
	p->tensors.ckv.stride[0] = stride;
	p->tensors.kv_indices = ids;
	far = truth_of(p);
	expect_same_bits("far pages", &near, &far, p->rows, 10);
	munmap(pool, (size_t)(3 * stride));
	p->tensors.ckv = ckv;
	p->tensors.kv_indices = old;
	truth_free(&near);
	truth_free(&far);
	problem_free(p);
}

/* ---- the same in other ways ---------------------------------------------------------------- */

/* out (f32) and lse tensors hold the truth, rounded once. */
static void expect_outputs(const char *name, const struct problem *p, const struct ref_truth *t)
{
	const double base = p->config.lse_base == MLA_LSE_BASE2 ? log(2) : 1;
	const int32_t d = p->config.head_dim_ckv;

	for (int64_t row = 0; row < p->rows; row++) {
		const int64_t query = row / p->config.num_heads, head = row % p->config.num_heads;
		const double lse = *(const float *)element(&p->tensors.lse, query, head, 0);
		const double want = t->lse[row] / base;

		expect_near(name, "lse", row, lse, want, fabs(want) * 0x1p-24 + rounding);
		for (int32_t c = 0; c < d; c++) {
			const double value = t->out[row * d + c];

			expect_near(name, "out", row * d + c,
				    *(const float *)element(&p->tensors.out, query, head, c), value,
				    fabs(value) * 0x1p-24 + rounding);
		}
	}
}

static void poison_outputs(const struct problem *p)
{
	for (int64_t row = 0; row < p->rows; row++) {
		const int64_t query = row / p->config.num_heads, head = row % p->config.num_heads;

		ref_store(element(&p->tensors.lse, query, head, 0), MLA_F32, NAN);
		for (int32_t c = 0; c < p->config.head_dim_ckv; c++)
			ref_store(element(&p->tensors.out, query, head, c), MLA_F32, NAN);
	}
}

Test(online, equals_two_passes)
{
	for (size_t i = 0; i < COUNT(shapes); i++)
		for (int32_t base = MLA_LSE_NATURAL; base <= MLA_LSE_BASE2; base++) {
			struct problem *p = problem_new(&shapes[i]);
			struct ref_truth t = truth_of(p);

			p->config.lse_base = base;
			cr_assert_eq(ref_attention_online(&p->config, &p->batch, &p->tensors), 0);
			expect_outputs(shapes[i].name, p, &t);
			truth_free(&t);
			problem_free(p);
		}
}

Test(online, lse_is_optional_and_out_is_rounded_to_its_dtype)
{
	struct problem *p = problem_new(&shapes[2]);
	struct ref_truth t = truth_of(p);
	const mla_tensor f32 = p->tensors.out;
	void *lse = p->tensors.lse.data;

	p->tensors.lse.data = NULL;
	p->tensors.out = tensor_new(MLA_BF16, f32.extent[0], f32.extent[1], f32.extent[2], 3);
	cr_assert_eq(ref_attention_online(&p->config, &p->batch, &p->tensors), 0);
	for (int64_t i = 0; i < p->rows * 16; i++) {
		const double got = ref_load(
			element(&p->tensors.out, i / 16 / 17, i / 16 % 17, i % 16), MLA_BF16);

		expect_near("bf16", "out", i, got, t.out[i], fabs(t.out[i]) * 0x1p-8 * 1.000001);
	}
	free(p->tensors.out.data);
	p->tensors.out = f32;
	p->tensors.lse.data = lse;
	truth_free(&t);
	problem_free(p);
}

/* ---- plans --------------------------------------------------------------------------------- */

static mla_plan *plan_new(const struct problem *p, int32_t tile_rows, int32_t kv_granule,
			  int32_t sm_count)
{
	const mla_traits traits = {
		.struct_size = sizeof(traits),
		.tile_rows = tile_rows,
		.kv_granule = kv_granule,
		.ctas_per_sm = 1,
		.ctas_per_worker = 1,
		.item_cost = 1,
		.merge = MLA_MERGE_SEPARATE,
		.align = 2,
	};
	const mla_device device = known_with_sms(sm_count);
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_plan *plan;

	cr_assert_eq(mla_capacity_of(&p->config, &p->batch, &capacity), MLA_OK, "%s",
		     mla_last_error());
	cr_assert_eq(mla_plan_create_for_traits(&traits, &p->config, &device, &capacity, &plan),
		     MLA_OK, "%s", mla_last_error());
	cr_assert_eq(mla_plan_build(plan, &p->batch), MLA_OK, "%s", mla_last_error());
	return plan;
}

static int32_t num_merges(const mla_plan *plan)
{
	mla_plan_info info = {.struct_size = sizeof(info)};

	cr_assert_eq(mla_plan_get_info(plan, &info), MLA_OK);
	return info.num_merges;
}

Test(plan, executed_item_by_item_equals_the_whole)
{
	static const int32_t tiles[] = {1, 16, 100}, granules[] = {1, 16}, sms[] = {1, 7, 60};
	int32_t merges = 0;

	for (size_t i = 0; i < COUNT(shapes) * COUNT(tiles) * COUNT(granules) * COUNT(sms); i++) {
		const struct shape *s = &shapes[i % COUNT(shapes)];
		const size_t k = i / COUNT(shapes);
		struct problem *p = problem_new(s);
		struct ref_truth t = truth_of(p);
		mla_plan *plan = plan_new(p, tiles[k % 3], granules[k / 3 % 2], sms[k / 6]);

		poison_outputs(p);
		cr_assert_eq(ref_attention_plan(plan, &p->tensors), 0);
		expect_outputs(s->name, p, &t);
		merges += num_merges(plan);
		mla_plan_destroy(plan);
		truth_free(&t);
		problem_free(p);
	}
	cr_assert_gt(merges, 100, "hardly a plan split keys");
}

/* Does executing a plan notice what is wrong with it? */
Test(plan, a_lost_key_shows)
{
	struct problem *p = problem_new(&shapes[1]);
	struct ref_truth t = truth_of(p);
	mla_plan *plan = plan_new(p, 16, 16, 7);
	mla_work *item = (mla_work *)mla_plan_items(plan);
	double worst = 0;

	item->kv_end -= 1;
	cr_assert_eq(ref_attention_plan(plan, &p->tensors), 0);
	for (int64_t row = 0; row < p->rows; row++) {
		const int64_t query = row / p->config.num_heads, head = row % p->config.num_heads;
		const double lse = *(const float *)element(&p->tensors.lse, query, head, 0);

		if (isfinite(t.lse[row]))
			worst = fmax(worst, fabs(lse - t.lse[row]));
	}
	cr_assert(worst > 1e-4, "the lse moved by %g only", worst);
	mla_plan_destroy(plan);
	truth_free(&t);
	problem_free(p);
}

/* ---- merge --------------------------------------------------------------------------------- */

/* Keys first .. first + n - 1 of the one request of a problem with pages of one key. */
static struct ref_truth truth_of_part(const struct problem *whole, int32_t first, int32_t n)
{
	const struct ref_truth t = truth_new(whole->rows, whole->config.head_dim_ckv);
	const int32_t qo_len = whole->qo_indptr[1], kv_indptr[] = {first, first + n};
	const int32_t pos0 = whole->kv_len[0] - qo_len - first;
	mla_batch batch = whole->batch;

	batch.kv_indptr = kv_indptr;
	batch.kv_len = &n;
	batch.q_pos0 = &pos0;
	cr_assert_eq(ref_attention(&whole->config, &batch, &whole->tensors, NULL, whole->rows, &t),
		     0);
	return t;
}

static const int32_t cuts[][5] = {
	{0, 50, 97, 97, 97}, {0, 1, 2, 96, 97}, {0, 0, 31, 64, 97}, {0, 20, 40, 60, 97}};

Test(merge, any_split_gives_the_whole)
{
	for (size_t i = 0; i < COUNT(cuts) * 2; i++) {
		const int32_t *cut = cuts[i / 2];
		struct shape s = simple(6, 97);
		struct problem *p;
		struct ref_truth whole;
		double *out, lse;

		s.causal = i % 2;
		p = problem_new(&s);
		whole = truth_of(p);
		out = doubles(10);
		struct ref_truth parts[4];

		for (int k = 0; k < 4; k++)
			parts[k] = truth_of_part(p, cut[k], cut[k + 1] - cut[k]);
		for (int64_t row = 0; row < p->rows; row++) {
			lse = -INFINITY;
			for (int c = 0; c < 10; c++)
				out[c] = NAN; /* of a state that saw nothing: not to be read */
			ref_merge_state(10, out, &lse, out, -INFINITY);
			for (int k = 0; k < 4; k++)
				ref_merge_state(10, out, &lse, parts[k].out + row * 10,
						parts[k].lse[row]);
			expect_near("split", "lse", row, lse, whole.lse[row], rounding);
			expect_all_near("split", "out", out, whole.out + row * 10, 10, rounding);
		}
		for (int k = 0; k < 4; k++)
			truth_free(&parts[k]);
		free(out);
		truth_free(&whole);
		problem_free(p);
	}
}

/* States as kernels exchange them: f32, odd strides, either base; NaN where nothing was seen. */
static mla_merge_args merge_args(const struct problem *p, const int32_t *cut, int32_t base)
{
	mla_merge_args args = {
		.struct_size = sizeof(args),
		.lse_base = base,
		.states = tensor_new(MLA_F32, 4, p->rows, 10, 1),
		.states_lse = tensor_new(MLA_F32, 4, p->rows, 1, 1),
		.out = tensor_new(MLA_F32, p->rows, 10, 1, 0),
		.lse = tensor_new(MLA_F32, p->rows, 1, 1, 0),
	};

	args.states_lse.ndim = args.out.ndim = 2;
	args.lse.ndim = 1;
	for (int k = 0; k < 4; k++) {
		struct ref_truth part = truth_of_part(p, cut[k], cut[k + 1] - cut[k]);

		for (int64_t i = 0; i < p->rows * 10; i++)
			if (part.lse[i / 10] != -INFINITY)
				ref_store(element(&args.states, k, i / 10, i % 10), MLA_F32,
					  part.out[i]);
		for (int64_t row = 0; row < p->rows; row++)
			ref_store(element(&args.states_lse, k, row, 0), MLA_F32,
				  part.lse[row] / (base == MLA_LSE_BASE2 ? log(2) : 1));
		truth_free(&part);
	}
	return args;
}

static void merge_args_free(const mla_merge_args *args)
{
	free(args->states.data);
	free(args->states_lse.data);
	free(args->out.data);
	free(args->lse.data);
}

Test(merge, of_tensors_gives_the_whole)
{
	for (size_t i = 0; i < COUNT(cuts) * 2; i++) {
		const int32_t base = i % 2 ? MLA_LSE_BASE2 : MLA_LSE_NATURAL;
		struct shape s = simple(6, 97);
		struct problem *p;
		struct ref_truth whole;
		mla_merge_args args;

		s.causal = 1;
		p = problem_new(&s);
		whole = truth_of(p);
		args = merge_args(p, cuts[i / 2], base);
		ref_merge(&args);
		for (int64_t row = 0; row < p->rows; row++) {
			const double lse = ref_load(element(&args.lse, row, 0, 0), MLA_F32);
			const double bits = fabs(whole.lse[row]) + 2; /* lse and value rounded */

			expect_near("merge", "lse", row, lse * (i % 2 ? log(2) : 1), whole.lse[row],
				    0x1p-23 * bits);
			for (int32_t c = 0; c < 10; c++)
				expect_near("merge", "out", row * 10 + c,
					    ref_load(element(&args.out, row, c, 0), MLA_F32),
					    whole.out[row * 10 + c],
					    0x1p-23 * bits * whole.sum_abs[row * 10 + c]);
		}
		merge_args_free(&args);
		truth_free(&whole);
		problem_free(p);
	}
}

Test(merge, nothing_and_nothing_is_nothing)
{
	float states[2][100], states_lse[2] = {-INFINITY, -INFINITY}, out[100];
	mla_merge_args args = {
		.struct_size = sizeof(args),
		.states = {states, MLA_F32, 3, {2, 1, 100}, {400, 400, 4}},
		.states_lse = {states_lse, MLA_F32, 2, {2, 1}, {4, 4}},
		.out = {out, MLA_F32, 2, {1, 100}, {400, 4}},
		.lse = {.data = NULL},
	};

	for (int i = 0; i < 100; i++)
		states[0][i] = states[1][i] = out[i] = NAN;
	ref_merge(&args);
	for (int i = 0; i < 100; i++)
		cr_assert(out[i] == 0);
}

/* ---- absorption ---------------------------------------------------------------------------- */

enum { NOPE = 6, VALUE = 5 };

struct absorption {
	struct problem *p;
	mla_tensor q, w_uk, w_uv;
	double *absorbed, *out, *lse; /* out, lse: textbook attention */
};

static struct absorption absorption_new(const struct shape *s)
{
	const int64_t heads = s->heads, ckv = s->ckv;
	struct absorption a = {.p = problem_new(s)};
	const int64_t total_q = a.p->qo_indptr[s->requests];
	uint64_t seed = 3;

	a.q = tensor_new(MLA_BF16, total_q, heads, NOPE, 1);
	a.w_uk = tensor_new(MLA_BF16, heads, NOPE, ckv, 2);
	a.w_uv = tensor_new(MLA_F32, heads, VALUE, ckv, 3);
	tensor_fill(&a.q, &seed);
	tensor_fill(&a.w_uk, &seed);
	tensor_fill(&a.w_uv, &seed);
	a.absorbed = doubles(a.p->rows * ckv);
	a.out = doubles(a.p->rows * VALUE);
	a.lse = doubles(a.p->rows);
	return a;
}

static void absorption_free(struct absorption *a)
{
	free(a->q.data);
	free(a->w_uk.data);
	free(a->w_uv.data);
	free(a->absorbed);
	free(a->out);
	free(a->lse);
	problem_free(a->p);
}

static void expect_textbook(const char *name, const struct absorption *a,
			    const struct ref_truth *latent, double bound)
{
	double *projected = doubles(a->p->rows * VALUE);

	ref_project_out(NULL, a->p->rows, latent->out, &a->w_uv, projected);
	expect_all_near(name, "out", projected, a->out, a->p->rows * VALUE, bound);
	expect_all_near(name, "lse", latent->lse, a->lse, a->p->rows, bound);
	free(projected);
}

static void textbook(const struct absorption *a)
{
	cr_assert_eq(ref_mha(&a->p->config, &a->p->batch, &a->p->tensors, &a->q, &a->w_uk, &a->w_uv,
			     a->out, a->lse),
		     0);
}

Test(absorption, absorbed_equals_unabsorbed)
{
	for (size_t i = 0; i < COUNT(shapes); i++) {
		struct absorption a = absorption_new(&shapes[i]);
		const struct problem *p = a.p;
		struct ref_truth latent = truth_new(p->rows, p->config.head_dim_ckv);

		ref_absorb_q(&a.q, &a.w_uk, a.absorbed);
		cr_assert_eq(ref_attention_absorbed(&p->config, &p->batch, &p->tensors, a.absorbed,
						    NULL, p->rows, &latent),
			     0);
		textbook(&a);
		expect_textbook(shapes[i].name, &a, &latent, 1e-9);
		truth_free(&latent);
		absorption_free(&a);
	}
}

/* Small whole numbers: the absorbed query is exact in f32, so the tensors' path must agree too. */
Test(absorption, exact_in_whole_numbers)
{
	struct shape s = shapes[4];
	struct absorption a;
	struct ref_truth latent;
	int64_t i = 0;

	s.scale = 0.01;
	a = absorption_new(&s);
	for (int64_t h = 0; h < s.heads; h++)
		for (int64_t d = 0; d < NOPE; d++)
			for (int64_t c = 0; c < s.ckv; c++, i++)
				ref_store(element(&a.w_uk, h, d, c), MLA_BF16,
					  (double)(i * 7 % 13 - 6));
	for (int64_t row = 0; row < a.p->rows; row++)
		for (int64_t d = 0; d < NOPE; d++, i++)
			ref_store(element(&a.q, row / s.heads, row % s.heads, d), MLA_BF16,
				  (double)(i * 5 % 11 - 5));
	ref_absorb_q(&a.q, &a.w_uk, a.absorbed);
	for (int64_t row = 0; row < a.p->rows; row++)
		for (int64_t c = 0; c < s.ckv; c++) {
			const int64_t t = row / s.heads, h = row % s.heads;
			double sum = 0;

			for (int64_t d = 0; d < NOPE; d++)
				sum += plain_load(element(&a.q, t, h, d), MLA_BF16) *
				       plain_load(element(&a.w_uk, h, d, c), MLA_BF16);
			cr_assert(a.absorbed[row * s.ckv + c] == sum);
			ref_store(element(&a.p->tensors.q_nope, t, h, c), MLA_F32, sum);
		}
	latent = truth_of(a.p);
	textbook(&a);
	expect_textbook("whole numbers", &a, &latent, 1e-12);
	truth_free(&latent);
	absorption_free(&a);
}

/* ---- positions ----------------------------------------------------------------------------- */

enum { ROPE = 64 };

static const struct ref_yarn plain_rope = {.theta = 10000,
					   .factor = 1,
					   .beta_fast = 32,
					   .beta_slow = 1,
					   .mscale = 1,
					   .original_max_position = 4096};
static const struct ref_yarn deepseek_v2 = {.theta = 10000,
					    .factor = 40,
					    .beta_fast = 32,
					    .beta_slow = 1,
					    .mscale = 0.707,
					    .original_max_position = 4096};
static const struct ref_yarn deepseek_v3 = {.theta = 10000,
					    .factor = 40,
					    .beta_fast = 32,
					    .beta_slow = 1,
					    .mscale = 1,
					    .original_max_position = 4096};

static const enum ref_rope_layout layouts[] = {REF_ROPE_INTERLEAVED, REF_ROPE_HALF};

static double dot(const double *a, const double *b, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

Test(rope, turns_counter_clockwise)
{
	const double inv_freq[] = {1, 0.5};
	const int32_t positions[] = {1, 2};
	double x[] = {1, 0, 0, 1, 1, 0, 0, 1};
	const double want[] = {cos(1), sin(1), -sin(0.5), cos(0.5),
			       cos(2), sin(2), -sin(1),   cos(1)};

	ref_rope(REF_ROPE_INTERLEAVED, 2, 4, inv_freq, positions, x);
	expect_all_near("rope", "x", x, want, 8, 1e-15);
}

Test(rope, layouts_differ_by_a_permutation)
{
	double inv_freq[ROPE / 2], interleaved[3 * ROPE], half[3 * ROPE];
	const int32_t positions[] = {0, 17, 131071};
	uint64_t seed = 5;

	ref_yarn_frequencies(&deepseek_v3, ROPE, inv_freq);
	for (int r = 0; r < 3; r++)
		for (int i = 0; i < ROPE / 2; i++) {
			interleaved[r * ROPE + 2 * i] = half[r * ROPE + i] = random_value(&seed);
			interleaved[r * ROPE + 2 * i + 1] = half[r * ROPE + ROPE / 2 + i] =
				random_value(&seed);
		}
	const double first = half[0], second = half[ROPE];

	ref_rope(REF_ROPE_INTERLEAVED, 3, ROPE, inv_freq, positions, interleaved);
	ref_rope(REF_ROPE_HALF, 3, ROPE, inv_freq, positions, half);
	cr_assert(half[0] == first, "position 0 is no rotation");
	cr_assert(fabs(half[ROPE] - second) > 1e-3, "position 17 is one");
	for (int r = 0; r < 3; r++)
		for (int i = 0; i < ROPE / 2; i++) {
			cr_assert(interleaved[r * ROPE + 2 * i] == half[r * ROPE + i]);
			cr_assert(interleaved[r * ROPE + 2 * i + 1] ==
				  half[r * ROPE + ROPE / 2 + i]);
		}
}

Test(rope, dot_products_depend_on_the_distance_alone)
{
	double inv_freq[ROPE / 2], q[ROPE], k[ROPE];

	ref_yarn_frequencies(&plain_rope, ROPE, inv_freq);
	for (size_t l = 0; l < COUNT(layouts); l++) {
		double score[3];

		for (int32_t shift = 0; shift < 3; shift++) {
			const int32_t at_q = 100 + 1000 * (shift % 2) + (shift == 2);
			const int32_t at_k = 60 + 1000 * (shift % 2);
			uint64_t seed = 11;

			for (int i = 0; i < ROPE; i++)
				q[i] = random_value(&seed);
			for (int i = 0; i < ROPE; i++)
				k[i] = random_value(&seed);
			ref_rope(layouts[l], 1, ROPE, inv_freq, &at_q, q);
			ref_rope(layouts[l], 1, ROPE, inv_freq, &at_k, k);
			score[shift] = dot(q, k, ROPE);
		}
		cr_assert(fabs(score[0] - score[1]) < 1e-11, "%.17g %.17g", score[0], score[1]);
		cr_assert(fabs(score[0] - score[2]) > 1e-3, "another distance, another score");
	}
}

Test(yarn, factor_1_is_plain_rope)
{
	double inv_freq[ROPE / 2];

	ref_yarn_frequencies(&plain_rope, ROPE, inv_freq);
	for (int i = 0; i < ROPE / 2; i++)
		expect_near("plain", "inv_freq", i, inv_freq[i] * pow(10000, i / 32.0), 1, 1e-14);
}

/* What a model without YaRN has: zeros beside theta. */
Test(yarn, factor_0_is_plain_rope)
{
	const struct ref_yarn none = {.theta = 10000};
	double plain[ROPE / 2], same[ROPE / 2];

	ref_yarn_frequencies(&plain_rope, ROPE, plain);
	ref_yarn_frequencies(&none, ROPE, same);
	cr_assert_eq(memcmp(plain, same, sizeof(plain)), 0);
	cr_assert(ref_yarn_softmax_scale(&none, 64) == 0.125);
}

/* DeepSeek's values blend pairs 10 .. 23 of 32. */
Test(yarn, blends_between_pairs_10_and_23)
{
	double plain[ROPE / 2], stretched[ROPE / 2];

	ref_yarn_frequencies(&plain_rope, ROPE, plain);
	ref_yarn_frequencies(&deepseek_v3, ROPE, stretched);
	for (int i = 0; i < ROPE / 2; i++) {
		const double slowed = i <= 10 ? 0 : i >= 23 ? 1 : (i - 10) / 13.0;
		const double want = 1 - slowed + slowed / 40;

		expect_near("yarn", "inv_freq", i, stretched[i] / plain[i], want, 1e-14);
	}
}

Test(yarn, softmax_scales_of_the_models)
{
	expect_near("V2-Lite", "scale", 0, ref_yarn_softmax_scale(&deepseek_v2, 192), 0.1147213868,
		    1e-10);
	expect_near("V3", "scale", 0, ref_yarn_softmax_scale(&deepseek_v3, 192), 0.1352337789,
		    1e-10);
	expect_near("plain", "scale", 0, ref_yarn_softmax_scale(&plain_rope, 192), pow(192, -0.5),
		    1e-16);
}
