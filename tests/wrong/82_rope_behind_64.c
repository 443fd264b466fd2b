/* 82_rope_behind_64.c - rope behind the first 64 dimensions is left out.
 */
#include "../right/kit.h"

mla_status wrong_82_rope_behind_64(const mla_config *config, const mla_batch *batch,
				   const mla_tensors *tensors)
{
	mla_config twisted = *config;
	mla_tensors narrow = *tensors;

	if (config->head_dim_kpe > 64)
		narrow.q_pe.extent[2] = narrow.kpe.extent[2] = twisted.head_dim_kpe = 64;
	return kit_reference(&twisted, batch, &narrow);
}
