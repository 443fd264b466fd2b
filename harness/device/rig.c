/* rig.c - a kernel on given tensors, step by step.
 */
#include "device/rig.h"

#include "base/poison.h"

static const struct rig_shared *shared_of(const struct rig *rig)
{
	return rig->shared ? rig->shared : &rig->own;
}

mla_stream rig_stream(const struct rig *rig)
{
	return shared_of(rig)->stream;
}

mla_tensors rig_tensors(const struct rig *rig, const mla_tensors *tensors)
{
	mla_tensors with_scratch = *tensors;

	with_scratch.scratch = shared_of(rig)->scratch;
	with_scratch.scratch_bytes = rig->scratch_bytes;
	return with_scratch;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static mla_status make_plan(struct rig *rig, const char *kernel, const mla_config *config,
			    const mla_batch *batch)
{
	mla_device device = {.struct_size = sizeof(device)};
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_plan_info info = {.struct_size = sizeof(info)};
	mla_status status = mla_device_query(&device);

	if (!status)
		status = mla_capacity_of(config, batch, &capacity);
	if (!status)
		status = mla_plan_create(kernel, config, &device, &capacity, &rig->plan);
	if (!status)
		status = mla_plan_prepare(rig->plan);
	if (!status)
		status = mla_plan_get_info(rig->plan, &info);
	rig->scratch_bytes = info.scratch_bytes;
	return status;
}

static mla_status make_own(struct rig *rig)
{
	mla_status status = gpu_stream_create(&rig->own.stream);

	rig->own.scratch_bytes = rig->scratch_bytes;
	if (!status)
		status = rig_share(&rig->own);
	return status ? status : rig_poison(rig);
}

mla_status rig_open(struct rig *rig, const char *kernel, const mla_config *config,
		    const mla_batch *batch, struct rig_shared *shared)
{
	mla_status status;

	*rig = (struct rig){.shared = shared};
	status = make_plan(rig, kernel, config, batch);
	if (!status && !shared)
		status = make_own(rig);
	if (status)
		rig_close(rig);
	else if (shared && shared->scratch_bytes < rig->scratch_bytes)
		shared->scratch_bytes = rig->scratch_bytes;
	return status;
}

void rig_close(struct rig *rig)
{
	gpu_graph_destroy(rig->graph);
	mla_plan_destroy(rig->plan);
	rig_unshare(&rig->own);
	if (rig->own.stream)
		gpu_stream_destroy(rig->own.stream);
	*rig = (struct rig){0};
}

mla_status rig_share(struct rig_shared *shared)
{
	return shared->scratch_bytes > 0
		       ? gpu_alloc(&shared->scratch, (size_t)shared->scratch_bytes)
		       : MLA_OK;
}

void rig_unshare(struct rig_shared *shared)
{
	gpu_free(shared->scratch);
	shared->scratch = NULL;
	shared->scratch_bytes = 0;
}

/* ---- running --------------------------------------------------------------------------------- */

mla_status rig_poison(const struct rig *rig)
{
	mla_status status = MLA_OK;

	if (rig->scratch_bytes > 0)
		status = gpu_fill(shared_of(rig)->scratch, POISON_BYTE, (size_t)rig->scratch_bytes);
	return status ? status : gpu_sync(NULL);
}

mla_status rig_upload(struct rig *rig, const mla_batch *batch, const mla_tensors *tensors)
{
	mla_status status = mla_plan_build(rig->plan, batch);

	if (!status && tensors)
		status = mla_check_pages(rig->plan, tensors, rig_stream(rig));
	return status ? status : mla_plan_upload(rig->plan, rig_stream(rig));
}

mla_status rig_run(const struct rig *rig, const mla_tensors *tensors)
{
	const mla_tensors with_scratch = rig_tensors(rig, tensors);

	return mla_run(rig->plan, &with_scratch, rig_stream(rig));
}

mla_status rig_capture(struct rig *rig, const mla_tensors *tensors)
{
	const mla_stream stream = rig_stream(rig);
	mla_status status = gpu_capture_begin(stream);

	if (status)
		return status;
	status = rig_run(rig, tensors);
	if (!status)
		return gpu_capture_end(stream, &rig->graph);
	gpu_capture_abandon(stream);
	return status;
}

mla_status rig_replay(const struct rig *rig)
{
	return gpu_graph_launch(rig->graph, rig_stream(rig));
}
