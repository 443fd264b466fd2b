/* 10_planned.c - a plan for an invented kernel on an invented GPU, executed by the reference: tiles
 * of 16 rows, splits at multiples of 17 keys.
 */
#include "device/known.h"
#include "kit.h"

mla_status right_10_planned(const mla_config *config, const mla_batch *batch,
			    const mla_tensors *tensors)
{
	const mla_traits traits = {.struct_size = sizeof(traits),
				   .tile_rows = 16,
				   .kv_granule = 17,
				   .ctas_per_sm = 1,
				   .ctas_per_worker = 1,
				   .item_cost = 8,
				   .merge = MLA_MERGE_SEPARATE,
				   .align = 2};
	const mla_device device = known_with_sms(33);
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	mla_plan *plan = NULL;
	mla_status status = mla_capacity_of(config, batch, &capacity);

	if (!status)
		status = mla_plan_create_for_traits(&traits, config, &device, &capacity, &plan);
	if (!status)
		status = mla_plan_build(plan, batch);
	if (!status)
		status = mla_reference_plan(plan, tensors);
	mla_plan_destroy(plan);
	return status;
}
