/* ptx_sm90.cuh - the PTX instructions of compute capability 9.0 that CUDA C has no name for: one
 * function per instruction, no kernel logic. The first group is empty on older GPUs; the others are
 * for code that is built for 9.0 alone.
 */
#pragma once

#include <stdint.h>

#ifdef MLA_EMULATED
#include "emulator/sm90.cuh"
#else

/* ---- overlapping kernels: programmatic dependent launch -------------------------------------- */

/* Lets the next kernel of the stream start as soon as there is room for its blocks, if it was
 * launched early. */
static __device__ __forceinline__ void let_next_start()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Waits until all that the kernels before wrote is there. Before this a kernel that was launched
 * early may touch its parameters and the plan (not its counters), which came by a copy; nothing
 * else. */
static __device__ __forceinline__ void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

#if __CUDA_ARCH__ >= 900

/* ---- clusters -------------------------------------------------------------------------------- */

/* This block's number in its cluster. */
static __device__ __forceinline__ uint32_t cluster_rank()
{
	uint32_t rank;

	asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
	return rank;
}

/* All threads of the cluster; what they wrote before, all see behind it. */
static __device__ __forceinline__ void cluster_sync()
{
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
	asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* The same place in shared memory of another block of the cluster. */
static __device__ __forceinline__ uint32_t map_to_rank(uint32_t address, uint32_t rank)
{
	uint32_t there;

	asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
		     : "=r"(there)
		     : "r"(address), "r"(rank));
	return there;
}

/* Four words from there. */
static __device__ __forceinline__ uint4 load_cluster(uint32_t address)
{
	uint4 x;

	asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
		     : "r"(address)
		     : "memory");
	return x;
}

/* ---- mbarriers: a barrier in shared memory that also counts bytes ---------------------------- */

/* So many arrivals end a phase. By one thread, then mbarrier_init_fence, then a barrier. */
static __device__ __forceinline__ void mbarrier_init(uint32_t barrier, uint32_t arrivals)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
		     : "memory");
}

/* Makes initialised mbarriers known to the cluster and to the copy engine. */
static __device__ __forceinline__ void mbarrier_init_fence()
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Arrives, and lets the phase end only when so many bytes have come besides. */
static __device__ __forceinline__ void mbarrier_expect(uint32_t barrier, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
		     "r"(bytes)
		     : "memory");
}

/* Has the phase of this parity ended? May wait a little. */
static __device__ __forceinline__ bool mbarrier_try(uint32_t barrier, uint32_t parity)
{
	uint32_t ended;

	asm volatile("{\n"
		     ".reg .pred p;\n"
		     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
		     "selp.u32 %0, 1, 0, p;\n"
		     "}"
		     : "=r"(ended)
		     : "r"(barrier), "r"(parity)
		     : "memory");
	return ended;
}

/* Waits for the end of the phase of this parity. With MLA_TRAPS (make debug) a wait that takes
 * seconds ends the kernel instead of hanging the GPU. */
static __device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity)
{
#ifdef MLA_TRAPS
	for (uint32_t tries = 0; !mbarrier_try(barrier, parity); tries++)
		if (tries > 1u << 22)
			asm volatile("trap;");
#else
	while (!mbarrier_try(barrier, parity))
		;
#endif
}

/* ---- proxies --------------------------------------------------------------------------------- */

/* What this thread wrote to shared memory before, the copy engine and wgmma see behind it. */
static __device__ __forceinline__ void fence_proxy_async()
{
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* ---- TMA: the copy engine -------------------------------------------------------------------- */

/* The box at these coordinates, innermost first, to shared memory (a multiple of 128 bytes). Its
 * bytes are told to the mbarrier. map: a const __grid_constant__ CUtensorMap, tensor_map.cuh. */
static __device__ __forceinline__ void tma_load_4d(uint32_t target, const void *map, int32_t c0,
						   int32_t c1, int32_t c2, int32_t c3,
						   uint32_t barrier)
{
	asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier)
		     : "memory");
}

#endif

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* ---- wgmma: matrix products of a warpgroup, from shared memory ------------------------------- */

/* Describes a K-major matrix, swizzled by 128 bytes, whose groups of 8 rows lie 1,024 bytes apart.
 * (PTX ISA, "Matrix Descriptor Format".) */
static __device__ __forceinline__ uint64_t wgmma_describe(uint32_t address)
{
	return (uint64_t)(address >> 4) | (uint64_t)(16 >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 |
	       1ull << 62;
}

/* Before the first wgmma, and whenever registers that it uses were touched. */
static __device__ __forceinline__ void wgmma_fence()
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit()
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Waits until at most N groups are still under way. */
template <int N> static __device__ __forceinline__ void wgmma_wait()
{
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* d[64, 128] += a[64, 16] * b[128, 16]^T, bf16; d is spread over the warpgroup. */
static __device__ __forceinline__ void wgmma_m64n128k16(float (&d)[64], uint64_t a, uint64_t b)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
		     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
		     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
		     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
		     "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
		     "%62, %63"
		     "}, %64, %65, p, 1, 1, 0, 0;\n}\n"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]),
		       "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
		       "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
		       "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
		       "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
		       "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
		       "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
		       "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
		       "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]),
		       "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
		       "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
		     : "l"(a), "l"(b));
}

#endif

#endif
