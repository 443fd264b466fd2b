/* peak.h - the kernels whose speed is a ceiling. Asynchronous in the stream; pointers
 * are device memory. peak_none.c stands in for peak.cu without nvcc.
 */
#ifndef MLA_DEVICE_PEAK_H
#define MLA_DEVICE_PEAK_H

#include "mla.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads all bytes (a multiple of 16) once. *sink is written, practically never. */
mla_status peak_read(const void *data, int64_t bytes, int32_t ctas_per_sm, uint32_t *sink,
		     mla_stream stream);
/* Copies with cudaMemcpyAsync on the device. */
mla_status peak_copy(void *to, const void *from, int64_t bytes, mla_stream stream);

/* Tensor cores busy with pseudo-random bf16 for so many rounds; *flop is what a launch does.
 * peak_wgmma refuses GPUs other than compute capability 9.0. */
mla_status peak_mma(int32_t rounds, float *sink, double *flop, mla_stream stream);
mla_status peak_wgmma(int32_t rounds, float *sink, double *flop, mla_stream stream);

#ifdef __cplusplus
}
#endif

#endif
