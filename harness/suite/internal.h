/* internal.h - what the files of the GPU suite share: what is tested and where lines go, small
 * cases, and the tests themselves. No other room includes it.
 */
#ifndef MLA_SUITE_INTERNAL_H
#define MLA_SUITE_INTERNAL_H

#include "case/generate.h"
#include "report/tally.h"
#include "suite/suite.h"
#include "suite/trial.h"

enum {
	SUITE_MAX_KERNELS = 32,
	SUITE_SEED = 2026,
};

struct suite_context {
	const char *kernels[SUITE_MAX_KERNELS];
	int num_kernels;
	const char *const *files; /* captures */
	int num_files;
	struct suite_result *result;
};

/* ---- lines (kernels.c) ----------------------------------------------------------------------- */

/* One line for a test that a kernel passes or fails as a whole. */
void suite_report(const struct suite_context *x, const char *kernel, const char *test,
		  enum check_outcome outcome, const char *detail);
/* A line for each kernel's cases of a group; the tallies are freed. */
void suite_report_tallies(const struct suite_context *x, const char *group, struct tally *tallies);

/* A test of one kernel; why is empty at first. On failure an empty one stands for mla_last_error,
 * else it is the line's detail. */
typedef bool (*suite_trial_test)(struct trial *t, char *why, size_t size);
/* A line and a trial of its own for each kernel. */
void suite_each_kernel(const struct suite_context *x, const struct mla_case *c, const char *name,
		       int32_t fixed_split, suite_trial_test test);

/* ---- cases (shapes.c) ------------------------------------------------------------------------ */

/* A small generator of its own: the shapes of a suite must not change with generate.c. */
uint32_t suite_draw(uint64_t *state, uint32_t below);
/* DeepSeek-V3's dimensions and scale, bf16, causal, 64 keys per page. */
mla_config suite_deepseek(int32_t heads);
/* false after a line that says so. */
bool suite_make_case(const struct suite_context *x, const char *test,
		     const struct generate_spec *spec, struct mla_case *c);
/* A small ragged case for tests of graphs, bits and limits. */
enum { SUITE_BASE_REQUESTS = 6 };
bool suite_make_base(const struct suite_context *x, const char *test, struct mla_case *c);

/* ---- the tests ------------------------------------------------------------------------------- */

void suite_launches(const struct suite_context *x);      /* launches.c */
void suite_lost_capture(const struct suite_context *x);  /* launches.c */
void suite_merge(const struct suite_context *x);         /* states.c */
void suite_refusals(const struct suite_context *x);      /* limits.c */
void suite_captures(const struct suite_context *x);      /* shapes.c */
void suite_adversarial(const struct suite_context *x);   /* shapes.c */
void suite_peaked(const struct suite_context *x);        /* shapes.c */
void suite_huge(const struct suite_context *x);          /* shapes.c */
void suite_nothing(const struct suite_context *x);       /* shapes.c */
void suite_unlike_splits(const struct suite_context *x); /* shapes.c */
void suite_nan_keys(const struct suite_context *x);      /* shapes.c */
void suite_graphs(const struct suite_context *x);        /* graphs.c */
void suite_bits(const struct suite_context *x);          /* bits.c */
void suite_many_splits(const struct suite_context *x);   /* bits.c */
void suite_far_pages(const struct suite_context *x);     /* limits.c */
void suite_far_rows(const struct suite_context *x);      /* limits.c */
void suite_no_lse(const struct suite_context *x);        /* limits.c */

#endif
