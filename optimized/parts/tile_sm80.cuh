/* tile_sm80.cuh - the tile of 07_ldmatrix and 08_tall: 32 keys, swizzled, fetched by eight warps.
 * Where a chunk lies, how rows of q get there, and the worker's items; no arithmetic.
 *
 * A row is 576 dimensions: 72 chunks of 16 bytes, 9 x 128 bytes. Chunk c of row r lies at
 * c ^ (r % 8), so that eight rows of a matrix come from eight different bank groups without
 * padding.
 */
#pragma once

#include "parts/elements.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"

enum {
	THREADS = 256,
	WARPS = THREADS / 32,
	KEYS = 32,
	CKV = 512,
	DIMS = 576,
	MINE = KEYS / WARPS, /* keys of a tile that a warp fetches */
};

/* Byte offset of a 16-byte chunk in a swizzled tile. */
static __device__ __forceinline__ uint32_t swizzled(int row, int chunk)
{
	return (row * (DIMS / 8) + (chunk ^ row % 8)) * 16;
}

/* Starts the copies of ROWS rows of q to shared memory, a warp per row; rows beyond the item are
 * zero. Each lane works out one row's addresses; the warp passes them around. */
template <int ROWS>
static __device__ void copy_q(const mla_params &p, const mla_work &item, uint32_t q)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int row = min(item.row_begin + lane * WARPS + warp, item.row_end - 1);
	const int query = item.q_begin + row / p.num_heads, head = row % p.num_heads;
	const long long nope = (long long)row_of(p.q_nope, query, head);
	const long long pe = (long long)row_of(p.q_pe, query, head);

#pragma unroll
	for (int k = 0; k < ROWS / WARPS; k++) {
		const int r = k * WARPS + warp, bytes = item.row_begin + r < item.row_end ? 16 : 0;
		const char *source = (const char *)__shfl_sync(~0u, nope, k) + lane * 16;
		const char *rope = (const char *)__shfl_sync(~0u, pe, k) + lane * 16;
		const uint32_t target = q + swizzled(r, lane);

		cp_async_16(target, source, bytes);
		cp_async_16(target + 32 * 16, source + 32 * 16, bytes); /* same swizzle */
		if (lane < (DIMS - CKV) / 8)
			cp_async_16(q + swizzled(r, CKV / 8 + lane), rope, bytes);
	}
}

/* This worker's item i, to the warp's own copy in shared memory: its fields are read at many places
 * between instructions that the compiler may not move loads across. Nobody reads the last one any
 * more: a rung's attend() ends with a barrier. */
static __device__ void fetch_item(const mla_params &p, int i, mla_work &item)
{
	const int lane = threadIdx.x % 32;

	static_assert(sizeof(mla_work) <= 32 * 4, "a word per lane");
	if (lane < (int)(sizeof(mla_work) / 4))
		((int *)&item)[lane] = ((const int *)&p.items[i])[lane];
	__syncwarp();
}

/* This worker's items, one after the other; attend() does the one that lies in item. The first is
 * fetched while the kernel before may still run. */
template <typename Attend>
static __device__ __forceinline__ void each_item(const mla_params &p, mla_work &item, Attend attend)
{
	const int end = p.worker_begin[blockIdx.x + 1];
	int i = p.worker_begin[blockIdx.x];

	let_next_start();
	if (i < end)
		fetch_item(p, i, item);
	wait_for_previous();
	while (i < end) {
		attend();
		if (++i < end)
			fetch_item(p, i, item);
	}
}
