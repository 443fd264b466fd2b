/* uploaded.c - problems uploaded from the host: poisoned, guarded and judged as mla check does.
 */
#include <stdlib.h>

#include "bench/problem.h"
#include "device/gpu.h"
#include "lib/error.h"

struct uploaded {
	const struct check_truth *truth;
	struct check_instance instance;
	struct check_device *devices; /* [num_copies] */
};

static mla_status repoison_uploaded(struct bench_problem *problem, int copy)
{
	struct uploaded *up = problem->state;

	return check_device_repoison(&up->devices[copy]);
}

/* The instance's own outputs receive the device's. */
static void judge_uploaded(struct bench_problem *problem, int copy, struct check_verdict *verdict)
{
	struct uploaded *up = problem->state;
	mla_tensors *host = &up->instance.host;
	char why[sizeof(verdict->why)];

	if (check_device_collect(&up->devices[copy], host->out.data, host->lse.data, why,
				 sizeof(why)))
		check_outputs(problem->c, up->truth, host, verdict);
	else
		bench_verdict_fail(verdict, "%s", why);
}

static void free_uploaded(struct bench_problem *problem)
{
	struct uploaded *up = problem->state;

	for (int i = 0; up->devices && i < problem->num_copies; i++)
		check_device_free(&up->devices[i]);
	free(up->devices);
	check_instance_free(&up->instance);
	free(up);
}

static const struct bench_origin uploaded = {repoison_uploaded, judge_uploaded, free_uploaded};

static mla_status make_uploaded(struct bench_problem *problem, struct uploaded *up)
{
	mla_status status = bench_problem_plan(problem, check_instance_bytes(&up->instance));

	if (!status)
		status = gpu_stream_create(&problem->stream);
	if (status)
		return status;
	up->devices = calloc((size_t)problem->num_copies, sizeof(*up->devices));
	if (!up->devices)
		return mla_fail(MLA_NO_MEMORY, "no memory for the list of copies");
	for (int i = 0; i < problem->num_copies && !status; i++) {
		status = check_device_make(&up->instance, &up->devices[i]);
		problem->copies[i] = up->devices[i].device;
	}
	return status;
}

mla_status bench_problem_upload(const struct mla_case *c, const struct check_truth *truth,
				struct bench_problem *problem)
{
	struct uploaded *up = calloc(1, sizeof(*up));
	mla_status status;

	*problem = (struct bench_problem){0};
	if (!up)
		return mla_fail(MLA_NO_MEMORY, "no memory for the problem");
	up->truth = truth;
	*problem = (struct bench_problem){.c = c, .origin = &uploaded, .state = up};
	status = check_instance_make(c, &up->instance);
	if (!status)
		status = make_uploaded(problem, up);
	if (status)
		bench_problem_free(problem);
	return status;
}
