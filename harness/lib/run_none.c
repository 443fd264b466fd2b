/* run_none.c - stands in for run.c where the library is built without nvcc. */
#include "lib/error.h"
#include "mla.h"

static mla_status no_cuda(void)
{
	return mla_fail(MLA_NO_CUDA, "this library was built without CUDA");
}

mla_status mla_device_query(mla_device *device)
{
	(void)device;
	return no_cuda();
}

mla_status mla_plan_prepare(mla_plan *plan)
{
	(void)plan;
	return no_cuda();
}

mla_status mla_plan_upload(mla_plan *plan, mla_stream stream)
{
	(void)plan;
	(void)stream;
	return no_cuda();
}

mla_status mla_run(const mla_plan *plan, const mla_tensors *tensors, mla_stream stream)
{
	(void)plan;
	(void)tensors;
	(void)stream;
	return no_cuda();
}

mla_status mla_check_pages(const mla_plan *plan, const mla_tensors *tensors, mla_stream stream)
{
	(void)plan;
	(void)tensors;
	(void)stream;
	return no_cuda();
}

mla_status mla_merge(const mla_merge_args *args, mla_stream stream)
{
	(void)args;
	(void)stream;
	return no_cuda();
}
