/* check_fixture.h - what the tests of the checker and of the generator share: named cases, each
 * with its truth.
 */
#ifndef MLA_CHECK_FIXTURE_H
#define MLA_CHECK_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "case/generate.h"
#include "check/check.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const double v3_scale = 0.1352337788608801; /* DeepSeek-V3's, 3.25 times 1/sqrt(576) */

struct named_case {
	const char *name;
	struct generate_spec spec;
};

/* Requests of 1 to 7 keys, every ninth of none. */
enum { MANY = 1100 };
static int32_t many_qo_len[MANY], many_kv_len[MANY];

static __attribute__((constructor)) void fill_many(void)
{
	for (int32_t r = 0; r < MANY; r++) {
		many_qo_len[r] = 1;
		many_kv_len[r] = r % 9 ? 1 + r % 7 : 0;
	}
}

#define LIST(...) ((const int32_t[]){__VA_ARGS__})
static const struct named_case named_cases[] = {
	/* one query per request, 128 heads: rows fill two tiles of 64 */
	{"peaked",
	 {.seed = 1,
	  .config = {.num_heads = 128,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = v3_scale},
	  .batch_size = 3,
	  .qo_len = LIST(1, 1, 1),
	  .kv_len = LIST(97, 257, 130),
	  .fused = 1,
	  .extra_pages = 3}},
	/* several queries per request; 3 heads, so that no tile of rows is ever full */
	{"spec",
	 {.seed = 2,
	  .config = {.num_heads = 3,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 16,
		     .causal = 1,
		     .lse_base = MLA_LSE_BASE2,
		     .sm_scale = v3_scale},
	  .batch_size = 3,
	  .qo_len = LIST(2, 4, 3),
	  .kv_len = LIST(63, 130, 1),
	  .pages = GENERATE_PAGES_SHARED}},
	/* empty requests, more queries than keys, fp16, odd pages */
	{"ragged",
	 {.seed = 3,
	  .config = {.num_heads = 9,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 3,
		     .causal = 1,
		     .q_dtype = MLA_F16,
		     .ckv_dtype = MLA_F16,
		     .kpe_dtype = MLA_F16,
		     .out_dtype = MLA_F16,
		     .sm_scale = v3_scale},
	  .batch_size = 6,
	  .qo_len = LIST(0, 1, 17, 5, 1, 2),
	  .kv_len = LIST(64, 65, 9, 0, 514, 64),
	  .extra_pages = 1}},
	{"q_pos0",
	 {.seed = 4,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .causal = 1,
		     .out_dtype = MLA_F32,
		     .sm_scale = v3_scale},
	  .batch_size = 4,
	  .qo_len = LIST(3, 3, 3, 3),
	  .kv_len = LIST(100, 100, 65, 30),
	  .q_pos0 = LIST(20, 500, -2, 27)}},
	{"normal",
	 {.seed = 5,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 32,
		     .sm_scale = v3_scale},
	  .batch_size = 2,
	  .qo_len = LIST(1, 1),
	  .kv_len = LIST(2049, 700),
	  .values = GENERATE_NORMAL,
	  .fused = 1}},
	{"flat",
	 {.seed = 6,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .sm_scale = v3_scale},
	  .batch_size = 1,
	  .qo_len = LIST(1),
	  .kv_len = LIST(1000),
	  .values = GENERATE_FLAT}},
	{"huge",
	 {.seed = 7,
	  .config = {.num_heads = 63,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 128,
		     .q_dtype = MLA_F16,
		     .ckv_dtype = MLA_F16,
		     .kpe_dtype = MLA_F16,
		     .out_dtype = MLA_F16,
		     .sm_scale = v3_scale},
	  .batch_size = 2,
	  .qo_len = LIST(1, 2),
	  .kv_len = LIST(400, 300),
	  .values = GENERATE_HUGE}},
	{"f32",
	 {.seed = 8,
	  .config = {.num_heads = 5,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 1,
		     .causal = 1,
		     .q_dtype = MLA_F32,
		     .ckv_dtype = MLA_F32,
		     .kpe_dtype = MLA_F32,
		     .out_dtype = MLA_F32,
		     .sm_scale = v3_scale},
	  .batch_size = 2,
	  .qo_len = LIST(4, 1),
	  .kv_len = LIST(700, 2000)}},
	{"huge_f32",
	 {.seed = 9,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 16,
		     .q_dtype = MLA_F32,
		     .ckv_dtype = MLA_F32,
		     .kpe_dtype = MLA_F32,
		     .out_dtype = MLA_F32,
		     .sm_scale = v3_scale},
	  .batch_size = 1,
	  .qo_len = LIST(2),
	  .kv_len = LIST(3000),
	  .values = GENERATE_HUGE}},
	{"toy",
	 {.seed = 10,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 4,
		     .head_dim_kpe = 2,
		     .page_size = 1,
		     .causal = 1,
		     .sm_scale = 0.3},
	  .batch_size = 2,
	  .qo_len = LIST(3, 2),
	  .kv_len = LIST(5, 40)}},
	{"no_rope",
	 {.seed = 11,
	  .config = {.num_heads = 4,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 0,
		     .page_size = 16,
		     .sm_scale = 0.2},
	  .batch_size = 1,
	  .qo_len = LIST(1),
	  .kv_len = LIST(333)}},
	{"one_dim",
	 {.seed = 12,
	  .config = {.num_heads = 7,
		     .head_dim_ckv = 1,
		     .head_dim_kpe = 0,
		     .page_size = 5,
		     .causal = 1,
		     .out_dtype = MLA_F16,
		     .sm_scale = 1},
	  .batch_size = 2,
	  .qo_len = LIST(2, 1),
	  .kv_len = LIST(30, 8)}},
	/* every third packed row has a NaN in its query */
	{"nan",
	 {.seed = 14,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .sm_scale = v3_scale},
	  .batch_size = 2,
	  .qo_len = LIST(1, 2),
	  .kv_len = LIST(300, 65),
	  .nan_rows = 3}},
	{"empty",
	 {.seed = 13,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = v3_scale},
	  .batch_size = 0}},
	/* page ids of more than 15 and 16 bits */
	{"many_pages",
	 {.seed = 15,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 4,
		     .head_dim_kpe = 2,
		     .page_size = 1,
		     .sm_scale = 0.3},
	  .batch_size = 1,
	  .qo_len = LIST(1),
	  .kv_len = LIST(40),
	  .extra_pages = 100000}},
	/* lengths of more than 13, 14, 15 and 16 bits */
	{"long",
	 {.seed = 16,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 16,
		     .head_dim_kpe = 4,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = 0.3},
	  .batch_size = 4,
	  .qo_len = LIST(1, 2, 1, 1),
	  .kv_len = LIST(8200, 20000, 40000, 66000)}},
	/* more heads than 7 and 8 bits count */
	{"many_heads",
	 {.seed = 17,
	  .config = {.num_heads = 300,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 16,
		     .page_size = 64,
		     .sm_scale = 0.3},
	  .batch_size = 1,
	  .qo_len = LIST(1),
	  .kv_len = LIST(70)}},
	/* all scores of a row far below or far above zero */
	{"far",
	 {.seed = 18,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = 0.3},
	  .batch_size = 2,
	  .qo_len = LIST(4, 4),
	  .kv_len = LIST(100, 9),
	  .values = GENERATE_FAR}},
	/* gaps in every stride */
	{"strided",
	 {.seed = 32,
	  .config = {.num_heads = 5,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 16,
		     .page_size = 3,
		     .causal = 1,
		     .lse_base = MLA_LSE_BASE2,
		     .sm_scale = 0.3},
	  .batch_size = 3,
	  .qo_len = LIST(2, 3, 1),
	  .kv_len = LIST(40, 7, 100),
	  .fused = 1,
	  .gaps = 1}},
	/* whole tiles, however large */
	{"whole_tiles",
	 {.seed = 20,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 16,
		     .page_size = 64,
		     .lse_base = MLA_LSE_BASE2,
		     .sm_scale = 0.3},
	  .batch_size = 3,
	  .qo_len = LIST(1, 1, 1),
	  .kv_len = LIST(1024, 2048, 512),
	  .values = GENERATE_NORMAL}},
	/* more requests than 8 and 10 bits count */
	{"many_requests",
	 {.seed = 21,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 4,
		     .head_dim_kpe = 2,
		     .page_size = 2,
		     .sm_scale = 0.3},
	  .batch_size = MANY,
	  .qo_len = many_qo_len,
	  .kv_len = many_kv_len}},
	/* more queries than a tile of rows holds */
	{"many_queries",
	 {.seed = 22,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 16,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = 0.3},
	  .batch_size = 2,
	  .qo_len = LIST(70, 200),
	  .kv_len = LIST(90, 150)}},
	/* dimensions that no vector divides */
	{"odd_dims",
	 {.seed = 23,
	  .config = {.num_heads = 3,
		     .head_dim_ckv = 77,
		     .head_dim_kpe = 13,
		     .page_size = 64,
		     .sm_scale = 0.3},
	  .batch_size = 2,
	  .qo_len = LIST(1, 2),
	  .kv_len = LIST(50, 130)}},
	/* the larger the dot product, the smaller the weight */
	{"negative",
	 {.seed = 24,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .sm_scale = -v3_scale},
	  .batch_size = 2,
	  .qo_len = LIST(1, 2),
	  .kv_len = LIST(300, 65)}},
	/* positions beyond 16 bits, at the limits, and in front of all keys */
	{"far_positions",
	 {.seed = 25,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 16,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = 0.3},
	  .batch_size = 4,
	  .qo_len = LIST(3, 3, 3, 3),
	  .kv_len = LIST(100, 100, 65, 30),
	  .q_pos0 = LIST(65536 + 20, -65536 + 20, 1 << 30, -(1 << 30))}},
	/* each query sees one key, and scores are huge */
	{"lonely",
	 {.seed = 26,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = 0.3},
	  .batch_size = 2,
	  .qo_len = LIST(1, 2),
	  .kv_len = LIST(100, 9),
	  .q_pos0 = LIST(0, -1),
	  .values = GENERATE_FARTHEST}},
	/* pages of a thousand keys, not a power of two */
	{"large_pages",
	 {.seed = 27,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 16,
		     .page_size = 1000,
		     .sm_scale = 0.3},
	  .batch_size = 2,
	  .qo_len = LIST(1, 1),
	  .kv_len = LIST(2500, 999)}},
	/* a request has a page more than once */
	{"repeated",
	 {.seed = 28,
	  .config = {.num_heads = 2,
		     .head_dim_ckv = 64,
		     .head_dim_kpe = 16,
		     .page_size = 3,
		     .sm_scale = 0.3},
	  .batch_size = 2,
	  .qo_len = LIST(1, 1),
	  .kv_len = LIST(100, 50),
	  .pages = GENERATE_PAGES_REPEATED}},
	/* the last query sees a NaN that the others do not */
	{"nan_keys",
	 {.seed = 29,
	  .config = {.num_heads = 16,
		     .head_dim_ckv = 512,
		     .head_dim_kpe = 64,
		     .page_size = 64,
		     .causal = 1,
		     .sm_scale = v3_scale},
	  .batch_size = 2,
	  .qo_len = LIST(4, 2),
	  .kv_len = LIST(130, 66),
	  .nan_keys = 1}},
};

/* A case with its truth. */
struct problem {
	struct mla_case c;
	struct check_truth truth;
};

static inline void make_truth(struct problem *p)
{
	cr_assert_eq(check_truth_make(&p->c, 0, &p->truth), MLA_OK);
}

static inline void make_named(const char *name, struct problem *p)
{
	for (size_t i = 0; i < COUNT(named_cases); i++)
		if (!strcmp(named_cases[i].name, name)) {
			cr_assert_eq(generate_case(&named_cases[i].spec, &p->c), 0);
			snprintf(p->c.name, sizeof(p->c.name), "%s", name);
			make_truth(p);
			return;
		}
	cr_assert_fail("no case is named %s", name);
}

static inline void free_problem(struct problem *p)
{
	check_truth_free(&p->truth);
	case_free(&p->c);
}

static inline struct check_verdict judge_run(const struct problem *p, check_host_run run)
{
	const struct check_subject subject = {.name = "sample", .run = run};
	struct check_verdict verdict;

	check_subject(&p->c, &p->truth, &subject, &verdict);
	return verdict;
}

#endif
