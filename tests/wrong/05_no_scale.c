/* 05_no_scale.c - scores are not scaled at all.
 */
#include "../right/kit.h"

mla_status wrong_05_no_scale(const mla_config *config, const mla_batch *batch,
			     const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.sm_scale = 1;
	return kit_reference(&twisted, batch, tensors);
}
