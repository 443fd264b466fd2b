/* test_threads.c - the reference and OpenMP: no team for what is small, and processes that were
 * forked off one with threads, where libgomp hangs.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <dirent.h>
#include <omp.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "case/generate.h"
#include "check/check.h"
#include "reference/reference.h"
#include "reference_fixture.h"

static int threads_here(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int found = -2; /* . and .. */

	cr_assert(tasks);
	while (readdir(tasks))
		found++;
	closedir(tasks);
	return found;
}

/* 64 rows over `keys` keys of 512 + 64. */
static struct problem *problem_of(int32_t keys)
{
	const struct shape shape = {
		.name = "threads",
		.requests = 1,
		.qo = {4},
		.kv = {keys},
		.heads = 16,
		.ckv = 512,
		.kpe = 64,
		.page = 16,
		.scale = 0.1,
	};

	return problem_new(&shape);
}

/* Everything of the reference that has a parallel loop, but absorption and textbook attention. */
static void work_through(const struct problem *p)
{
	const mla_traits traits = {
		.struct_size = sizeof(traits),
		.tile_rows = 16,
		.kv_granule = 16,
		.ctas_per_sm = 1,
		.ctas_per_worker = 1,
		.merge = MLA_MERGE_SEPARATE,
		.align = 2,
	};
	const mla_device device = {.struct_size = sizeof(device), .arch = 90, .sm_count = 8};
	mla_capacity capacity;
	mla_plan *plan;

	cr_assert(!mla_reference(&p->config, &p->batch, &p->tensors), "%s", mla_last_error());
	cr_assert(!ref_attention_online(&p->config, &p->batch, &p->tensors));
	cr_assert(!mla_capacity_of(&p->config, &p->batch, &capacity));
	cr_assert(!mla_plan_create_for_traits(&traits, &p->config, &device, &capacity, &plan));
	cr_assert(!mla_plan_build(plan, &p->batch), "%s", mla_last_error());
	cr_assert(!mla_reference_plan(plan, &p->tensors), "%s", mla_last_error());
	mla_plan_destroy(plan);
}

static void absorb(const struct problem *p, int64_t nope)
{
	const int64_t heads = p->config.num_heads, total_q = p->tensors.q_nope.extent[0];
	const int64_t ckv = p->config.head_dim_ckv;
	const mla_tensor q = tensor_new(MLA_BF16, total_q, heads, nope, 0);
	const mla_tensor w = tensor_new(MLA_BF16, heads, nope, ckv, 0);
	double *absorbed = doubles(p->rows * ckv), *out = doubles(p->rows * nope);
	double *lse = doubles(p->rows);
	int64_t *rows = allocate(p->rows, sizeof(*rows));

	for (int64_t row = 0; row < p->rows; row++)
		rows[row] = row;
	ref_absorb_q(&q, &w, absorbed);
	ref_project_out(rows, p->rows, absorbed, &w, out);
	cr_assert(!ref_mha(&p->config, &p->batch, &p->tensors, &q, &w, &w, out, lse));
	free(q.data);
	free(w.data);
	free(absorbed);
	free(out);
	free(lse);
	free(rows);
}

static void merge(int64_t rows)
{
	const mla_merge_args args = {
		.struct_size = sizeof(args),
		.states = {allocate(2 * rows * 512, 4),
			   MLA_F32,
			   3,
			   {2, rows, 512},
			   {rows * 2048, 2048, 4}},
		.states_lse = {allocate(2 * rows, 4), MLA_F32, 2, {2, rows}, {rows * 4, 4}},
		.out = {allocate(rows * 512, 4), MLA_F32, 2, {rows, 512}, {2048, 4}},
		.lse = {.data = NULL},
	};

	memset(args.states.data, 0, (size_t)(2 * rows * 2048));
	memset(args.states_lse.data, 0, (size_t)(2 * rows * 4));
	cr_assert(!mla_merge_host(&args), "%s", mla_last_error());
	free(args.states.data);
	free(args.states_lse.data);
	free(args.out.data);
}

/* Generated, and its truth with bounds: one request of `keys` keys. */
static void check(int32_t heads, int32_t ckv, int32_t keys)
{
	const int32_t qo_len[] = {2};
	const struct generate_spec spec = {
		.seed = 1,
		.config = {.num_heads = heads,
			   .head_dim_ckv = ckv,
			   .head_dim_kpe = 64,
			   .page_size = 16,
			   .sm_scale = 0.3},
		.batch_size = 1,
		.qo_len = qo_len,
		.kv_len = &keys,
	};
	struct check_truth truth;
	struct mla_case c;

	cr_assert(!generate_case(&spec, &c), "%s", mla_last_error());
	cr_assert(!check_truth_make(&c, 0, &truth), "%s", mla_last_error());
	check_truth_free(&truth);
	case_free(&c);
}

/* A team that is woken for it may wait for a time slice of a busy machine, each time. */
Test(team, small_work_wakes_none)
{
	const int before = threads_here(); /* Criterion's own */
	struct problem *p = problem_of(12);

	omp_set_num_threads(3);
	work_through(p);
	absorb(p, 2);
	merge(8);
	check(2, 8, 50);
	cr_expect_eq(threads_here(), before);
	problem_free(p);
}

Test(team, large_work_is_shared)
{
	const int before = threads_here();
	struct problem *p = problem_of(400);

	omp_set_num_threads(3);
	cr_assert(!mla_reference(&p->config, &p->batch, &p->tensors), "%s", mla_last_error());
	cr_expect_eq(threads_here(), before + 2);
	problem_free(p);
}

/* 0 if the child did all of it and ended by itself. */
static int child_that_works(const struct problem *p)
{
	const pid_t child = fork();
	int status = -1;

	cr_assert(child >= 0);
	if (!child) {
		alarm(30);
		work_through(p);
		absorb(p, 128);
		merge(4096);
		check(128, 512, 4000);
		_exit(threads_here() == 1 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	return status;
}

Test(fork, after_a_team_of_the_reference)
{
	struct problem *p = problem_of(400);

	omp_set_num_threads(3);
	work_through(p);
	cr_expect_eq(child_that_works(p), 0);
	problem_free(p);
}

/* The library was loaded, and never asked for anything, when others made threads. */
Test(fork, after_a_team_of_the_callers)
{
	struct problem *p = problem_of(400);
	int members = 0;

#pragma omp parallel num_threads(3) reduction(+ : members)
	members++;
	cr_assert_eq(members, 3);
	cr_expect_eq(child_that_works(p), 0);
	problem_free(p);
}

/* And its children's children. */
Test(fork, twice)
{
	struct problem *p = problem_of(400);
	int status = -1;

	omp_set_num_threads(3);
	work_through(p);

	const pid_t child = fork();

	if (!child)
		_exit(child_that_works(p) ? 1 : 0);
	waitpid(child, &status, 0);
	cr_expect_eq(status, 0);
	problem_free(p);
}
