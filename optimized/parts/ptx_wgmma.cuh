/* ptx_wgmma.cuh - wgmma, Hopper's matrix products of a warpgroup: a part of ptx_sm90.cuh, which
 * includes it. Its descriptors are in descriptors.cuh.
 */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include <type_traits>

/* ---- wgmma: matrix products of a warpgroup, from shared memory ------------------------------- */
/* d[64, N] = a[64, 16] b[16, N], or added to what d holds. Thread t of the warpgroup has of d, with
 * w = t / 32, g = t % 32 / 4 and c = t % 4 (PTX ISA, "Register Fragments for wgmma.mma_async"):
 *   d[4 i], d[4 i + 1]      row 16 w + g,      columns 8 i + 2 c and the next
 *   d[4 i + 2], d[4 i + 3]  row 16 w + g + 8,  the same columns
 * An A in registers is spread as that of mma_m16n8k16, each warp with 16 rows: a[0] and a[1] rows g
 * and g + 8 of columns 2 c and the next, a[2] and a[3] of columns 2 c + 8 and the next.
 *
 * All asynchronous: wgmma_fence, any number of wgmma, wgmma_commit, wgmma_wait. Until that wait the
 * registers of d and of a are wgmma's.
 */

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

/* Operands: the first registers of d, as text and as a list. */
#define WGMMA_TEXT_4 "%0, %1, %2, %3"
#define WGMMA_TEXT_8                                                                               \
	WGMMA_TEXT_4 ", "                                                                          \
		     "%4, %5, %6, %7"
#define WGMMA_TEXT_16                                                                              \
	WGMMA_TEXT_8 ", "                                                                          \
		     "%8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_TEXT_32                                                                              \
	WGMMA_TEXT_16 ", "                                                                         \
		      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "     \
		      "%30, %31"
#define WGMMA_TEXT_64                                                                              \
	WGMMA_TEXT_32 ", "                                                                         \
		      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "     \
		      "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "     \
		      "%60, %61, %62, %63"
#define WGMMA_TEXT_128                                                                             \
	WGMMA_TEXT_64 ", "                                                                         \
		      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, "     \
		      "%78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, "     \
		      "%92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, "     \
		      "%105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, "   \
		      "%117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define WGMMA_4(d, i)   "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_8(d, i)   WGMMA_4(d, i), WGMMA_4(d, i + 4)
#define WGMMA_16(d, i)  WGMMA_8(d, i), WGMMA_8(d, i + 8)
#define WGMMA_32(d, i)  WGMMA_16(d, i), WGMMA_16(d, i + 16)
#define WGMMA_64(d, i)  WGMMA_32(d, i), WGMMA_32(d, i + 32)
#define WGMMA_128(d, i) WGMMA_64(d, i), WGMMA_64(d, i + 64)

/* One instruction: n columns, h = n / 2 registers of d; then the numbers of its other operands. */
#define WGMMA_SHARED(n, h, dtype, a_, b_, accumulate_, trans_a, trans_b)                           \
	asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, " accumulate_ ", 0;\n"                      \
		     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." dtype "." dtype             \
		     " {" WGMMA_TEXT_##h "}, " a_ ", " b_ ", p, 1, 1, " trans_a ", " trans_b       \
					 ";\n}"                                                    \
		     : WGMMA_##h(d, 0)                                                             \
		     : "l"(a), "l"(b), "r"((uint32_t)accumulate), "n"(TRANS_A), "n"(TRANS_B))
#define WGMMA_REGISTERS(n, h, dtype, a0, a1, a2, a3, b_, accumulate_, trans_b)                     \
	asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, " accumulate_ ", 0;\n"                      \
		     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." dtype "." dtype             \
		     " {" WGMMA_TEXT_##h "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b_                \
					 ", p, 1, 1, " trans_b ";\n}"                              \
		     : WGMMA_##h(d, 0)                                                             \
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                         \
		       "r"((uint32_t)accumulate), "n"(TRANS_B))

/* a and b from shared memory. TRANS_A, TRANS_B: it lies there M-major, N-major. `accumulate` false:
 * what d holds does not count. */
template <int N, typename T, bool TRANS_A = false, bool TRANS_B = false>
static __device__ __forceinline__ void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b,
					     bool accumulate)
{
	constexpr bool BF16 = std::is_same<T, __nv_bfloat16>::value;

	static_assert(BF16 || std::is_same<T, __half>::value, "wgmma of bf16 or fp16");
	static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 128 || N == 256,
		      "wgmma of 8, 16, 32, 64, 128 or 256 columns");
	if constexpr (N == 8 && BF16)
		WGMMA_SHARED(8, 4, "bf16", "%4", "%5", "%6", "%7", "%8");
	if constexpr (N == 8 && !BF16)
		WGMMA_SHARED(8, 4, "f16", "%4", "%5", "%6", "%7", "%8");
	if constexpr (N == 16 && BF16)
		WGMMA_SHARED(16, 8, "bf16", "%8", "%9", "%10", "%11", "%12");
	if constexpr (N == 16 && !BF16)
		WGMMA_SHARED(16, 8, "f16", "%8", "%9", "%10", "%11", "%12");
	if constexpr (N == 32 && BF16)
		WGMMA_SHARED(32, 16, "bf16", "%16", "%17", "%18", "%19", "%20");
	if constexpr (N == 32 && !BF16)
		WGMMA_SHARED(32, 16, "f16", "%16", "%17", "%18", "%19", "%20");
	if constexpr (N == 64 && BF16)
		WGMMA_SHARED(64, 32, "bf16", "%32", "%33", "%34", "%35", "%36");
	if constexpr (N == 64 && !BF16)
		WGMMA_SHARED(64, 32, "f16", "%32", "%33", "%34", "%35", "%36");
	if constexpr (N == 128 && BF16)
		WGMMA_SHARED(128, 64, "bf16", "%64", "%65", "%66", "%67", "%68");
	if constexpr (N == 128 && !BF16)
		WGMMA_SHARED(128, 64, "f16", "%64", "%65", "%66", "%67", "%68");
	if constexpr (N == 256 && BF16)
		WGMMA_SHARED(256, 128, "bf16", "%128", "%129", "%130", "%131", "%132");
	if constexpr (N == 256 && !BF16)
		WGMMA_SHARED(256, 128, "f16", "%128", "%129", "%130", "%131", "%132");
}

/* a from registers. */
template <int N, typename T, bool TRANS_B = false>
static __device__ __forceinline__ void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4],
						uint64_t b, bool accumulate)
{
	constexpr bool BF16 = std::is_same<T, __nv_bfloat16>::value;

	static_assert(BF16 || std::is_same<T, __half>::value, "wgmma of bf16 or fp16");
	static_assert(N == 8 || N == 16 || N == 32 || N == 64 || N == 128 || N == 256,
		      "wgmma of 8, 16, 32, 64, 128 or 256 columns");
	if constexpr (N == 8 && BF16)
		WGMMA_REGISTERS(8, 4, "bf16", "%4", "%5", "%6", "%7", "%8", "%9", "%10");
	if constexpr (N == 8 && !BF16)
		WGMMA_REGISTERS(8, 4, "f16", "%4", "%5", "%6", "%7", "%8", "%9", "%10");
	if constexpr (N == 16 && BF16)
		WGMMA_REGISTERS(16, 8, "bf16", "%8", "%9", "%10", "%11", "%12", "%13", "%14");
	if constexpr (N == 16 && !BF16)
		WGMMA_REGISTERS(16, 8, "f16", "%8", "%9", "%10", "%11", "%12", "%13", "%14");
	if constexpr (N == 32 && BF16)
		WGMMA_REGISTERS(32, 16, "bf16", "%16", "%17", "%18", "%19", "%20", "%21", "%22");
	if constexpr (N == 32 && !BF16)
		WGMMA_REGISTERS(32, 16, "f16", "%16", "%17", "%18", "%19", "%20", "%21", "%22");
	if constexpr (N == 64 && BF16)
		WGMMA_REGISTERS(64, 32, "bf16", "%32", "%33", "%34", "%35", "%36", "%37", "%38");
	if constexpr (N == 64 && !BF16)
		WGMMA_REGISTERS(64, 32, "f16", "%32", "%33", "%34", "%35", "%36", "%37", "%38");
	if constexpr (N == 128 && BF16)
		WGMMA_REGISTERS(128, 64, "bf16", "%64", "%65", "%66", "%67", "%68", "%69", "%70");
	if constexpr (N == 128 && !BF16)
		WGMMA_REGISTERS(128, 64, "f16", "%64", "%65", "%66", "%67", "%68", "%69", "%70");
	if constexpr (N == 256 && BF16)
		WGMMA_REGISTERS(256, 128, "bf16", "%128", "%129", "%130", "%131", "%132", "%133",
				"%134");
	if constexpr (N == 256 && !BF16)
		WGMMA_REGISTERS(256, 128, "f16", "%128", "%129", "%130", "%131", "%132", "%133",
				"%134");
}
