/* 04_scale_576.c - derives the scale from the dimensions of the cache.
 */
#include <math.h>

#include "../right/kit.h"

mla_status wrong_04_scale_576(const mla_config *config, const mla_batch *batch,
			      const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.sm_scale = 1 / sqrt(config->head_dim_ckv + config->head_dim_kpe);
	return kit_reference(&twisted, batch, tensors);
}
