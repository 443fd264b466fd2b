/* ptx_sm90.cuh - the PTX instructions of compute capability 9.0 that CUDA C has no name for: one
 * function per instruction, no kernel logic. The first group is empty on older GPUs; the others are
 * for code that is built for 9.0 alone. The compiler's pass for the host reads kernels, too, and so
 * finds all of them.
 *
 * Shared memory is named by 32-bit addresses (shared_address). Those of a cluster (map_to_rank) are
 * good for functions that say so.
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

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

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

/* The two halves of cluster_sync: what all threads of the cluster wrote before they arrived, all
 * see behind their wait. Between the two a thread may do what needs nobody else. */
static __device__ __forceinline__ void cluster_arrive()
{
	asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

/* Arrives without a word about memory: where only the presence of the others matters. */
static __device__ __forceinline__ void cluster_arrive_relaxed()
{
	asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

static __device__ __forceinline__ void cluster_wait()
{
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

/* Four words to there, 16-byte aligned. Seen behind the next cluster_sync. */
static __device__ __forceinline__ void store_cluster(uint32_t address, uint4 x)
{
	asm volatile("st.shared::cluster.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x.x),
		     "r"(x.y), "r"(x.z), "r"(x.w)
		     : "memory");
}

/* The same without waiting: its 16 bytes are told to an mbarrier of the block that owns the
 * address, who waits there. Both addresses come from map_to_rank with one rank. */
static __device__ __forceinline__ void store_async_cluster(uint32_t address, uint4 x,
							   uint32_t barrier)
{
	asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 "
		     "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(address),
		     "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w), "r"(barrier)
		     : "memory");
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

/* Arrives `count` times. What this thread wrote before, who waits for the phase sees. */
static __device__ __forceinline__ void mbarrier_arrive(uint32_t barrier, uint32_t count = 1)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(count)
		     : "memory");
}

/* Arrives if `yes`. A predicate, because a branch would cut a chain of wgmma in two. */
static __device__ __forceinline__ void mbarrier_arrive_if(bool yes, uint32_t barrier)
{
	asm volatile("{\n"
		     ".reg .pred p;\n"
		     "setp.ne.u32 p, %1, 0;\n"
		     "@p mbarrier.arrive.shared::cta.b64 _, [%0];\n"
		     "}" ::"r"(barrier),
		     "r"((uint32_t)yes)
		     : "memory");
}

/* Arrives at an mbarrier of any block of the cluster (map_to_rank). Who waits for the phase with
 * mbarrier_wait_cluster sees what this thread wrote before. */
static __device__ __forceinline__ void mbarrier_arrive_cluster(uint32_t barrier, uint32_t count = 1)
{
	asm volatile(
		"mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0], %1;" ::"r"(barrier),
		"r"(count)
		: "memory");
}

/* The same without a word about what this thread wrote or read. */
static __device__ __forceinline__ void mbarrier_arrive_cluster_relaxed(uint32_t barrier,
								       uint32_t count = 1)
{
	asm volatile(
		"mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%0], %1;" ::"r"(barrier),
		"r"(count)
		: "memory");
}

/* Has the phase of this parity ended? Answers at once. */
static __device__ __forceinline__ bool mbarrier_test(uint32_t barrier, uint32_t parity)
{
	uint32_t ended;

	asm volatile("{\n"
		     ".reg .pred p;\n"
		     "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
		     "selp.u32 %0, 1, 0, p;\n"
		     "}"
		     : "=r"(ended)
		     : "r"(barrier), "r"(parity)
		     : "memory");
	return ended;
}

/* The same, and behind a yes this thread sees what arrivals from other blocks told of. */
static __device__ __forceinline__ bool mbarrier_test_cluster(uint32_t barrier, uint32_t parity)
{
	uint32_t ended;

	asm volatile("{\n"
		     ".reg .pred p;\n"
		     "mbarrier.test_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
		     "selp.u32 %0, 1, 0, p;\n"
		     "}"
		     : "=r"(ended)
		     : "r"(barrier), "r"(parity)
		     : "memory");
	return ended;
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

/* mbarrier_try that sees what arrivals from other blocks (mbarrier_arrive_cluster) told of. */
static __device__ __forceinline__ bool mbarrier_try_cluster(uint32_t barrier, uint32_t parity)
{
	uint32_t ended;

	asm volatile("{\n"
		     ".reg .pred p;\n"
		     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
		     "selp.u32 %0, 1, 0, p;\n"
		     "}"
		     : "=r"(ended)
		     : "r"(barrier), "r"(parity)
		     : "memory");
	return ended;
}

/* mbarrier_wait of that kind. */
static __device__ __forceinline__ void mbarrier_wait_cluster(uint32_t barrier, uint32_t parity)
{
#ifdef MLA_TRAPS
	for (uint32_t tries = 0; !mbarrier_try_cluster(barrier, parity); tries++)
		if (tries > 1u << 22)
			asm volatile("trap;");
#else
	while (!mbarrier_try_cluster(barrier, parity))
		;
#endif
}

/* ---- proxies --------------------------------------------------------------------------------- */

/* What this thread wrote to shared memory before, the copy engine and wgmma see behind it. */
static __device__ __forceinline__ void fence_proxy_async()
{
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* The same of global memory: before the copy engine reads what this thread wrote, or acquired. */
static __device__ __forceinline__ void fence_proxy_async_global()
{
	asm volatile("fence.proxy.async.global;" ::: "memory");
}

/* ---- TMA: the copy engine -------------------------------------------------------------------- */

/* How long lines are to stay in the L2 cache: policies for the loads below. */
static __device__ __forceinline__ uint64_t l2_evict_first()
{
	uint64_t policy;

	asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

static __device__ __forceinline__ uint64_t l2_evict_normal()
{
	uint64_t policy;

	asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

static __device__ __forceinline__ uint64_t l2_evict_last()
{
	uint64_t policy;

	asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

/* Fetches a tensor map, so that the first load does not wait for it. */
static __device__ __forceinline__ void prefetch_tensor_map(const void *map)
{
	asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* Brings global memory into the L2 cache: start and size are multiples of 16 bytes. */
static __device__ __forceinline__ void prefetch_l2(const void *start, uint32_t bytes)
{
	asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(start), "r"(bytes)
		     : "memory");
}

/* The box at these coordinates, innermost first, to shared memory (a multiple of 128 bytes; of
 * 1,024 if the map swizzles by 128). The first coordinate is a multiple of 16 bytes, or the
 * hardware calls it an illegal instruction. What lies outside of the tensor comes as zeros. The
 * box's bytes are told to the mbarrier. map: a const __grid_constant__ CUtensorMap, tensor_map.cuh.
 */
static __device__ __forceinline__ void tma_load_2d(uint32_t target, const void *map, int32_t c0,
						   int32_t c1, uint32_t barrier)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(barrier)
		     : "memory");
}

static __device__ __forceinline__ void tma_load_3d(uint32_t target, const void *map, int32_t c0,
						   int32_t c1, int32_t c2, uint32_t barrier)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(barrier)
		     : "memory");
}

static __device__ __forceinline__ void tma_load_4d(uint32_t target, const void *map, int32_t c0,
						   int32_t c1, int32_t c2, int32_t c3,
						   uint32_t barrier)
{
	asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier)
		     : "memory");
}

/* The same with a policy for the L2 cache. */
static __device__ __forceinline__ void tma_load_2d_hint(uint32_t target, const void *map,
							int32_t c0, int32_t c1, uint32_t barrier,
							uint64_t policy)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(barrier), "l"(policy)
		     : "memory");
}

static __device__ __forceinline__ void tma_load_3d_hint(uint32_t target, const void *map,
							int32_t c0, int32_t c1, int32_t c2,
							uint32_t barrier, uint64_t policy)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes.L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(barrier), "l"(policy)
		     : "memory");
}

static __device__ __forceinline__ void tma_load_4d_hint(uint32_t target, const void *map,
							int32_t c0, int32_t c1, int32_t c2,
							int32_t c3, uint32_t barrier,
							uint64_t policy)
{
	asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes.L2::cache_hint [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier), "l"(policy)
		     : "memory");
}

/* The same to every block of the cluster whose bit the mask has: to the same place in each, and the
 * bytes are told to the mbarrier at the same place in each. */
static __device__ __forceinline__ void tma_multicast_2d(uint32_t target, const void *map,
							int32_t c0, int32_t c1, uint32_t barrier,
							uint16_t mask, uint64_t policy)
{
	asm volatile(
		"cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx"
		"::bytes.multicast::cluster.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5, %6;" ::
			"r"(target),
		"l"(map), "r"(c0), "r"(c1), "r"(barrier), "h"(mask), "l"(policy)
		: "memory");
}

static __device__ __forceinline__ void tma_multicast_3d(uint32_t target, const void *map,
							int32_t c0, int32_t c1, int32_t c2,
							uint32_t barrier, uint16_t mask,
							uint64_t policy)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes.multicast::cluster.L2::cache_hint [%0], [%1, {%2, %3, %4}], [%5], "
		     "%6, %7;" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(barrier), "h"(mask), "l"(policy)
		     : "memory");
}

static __device__ __forceinline__ void tma_multicast_4d(uint32_t target, const void *map,
							int32_t c0, int32_t c1, int32_t c2,
							int32_t c3, uint32_t barrier, uint16_t mask,
							uint64_t policy)
{
	asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx"
		     "::bytes.multicast::cluster.L2::cache_hint [%0], [%1, {%2, %3, %4, %5}], "
		     "[%6], %7, %8;" ::"r"(target),
		     "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier), "h"(mask),
		     "l"(policy)
		     : "memory");
}

/* The box at these coordinates from shared memory (as tma_load_4d would have brought it), in this
 * thread's open group; what lies outside of the tensor is not written. */
static __device__ __forceinline__ void tma_store_4d(const void *map, int32_t c0, int32_t c1,
						    int32_t c2, int32_t c3, uint32_t source)
{
	asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group "
		     "[%0, {%1, %2, %3, %4}], [%5];" ::"l"(map),
		     "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(source)
		     : "memory");
}

/* ---- copies in bulk: the copy engine without a map ------------------------------------------- */
/* Addresses and bytes are multiples of 16. The engine reads what fence_proxy_async let it see. */

/* Global to shared memory; the bytes are told to the mbarrier. */
static __device__ __forceinline__ void copy_bulk_load(uint32_t target, const void *source,
						      uint32_t bytes, uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1], %2, [%3];" ::"r"(target),
		     "l"(source), "r"(bytes), "r"(barrier)
		     : "memory");
}

/* This block's shared memory to another's of the cluster; the bytes are told to an mbarrier of that
 * block. target and barrier come from map_to_rank with one rank. */
static __device__ __forceinline__ void copy_bulk_cluster(uint32_t target, uint32_t source,
							 uint32_t bytes, uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes "
		     "[%0], [%1], %2, [%3];" ::"r"(target),
		     "r"(source), "r"(bytes), "r"(barrier)
		     : "memory");
}

/* Shared to global memory, in this thread's open group. */
static __device__ __forceinline__ void copy_bulk_store(void *target, uint32_t source,
						       uint32_t bytes)
{
	asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(target),
		     "r"(source), "r"(bytes)
		     : "memory");
}

/* Closes this thread's group of stores (copy_bulk_store, tma_store_4d). */
static __device__ __forceinline__ void bulk_commit()
{
	asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Waits until at most N of this thread's groups are still under way: the others' bytes are there.
 */
template <int N> static __device__ __forceinline__ void bulk_wait()
{
	asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory");
}

/* Waits only until shared memory was read, and may be written again. */
template <int N> static __device__ __forceinline__ void bulk_wait_read()
{
	asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}

/* ---- shared memory from registers, one thread of a warp -------------------------------------- */

/* Four 8x8 matrices of 16-bit elements, spread as ldmatrix_x4 has them; lane l names row l % 8 of
 * matrix l / 8. */
static __device__ __forceinline__ void stmatrix_x4(uint32_t address, const uint32_t (&r)[4])
{
	asm volatile(
		"stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
		"r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
		: "memory");
}

/* The same, each matrix transposed on the way. */
static __device__ __forceinline__ void stmatrix_x4_trans(uint32_t address, const uint32_t (&r)[4])
{
	asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
			     address),
		     "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
		     : "memory");
}

/* True in one lane of a full warp, whichever. */
static __device__ __forceinline__ bool elect_one()
{
	uint32_t elected;

	asm volatile("{\n"
		     ".reg .pred p;\n"
		     "elect.sync _|p, 0xffffffff;\n"
		     "selp.u32 %0, 1, 0, p;\n"
		     "}"
		     : "=r"(elected)
		     :
		     : "memory");
	return elected;
}

#endif

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* ---- registers of a warpgroup ---------------------------------------------------------------- */

/* Registers a thread from here on, a multiple of 8 from 24 to 256; by all warps of a warpgroup.
 * More are waited for until other warpgroups gave as many back; less must be what the code below
 * needs, or ptxas ignores it. Both want __launch_bounds__. */
template <int N> static __device__ __forceinline__ void registers_more()
{
	asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> static __device__ __forceinline__ void registers_less()
{
	asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

#include "parts/ptx_wgmma.cuh"

#endif

#endif

#include "parts/descriptors.cuh"
