/* cudaTypedefs.h - types of the driver's functions. */
#pragma once

#include <cuda.h>

typedef CUresult (*PFN_cuTensorMapEncodeTiled_v12000)(
	CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *data,
	const cuuint64_t *extent, const cuuint64_t *stride, const cuuint32_t *box,
	const cuuint32_t *element_stride, CUtensorMapInterleave interleave,
	CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);
