/* sm80.cuh - the emulator's parts/ptx_sm80.cuh: the same functions without PTX. */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "emulator/window.cuh"

template <typename T> inline constexpr emulator::element emulator_element = emulator::BF16;
template <> inline constexpr emulator::element emulator_element<__half> = emulator::FP16;

template <typename T>
static __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
					 uint32_t b1)
{
	emulator::mma(d, a, b0, b1, emulator_element<T>);
}

static __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t address)
{
	emulator::ldmatrix(r, address, false);
}
static __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address)
{
	emulator::ldmatrix(r, address, true);
}

static __forceinline__ void cp_async_16(uint32_t address, const void *source, int bytes)
{
	emulator::copy_async(address, source, bytes);
}
static __forceinline__ void cp_async_commit()
{
	emulator::copy_commit();
}
template <int N> static __forceinline__ void cp_async_wait()
{
	emulator::copy_wait(N);
}

template <int threads> static __forceinline__ void barrier_sync(uint32_t barrier)
{
	emulator::barrier((int)barrier, threads);
}
template <int threads> static __forceinline__ void barrier_arrive(uint32_t barrier)
{
	emulator::barrier_arrive((int)barrier, threads);
}
template <int threads> static __forceinline__ bool barrier_or(uint32_t barrier, bool x)
{
	return emulator::barrier_or((int)barrier, threads, x);
}

/* ---- order in global memory ------------------------------------------------------------------ */

static __forceinline__ uint32_t fetch_add_acq_rel(uint32_t *counter, uint32_t added)
{
	return (uint32_t)emulator::atomic(counter, 4, emulator::ACQUIRE_RELEASE, emulator::add,
					  added, 0);
}
static __forceinline__ int32_t fetch_add_acq_rel(int32_t *counter, int32_t added)
{
	return (int32_t)fetch_add_acq_rel((uint32_t *)counter, (uint32_t)added);
}
static __forceinline__ void add_release(uint32_t *counter, uint32_t added)
{
	emulator::atomic(counter, 4, emulator::RELEASE, emulator::add, added, 0);
}
static __forceinline__ uint32_t load_acquire(const uint32_t *word)
{
	return (uint32_t)emulator::atomic_load(word, 4, emulator::ACQUIRE);
}
static __forceinline__ void store_release(uint32_t *word, uint32_t x)
{
	emulator::atomic_store(word, 4, emulator::RELEASE, x);
}

static __forceinline__ uint64_t global_timer()
{
	return emulator::global_timer();
}

/* The hardware looks it up in a table, up to 2 ulp off; here it is the nearest float. */
static inline float exp2_approx(float x)
{
	const float least = 1.17549435e-38f; /* .ftz: what is smaller is 0 */
	const float y = (float)exp2((double)(fabsf(x) < least ? 0.f * x : x));

	return y < least ? 0.f : y;
}
