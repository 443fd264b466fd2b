/* 60_requests_behind_1024.c - requests behind the first 1024 are not done.
 */
#include "../right/kit.h"

mla_status wrong_60_requests_behind_1024(const mla_config *config, const mla_batch *batch,
					 const mla_tensors *tensors)
{
	mla_batch twisted = *batch;

	twisted.batch_size = batch->batch_size < 1024 ? batch->batch_size : 1024;
	return kit_reference(config, &twisted, tensors);
}
