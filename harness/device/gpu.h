/* gpu.h - the few CUDA runtime calls that programs need, so that they compile without CUDA: gpu.c
 * is built where nvcc is, gpu_none.c elsewhere. Functions that return a status set mla_last_error.
 */
#ifndef MLA_DEVICE_GPU_H
#define MLA_DEVICE_GPU_H

#include <stdbool.h>
#include <stddef.h>

#include "mla.h"

#ifdef __cplusplus
extern "C" {
#endif

/* MLA_OK for cudaSuccess, else a sentence: "WHAT: out of memory (cudaErrorMemoryAllocation)". Of
 * the build with CUDA. */
mla_status gpu_status(int cuda_error, const char *what);

/* NULL if a CUDA device is usable, else why not: "built without CUDA", "no CUDA device". */
const char *gpu_missing(void);
/* "NVIDIA H200"; valid for the life of the program. "" without a device. */
const char *gpu_name(void);
/* Is that the emulator, which runs kernels on the CPU? What it takes is no time of a GPU. */
bool gpu_emulated(void);
/* "0000:3b:00.0", as NVML knows the device; "" without one. */
const char *gpu_bus_id(void);
/* CUDA versions as 1000 * major + 10 * minor: the newest that the driver can do, the runtime's,
 * and that of the headers this was built with. 0: unknown. */
struct gpu_versions {
	int driver, runtime, toolkit;
};
struct gpu_versions gpu_versions(void);
size_t gpu_free_bytes(void);
size_t gpu_l2_bytes(void);

mla_status gpu_alloc(void **device, size_t bytes); /* *device NULL on failure */
void gpu_free(void *device);
mla_status gpu_upload(void *device, const void *host, size_t bytes); /* synchronous */
mla_status gpu_download(void *host, const void *device, size_t bytes);
mla_status gpu_fill(void *device, int byte, size_t bytes);
mla_status gpu_sync(mla_stream stream); /* reports asynchronous kernel errors too */

mla_status gpu_stream_create(mla_stream *stream);
void gpu_stream_destroy(mla_stream stream);

/* A captured and instantiated CUDA graph. */
struct gpu_graph;
mla_status gpu_capture_begin(mla_stream stream);
mla_status gpu_capture_end(mla_stream stream, struct gpu_graph **graph);
/* Ends a capture that went wrong; what was said of that stays said. */
void gpu_capture_abandon(mla_stream stream);
mla_status gpu_graph_launch(struct gpu_graph *graph, mla_stream stream);
void gpu_graph_destroy(struct gpu_graph *graph);

/* Timestamps in a stream. */
struct gpu_timer;
mla_status gpu_timer_create(struct gpu_timer **timer);
void gpu_timer_destroy(struct gpu_timer *timer);
mla_status gpu_timer_start(struct gpu_timer *timer, mla_stream stream);
mla_status gpu_timer_stop(struct gpu_timer *timer, mla_stream stream);
mla_status gpu_timer_read(struct gpu_timer *timer, double *microseconds); /* waits for stop */

#ifdef __cplusplus
}
#endif

#endif
