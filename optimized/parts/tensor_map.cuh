/* tensor_map.cuh - tensor maps for TMA: built on the host in a kernel's run(), from what the views
 * say, and kept while that stays the same.
 *
 *     struct keep { tensor_map ckv, kpe; };            fits mla_launch.keep
 *     prepare:  tensor_map_prepare();
 *     run:      keep *maps = (keep *)launch->keep;
 *               tensor_map_update(maps->ckv, shape);   encodes only if the shape is another one
 *               launch_kernel(..., maps->ckv.map);     const __grid_constant__ CUtensorMap
 */
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>
#include <string.h>

#include "mla_kernel.h"

/* A strided array of 16-bit elements and the box that one TMA instruction takes of it, innermost
 * dimension first. The innermost stride is an element; the others are multiples of 16 bytes. What
 * lies beyond the rank is not looked at. */
enum { TENSOR_MAP_RANK = 4 };
struct tensor_map_shape {
	const void *data; /* device memory, a multiple of 16 bytes */
	uint64_t extent[TENSOR_MAP_RANK];
	uint64_t stride[TENSOR_MAP_RANK - 1]; /* bytes, of dimensions 1, 2, 3 */
	uint32_t box[TENSOR_MAP_RANK];
	int32_t dtype;   /* MLA_BF16 or MLA_F16 */
	int16_t rank;    /* 1 to TENSOR_MAP_RANK; tma_load_4d takes maps of rank 4 */
	int16_t swizzle; /* bytes: 0, 32, 64 or 128 */
};

/* A map and what it was made of. All zero: none yet. */
struct tensor_map {
	CUtensorMap map; /* 64-byte aligned */
	tensor_map_shape shape;
};

static_assert(sizeof(tensor_map_shape) == 8 + 8 * 7 + 4 * 4 + 8, "no padding: compared as bytes");

/* The driver's encoder. A program that links no libcuda finds it through the runtime. */
inline PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder;

/* Fetches the encoder: for prepare(), because run() may stand in a capture. */
static inline cudaError_t tensor_map_prepare()
{
	void *found = NULL;
	cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
	const cudaError_t error = cudaGetDriverEntryPointByVersion(
		"cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#else
	const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found,
							  cudaEnableDefault, &result);
#endif

	if (error)
		return error;
	if (result != cudaDriverEntryPointSuccess)
		return cudaErrorNotSupported;
	__atomic_store_n(&tensor_map_encoder, (PFN_cuTensorMapEncodeTiled_v12000)found,
			 __ATOMIC_RELEASE);
	return cudaSuccess;
}

static inline CUtensorMapSwizzle tensor_map_swizzle(int32_t bytes)
{
	return bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
	       : bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
	       : bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
			     : CU_TENSOR_MAP_SWIZZLE_NONE;
}

/* cudaErrorInvalidValue: the driver takes no such map (an extent of 0, a stride that is no multiple
 * of 16 bytes, a box beyond 256), a rank that is none, or tensor_map_prepare was not called. */
static inline cudaError_t tensor_map_update(tensor_map &kept, const tensor_map_shape &shape)
{
	static const cuuint32_t every[TENSOR_MAP_RANK] = {1, 1, 1, 1};
	const PFN_cuTensorMapEncodeTiled_v12000 encode =
		__atomic_load_n(&tensor_map_encoder, __ATOMIC_ACQUIRE);

	if (!memcmp(&kept.shape, &shape, sizeof(shape)))
		return cudaSuccess;
	if (!encode || shape.rank < 1 || shape.rank > TENSOR_MAP_RANK)
		return cudaErrorInvalidValue;

	const CUresult result =
		encode(&kept.map,
		       shape.dtype == MLA_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
					       : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
		       (cuuint32_t)shape.rank, (void *)shape.data, (const cuuint64_t *)shape.extent,
		       (const cuuint64_t *)shape.stride, (const cuuint32_t *)shape.box, every,
		       CU_TENSOR_MAP_INTERLEAVE_NONE, tensor_map_swizzle(shape.swizzle),
		       CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);

	if (result) {
		memset(&kept, 0, sizeof(kept));
		return cudaErrorInvalidValue;
	}
	kept.shape = shape;
	return cudaSuccess;
}
