/* kernels.c - everything about the kernels that needs a GPU, as one list of tests.
 */
#include <stdio.h>

#include "suite/instrument.h"
#include "suite/internal.h"

/* ---- lines ----------------------------------------------------------------------------------- */

/* Of many cases, as one line. */
static void report_tally(struct suite_result *result, const char *group, const char *kernel,
			 const struct tally *t)
{
	const char *first = t->failed ? t->failures[0] : t->skip;
	char name[128], detail[1024], element[32], rms[32], lse[32];

	snprintf(name, sizeof(name), "%s %s", kernel, group);
	snprintf(detail, sizeof(detail),
		 "%d of %d right, %d refused; worst element %s, rms %s, lse %s of the bound%s%s",
		 t->passed, t->passed + t->failed, t->skipped,
		 report_ratio(t->worst_element, element, sizeof(element)),
		 report_ratio(t->worst_rms, rms, sizeof(rms)),
		 report_ratio(t->worst_lse, lse, sizeof(lse)), first ? "; first: " : "",
		 first ? first : "");
	suite_line(result, tally_outcome(t), name, detail);
}

void suite_report_tallies(const struct suite_context *x, const char *group, struct tally *tallies)
{
	for (int k = 0; k < x->num_kernels; k++) {
		report_tally(x->result, group, x->kernels[k], &tallies[k]);
		tally_free(&tallies[k]);
	}
}

void suite_report(const struct suite_context *x, const char *kernel, const char *test,
		  enum check_outcome outcome, const char *detail)
{
	char name[128];

	snprintf(name, sizeof(name), "%s %s", kernel, test);
	suite_line(x->result, outcome, name, detail);
}

void suite_each_kernel(const struct suite_context *x, const struct mla_case *c, const char *name,
		       int32_t fixed_split, suite_trial_test test)
{
	for (int k = 0; k < x->num_kernels; k++) {
		struct trial t;
		char why[512] = "";
		const mla_status made = trial_make(&t, c, x->kernels[k], fixed_split);

		if (made)
			suite_report(x, x->kernels[k], name, check_outcome_of(made),
				     mla_last_error());
		else if (test(&t, why, sizeof(why)))
			suite_report(x, x->kernels[k], name, CHECK_PASS, why);
		else
			suite_report(x, x->kernels[k], name, CHECK_FAIL, trial_reason(why));
		trial_free(&t);
	}
}

/* ---- the suite ------------------------------------------------------------------------------- */

static void test_instrument(const struct suite_context *x)
{
	suite_instrument(x->result);
}

static void (*const tests[])(const struct suite_context *) = {
	test_instrument,     suite_launches,    suite_lost_capture, suite_merge, suite_refusals,
	suite_captures,      suite_adversarial, suite_peaked,       suite_huge,  suite_nothing,
	suite_unlike_splits, suite_nan_keys,    suite_graphs,       suite_bits,  suite_many_splits,
	suite_far_pages,     suite_far_rows,    suite_no_lse,
};

static void choose_kernels(struct suite_context *x, const char *const *kernels, int num_kernels)
{
	for (int i = 0; i < num_kernels && x->num_kernels < SUITE_MAX_KERNELS; i++)
		x->kernels[x->num_kernels++] = kernels[i];
	for (int i = 0; num_kernels == 0 && i < mla_kernel_count(); i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};

		if (!mla_kernel_get(i, &info) && info.built && x->num_kernels < SUITE_MAX_KERNELS)
			x->kernels[x->num_kernels++] = info.name;
	}
}

void suite_gpu(const char *const *kernels, int num_kernels, const char *const *files, int num_files,
	       struct suite_result *result)
{
	struct suite_context x = {.files = files, .num_files = num_files, .result = result};

	choose_kernels(&x, kernels, num_kernels);
	if (x.num_kernels == 0) {
		suite_line(result, CHECK_SKIP, "gpu", "no kernel is built");
		return;
	}
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tests[i](&x);
}
