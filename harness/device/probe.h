/* probe.h - a kernel for what launch_kernel can do besides launching: a cluster, a tensor map, an
 * early start. Asynchronous in the stream; pointers are device memory. probe_none.c stands in for
 * probe.cu without nvcc.
 */
#ifndef MLA_DEVICE_PROBE_H
#define MLA_DEVICE_PROBE_H

#include "mla.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PROBE_COLUMNS = 64 };

/* Pages exchanged within pairs of blocks: out[p] = cache[p ^ 1][:, first_column ... + 64]. Each
 * block of a cluster of two fetches its own page by TMA, through a tensor map of the cache with
 * 128-byte swizzle, and writes the page that the other one holds. cache: bf16 or fp16 [pages,
 * page_size, dims], pages even, page_size at most 256, dims and first_column multiples of 64, any
 * strides that are multiples of 16 bytes. out: contiguous [pages, page_size, 64]. MLA_REFUSED below
 * compute capability 9.0. */
mla_status probe_exchange(const mla_tensor *cache, int32_t first_column, void *out,
			  mla_stream stream);

#ifdef __cplusplus
}
#endif

#endif
