/* test_samples.c - each implementation of tests/wrong is rejected, each of tests/right accepted.
 */
#include <math.h>
#include <stdbool.h>

#include "check_fixture.h"

struct sample {
	const char *name, *named_case, *what;
	check_host_run run;
};

#define WRONG(id, named_case, what)                                                                \
	mla_status wrong_##id(const mla_config *, const mla_batch *, const mla_tensors *);
#include "wrong/wrong.def"
#undef WRONG
#define WRONG(id, named_case, what) {#id, #named_case, what, wrong_##id},
static const struct sample wrong[] = {
#include "wrong/wrong.def"
};

#define RIGHT(id, what)                                                                            \
	mla_status right_##id(const mla_config *, const mla_batch *, const mla_tensors *);
#include "right/right.def"
#undef RIGHT
#define RIGHT(id, what) {#id, NULL, what, right_##id},
static const struct sample right[] = {
#include "right/right.def"
};

/* Cases that know nothing of the defects, as the program's own suites draw them: as many as it
 * takes to reject each wrong sample, and at most so many. */
enum { RANDOM_SEED = 2024, RANDOM_CASES = 48, RIGHT_CASES = 12 };

static void make_random(int n, struct problem *p)
{
	cr_assert_eq(generate_adversarial(RANDOM_SEED, n, &p->c), 0);
	make_truth(p);
}

static size_t count_rejected(const struct problem *p, const char *named_case)
{
	size_t rejected = 0;

	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct check_verdict v;

		if (strcmp(wrong[i].named_case, named_case))
			continue;
		v = judge_run(p, wrong[i].run);
		cr_expect_eq(v.outcome, CHECK_FAIL, "%s (%s) passes case %s", wrong[i].name,
			     wrong[i].what, named_case);
		cr_expect_neq(v.why[0], 0, "%s is rejected without a word", wrong[i].name);
		rejected += v.outcome == CHECK_FAIL;
	}
	return rejected;
}

Test(samples, each_wrong_is_rejected_on_its_case)
{
	size_t rejected = 0;

	for (size_t n = 0; n < COUNT(named_cases); n++) {
		struct problem p;

		make_named(named_cases[n].name, &p);
		rejected += count_rejected(&p, named_cases[n].name);
		free_problem(&p);
	}
	printf("wrong: %zu of %zu rejected on their cases\n", rejected, COUNT(wrong));
	cr_expect_eq(rejected, COUNT(wrong), "a sample names a case that there is not");
	cr_assert_geq(COUNT(wrong), 20);
}

Test(samples, each_wrong_is_rejected_by_random_cases)
{
	int found_at[COUNT(wrong)] = {0}, cases = 0;
	size_t rejected = 0;

	for (int n = 0; n < RANDOM_CASES && rejected < COUNT(wrong); n++, cases++) {
		struct problem p;

		make_random(n, &p);
		for (size_t i = 0; i < COUNT(wrong); i++)
			if (!found_at[i] && judge_run(&p, wrong[i].run).outcome == CHECK_FAIL) {
				found_at[i] = n + 1;
				rejected++;
			}
		free_problem(&p);
	}
	for (size_t i = 0; i < COUNT(wrong); i++)
		cr_expect(found_at[i], "%s (%s) passes %d random cases", wrong[i].name,
			  wrong[i].what, RANDOM_CASES);
	printf("wrong: %zu of %zu rejected by %d random cases\n", rejected, COUNT(wrong), cases);
}

/* Accepts or complains; worst[3]: the largest element, rms and lse ratios so far. */
static bool is_accepted(const struct problem *p, const struct sample *sample, double worst[3])
{
	const struct check_verdict v = judge_run(p, sample->run);

	cr_expect_eq(v.outcome, CHECK_PASS, "%s (%s) fails case %s: %s", sample->name, sample->what,
		     p->c.name, v.why);
	worst[0] = fmax(worst[0], v.worst_element);
	worst[1] = fmax(worst[1], v.worst_rms);
	worst[2] = fmax(worst[2], v.worst_lse);
	return v.outcome == CHECK_PASS;
}

Test(samples, each_right_is_accepted_on_all_cases)
{
	bool accepted[COUNT(right)];
	double worst[COUNT(right)][3] = {0};
	size_t count = 0;

	memset(accepted, 1, sizeof(accepted));
	for (size_t n = 0; n < COUNT(named_cases) + RIGHT_CASES; n++) {
		struct problem p;

		if (n < COUNT(named_cases))
			make_named(named_cases[n].name, &p);
		else
			make_random((int)(n - COUNT(named_cases)), &p);
		for (size_t i = 0; i < COUNT(right); i++)
			accepted[i] &= is_accepted(&p, &right[i], worst[i]);
		free_problem(&p);
	}
	for (size_t i = 0; i < COUNT(right); i++) {
		count += accepted[i];
		printf("right: %-18s element %.2f  rms %.2f  lse %.2f of the bound\n",
		       right[i].name, worst[i][0], worst[i][1], worst[i][2]);
	}
	printf("right: %zu of %zu accepted\n", count, COUNT(right));
	cr_assert_geq(COUNT(right), 5);
}
