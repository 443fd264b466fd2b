/* sm90.cuh - the emulator's parts/ptx_sm90.cuh and ptx_wgmma.cuh: the same functions without PTX.
 */
#pragma once

#include "emulator/sm80.cuh"

static __forceinline__ void let_next_start()
{
	emulator::let_next_start();
}
static __forceinline__ void wait_for_previous()
{
	emulator::wait_for_previous();
}

/* ---- clusters -------------------------------------------------------------------------------- */

static __forceinline__ uint32_t cluster_rank()
{
	return emulator::cluster_rank();
}
static __forceinline__ void cluster_arrive()
{
	emulator::cluster_arrive(emulator::RELEASE);
}
static __forceinline__ void cluster_arrive_relaxed()
{
	emulator::cluster_arrive(emulator::RELAXED);
}
static __forceinline__ void cluster_wait()
{
	emulator::cluster_wait();
}
static __forceinline__ void cluster_sync()
{
	emulator::cluster_arrive(emulator::RELEASE);
	emulator::cluster_wait();
}
static __forceinline__ uint32_t map_to_rank(uint32_t address, uint32_t rank)
{
	return emulator::cluster_map(address, rank);
}
static __forceinline__ uint4 load_cluster(uint32_t address)
{
	uint4 x;

	emulator::load_shared(address, &x, 16);
	return x;
}
static __forceinline__ void store_cluster(uint32_t address, uint4 x)
{
	emulator::store_shared(address, &x, 16);
}
static __forceinline__ void store_async_cluster(uint32_t address, uint4 x, uint32_t barrier)
{
	const uint32_t words[4] = {x.x, x.y, x.z, x.w};

	emulator::store_async(address, words, 4, barrier);
}

/* ---- mbarriers ------------------------------------------------------------------------------- */

static __forceinline__ void mbarrier_init(uint32_t barrier, uint32_t arrivals)
{
	emulator::mbarrier_init(barrier, arrivals);
}
static __forceinline__ void mbarrier_init_fence()
{
	emulator::mbarrier_init_fence();
}
static __forceinline__ void mbarrier_expect(uint32_t barrier, uint32_t bytes)
{
	emulator::mbarrier_expect(barrier, bytes);
}
static __forceinline__ void mbarrier_arrive(uint32_t barrier, uint32_t count = 1)
{
	emulator::mbarrier_arrive(barrier, count, emulator::RELEASE, false);
}
static __forceinline__ void mbarrier_arrive_if(bool yes, uint32_t barrier)
{
	if (yes)
		emulator::mbarrier_arrive(barrier, 1, emulator::RELEASE, false);
}
static __forceinline__ void mbarrier_arrive_cluster(uint32_t barrier, uint32_t count = 1)
{
	emulator::mbarrier_arrive(barrier, count, emulator::RELEASE, true);
}
static __forceinline__ void mbarrier_arrive_cluster_relaxed(uint32_t barrier, uint32_t count = 1)
{
	emulator::mbarrier_arrive(barrier, count, emulator::RELAXED, true);
}
static __forceinline__ bool mbarrier_test(uint32_t barrier, uint32_t parity)
{
	return emulator::mbarrier_test(barrier, parity, false);
}
static __forceinline__ bool mbarrier_test_cluster(uint32_t barrier, uint32_t parity)
{
	return emulator::mbarrier_test(barrier, parity, true);
}
static __forceinline__ bool mbarrier_try(uint32_t barrier, uint32_t parity)
{
	return emulator::mbarrier_test(barrier, parity, false);
}
static __forceinline__ bool mbarrier_try_cluster(uint32_t barrier, uint32_t parity)
{
	return emulator::mbarrier_test(barrier, parity, true);
}
static __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity)
{
	emulator::mbarrier_wait(barrier, parity, false);
}
static __forceinline__ void mbarrier_wait_cluster(uint32_t barrier, uint32_t parity)
{
	emulator::mbarrier_wait(barrier, parity, true);
}

/* ---- proxies --------------------------------------------------------------------------------- */

static __forceinline__ void fence_proxy_async()
{
	emulator::fence_proxy_async(emulator::ASYNC_SHARED);
}
static __forceinline__ void fence_proxy_async_global()
{
	emulator::fence_proxy_async(emulator::ASYNC_GLOBAL);
}

/* ---- TMA ------------------------------------------------------------------------------------- */
/* Caches are not emulated. */

static __forceinline__ uint64_t l2_evict_first()
{
	return 0;
}
static __forceinline__ uint64_t l2_evict_normal()
{
	return 0;
}
static __forceinline__ uint64_t l2_evict_last()
{
	return 0;
}
static __forceinline__ void prefetch_tensor_map(const void *)
{
}
static __forceinline__ void prefetch_l2(const void *, uint32_t)
{
}

static __forceinline__ void tma_load_2d(uint32_t target, const void *map, int32_t c0, int32_t c1,
					uint32_t barrier)
{
	const int32_t at[] = {c0, c1};

	emulator::tensor_load(target, map, 2, at, barrier, 0);
}
static __forceinline__ void tma_load_2d_hint(uint32_t target, const void *map, int32_t c0,
					     int32_t c1, uint32_t barrier, uint64_t)
{
	tma_load_2d(target, map, c0, c1, barrier);
}
static __forceinline__ void tma_multicast_2d(uint32_t target, const void *map, int32_t c0,
					     int32_t c1, uint32_t barrier, uint16_t mask, uint64_t)
{
	const int32_t at[] = {c0, c1};

	emulator::tensor_load(target, map, 2, at, barrier, mask);
}
static __forceinline__ void tma_load_3d(uint32_t target, const void *map, int32_t c0, int32_t c1,
					int32_t c2, uint32_t barrier)
{
	const int32_t at[] = {c0, c1, c2};

	emulator::tensor_load(target, map, 3, at, barrier, 0);
}
static __forceinline__ void tma_load_3d_hint(uint32_t target, const void *map, int32_t c0,
					     int32_t c1, int32_t c2, uint32_t barrier, uint64_t)
{
	tma_load_3d(target, map, c0, c1, c2, barrier);
}
static __forceinline__ void tma_multicast_3d(uint32_t target, const void *map, int32_t c0,
					     int32_t c1, int32_t c2, uint32_t barrier,
					     uint16_t mask, uint64_t)
{
	const int32_t at[] = {c0, c1, c2};

	emulator::tensor_load(target, map, 3, at, barrier, mask);
}
static __forceinline__ void tma_load_4d(uint32_t target, const void *map, int32_t c0, int32_t c1,
					int32_t c2, int32_t c3, uint32_t barrier)
{
	const int32_t at[] = {c0, c1, c2, c3};

	emulator::tensor_load(target, map, 4, at, barrier, 0);
}
static __forceinline__ void tma_load_4d_hint(uint32_t target, const void *map, int32_t c0,
					     int32_t c1, int32_t c2, int32_t c3, uint32_t barrier,
					     uint64_t)
{
	tma_load_4d(target, map, c0, c1, c2, c3, barrier);
}
static __forceinline__ void tma_multicast_4d(uint32_t target, const void *map, int32_t c0,
					     int32_t c1, int32_t c2, int32_t c3, uint32_t barrier,
					     uint16_t mask, uint64_t)
{
	const int32_t at[] = {c0, c1, c2, c3};

	emulator::tensor_load(target, map, 4, at, barrier, mask);
}
static __forceinline__ void tma_store_4d(const void *map, int32_t c0, int32_t c1, int32_t c2,
					 int32_t c3, uint32_t source)
{
	const int32_t at[] = {c0, c1, c2, c3};

	emulator::tensor_store(map, 4, at, source);
}

static __forceinline__ void copy_bulk_load(uint32_t target, const void *source, uint32_t bytes,
					   uint32_t barrier)
{
	emulator::bulk_load(target, source, bytes, barrier);
}
static __forceinline__ void copy_bulk_cluster(uint32_t target, uint32_t source, uint32_t bytes,
					      uint32_t barrier)
{
	emulator::bulk_cluster(target, source, bytes, barrier);
}
static __forceinline__ void copy_bulk_store(void *target, uint32_t source, uint32_t bytes)
{
	emulator::bulk_store(target, source, bytes);
}
static __forceinline__ void bulk_commit()
{
	emulator::bulk_commit();
}
template <int N> static __forceinline__ void bulk_wait()
{
	emulator::bulk_wait(N, false);
}
template <int N> static __forceinline__ void bulk_wait_read()
{
	emulator::bulk_wait(N, true);
}

/* ---- a warp at once -------------------------------------------------------------------------- */

static __forceinline__ void stmatrix_x4(uint32_t address, const uint32_t (&r)[4])
{
	emulator::stmatrix(address, r, false);
}
static __forceinline__ void stmatrix_x4_trans(uint32_t address, const uint32_t (&r)[4])
{
	emulator::stmatrix(address, r, true);
}
static __forceinline__ bool elect_one()
{
	return emulator::elect();
}

/* A fiber has all the registers that it wants. */
template <int N> static __forceinline__ void registers_more()
{
}
template <int N> static __forceinline__ void registers_less()
{
}

/* ---- wgmma ----------------------------------------------------------------------------------- */

static __forceinline__ void wgmma_fence()
{
	emulator::wgmma_fence();
}
static __forceinline__ void wgmma_commit()
{
	emulator::wgmma_commit();
}
template <int N> static __forceinline__ void wgmma_wait()
{
	emulator::wgmma_wait(N);
}
template <int N, typename T, bool TRANS_A = false, bool TRANS_B = false>
static __forceinline__ void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate)
{
	emulator::wgmma({d, N, emulator_element<T>, nullptr, a, b, TRANS_A, TRANS_B, accumulate});
}
template <int N, typename T, bool TRANS_B = false>
static __forceinline__ void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,
				     bool accumulate)
{
	const emulator::registers r = {{&a[0], &a[1], &a[2], &a[3]}};

	emulator::wgmma({d, N, emulator_element<T>, &r, 0, b, false, TRANS_B, accumulate});
}
