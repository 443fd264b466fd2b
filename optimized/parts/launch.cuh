/* launch.cuh - how kernels are launched: the one place that does it, for any signature, with or
 * without clusters and programmatic dependent launch.
 */
#pragma once

#include "mla_kernel.h"
#include "parts/shared.cuh"

/* ---- on the host ----------------------------------------------------------------------------- */

struct launch_shape {
	int blocks, threads;
	int shared_bytes = 0; /* dynamic shared memory; above 48 KiB after allow_shared */
	int cluster = 1;      /* blocks of a cluster, a divisor of blocks */
	bool early = false;   /* may start before the kernel before it has ended: starts_early() */
};

/* Programmatic dependent launch is of compute capability 9.0 and up. A kernel that is launched
 * early has to call wait_for_previous (ptx_sm90.cuh), also where it has nothing to do. */
static inline bool starts_early(const mla_launch *launch)
{
	return launch->device->arch >= 90;
}

/* Arguments are converted to the kernel's parameters, tensor maps (const __grid_constant__
 * CUtensorMap) among them. */
template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch_kernel(const launch_shape &shape, cudaStream_t stream,
					void (*kernel)(Parameters...),
					const Arguments &...arguments)
{
	cudaLaunchAttribute attributes[2] = {};
	cudaLaunchConfig_t config = {};

	config.gridDim = dim3((unsigned)shape.blocks);
	config.blockDim = dim3((unsigned)shape.threads);
	config.dynamicSmemBytes = (size_t)shape.shared_bytes;
	config.stream = stream;
	config.attrs = attributes;
	if (shape.cluster > 1) {
		cudaLaunchAttribute &cluster = attributes[config.numAttrs++];

		cluster.id = cudaLaunchAttributeClusterDimension;
		cluster.val.clusterDim.x = (unsigned)shape.cluster;
		cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
	}
	if (shape.early) {
		cudaLaunchAttribute &early = attributes[config.numAttrs++];

		early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
		early.val.programmaticStreamSerializationAllowed = 1;
	}
	return cudaLaunchKernelEx(&config, kernel, arguments...);
}

/* Lets kernels take that much dynamic shared memory; loads their module, too. */
template <typename... Kernels> static inline cudaError_t allow_shared(int bytes, Kernels... kernels)
{
	cudaError_t error = cudaSuccess;

	((error = error ? error
			: cudaFuncSetAttribute(kernels, cudaFuncAttributeMaxDynamicSharedMemorySize,
					       bytes)),
	 ...);
	return error;
}
