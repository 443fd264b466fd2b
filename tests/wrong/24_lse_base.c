/* 24_lse_base.c - natural for base 2 and the reverse.
 */
#include "../right/kit.h"

mla_status wrong_24_lse_base(const mla_config *config, const mla_batch *batch,
			     const mla_tensors *tensors)
{
	mla_config twisted = *config;

	twisted.lse_base = config->lse_base == MLA_LSE_BASE2 ? MLA_LSE_NATURAL : MLA_LSE_BASE2;
	return kit_reference(&twisted, batch, tensors);
}
