/* 53_packed_lse.c - values of lse stored one behind the other, whatever its strides say.
 */
#include "../right/kit.h"

mla_status wrong_53_packed_lse(const mla_config *config, const mla_batch *batch,
			       const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;

	twisted.lse = kit_packed(&tensors->lse);
	return kit_reference(config, batch, &twisted);
}
