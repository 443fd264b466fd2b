/* 14_no_rope.c - scores from the latent alone.
 */
#include "../right/kit.h"

mla_status wrong_14_no_rope(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.head_dim_kpe = 0;
	return kit_reference(&twisted, batch, tensors);
}
