/* 06_scale_tenth.c - the least error of the scale that a case with power must show.
 */
#include "../right/kit.h"

mla_status wrong_06_scale_tenth(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.sm_scale *= 0.9;
	return kit_reference(&twisted, batch, tensors);
}
