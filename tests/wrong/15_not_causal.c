/* 15_not_causal.c - every query sees every key.
 */
#include "../right/kit.h"

mla_status wrong_15_not_causal(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.causal = 0;
	return kit_reference(&twisted, batch, tensors);
}
