/* problem.c - how many copies, and what a problem of either origin does.
 */
#include "bench/problem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "case/work.h"
#include "device/gpu.h"
#include "lib/error.h"

/* ---- copies ---------------------------------------------------------------------------------- */

int bench_copies(double call_bytes, double copy_bytes, double l2_bytes, double free_bytes)
{
	const double room = floor(0.8 * free_bytes / fmax(copy_bytes, 1));
	const double wanted = ceil(2 * l2_bytes / fmax(call_bytes, 1)) + 1;

	return (int)fmax(1, fmin(fmin(wanted, room), BENCH_MAX_COPIES));
}

bool bench_copies_are_cold(int copies, double call_bytes, double l2_bytes)
{
	return (copies > 1 ? copies - 1 : 1) * call_bytes >= 2 * l2_bytes;
}

mla_status bench_problem_plan(struct bench_problem *problem, double copy_bytes)
{
	struct case_work work;
	const mla_status status = case_work_of(problem->c, &work);

	if (status)
		return status;

	const double l2 = (double)gpu_l2_bytes(), available = (double)gpu_free_bytes();
	const int copies = bench_copies(work.bytes, copy_bytes, l2, available);

	if (copy_bytes > available)
		return mla_fail(MLA_NO_MEMORY, "a copy takes %.3g GB, the GPU has %.3g GB free",
				copy_bytes * 1e-9, available * 1e-9);
	problem->copies = calloc((size_t)copies, sizeof(*problem->copies));
	if (!problem->copies)
		return mla_fail(MLA_NO_MEMORY, "no memory for the list of copies");
	problem->num_copies = copies;
	problem->cold = bench_copies_are_cold(copies, work.bytes, l2);
	return MLA_OK;
}

/* ---- any origin ------------------------------------------------------------------------------ */

void bench_verdict_fail(struct check_verdict *verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	verdict->outcome = CHECK_FAIL;
	vsnprintf(verdict->why, sizeof(verdict->why), format, args);
	va_end(args);
}

void bench_problem_free(struct bench_problem *problem)
{
	if (problem->stream)
		gpu_sync(problem->stream);
	if (problem->origin && problem->state)
		problem->origin->free(problem);
	if (problem->stream)
		gpu_stream_destroy(problem->stream);
	free(problem->copies);
	*problem = (struct bench_problem){0};
}

mla_status bench_problem_repoison(struct bench_problem *problem)
{
	mla_status status = gpu_sync(problem->stream);

	for (int i = 0; i < problem->num_copies && !status; i++)
		status = problem->origin->repoison(problem, i);
	return status ? status : gpu_sync(NULL);
}

void bench_problem_judge(struct bench_problem *problem, int copy, struct check_verdict *verdict)
{
	if (gpu_sync(problem->stream))
		bench_verdict_fail(verdict, "%s", mla_last_error());
	else
		problem->origin->judge(problem, copy, verdict);
}
