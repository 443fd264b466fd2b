/* 83_part_of_second_tile.c - heads behind the first 64 are done by whole tiles alone.
 */
#include "../right/kit.h"

mla_status wrong_83_part_of_second_tile(const mla_config *config, const mla_batch *batch,
					const mla_tensors *tensors)
{
	kit_reference(config, batch, tensors);
	for (int64_t query = 0; query < kit_total_q(batch); query++)
		for (int64_t head = config->num_heads / 64 * 64;
		     head > 0 && head < config->num_heads; head++)
			kit_unwrite(tensors, query, head);
	return MLA_OK;
}
