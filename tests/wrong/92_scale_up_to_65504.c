/* 92_scale_up_to_65504.c - scale clamped to what fp16 holds.
 */
#include <math.h>

#include "../right/kit.h"

mla_status wrong_92_scale_up_to_65504(const mla_config *config, const mla_batch *batch,
				      const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.sm_scale = fmin(fmax(config->sm_scale, -65504), 65504);
	return kit_reference(&twisted, batch, tensors);
}
