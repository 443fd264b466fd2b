/* 63_absolute_scale.c - the scale without its sign.
 */
#include <math.h>

#include "../right/kit.h"

mla_status wrong_63_absolute_scale(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.sm_scale = fabs(config->sm_scale);
	return kit_reference(&twisted, batch, tensors);
}
