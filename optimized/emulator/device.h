/* device.h - CUDA C++ as a kernel file sees it when a C++ compiler builds it for this CPU:
 * qualifiers, types, indices, barriers, shuffles, atomics, launches. A CUDA thread is a fiber;
 * whatever waits for other threads is a call into the emulator, and so is, by the compiler's hooks,
 * every load and store (clocks.cpp).
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <type_traits>

#include <cuda_runtime_api.h>

/* Rungs that are made for Hopper show all of themselves. */
#define __CUDA_ARCH__             900
#define __CUDA_ARCH_FEAT_SM90_ALL 1
#define __CUDACC_VER_MAJOR__      13

/* ---- qualifiers ------------------------------------------------------------------------------ */

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __align__(n)    __attribute__((aligned(n)))
/* Static shared memory is what a kernel file has of static variables: the build gathers them in one
 * section, which is poisoned at the start of a block and swapped when another block goes on. So a
 * kernel file must not have other variables. */
#define __shared__ static
#define __restrict__ __restrict
#define warpSize 32

/* ---- types ----------------------------------------------------------------------------------- */

struct uint3 {
	unsigned x, y, z;
};
struct dim3 {
	unsigned x, y, z;
	constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
	{
	}
};
struct alignas(8) float2 {
	float x, y;
};
struct alignas(16) float4 {
	float x, y, z, w;
};
struct alignas(8) int2 {
	int x, y;
};
struct alignas(16) int4 {
	int x, y, z, w;
};
struct alignas(8) uint2 {
	unsigned x, y;
};
struct alignas(16) uint4 {
	unsigned x, y, z, w;
};
static __forceinline__ float2 make_float2(float x, float y)
{
	return {x, y};
}
static __forceinline__ float4 make_float4(float x, float y, float z, float w)
{
	return {x, y, z, w};
}
static __forceinline__ int2 make_int2(int x, int y)
{
	return {x, y};
}
static __forceinline__ int4 make_int4(int x, int y, int z, int w)
{
	return {x, y, z, w};
}
static __forceinline__ uint2 make_uint2(unsigned x, unsigned y)
{
	return {x, y};
}
static __forceinline__ uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
	return {x, y, z, w};
}

#include "emulator/numbers.h"

/* Two types as CUDA's overloads take them: what C's conversions make of both. */
template <typename A, typename B> static __forceinline__ std::common_type_t<A, B> min(A a, B b)
{
	typedef std::common_type_t<A, B> common;
	return (common)b < (common)a ? (common)b : (common)a;
}
template <typename A, typename B> static __forceinline__ std::common_type_t<A, B> max(A a, B b)
{
	typedef std::common_type_t<A, B> common;
	return (common)a < (common)b ? (common)b : (common)a;
}

/* ---- the thread that runs -------------------------------------------------------------------- */

/* Rewritten when another fiber goes on. For a fiber they never change, hence const: a value that a
 * compiler keeps in a register over a switch is still right. */
#ifdef EMULATOR_CORE
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
#else
extern const uint3 threadIdx, blockIdx;
extern const dim3 blockDim, gridDim;
#endif

namespace emulator
{
/* What kernels call through the functions below; each may run other threads first. */
void barrier(int id, int threads); /* threads 0: all of the block */
void barrier_arrive(int id, int threads);
bool barrier_or(int id, int threads, bool value);
int barrier_count(bool value);
void syncwarp(uint32_t mask);
uint64_t shuffle(uint32_t mask, uint64_t value, int source);
uint32_t ballot(uint32_t mask, bool value);
void threadfence(bool device);
[[noreturn]] void trap();
uint32_t shared_address(const void *pointer);

/* Global or shared memory, at once for all who look; orders as the name says. */
enum ordering { RELAXED, ACQUIRE, RELEASE, ACQUIRE_RELEASE };
typedef uint64_t (*update)(uint64_t old, uint64_t operand, uint64_t other);
uint64_t atomic(void *address, int bytes, ordering order, update change, uint64_t operand,
		uint64_t other);
uint64_t atomic_load(const void *address, int bytes, ordering order);
void atomic_store(void *address, int bytes, ordering order, uint64_t value);

struct launch {
	dim3 grid, block;
	size_t shared_bytes;
	int cluster;
	bool early;
	const void *kernel; /* for its name */
};
cudaError_t enqueue(const launch &how, cudaStream_t stream, std::function<void()> body);
cudaError_t allow_shared(const void *kernel, int bytes);
} // namespace emulator

static inline int emulator_lane()
{
	return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

/* ---- barriers, fences ------------------------------------------------------------------------ */

static __forceinline__ void __syncthreads()
{
	emulator::barrier(0, 0);
}
static __forceinline__ int __syncthreads_or(int x)
{
	return emulator::barrier_or(0, 0, x);
}
static __forceinline__ int __syncthreads_and(int x)
{
	return !emulator::barrier_or(0, 0, !x);
}
static __forceinline__ int __syncthreads_count(int x)
{
	return emulator::barrier_count(x);
}
static __forceinline__ void __syncwarp(unsigned mask = ~0u)
{
	emulator::syncwarp(mask);
}
static __forceinline__ void __threadfence()
{
	emulator::threadfence(true);
}
static __forceinline__ void __threadfence_block()
{
	emulator::threadfence(false);
}
static __forceinline__ void __trap()
{
	emulator::trap();
}
static __forceinline__ void __nanosleep(unsigned)
{
}
static __forceinline__ uint64_t __cvta_generic_to_shared(const void *pointer)
{
	return emulator::shared_address(pointer);
}

/* ---- shuffles, votes ------------------------------------------------------------------------- */

template <typename T>
static __forceinline__ T emulator_shuffle(unsigned mask, T x, int lane, int width)
{
	static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 4 or 8 bytes");
	uint64_t value = 0;

	(void)width;
	__builtin_memcpy(&value, &x, sizeof(T));
	value = emulator::shuffle(mask, value, lane);
	__builtin_memcpy(&x, &value, sizeof(T));
	return x;
}
template <typename T>
static __forceinline__ T __shfl_sync(unsigned mask, T x, int lane, int width = 32)
{
	return emulator_shuffle(mask, x, (emulator_lane() & ~(width - 1)) | (lane & (width - 1)),
				width);
}
template <typename T>
static __forceinline__ T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32)
{
	const int lane = emulator_lane(), from = lane ^ bits;

	return emulator_shuffle(mask, x, from / width > lane / width ? lane : from, width);
}
template <typename T>
static __forceinline__ T __shfl_up_sync(unsigned mask, T x, int by, int width = 32)
{
	const int lane = emulator_lane();

	return emulator_shuffle(mask, x, lane % width >= by ? lane - by : lane, width);
}
template <typename T>
static __forceinline__ T __shfl_down_sync(unsigned mask, T x, int by, int width = 32)
{
	const int lane = emulator_lane();

	return emulator_shuffle(mask, x, lane % width + by < width ? lane + by : lane, width);
}
static __forceinline__ unsigned __ballot_sync(unsigned mask, int x)
{
	return emulator::ballot(mask, x);
}
static __forceinline__ int __any_sync(unsigned mask, int x)
{
	return emulator::ballot(mask, x) != 0;
}
static __forceinline__ int __all_sync(unsigned mask, int x)
{
	return emulator::ballot(mask, !x) == 0;
}
static inline int __popc(unsigned x)
{
	return __builtin_popcount(x);
}
static inline int __ffs(int x)
{
	return __builtin_ffs(x);
}
static inline int __clz(int x)
{
	return x ? __builtin_clz((unsigned)x) : 32;
}

/* ---- atomics, relaxed as CUDA's are ---------------------------------------------------------- */

template <typename T> static __forceinline__ uint64_t emulator_bits(T x)
{
	uint64_t bits = 0;

	__builtin_memcpy(&bits, &x, sizeof(T));
	return bits;
}
template <typename T> static __forceinline__ T emulator_value(uint64_t bits)
{
	T x;

	__builtin_memcpy(&x, &bits, sizeof(T));
	return x;
}
template <typename T, typename F> static __forceinline__ T emulator_atomic(T *address, T x, F)
{
	const emulator::update change = [](uint64_t old, uint64_t operand, uint64_t) {
		return emulator_bits<T>(F()(emulator_value<T>(old), emulator_value<T>(operand)));
	};

	return emulator_value<T>(emulator::atomic(address, sizeof(T), emulator::RELAXED, change,
						  emulator_bits(x), 0));
}
struct emulator_add {
	template <typename T> T operator()(T a, T b) const
	{
		return (T)(a + b);
	}
};
struct emulator_max {
	template <typename T> T operator()(T a, T b) const
	{
		return a < b ? b : a;
	}
};
struct emulator_min {
	template <typename T> T operator()(T a, T b) const
	{
		return b < a ? b : a;
	}
};
struct emulator_or {
	template <typename T> T operator()(T a, T b) const
	{
		return a | b;
	}
};
struct emulator_second {
	template <typename T> T operator()(T, T b) const
	{
		return b;
	}
};
template <typename T> struct emulator_same {
	typedef T type; /* takes what converts to T */
};
template <typename T>
static __forceinline__ T atomicAdd(T *address, typename emulator_same<T>::type x)
{
	return emulator_atomic(address, (T)x, emulator_add());
}
template <typename T>
static __forceinline__ T atomicMax(T *address, typename emulator_same<T>::type x)
{
	return emulator_atomic(address, (T)x, emulator_max());
}
template <typename T>
static __forceinline__ T atomicMin(T *address, typename emulator_same<T>::type x)
{
	return emulator_atomic(address, (T)x, emulator_min());
}
template <typename T>
static __forceinline__ T atomicOr(T *address, typename emulator_same<T>::type x)
{
	return emulator_atomic(address, (T)x, emulator_or());
}
template <typename T>
static __forceinline__ T atomicExch(T *address, typename emulator_same<T>::type x)
{
	return emulator_atomic(address, (T)x, emulator_second());
}
template <typename T>
static __forceinline__ T atomicCAS(T *address, typename emulator_same<T>::type compare,
				   typename emulator_same<T>::type x)
{
	const emulator::update change = [](uint64_t old, uint64_t expected, uint64_t value) {
		return old == expected ? value : old;
	};

	return emulator_value<T>(emulator::atomic(address, sizeof(T), emulator::RELAXED, change,
						  emulator_bits((T)compare), emulator_bits((T)x)));
}

/* ---- loads by name --------------------------------------------------------------------------- */

template <typename T> static __forceinline__ T __ldg(const T *pointer)
{
	return *pointer;
}
template <typename T> static __forceinline__ T __ldcg(const T *pointer)
{
	return *pointer;
}
template <typename T> static __forceinline__ T __ldcs(const T *pointer)
{
	return *pointer;
}
template <typename T>
static __forceinline__ void __stcg(T *pointer, typename emulator_same<T>::type x)
{
	*pointer = x;
}

/* ---- launches -------------------------------------------------------------------------------- */

enum cudaLaunchAttributeID {
	cudaLaunchAttributeClusterDimension = 4,
	cudaLaunchAttributeProgrammaticStreamSerialization = 6
};
struct cudaLaunchAttribute {
	cudaLaunchAttributeID id;
	struct {
		struct {
			unsigned x, y, z;
		} clusterDim;
		int programmaticStreamSerializationAllowed;
	} val;
};
struct cudaLaunchConfig_t {
	dim3 gridDim, blockDim;
	size_t dynamicSmemBytes;
	cudaStream_t stream;
	cudaLaunchAttribute *attrs;
	unsigned numAttrs;
};
template <typename... P, typename... A>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...),
				      const A &...arguments)
{
	emulator::launch how = {c->gridDim, c->blockDim, c->dynamicSmemBytes,
				1,          false,       (const void *)kernel};

	for (unsigned i = 0; i < c->numAttrs; i++)
		if (c->attrs[i].id == cudaLaunchAttributeClusterDimension)
			how.cluster = (int)c->attrs[i].val.clusterDim.x;
		else
			how.early = c->attrs[i].val.programmaticStreamSerializationAllowed;
	/* It reads the arguments from the host's memory, which a kernel must not: so it stays a
	 * function of its own, that is not looked at. */
	return emulator::enqueue(
		how, c->stream, [=]() __attribute__((noinline, used, no_sanitize("thread"))) {
			kernel(arguments...);
		});
}
template <typename F>
static cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute, int bytes)
{
	return emulator::allow_shared((const void *)kernel, bytes);
}
template <typename F> static cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *, F *)
{
	return cudaSuccess;
}
