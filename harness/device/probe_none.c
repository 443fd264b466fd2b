/* probe_none.c - stands in for probe.cu where programs are built without CUDA. */
#include "device/probe.h"

#include "lib/error.h"

mla_status probe_exchange(const mla_tensor *cache, int32_t first_column, void *out,
			  mla_stream stream)
{
	(void)cache;
	(void)first_column;
	(void)out;
	(void)stream;
	return mla_fail(MLA_NO_CUDA, "built without CUDA");
}
