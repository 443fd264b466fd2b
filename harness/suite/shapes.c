/* shapes.c - every kernel on captures, on adversarial shapes and on cases made for one weakness
 * each; and the cases of other tests.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/capture.h"
#include "suite/internal.h"

enum { ADVERSARIAL = 200 /* random shapes */ };

/* ---- cases ----------------------------------------------------------------------------------- */

uint32_t suite_draw(uint64_t *state, uint32_t below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((*state >> 33) % below);
}

bool suite_make_case(const struct suite_context *x, const char *test,
		     const struct generate_spec *spec, struct mla_case *c)
{
	const mla_status status = generate_case(spec, c);

	if (status)
		suite_line(x->result, check_outcome_of(status), test, mla_last_error());
	return !status;
}

mla_config suite_deepseek(int32_t heads)
{
	return (mla_config){
		.struct_size = sizeof(mla_config),
		.num_heads = heads,
		.head_dim_ckv = 512,
		.head_dim_kpe = 64,
		.page_size = 64,
		.causal = 1,
		.sm_scale = 0.1352337788608801, /* DeepSeek-V3 */
	};
}

bool suite_make_base(const struct suite_context *x, const char *test, struct mla_case *c)
{
	static const int32_t qo_len[SUITE_BASE_REQUESTS] = {1, 3, 1, 5, 2, 4};
	static const int32_t kv_len[SUITE_BASE_REQUESTS] = {700, 65, 1290, 400, 17, 2000};
	const struct generate_spec spec = {
		.seed = SUITE_SEED + 1,
		.config = suite_deepseek(16),
		.batch_size = SUITE_BASE_REQUESTS,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.extra_pages = 3,
	};

	return suite_make_case(x, test, &spec, c);
}

/* ---- captures and shapes --------------------------------------------------------------------- */

static void try_case(const struct suite_context *x, const struct mla_case *c, int32_t fixed_split,
		     bool graph, struct tally *tallies)
{
	struct check_truth truth;
	const mla_status status = check_truth_make(c, 0, &truth);

	if (status) {
		suite_line(x->result, check_outcome_of(status), c->name, mla_last_error());
		return;
	}
	for (int k = 0; k < x->num_kernels; k++) {
		const struct check_subject subject = {
			.name = x->kernels[k],
			.kernel = x->kernels[k],
			.fixed_split = fixed_split,
			.graph = graph,
		};
		struct check_verdict verdict;

		check_subject(c, &truth, &subject, &verdict);
		tally_add(&tallies[k], &verdict, c->name, NULL);
	}
	check_truth_free(&truth);
}

static void test_capture(const struct suite_context *x, const char *path)
{
	struct tally tallies[SUITE_MAX_KERNELS] = {0};
	struct capture *capture;
	const char *slash = strrchr(path, '/');
	mla_status status = capture_open(path, &capture);

	if (status) {
		suite_line(x->result, check_outcome_of(status), path, mla_last_error());
		return;
	}
	for (int s = 0; s < capture_num_steps(capture); s++)
		for (int l = 0; l < capture_num_layers(capture); l++) {
			struct mla_case c = {0};

			status = capture_load(capture, s, l, &c);
			if (status)
				suite_line(x->result, check_outcome_of(status), path,
					   mla_last_error());
			else
				try_case(x, &c, 0, (s + l) % 2, tallies);
			case_free(&c);
		}
	suite_report_tallies(x, slash ? slash + 1 : path, tallies);
	capture_close(capture);
}

void suite_captures(const struct suite_context *x)
{
	for (int i = 0; i < x->num_files; i++)
		test_capture(x, x->files[i]);
}

/* Splits at fixed keys for every third case: multiples of the largest granule of all kernels, up to
 * the contract's limit. */
static int32_t adversarial_split(int n)
{
	static const int32_t splits[] = {128, 384, 1024, 256, 640, 1 << 30, 512, 8192};

	return n % 3 == 2 ? splits[n / 3 % 8] : 0;
}

void suite_adversarial(const struct suite_context *x)
{
	struct tally tallies[SUITE_MAX_KERNELS] = {0};

	for (int n = 0; n < ADVERSARIAL; n++) {
		struct mla_case c = {0};
		const mla_status status = generate_adversarial(SUITE_SEED, n, &c);

		if (status)
			suite_line(x->result, check_outcome_of(status), "adversarial",
				   mla_last_error());
		else
			try_case(x, &c, adversarial_split(n), n / 2 % 2, tallies);
		case_free(&c);
	}
	suite_report_tallies(x, "adversarial shapes", tallies);
}

/* One case with the balanced plan, and as a graph with splits at fixed_split keys if that is not 0.
 */
static void test_generated(const struct suite_context *x, const char *group,
			   const struct generate_spec *spec, int32_t fixed_split)
{
	struct tally tallies[SUITE_MAX_KERNELS] = {0};
	struct mla_case c = {0};

	if (!suite_make_case(x, group, spec, &c))
		return;
	try_case(x, &c, 0, false, tallies);
	if (fixed_split)
		try_case(x, &c, fixed_split, true, tallies);
	case_free(&c);
	suite_report_tallies(x, group, tallies);
}

/* Peaked synthetic inputs with all 128 heads: row tiles, rescaling, merges of unlike maxima. */
void suite_peaked(const struct suite_context *x)
{
	static const int32_t qo_len[] = {1, 2, 1, 4}, kv_len[] = {8736, 129, 2048, 4097};
	const struct generate_spec spec = {
		.seed = SUITE_SEED,
		.config = suite_deepseek(128),
		.batch_size = 4,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
		.extra_pages = 7,
	};

	test_generated(x, "peaked, 128 heads", &spec, 0);
}

/* Scores of several hundred: exp overflows, in fp16 at 11 and in f32 at 88, unless the maximum is
 * taken off first. */
void suite_huge(const struct suite_context *x)
{
	static const int32_t qo_len[] = {3, 3}, kv_len[] = {700, 2100};
	struct generate_spec spec = {
		.seed = SUITE_SEED + 3,
		.config = suite_deepseek(128),
		.batch_size = 2,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_HUGE,
		.fused = 1,
		.extra_pages = 7,
	};

	spec.config.q_dtype = spec.config.ckv_dtype = MLA_F16;
	spec.config.kpe_dtype = spec.config.out_dtype = MLA_F16;
	test_generated(x, "huge scores, fp16", &spec, 256);
}

/* Rows that see no key at all, for want of keys or because they come before the first, and rows of
 * a split tile that see none of its last part: of 513 keys in parts of 256 only the last query sees
 * the last, and with 4 heads all four queries share a tile of 16 rows. */
void suite_nothing(const struct suite_context *x)
{
	static const int32_t qo_len[] = {9, 2, 1, 4, 40}, kv_len[] = {4, 0, 3000, 513, 30};
	const struct generate_spec spec = {
		.seed = SUITE_SEED + 4,
		.config = suite_deepseek(4),
		.batch_size = 5,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
	};

	test_generated(x, "rows that see nothing", &spec, 256);
}

/* Rows of few and of many states in one launch of the merge: 2, 6, 40 and 547 with the fixed splits
 * (32 and 512 are where the merge changes its way), fewer where workers share the keys evenly. 120
 * MB of keys. Of N(0,1) values every state counts, of peaked ones their maxima are unlike. Some
 * rows are NaN throughout. */
void suite_unlike_splits(const struct suite_context *x)
{
	enum { COUNT = 44, LONG = 13 };
	int32_t qo_len[COUNT], kv_len[COUNT];
	struct generate_spec spec = {
		.seed = SUITE_SEED + 5,
		.config = suite_deepseek(16),
		.batch_size = COUNT,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
	};

	for (int i = 0; i < COUNT; i++) {
		qo_len[i] = 1;
		kv_len[i] = i == LONG ? 70000 : i % 15 == 7 ? 5000 : i % 4 ? 700 : 250;
	}
	test_generated(x, "few and many splits, peaked", &spec, 128);
	spec.values = GENERATE_NORMAL;
	spec.nan_rows = 5;
	test_generated(x, "few and many splits, N(0,1)", &spec, 128);
}

/* What mla.h leaves open: the NaN of a key that only a later query of the request sees may reach
 * rows that do not see it. Which rows of a kernel it reaches is said in the line. */
void suite_nan_keys(const struct suite_context *x)
{
	static const int32_t qo_len[] = {4, 2, 9}, kv_len[] = {130, 66, 2000};
	const struct generate_spec spec = {
		.seed = SUITE_SEED + 7,
		.config = suite_deepseek(4),
		.batch_size = 3,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
		.nan_keys = 1,
	};
	struct mla_case c = {0};
	struct check_truth truth;

	if (!suite_make_case(x, "NaN keys", &spec, &c))
		return;
	if (check_truth_make(&c, 0, &truth)) {
		suite_line(x->result, CHECK_SKIP, "NaN keys", mla_last_error());
		case_free(&c);
		return;
	}
	for (int k = 0; k < x->num_kernels; k++) {
		const struct check_subject subject = {.name = x->kernels[k],
						      .kernel = x->kernels[k]};
		struct check_verdict v;
		char reached[128];

		check_subject(&c, &truth, &subject, &v);
		snprintf(reached, sizeof(reached),
			 "%" PRId64 " of %" PRId64 " rows that do not see the NaN are NaN",
			 v.num_nan, v.num_free);
		suite_report(x, x->kernels[k], "a NaN that later queries see", v.outcome,
			     v.outcome == CHECK_PASS ? reached : v.why);
	}
	check_truth_free(&truth);
	case_free(&c);
}
