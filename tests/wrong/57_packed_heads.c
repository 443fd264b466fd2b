/* 57_packed_heads.c - the heads of a query stored one behind the other; queries lie where out says.
 */
#include "../right/kit.h"

mla_status wrong_57_packed_heads(const mla_config *config, const mla_batch *batch,
				 const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;

	twisted.out.stride[1] = kit_out_row_bytes(tensors);
	return kit_reference(config, batch, &twisted);
}
