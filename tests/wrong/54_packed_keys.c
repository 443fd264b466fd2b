/* 54_packed_keys.c - keys of ckv read as if they stood one behind the other.
 */
#include "../right/kit.h"

mla_status wrong_54_packed_keys(const mla_config *config, const mla_batch *batch,
				const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;

	twisted.ckv = kit_packed(&tensors->ckv);
	return kit_reference(config, batch, &twisted);
}
