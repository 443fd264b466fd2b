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
#include "device/rig.h"

/* ---- words ----------------------------------------------------------------------------------- */

enum check_outcome check_outcome_of(mla_status status)
{
	static const enum check_outcome outcomes[] = {
		[MLA_OK] = CHECK_PASS,        [MLA_INVALID] = CHECK_FAIL,
		[MLA_REFUSED] = CHECK_SKIP,   [MLA_CAPACITY] = CHECK_FAIL,
		[MLA_NO_MEMORY] = CHECK_SKIP, [MLA_CUDA] = CHECK_FAIL,
		[MLA_NO_CUDA] = CHECK_SKIP,
	};

	return outcomes[status];
}

static void end_with(struct check_verdict *verdict, enum check_outcome outcome, const char *why)
{
	verdict->outcome = outcome;
	snprintf(verdict->why, sizeof(verdict->why), "%s", why);
}

static void end_with_status(struct check_verdict *verdict, mla_status status)
{
	end_with(verdict, check_outcome_of(status), mla_last_error());
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
	check_outputs(c, truth, &instance->host, verdict);
	if (!check_instance_intact(instance, fault, sizeof(fault)))
		add_fault(verdict, fault);
}

/* ---- GPU ------------------------------------------------------------------------------------- */

/* A subject's kernel and a copy of the instance on the GPU. */
struct on_gpu {
	struct rig rig;
	struct check_device device;
};

static mla_status prepare(const struct mla_case *c, const struct check_subject *subject,
			  const struct check_instance *instance, struct on_gpu *gpu)
{
	mla_config config = c->config;
	mla_status status;

	config.fixed_split = subject->fixed_split;
	status = rig_open(&gpu->rig, subject->kernel, &config, &c->batch, NULL);
	if (!status)
		status = check_device_make(instance, &gpu->device);
	if (!status)
		status = rig_upload(&gpu->rig, &c->batch, &gpu->device.device);
	return status ? status : gpu_sync(rig_stream(&gpu->rig));
}

/* Of a graph, what is judged is a replay. */
static mla_status run_on_gpu(struct on_gpu *gpu, bool graph, double *microseconds)
{
	struct rig *rig = &gpu->rig;
	const mla_tensors *tensors = &gpu->device.device;
	mla_status status = graph ? rig_capture(rig, tensors) : MLA_OK;
	double start;

	if (!status)
		status = check_device_repoison(&gpu->device);
	start = omp_get_wtime();
	if (!status)
		status = graph ? rig_replay(rig) : rig_run(rig, tensors);
	if (!status)
		status = gpu_sync(rig_stream(rig));
	*microseconds = (omp_get_wtime() - start) * 1e6;
	return status;
}

static void collect(const struct mla_case *c, const struct check_truth *truth, struct on_gpu *gpu,
		    struct check_instance *instance, struct check_verdict *verdict)
{
	mla_tensors *host = &instance->host;
	char fault[200];

	/* The instance's own outputs, still poisoned, receive the device's. */
	if (check_device_collect(&gpu->device, host->out.data, host->lse.data, fault,
				 sizeof(fault)))
		check_outputs(c, truth, host, verdict);
	else
		end_with(verdict, CHECK_FAIL, fault);
}

static void check_on_gpu(const struct mla_case *c, const struct check_truth *truth,
			 const struct check_subject *subject, struct check_instance *instance,
			 struct check_verdict *verdict)
{
	struct on_gpu gpu = {0};
	mla_status status = prepare(c, subject, instance, &gpu);

	if (!status)
		status = run_on_gpu(&gpu, subject->graph, &verdict->microseconds);
	if (status)
		end_with_status(verdict, status);
	else
		collect(c, truth, &gpu, instance, verdict);
	check_device_free(&gpu.device);
	rig_close(&gpu.rig);
}

/* ---- both ------------------------------------------------------------------------------------ */

void check_subject(const struct mla_case *c, const struct check_truth *truth,
		   const struct check_subject *subject, struct check_verdict *verdict)
{
	struct check_instance instance;
	mla_status status = mla_check_pages_host(&c->config, &c->batch, &c->tensors);

	*verdict = (struct check_verdict){.low_power = truth->low_power};
	if (!status && subject->kernel && gpu_missing()) {
		end_with(verdict, CHECK_SKIP, gpu_missing());
		return;
	}
	if (!status)
		status = check_instance_make(c, &instance);
	if (status) {
		end_with_status(verdict, status);
		return;
	}
	if (subject->kernel)
		check_on_gpu(c, truth, subject, &instance, verdict);
	else
		check_on_host(c, truth, subject, &instance, verdict);
	check_instance_free(&instance);
}
