/* 59_requests_behind_255.c - requests behind the first 255 are not done.
 */
#include "../right/kit.h"

mla_status wrong_59_requests_behind_255(const mla_config *config, const mla_batch *batch,
					const mla_tensors *tensors)
{
	mla_batch twisted = *batch;

	twisted.batch_size = batch->batch_size < 255 ? batch->batch_size : 255;
	return kit_reference(config, &twisted, tensors);
}
