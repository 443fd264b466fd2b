/* 55_packed_query.c - rows of q_nope read as if they stood one behind the other.
 */
#include "../right/kit.h"

mla_status wrong_55_packed_query(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;

	twisted.q_nope = kit_packed(&tensors->q_nope);
	return kit_reference(config, batch, &twisted);
}
