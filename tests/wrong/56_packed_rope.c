/* 56_packed_rope.c - rows of q_pe read as if they stood one behind the other.
 */
#include "../right/kit.h"

mla_status wrong_56_packed_rope(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;

	if (tensors->q_pe.data)
		twisted.q_pe = kit_packed(&tensors->q_pe);
	return kit_reference(config, batch, &twisted);
}
