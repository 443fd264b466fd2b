/* probe.cu - pages fetched by TMA and exchanged within clusters of two blocks: the smallest kernel
 * that needs a cluster launch, a tensor map as an argument, an mbarrier, distributed shared memory
 * and an early start.
 */
#include "device/probe.h"

#include <cuda_runtime_api.h>

#include "device/gpu.h"
extern "C" {
#include "lib/error.h"
}
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"
#include "parts/tensor_map.cuh"

enum {
	THREADS = 128,
	CHUNKS = PROBE_COLUMNS * 2 / 16, /* of 16 bytes, a row */
	ALIGNMENT = 1024,                /* of a tile that is swizzled by 128 bytes */
};

static __global__ void __launch_bounds__(THREADS)
	exchange(const __grid_constant__ CUtensorMap cache, int page_size, int group, uint4 *out)
{
#if __CUDA_ARCH__ >= 900
	__shared__ uint64_t barrier;
	const uint32_t start = shared_address(&dynamic_shared<char>());
	const uint32_t tile = (start + ALIGNMENT - 1) & ~(ALIGNMENT - 1u);
	const uint32_t arrived = shared_address(&barrier);
	const int page = blockIdx.x;

	if (threadIdx.x == 0) {
		mbarrier_init(arrived, 1);
		mbarrier_init_fence();
	}
	cluster_sync();
	let_next_start();
	wait_for_previous();
	if (threadIdx.x == 0) {
		mbarrier_expect(arrived, page_size * PROBE_COLUMNS * 2);
		tma_load_4d(tile, &cache, 0, 0, group, page, arrived);
	}
	mbarrier_wait(arrived, 0);
	cluster_sync(); /* the other block's page has come, too */
	for (int i = threadIdx.x; i < page_size * CHUNKS; i += THREADS) {
		const int row = i / CHUNKS, chunk = i % CHUNKS;
		const uint32_t mine = tile + (row * CHUNKS + (chunk ^ row % 8)) * 16;

		out[(int64_t)page * page_size * CHUNKS + i] =
			load_cluster(map_to_rank(mine, cluster_rank() ^ 1));
	}
	cluster_sync(); /* nobody reads this block's shared memory any more */
#else
	(void)page_size;
	(void)group;
	(void)out;
#endif
}

static mla_status check_device()
{
	mla_device device = {};

	device.struct_size = sizeof(device);

	const mla_status status = mla_device_query(&device);

	if (!status && device.arch < 90)
		return mla_fail(MLA_REFUSED,
				"clusters and TMA are of compute capability 9.0, this "
				"device is sm_%d",
				device.arch);
	return status;
}

/* Columns in groups of 64, so that a box is 128 bytes wide. */
static tensor_map_shape shape_of(const mla_tensor *cache)
{
	tensor_map_shape shape = {};

	shape.data = cache->data;
	shape.extent[0] = PROBE_COLUMNS;
	shape.extent[1] = (uint64_t)cache->extent[1];
	shape.extent[2] = (uint64_t)cache->extent[2] / PROBE_COLUMNS;
	shape.extent[3] = (uint64_t)cache->extent[0];
	shape.stride[0] = (uint64_t)cache->stride[1];
	shape.stride[1] = PROBE_COLUMNS * 2;
	shape.stride[2] = (uint64_t)cache->stride[0];
	shape.box[0] = PROBE_COLUMNS;
	shape.box[1] = (uint32_t)cache->extent[1];
	shape.box[2] = shape.box[3] = 1;
	shape.dtype = cache->dtype;
	shape.rank = 4;
	shape.swizzle = 128;
	return shape;
}

mla_status probe_exchange(const mla_tensor *cache, int32_t first_column, void *out,
			  mla_stream stream)
{
	tensor_map map = {};
	mla_status status = check_device();

	if (!status)
		status = gpu_status(tensor_map_prepare(), "the driver's encoder of tensor maps");
	if (!status)
		status = gpu_status(tensor_map_update(map, shape_of(cache)), "tensor map");
	if (status)
		return status;

	const launch_shape shape = {
		.blocks = (int)cache->extent[0],
		.threads = THREADS,
		.shared_bytes = (int)cache->extent[1] * PROBE_COLUMNS * 2 + ALIGNMENT,
		.cluster = 2,
		.early = true,
	};

	status = gpu_status(allow_shared(shape.shared_bytes, exchange), "shared memory");
	return status ? status
		      : gpu_status(launch_kernel(shape, stream, exchange, map.map,
						 (int)cache->extent[1],
						 first_column / PROBE_COLUMNS, (uint4 *)out),
				   "exchange of pages");
}
