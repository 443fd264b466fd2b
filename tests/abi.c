/* abi.c - prints the layout of every public struct and the value of every public constant as JSON,
 * a line each. tests/test_python.py compares them with the mirrors in
 * harness/python/mla/structs.py.
 */
#include <stddef.h>
#include <stdio.h>

#include "mla.h"

struct field {
	const char *name;
	size_t offset, size;
};

/* The inside of an initialiser's braces. */
#define FIELD(type, name) #name, offsetof(type, name), sizeof(((type *)0)->name)
#define CONSTANT(name)    #name, name

static const struct field tensor[] = {
	{FIELD(mla_tensor, data)},   {FIELD(mla_tensor, dtype)},  {FIELD(mla_tensor, ndim)},
	{FIELD(mla_tensor, extent)}, {FIELD(mla_tensor, stride)}, {NULL, 0, 0},
};
static const struct field config[] = {
	{FIELD(mla_config, struct_size)},  {FIELD(mla_config, num_heads)},
	{FIELD(mla_config, head_dim_ckv)}, {FIELD(mla_config, head_dim_kpe)},
	{FIELD(mla_config, page_size)},    {FIELD(mla_config, causal)},
	{FIELD(mla_config, lse_base)},     {FIELD(mla_config, q_dtype)},
	{FIELD(mla_config, ckv_dtype)},    {FIELD(mla_config, kpe_dtype)},
	{FIELD(mla_config, out_dtype)},    {FIELD(mla_config, fixed_split)},
	{FIELD(mla_config, sm_scale)},     {NULL, 0, 0},
};
static const struct field batch[] = {
	{FIELD(mla_batch, struct_size)},
	{FIELD(mla_batch, batch_size)},
	{FIELD(mla_batch, qo_indptr)},
	{FIELD(mla_batch, kv_indptr)},
	{FIELD(mla_batch, kv_len)},
	{FIELD(mla_batch, q_pos0)},
	{NULL, 0, 0},
};
static const struct field device[] = {
	{FIELD(mla_device, struct_size)},
	{FIELD(mla_device, arch)},
	{FIELD(mla_device, sm_count)},
	{FIELD(mla_device, smem_per_block)},
	{NULL, 0, 0},
};
static const struct field capacity[] = {
	{FIELD(mla_capacity, struct_size)},
	{FIELD(mla_capacity, max_requests)},
	{FIELD(mla_capacity, max_queries)},
	{FIELD(mla_capacity, max_qo_len)},
	{FIELD(mla_capacity, max_kv_len)},
	{FIELD(mla_capacity, reserved)},
	{FIELD(mla_capacity, max_kv_tokens)},
	{FIELD(mla_capacity, max_pages)},
	{NULL, 0, 0},
};
static const struct field traits[] = {
	{FIELD(mla_traits, struct_size)},
	{FIELD(mla_traits, tile_rows)},
	{FIELD(mla_traits, kv_granule)},
	{FIELD(mla_traits, ctas_per_sm)},
	{FIELD(mla_traits, ctas_per_worker)},
	{FIELD(mla_traits, item_cost)},
	{FIELD(mla_traits, merge_cost)},
	{FIELD(mla_traits, merge)},
	{FIELD(mla_traits, align)},
	{FIELD(mla_traits, threads)},
	{NULL, 0, 0},
};
static const struct field kernel_info[] = {
	{FIELD(mla_kernel_info, struct_size)},
	{FIELD(mla_kernel_info, built)},
	{FIELD(mla_kernel_info, name)},
	{FIELD(mla_kernel_info, summary)},
	{FIELD(mla_kernel_info, arch)},
	{FIELD(mla_kernel_info, fixed_split)},
	{FIELD(mla_kernel_info, reserved)},
	{FIELD(mla_kernel_info, ideas)},
	{NULL, 0, 0},
};
static const struct field work[] = {
	{FIELD(mla_work, request)},
	{FIELD(mla_work, row_begin)},
	{FIELD(mla_work, row_end)},
	{FIELD(mla_work, kv_begin)},
	{FIELD(mla_work, kv_end)},
	{FIELD(mla_work, partial)},
	{FIELD(mla_work, q_begin)},
	{FIELD(mla_work, page_begin)},
	{FIELD(mla_work, q_pos0)},
	{FIELD(mla_work, reserved)},
	{NULL, 0, 0},
};
static const struct field merge_item[] = {
	{FIELD(mla_merge_item, row_begin)},
	{FIELD(mla_merge_item, rows)},
	{FIELD(mla_merge_item, partial)},
	{FIELD(mla_merge_item, num_splits)},
	{NULL, 0, 0},
};
static const struct field plan_info[] = {
	{FIELD(mla_plan_info, struct_size)},
	{FIELD(mla_plan_info, batch_size)},
	{FIELD(mla_plan_info, total_q)},
	{FIELD(mla_plan_info, num_workers)},
	{FIELD(mla_plan_info, num_items)},
	{FIELD(mla_plan_info, num_merges)},
	{FIELD(mla_plan_info, max_items)},
	{FIELD(mla_plan_info, max_merges)},
	{FIELD(mla_plan_info, partial_rows)},
	{FIELD(mla_plan_info, max_partial_rows)},
	{FIELD(mla_plan_info, blob_bytes)},
	{FIELD(mla_plan_info, scratch_bytes)},
	{FIELD(mla_plan_info, max_worker_cost)},
	{FIELD(mla_plan_info, mean_worker_cost)},
	{FIELD(mla_plan_info, kernel)},
	{FIELD(mla_plan_info, traits)},
	{NULL, 0, 0},
};
static const struct field tensors[] = {
	{FIELD(mla_tensors, struct_size)},
	{FIELD(mla_tensors, reserved)},
	{FIELD(mla_tensors, q_nope)},
	{FIELD(mla_tensors, q_pe)},
	{FIELD(mla_tensors, ckv)},
	{FIELD(mla_tensors, kpe)},
	{FIELD(mla_tensors, ckv_scale)},
	{FIELD(mla_tensors, kpe_scale)},
	{FIELD(mla_tensors, out)},
	{FIELD(mla_tensors, lse)},
	{FIELD(mla_tensors, kv_indices)},
	{FIELD(mla_tensors, num_kv_indices)},
	{FIELD(mla_tensors, scratch)},
	{FIELD(mla_tensors, scratch_bytes)},
	{NULL, 0, 0},
};
static const struct field merge_args[] = {
	{FIELD(mla_merge_args, struct_size)},
	{FIELD(mla_merge_args, lse_base)},
	{FIELD(mla_merge_args, states)},
	{FIELD(mla_merge_args, states_lse)},
	{FIELD(mla_merge_args, out)},
	{FIELD(mla_merge_args, lse)},
	{NULL, 0, 0},
};

static const struct {
	const char *name;
	size_t size;
	const struct field *fields;
} structs[] = {
	{"mla_tensor", sizeof(mla_tensor), tensor},
	{"mla_config", sizeof(mla_config), config},
	{"mla_batch", sizeof(mla_batch), batch},
	{"mla_device", sizeof(mla_device), device},
	{"mla_capacity", sizeof(mla_capacity), capacity},
	{"mla_traits", sizeof(mla_traits), traits},
	{"mla_kernel_info", sizeof(mla_kernel_info), kernel_info},
	{"mla_work", sizeof(mla_work), work},
	{"mla_merge_item", sizeof(mla_merge_item), merge_item},
	{"mla_plan_info", sizeof(mla_plan_info), plan_info},
	{"mla_tensors", sizeof(mla_tensors), tensors},
	{"mla_merge_args", sizeof(mla_merge_args), merge_args},
};

static const struct {
	const char *name;
	int value;
} constants[] = {
	{CONSTANT(MLA_OK)},          {CONSTANT(MLA_INVALID)},    {CONSTANT(MLA_REFUSED)},
	{CONSTANT(MLA_CAPACITY)},    {CONSTANT(MLA_NO_MEMORY)},  {CONSTANT(MLA_CUDA)},
	{CONSTANT(MLA_NO_CUDA)},     {CONSTANT(MLA_BF16)},       {CONSTANT(MLA_F16)},
	{CONSTANT(MLA_F32)},         {CONSTANT(MLA_E4M3)},       {CONSTANT(MLA_LSE_NATURAL)},
	{CONSTANT(MLA_LSE_BASE2)},   {CONSTANT(MLA_MERGE_NONE)}, {CONSTANT(MLA_MERGE_SEPARATE)},
	{CONSTANT(MLA_MERGE_FUSED)},
};

int main(void)
{
	for (size_t s = 0; s < sizeof(structs) / sizeof(structs[0]); s++) {
		printf("{\"struct\": \"%s\", \"size\": %zu, \"fields\": [", structs[s].name,
		       structs[s].size);
		for (const struct field *f = structs[s].fields; f->name; f++)
			printf("%s[\"%s\", %zu, %zu]", f == structs[s].fields ? "" : ", ", f->name,
			       f->offset, f->size);
		printf("]}\n");
	}
	for (size_t c = 0; c < sizeof(constants) / sizeof(constants[0]); c++)
		printf("{\"constant\": \"%s\", \"value\": %d}\n", constants[c].name,
		       constants[c].value);
	return 0;
}
