/* window.cuh - the emulator's parts/shared.cuh. */
#pragma once

#include "emulator/asynchronous.h"

namespace emulator
{
char *dynamic_shared(); /* of this thread's block */
}

template <typename T, int ALIGN = 16> static __forceinline__ T &dynamic_shared()
{
	static_assert(ALIGN <= 1024, "it begins at a multiple of 1,024");
	return *(T *)__builtin_assume_aligned(emulator::dynamic_shared(), ALIGN);
}

static __forceinline__ uint32_t shared_address(const void *pointer)
{
	return emulator::shared_address(pointer);
}
