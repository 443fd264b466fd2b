/* 89_no_lse_no_out.c - nothing is written where no lse is wanted.
 */
#include "../right/kit.h"

mla_status wrong_89_no_lse_no_out(const mla_config *config, const mla_batch *batch,
				  const mla_tensors *tensors)
{
	return tensors->lse.data ? kit_reference(config, batch, tensors) : MLA_OK;
}
