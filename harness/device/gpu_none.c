/* gpu_none.c - stands in for gpu.c where programs are built without CUDA. */
#include "device/gpu.h"

#include "lib/error.h"

static mla_status no_cuda(void)
{
	return mla_fail(MLA_NO_CUDA, "built without CUDA");
}

const char *gpu_missing(void)
{
	return "built without CUDA";
}

const char *gpu_name(void)
{
	return "";
}

bool gpu_emulated(void)
{
	return false;
}

const char *gpu_bus_id(void)
{
	return "";
}

struct gpu_versions gpu_versions(void)
{
	return (struct gpu_versions){0};
}

size_t gpu_free_bytes(void)
{
	return 0;
}

size_t gpu_l2_bytes(void)
{
	return 0;
}

mla_status gpu_alloc(void **device, size_t bytes)
{
	(void)device;
	(void)bytes;
	return no_cuda();
}

void gpu_free(void *device)
{
	(void)device;
}

mla_status gpu_upload(void *device, const void *host, size_t bytes)
{
	(void)device;
	(void)host;
	(void)bytes;
	return no_cuda();
}

mla_status gpu_download(void *host, const void *device, size_t bytes)
{
	(void)host;
	(void)device;
	(void)bytes;
	return no_cuda();
}

mla_status gpu_fill(void *device, int byte, size_t bytes)
{
	(void)device;
	(void)byte;
	(void)bytes;
	return no_cuda();
}

mla_status gpu_sync(mla_stream stream)
{
	(void)stream;
	return no_cuda();
}

mla_status gpu_stream_create(mla_stream *stream)
{
	(void)stream;
	return no_cuda();
}

void gpu_stream_destroy(mla_stream stream)
{
	(void)stream;
}

mla_status gpu_capture_begin(mla_stream stream)
{
	(void)stream;
	return no_cuda();
}

mla_status gpu_capture_end(mla_stream stream, struct gpu_graph **graph)
{
	(void)stream;
	(void)graph;
	return no_cuda();
}

void gpu_capture_abandon(mla_stream stream)
{
	(void)stream;
}

mla_status gpu_graph_launch(struct gpu_graph *graph, mla_stream stream)
{
	(void)graph;
	(void)stream;
	return no_cuda();
}

void gpu_graph_destroy(struct gpu_graph *graph)
{
	(void)graph;
}

mla_status gpu_timer_create(struct gpu_timer **timer)
{
	(void)timer;
	return no_cuda();
}

void gpu_timer_destroy(struct gpu_timer *timer)
{
	(void)timer;
}

mla_status gpu_timer_start(struct gpu_timer *timer, mla_stream stream)
{
	(void)timer;
	(void)stream;
	return no_cuda();
}

mla_status gpu_timer_stop(struct gpu_timer *timer, mla_stream stream)
{
	(void)timer;
	(void)stream;
	return no_cuda();
}

mla_status gpu_timer_read(struct gpu_timer *timer, double *microseconds)
{
	(void)timer;
	(void)microseconds;
	return no_cuda();
}
