/* 58_clears_spare_rows.c - all rows that out has are cleared at first, those behind the last query
 * too.
 */
#include <string.h>

#include "../right/kit.h"

mla_status wrong_58_clears_spare_rows(const mla_config *config, const mla_batch *batch,
				      const mla_tensors *tensors)
{
	for (int64_t query = 0; query < tensors->out.extent[0]; query++)
		for (int64_t head = 0; head < config->num_heads; head++)
			memset(kit_out(tensors, query, head), 0,
			       (size_t)kit_out_row_bytes(tensors));
	return kit_reference(config, batch, tensors);
}
