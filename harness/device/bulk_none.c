/* bulk_none.c - stands in for bulk.cu where programs are built without CUDA. */
#include "device/bulk.h"

#include "lib/error.h"

static mla_status no_cuda(void)
{
	return mla_fail(MLA_NO_CUDA, "built without CUDA");
}

mla_status bulk_fill(void *data, int64_t elements, uint64_t seed, mla_stream stream)
{
	(void)data;
	(void)elements;
	(void)seed;
	(void)stream;
	return no_cuda();
}

mla_status bulk_fill_pool(const struct bulk_pool *pool, mla_stream stream)
{
	(void)pool;
	(void)stream;
	return no_cuda();
}

mla_status bulk_add_checksum(const void *data, int64_t bytes, uint64_t *sum, mla_stream stream)
{
	(void)data;
	(void)bytes;
	(void)sum;
	(void)stream;
	return no_cuda();
}

mla_status bulk_compare(const struct bulk_comparison *comparison,
			struct bulk_difference *difference, mla_stream stream)
{
	(void)comparison;
	(void)difference;
	(void)stream;
	return no_cuda();
}

mla_status bulk_spin(double microseconds, mla_stream stream)
{
	(void)microseconds;
	(void)stream;
	return no_cuda();
}
