/* check.c - runs a subject on a poisoned instance of a case and judges what it gave.
 */
#include "check/check.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "check/internal.h"
#include "device/gpu.h"

/* ---- words ----------------------------------------------------------------------------------- */

/* A refusal, or a machine that lacks something, says nothing about the subject. */
static enum check_outcome outcome_of(mla_status status)
{
	return status == MLA_REFUSED || status == MLA_NO_CUDA || status == MLA_NO_MEMORY
		       ? CHECK_SKIP
		       : CHECK_FAIL;
}

static void end_with(struct check_verdict *verdict, enum check_outcome outcome, const char *why)
{
	verdict->outcome = outcome;
	snprintf(verdict->why, sizeof(verdict->why), "%s", why);
}

static void end_with_status(struct check_verdict *verdict, mla_status status)
{
	end_with(verdict, outcome_of(status), mla_last_error());
}

/* Guards and inputs first: what was written where nothing belongs explains the rest. */
static void add_fault(struct check_verdict *verdict, const char *fault)
{
	char judged[sizeof(verdict->why)];

	memcpy(judged, verdict->why, sizeof(judged));
	verdict->outcome = CHECK_FAIL;
	if (*judged)
		snprintf(verdict->why, sizeof(verdict->why), "%.200s; %.300s", fault, judged);
	else
		snprintf(verdict->why, sizeof(verdict->why), "%s", fault);
}

/* ---- host ------------------------------------------------------------------------------------ */

static void check_on_host(const struct mla_case *c, const struct check_truth *truth,
			  const struct check_subject *subject, struct check_instance *instance,
			  struct check_verdict *verdict)
{
	const double start = omp_get_wtime();
	const mla_status status = subject->run(&c->config, &c->batch, &instance->host);
	char fault[200];

	verdict->microseconds = (omp_get_wtime() - start) * 1e6;
	if (status) {
		end_with_status(verdict, status);
		return;
	}
	check_outputs(c, truth, instance->host.out.data, instance->host.lse.data, verdict);
	if (!check_instance_intact(instance, fault, sizeof(fault)))
		add_fault(verdict, fault);
}

/* ---- GPU ------------------------------------------------------------------------------------- */

/* A kernel's plan on the GPU, with its scratch. */
struct launch {
	mla_plan *plan;
	void *scratch;
	mla_stream stream;
	struct gpu_graph *graph;
	struct check_device device;
};

static mla_status make_plan(const struct mla_case *c, const struct check_subject *subject,
			    struct launch *l)
{
	mla_config config = c->config;
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_device device = {.struct_size = sizeof(device)};
	mla_status status;

	config.fixed_split = subject->fixed_split;
	status = mla_capacity_of(&config, &c->batch, &capacity);
	if (!status)
		status = mla_device_query(&device);
	if (!status)
		status = mla_plan_create(subject->kernel, &config, &device, &capacity, &l->plan);
	return status ? status : mla_plan_build(l->plan, &c->batch);
}

/* The contents of scratch must not matter: it starts as NaN. */
static mla_status make_scratch(struct launch *l)
{
	mla_plan_info info = {.struct_size = sizeof(info)};
	mla_status status = mla_plan_get_info(l->plan, &info);

	if (status || info.scratch_bytes == 0)
		return status;
	status = gpu_alloc(&l->scratch, (size_t)info.scratch_bytes);
	if (!status)
		status = gpu_fill(l->scratch, POISON_BYTE, (size_t)info.scratch_bytes);
	l->device.device.scratch = l->scratch;
	l->device.device.scratch_bytes = info.scratch_bytes;
	return status;
}

static mla_status prepare_launch(const struct mla_case *c, const struct check_subject *subject,
				 const struct check_instance *instance, struct launch *l)
{
	mla_status status = make_plan(c, subject, l);

	if (!status)
		status = gpu_stream_create(&l->stream);
	if (!status)
		status = check_device_make(instance, &l->device);
	if (!status)
		status = make_scratch(l);
	if (!status)
		status = mla_check_pages(l->plan, &l->device.device, l->stream);
	if (!status)
		status = mla_plan_upload(l->plan, l->stream);
	return status ? status : gpu_sync(NULL);
}

/* Captures a run; the replay that follows is what is judged. */
static mla_status capture_run(struct launch *l)
{
	mla_status status = gpu_sync(l->stream), ended;

	if (!status)
		status = gpu_capture_begin(l->stream);
	if (status)
		return status;
	status = mla_run(l->plan, &l->device.device, l->stream);
	ended = gpu_capture_end(l->stream, &l->graph);
	return status ? status : ended;
}

static mla_status run_on_gpu(struct launch *l, bool graph, double *microseconds)
{
	mla_status status = graph ? capture_run(l) : MLA_OK;
	double start;

	if (!status)
		status = check_device_repoison(&l->device);
	start = omp_get_wtime();
	if (!status)
		status = graph ? gpu_graph_launch(l->graph, l->stream)
			       : mla_run(l->plan, &l->device.device, l->stream);
	if (!status)
		status = gpu_sync(l->stream);
	*microseconds = (omp_get_wtime() - start) * 1e6;
	return status;
}

static void collect(const struct mla_case *c, const struct check_truth *truth, struct launch *l,
		    struct check_instance *instance, struct check_verdict *verdict)
{
	char fault[200];

	/* The instance's own outputs, still poisoned, receive the device's. */
	if (check_device_collect(&l->device, instance->host.out.data, instance->host.lse.data,
				 fault, sizeof(fault)))
		check_outputs(c, truth, instance->host.out.data, instance->host.lse.data, verdict);
	else
		end_with(verdict, CHECK_FAIL, fault);
}

static void check_on_gpu(const struct mla_case *c, const struct check_truth *truth,
			 const struct check_subject *subject, struct check_instance *instance,
			 struct check_verdict *verdict)
{
	struct launch l = {0};
	mla_status status = prepare_launch(c, subject, instance, &l);

	if (!status)
		status = run_on_gpu(&l, subject->graph, &verdict->microseconds);
	if (status)
		end_with_status(verdict, status);
	else
		collect(c, truth, &l, instance, verdict);
	if (l.graph)
		gpu_graph_destroy(l.graph);
	if (l.device.state)
		check_device_free(&l.device);
	gpu_free(l.scratch);
	if (l.stream)
		gpu_stream_destroy(l.stream);
	mla_plan_destroy(l.plan);
}

/* ---- both ------------------------------------------------------------------------------------ */

void check_subject(const struct mla_case *c, const struct check_truth *truth,
		   const struct check_subject *subject, struct check_verdict *verdict)
{
	struct check_instance instance;
	const mla_status pages = mla_check_pages_host(&c->config, &c->batch, &c->tensors);

	*verdict = (struct check_verdict){.low_power = truth->low_power};
	if (pages)
		end_with(verdict, CHECK_FAIL, mla_last_error());
	else if (subject->kernel && gpu_missing())
		end_with(verdict, CHECK_SKIP, gpu_missing());
	else if (check_instance_make(c, &instance))
		end_with(verdict, CHECK_SKIP, "no memory for a poisoned copy of the case");
	else {
		if (subject->kernel)
			check_on_gpu(c, truth, subject, &instance, verdict);
		else
			check_on_host(c, truth, subject, &instance, verdict);
		check_instance_free(&instance);
	}
}
