/* shared.cuh - a block's shared memory: its dynamic part as a type, and addresses as PTX takes
 * them.
 */
#pragma once

#include <stdint.h>

#ifdef MLA_EMULATED
#include "emulator/window.cuh"
#else

/* The block's dynamic shared memory as a T, its start a multiple of ALIGN bytes. */
template <typename T, int ALIGN = 16> static __device__ __forceinline__ T &dynamic_shared()
{
	extern __shared__ __align__(ALIGN) char memory[];

	/* said again, or the compiler forgets it behind the reference */
	return *(T *)__builtin_assume_aligned(memory, ALIGN);
}

static __device__ __forceinline__ uint32_t shared_address(const void *pointer)
{
	return (uint32_t)__cvta_generic_to_shared(pointer);
}

#endif
