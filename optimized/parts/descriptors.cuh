/* descriptors.cuh - what tells wgmma where a matrix lies in shared memory. No PTX.
 */
#pragma once

#include <stdint.h>

/* A matrix in shared memory, `address` a multiple of 16 bytes, as rows of 16-byte units.
 *
 * swizzle: 128 or 0 bytes, what brought the matrix there swizzled by. With 128 the matrix is made
 * of 8 rows of 128 bytes, a multiple of 1,024 bytes; with 0 of 8 rows of 16 bytes, one behind the
 * other.
 *
 * K-major (k is contiguous; not transposed): `stride` bytes between groups of 8 rows. With swizzle
 * 128 `leading` is not looked at; with 0 it is the bytes between the two groups of 8 columns.
 * The next 16 columns lie 32 bytes further.
 * M- or N-major (transposed), swizzle 128: `leading` bytes between groups of 64 rows (of M or N),
 * `stride` bytes between groups of 8 values of k. (PTX ISA, "Matrix Descriptor Format".)
 */
static __device__ __forceinline__ uint64_t wgmma_describe(uint32_t address, uint32_t leading,
							  uint32_t stride, int swizzle)
{
	/* in a cluster the bits above name the block, and would be read as something else */
	const uint32_t start = address & 0x3ffff;

	return (uint64_t)(start >> 4 | (leading >> 4) << 16) |
	       (uint64_t)(stride >> 4 | (swizzle == 128 ? 1u << 30 : 0)) << 32;
}

/* The same matrix, so many bytes further. */
static __device__ __forceinline__ uint64_t wgmma_advance(uint64_t descriptor, uint32_t bytes)
{
	return descriptor + (bytes >> 4);
}
