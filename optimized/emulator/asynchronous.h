/* asynchronous.h - what the twins of the PTX functions call (shared.cuh, sm80.cuh, sm90.cuh):
 * matrix instructions, copies, mbarriers, wgmma. Shared memory goes by address: block of the
 * cluster << 24 | offset, as shared::cluster addresses; a wgmma descriptor and an operand "in my
 * own block" take the offset alone.
 */
#pragma once

#include "emulator/device.h"

namespace emulator
{
enum element { BF16, FP16 };

static inline uint64_t add(uint64_t old, uint64_t added, uint64_t)
{
	return (uint32_t)(old + added);
}

/* ---- a warp at once -------------------------------------------------------------------------- */

void ldmatrix(uint32_t *r, uint32_t address, bool transposed); /* four 8x8, 16-bit elements */
void stmatrix(uint32_t address, const uint32_t *r, bool transposed);
void mma(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, element type); /* m16n8k16 */
bool elect();

/* ---- cp.async: groups of a thread ------------------------------------------------------------ */

void copy_async(uint32_t address, const void *source, int bytes); /* 16 bytes, the rest zero */
void copy_commit();
void copy_wait(int left);

/* ---- clusters -------------------------------------------------------------------------------- */

uint32_t cluster_rank();
uint32_t cluster_map(uint32_t address, uint32_t rank);
void cluster_arrive(ordering order); /* RELEASE or RELAXED */
void cluster_wait();
void load_shared(uint32_t address, void *value, int bytes);
void store_shared(uint32_t address, const void *value, int bytes);

/* ---- mbarriers ------------------------------------------------------------------------------- */

void mbarrier_init(uint32_t address, uint32_t count);
void mbarrier_init_fence();
void mbarrier_expect(uint32_t address, uint32_t bytes); /* and one arrival */
/* order: RELEASE or RELAXED; wide: for the cluster, else for the block, which orders nothing for
 * threads of another one */
void mbarrier_arrive(uint32_t address, uint32_t count, ordering order, bool wide);
/* wide: acquires what threads of other blocks released, too */
bool mbarrier_test(uint32_t address, uint32_t parity, bool wide);
void mbarrier_wait(uint32_t address, uint32_t parity, bool wide);

/* ---- the asynchronous proxy ------------------------------------------------------------------ */

enum proxy { GENERIC, ASYNC_SHARED, ASYNC_GLOBAL };
void fence_proxy_async(proxy to);

struct tensor_map_fields { /* what a CUtensorMap holds here; 16-bit elements */
	const char *data;
	uint64_t extent[5], stride[5]; /* stride[0] is that of dimension 1, bytes */
	uint32_t box[5];
	uint8_t rank, swizzle; /* swizzle: log2 of chunks of 16 bytes that change places: 0 to 3 */
	uint32_t magic;
};
/* to: the place in every block of the mask (0: the place itself); tells the mbarrier there. */
void tensor_load(uint32_t to, const void *map, int rank, const int32_t *at, uint32_t mbarrier,
		 uint32_t mask);
void tensor_store(const void *map, int rank, const int32_t *at, uint32_t from);
void bulk_load(uint32_t to, const void *from, uint32_t bytes, uint32_t mbarrier);
void bulk_cluster(uint32_t to, uint32_t from, uint32_t bytes, uint32_t mbarrier);
void bulk_store(void *to, uint32_t from, uint32_t bytes);
void bulk_commit();
void bulk_wait(int left, bool read); /* read: until shared memory has been read only */
void store_async(uint32_t to, const uint32_t *words, int count, uint32_t mbarrier);

/* ---- wgmma ----------------------------------------------------------------------------------- */

/* A in registers: they are looked at when the hardware may, which is until the wait. */
struct registers {
	const uint32_t *r[4];
};
struct operands {
	float *d; /* [n / 2] of this thread */
	int n;    /* columns */
	element type;
	const registers *a; /* NULL: from shared memory, desc_a */
	uint64_t desc_a, desc_b;
	bool transposed_a, transposed_b, accumulate;
};
void wgmma(const operands &operands);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int left);

/* ---- launches that overlap ------------------------------------------------------------------- */

void let_next_start();
void wait_for_previous();

uint64_t global_timer(); /* steps of the schedule */
} // namespace emulator
