/* 91_queries_outermost.c - a query of q_nope begins where all heads of the one before end.
 */
#include "../right/kit.h"

mla_status wrong_91_queries_outermost(const mla_config *config, const mla_batch *batch,
				      const mla_tensors *tensors)
{
	mla_tensors twisted = *tensors;

	/* where heads lie further apart than queries, queries are taken to lie behind all heads */
	if (twisted.q_nope.stride[0] < twisted.q_nope.stride[1]) {
		const int64_t stride = twisted.q_nope.stride[0];

		twisted.q_nope.stride[1] = stride;
		twisted.q_nope.stride[0] = stride * config->num_heads;
	}
	return kit_reference(config, batch, &twisted);
}
