/* trial.c - one kernel on one case.
 */
#include "suite/trial.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/error.h"
#include "reference/reference.h"

void trial_free(struct trial *t)
{
	rig_close(&t->rig);
	check_device_free(&t->device);
	check_instance_free(&t->instance);
	free(t->out);
	free(t->lse);
	*t = (struct trial){0};
}

static mla_status make_outputs(struct trial *t)
{
	const mla_config *config = &t->c->config;
	const size_t rows = (size_t)(case_total_q(t->c) * config->num_heads);

	t->out_bytes =
		rows * (size_t)config->head_dim_ckv * (size_t)ref_dtype_size(config->out_dtype);
	t->lse_bytes = rows * sizeof(float);
	t->out = malloc(t->out_bytes + 1);
	t->lse = malloc(t->lse_bytes + 1);
	return t->out && t->lse ? MLA_OK : mla_fail(MLA_NO_MEMORY, "no memory for the outputs");
}

mla_status trial_make(struct trial *t, const struct mla_case *c, const char *kernel,
		      int32_t fixed_split)
{
	mla_config config = c->config;
	mla_status status;

	*t = (struct trial){.c = c, .kernel = kernel, .fixed_split = fixed_split};
	config.fixed_split = fixed_split;
	status = make_outputs(t);
	if (!status)
		status = check_instance_make(c, &t->instance);
	if (!status)
		status = check_device_make(&t->instance, &t->device);
	return status ? status : rig_open(&t->rig, kernel, &config, &c->batch, NULL);
}

mla_status trial_upload(struct trial *t, const mla_batch *batch)
{
	return rig_upload(&t->rig, batch, NULL);
}

mla_status trial_run(struct trial *t)
{
	mla_status status = check_device_repoison(&t->device);

	if (!status)
		status = rig_run(&t->rig, &t->device.device);
	return status ? status : gpu_sync(rig_stream(&t->rig));
}

bool trial_collect(struct trial *t, char *why, size_t size)
{
	if (gpu_sync(rig_stream(&t->rig))) {
		snprintf(why, size, "%s", mla_last_error());
		return false;
	}
	return check_device_collect(&t->device, t->out, t->lse, why, size);
}

bool trial_judge(const struct trial *t, const struct mla_case *c, bool lse, char *why, size_t size)
{
	const mla_tensors outputs = check_packed(c, t->out, lse ? t->lse : NULL);
	struct check_truth truth;
	struct check_verdict verdict = {.outcome = CHECK_FAIL};

	if (check_truth_make(c, 0, &truth)) {
		snprintf(why, size, "%s", mla_last_error());
		return false;
	}
	check_outputs(c, &truth, &outputs, &verdict);
	check_truth_free(&truth);
	snprintf(why, size, "%s", verdict.why);
	return verdict.outcome == CHECK_PASS;
}

bool trial_right(struct trial *t, const struct mla_case *c, char *why, size_t size)
{
	return trial_collect(t, why, size) && trial_judge(t, c, true, why, size);
}

const char *trial_reason(const char *why)
{
	return *why ? why : mla_last_error();
}
