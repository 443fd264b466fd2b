/* ptx_sm80.cuh - the PTX instructions of compute capability 8.0 that CUDA C has no name for: one
 * function per instruction, no kernel logic.
 */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include "parts/shared.cuh"

#ifdef MLA_EMULATED
#include "emulator/sm80.cuh"
#else

/* ---- tensor cores: D = A B + D, m16n8k16, 16-bit inputs, f32 accumulators -------------------- */
/* Lane l holds, with g = l / 4 and t = l % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
 *   A  a[0] rows g,     columns 2t, 2t+1     a[1] row g + 8, the same columns
 *      a[2] rows g,     columns 2t+8, 2t+9   a[3] row g + 8
 *   B  b[0] k = 2t, 2t+1, column g           b[1] k = 2t+8, 2t+9
 *   D  d[0], d[1] row g, columns 2t, 2t+1    d[2], d[3] row g + 8
 */
template <typename T>
static __device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
						    uint32_t b0, uint32_t b1);

template <>
__device__ __forceinline__ void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
							    uint32_t b0, uint32_t b1)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
	    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma_m16n8k16<__half>(float (&d)[4], const uint32_t (&a)[4],
						     uint32_t b0, uint32_t b1)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
	    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* ---- shared memory ----------------------------------------------------------------------------
 */

/* Four 8x8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. */
static __device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}

/* The same, each matrix transposed on the way. */
static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}

/* ---- asynchronous copies, global to shared ----------------------------------------------------
 */

/* 16 bytes, past L1. bytes: 16, or 0 to write zeros and read nothing. */
static __device__ __forceinline__ void cp_async_16(uint32_t address, const void *source, int bytes)
{
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
		     :
		     : "r"(address), "l"(source), "r"(bytes)
		     : "memory");
}

static __device__ __forceinline__ void cp_async_commit()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most N of this thread's groups are still under way. */
template <int N> static __device__ __forceinline__ void cp_async_wait()
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- barriers -------------------------------------------------------------------------------- */

/* __syncthreads of `threads` threads, a multiple of 32, that name the same barrier, 1 to 15.
 * Barrier 0 is __syncthreads itself. */
template <int threads> static __device__ __forceinline__ void barrier_sync(uint32_t barrier)
{
	asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(threads) : "memory");
}

/* Arrives at such a barrier without waiting: `threads` counts those that arrive and those that wait
 * (barrier_sync). What this thread wrote before, they see. */
template <int threads> static __device__ __forceinline__ void barrier_arrive(uint32_t barrier)
{
	asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "n"(threads) : "memory");
}

/* barrier_sync that also tells all of them whether x was true in any. */
template <int threads> static __device__ __forceinline__ bool barrier_or(uint32_t barrier, bool x)
{
	uint32_t any;

	asm volatile("{\n"
		     ".reg .pred p, q;\n"
		     "setp.ne.u32 p, %1, 0;\n"
		     "barrier.cta.red.or.aligned.pred q, %2, %3, p;\n"
		     "selp.u32 %0, 1, 0, q;\n"
		     "}"
		     : "=r"(any)
		     : "r"((uint32_t)x), "r"(barrier), "n"(threads)
		     : "memory");
	return any;
}

/* ---- order in global memory: what blocks tell each other ------------------------------------- */
/* Each is of the calling thread alone: a barrier of the block stands before a release that speaks
 * for the block, and behind an acquire that the block relies on. */

/* Adds and returns what was there. What this thread knows was written before, whoever adds later
 * sees; what was written before earlier additions, this thread sees behind it. */
static __device__ __forceinline__ uint32_t fetch_add_acq_rel(uint32_t *counter, uint32_t added)
{
	uint32_t before;

	asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;"
		     : "=r"(before)
		     : "l"(counter), "r"(added)
		     : "memory");
	return before;
}

static __device__ __forceinline__ int32_t fetch_add_acq_rel(int32_t *counter, int32_t added)
{
	return (int32_t)fetch_add_acq_rel((uint32_t *)counter, (uint32_t)added);
}

/* Adds; what was written before, whoever acquires the sum or a later one sees. */
static __device__ __forceinline__ void add_release(uint32_t *counter, uint32_t added)
{
	asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(added)
		     : "memory");
}

/* The word; what was written before it was released, this thread sees behind it. */
static __device__ __forceinline__ uint32_t load_acquire(const uint32_t *word)
{
	uint32_t x;

	asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(word) : "memory");
	return x;
}

/* Writes the word; what was written before, whoever acquires it sees. */
static __device__ __forceinline__ void store_release(uint32_t *word, uint32_t x)
{
	asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(word), "r"(x) : "memory");
}

/* ---- time ------------------------------------------------------------------------------------ */

/* Nanoseconds, of a clock that all multiprocessors share. */
static __device__ __forceinline__ uint64_t global_timer()
{
	uint64_t now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	return now;
}

/* ---- exponentials -----------------------------------------------------------------------------
 */

/* 2^x, one instruction, 2 ulp; -inf gives 0. */
static __device__ __forceinline__ float exp2_approx(float x)
{
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

#endif
