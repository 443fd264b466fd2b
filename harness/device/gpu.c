/* gpu.c - gpu.h on the CUDA runtime. */
#include "device/gpu.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"

struct gpu_graph {
	cudaGraphExec_t exec;
};

struct gpu_timer {
	cudaEvent_t start, stop;
};

mla_status gpu_status(int error, const char *what)
{
	if (!error)
		return MLA_OK;
	(void)cudaGetLastError(); /* or the next launch on this thread would be blamed for it */
	return mla_fail(error == cudaErrorMemoryAllocation ? MLA_NO_MEMORY : MLA_CUDA,
			"%s: %s (%s)", what, cudaGetErrorString((cudaError_t)error),
			cudaGetErrorName((cudaError_t)error));
}

const char *gpu_missing(void)
{
	int count = 0;

	return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 ? NULL : "no CUDA device";
}

const char *gpu_name(void)
{
	static struct cudaDeviceProp properties;

	if (!properties.name[0] && cudaGetDeviceProperties(&properties, 0))
		properties.name[0] = '\0';
	return properties.name;
}

bool gpu_emulated(void)
{
	return !strncmp(gpu_name(), "emulated", strlen("emulated"));
}

const char *gpu_bus_id(void)
{
	static char id[32];
	int ordinal = 0;

	if (cudaGetDevice(&ordinal) || cudaDeviceGetPCIBusId(id, sizeof(id), ordinal))
		id[0] = '\0';
	return id;
}

struct gpu_versions gpu_versions(void)
{
	struct gpu_versions versions = {.toolkit = CUDART_VERSION};

	cudaDriverGetVersion(&versions.driver);
	cudaRuntimeGetVersion(&versions.runtime);
	return versions;
}

size_t gpu_free_bytes(void)
{
	size_t available = 0, total = 0;

	return cudaMemGetInfo(&available, &total) == cudaSuccess ? available : 0;
}

size_t gpu_l2_bytes(void)
{
	int bytes = 0, ordinal = 0;

	cudaGetDevice(&ordinal);
	cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, ordinal);
	return (size_t)bytes;
}

mla_status gpu_alloc(void **device, size_t bytes)
{
	*device = NULL;
	return gpu_status(cudaMalloc(device, bytes ? bytes : 1), "device memory");
}

void gpu_free(void *device)
{
	cudaFree(device);
}

mla_status gpu_upload(void *device, const void *host, size_t bytes)
{
	return gpu_status(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice),
			  "copy to the device");
}

mla_status gpu_download(void *host, const void *device, size_t bytes)
{
	return gpu_status(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost),
			  "copy from the device");
}

mla_status gpu_fill(void *device, int byte, size_t bytes)
{
	return gpu_status(cudaMemset(device, byte, bytes), "device memset");
}

mla_status gpu_sync(mla_stream stream)
{
	return gpu_status(cudaStreamSynchronize(stream), "kernel");
}

mla_status gpu_stream_create(mla_stream *stream)
{
	return gpu_status(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "stream");
}

void gpu_stream_destroy(mla_stream stream)
{
	cudaStreamDestroy(stream);
}

mla_status gpu_capture_begin(mla_stream stream)
{
	return gpu_status(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
			  "begin of a graph capture");
}

mla_status gpu_capture_end(mla_stream stream, struct gpu_graph **graph)
{
	cudaGraph_t captured = NULL;
	mla_status status =
		gpu_status(cudaStreamEndCapture(stream, &captured), "end of a graph capture");

	*graph = NULL;
	if (status)
		return status;

	struct gpu_graph *g = calloc(1, sizeof(*g));

	status = g ? gpu_status(cudaGraphInstantiate(&g->exec, captured, 0), "graph")
		   : mla_fail(MLA_NO_MEMORY, "no memory for a graph");
	cudaGraphDestroy(captured);
	if (status) {
		free(g);
		return status;
	}
	*graph = g;
	return MLA_OK;
}

void gpu_capture_abandon(mla_stream stream)
{
	cudaGraph_t captured = NULL;

	(void)cudaStreamEndCapture(stream, &captured);
	(void)cudaGetLastError(); /* that the capture is not valid any more is no news */
	if (captured)
		cudaGraphDestroy(captured);
}

mla_status gpu_graph_launch(struct gpu_graph *graph, mla_stream stream)
{
	return gpu_status(cudaGraphLaunch(graph->exec, stream), "graph launch");
}

void gpu_graph_destroy(struct gpu_graph *graph)
{
	if (!graph)
		return;
	cudaGraphExecDestroy(graph->exec);
	free(graph);
}

mla_status gpu_timer_create(struct gpu_timer **timer)
{
	struct gpu_timer *t = calloc(1, sizeof(*t));

	*timer = NULL;
	if (!t)
		return mla_fail(MLA_NO_MEMORY, "no memory for a timer");

	cudaError_t error = cudaEventCreate(&t->start);

	if (!error)
		error = cudaEventCreate(&t->stop);
	if (error) {
		gpu_timer_destroy(t);
		return gpu_status(error, "event");
	}
	*timer = t;
	return MLA_OK;
}

void gpu_timer_destroy(struct gpu_timer *timer)
{
	if (!timer)
		return;
	if (timer->start)
		cudaEventDestroy(timer->start);
	if (timer->stop)
		cudaEventDestroy(timer->stop);
	free(timer);
}

mla_status gpu_timer_start(struct gpu_timer *timer, mla_stream stream)
{
	return gpu_status(cudaEventRecord(timer->start, stream), "event");
}

mla_status gpu_timer_stop(struct gpu_timer *timer, mla_stream stream)
{
	return gpu_status(cudaEventRecord(timer->stop, stream), "event");
}

mla_status gpu_timer_read(struct gpu_timer *timer, double *microseconds)
{
	float milliseconds = 0;
	cudaError_t error = cudaEventSynchronize(timer->stop);

	if (!error)
		error = cudaEventElapsedTime(&milliseconds, timer->start, timer->stop);
	*microseconds = 1000.0 * milliseconds;
	return gpu_status(error, "timed kernel");
}
