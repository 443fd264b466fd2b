/* peak_none.c - stands in for peak.cu where programs are built without CUDA. */
#include "device/peak.h"

#include "lib/error.h"

static mla_status no_cuda(void)
{
	return mla_fail(MLA_NO_CUDA, "built without CUDA");
}

mla_status peak_read(const void *data, int64_t bytes, int32_t ctas_per_sm, uint32_t *sink,
		     mla_stream stream)
{
	(void)data;
	(void)bytes;
	(void)ctas_per_sm;
	(void)sink;
	(void)stream;
	return no_cuda();
}

mla_status peak_copy(void *to, const void *from, int64_t bytes, mla_stream stream)
{
	(void)to;
	(void)from;
	(void)bytes;
	(void)stream;
	return no_cuda();
}

mla_status peak_mma(int32_t rounds, float *sink, double *flop, mla_stream stream)
{
	(void)rounds;
	(void)sink;
	(void)flop;
	(void)stream;
	return no_cuda();
}

mla_status peak_wgmma(int32_t rounds, float *sink, double *flop, mla_stream stream)
{
	(void)rounds;
	(void)sink;
	(void)flop;
	(void)stream;
	return no_cuda();
}
