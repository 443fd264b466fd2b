/* 68_page_id_16_bits.c - page ids cut down to 16 bits.
 */
#include "../right/kit.h"

mla_status wrong_68_page_id_16_bits(const mla_config *config, const mla_batch *batch,
				    const mla_tensors *tensors)
{
	return kit_reference_masked(config, batch, tensors, 0xffff);
}
