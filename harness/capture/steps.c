/* steps.c - the check of a capture's steps: their index arrays, the pages that requests need, and
 * that every step holds every layer.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/validate.h"

/* ---- index arrays --------------------------------------------------------------------------- */

/* Reads an int32 dataset of a step whole; *values is NULL if it is absent and may be. */
static mla_status read_index(struct capture *capture, const char *group,
			     const struct cap_rule *rule, int64_t *extent, int32_t **values)
{
	const struct cap_dataset *dataset;
	mla_status status = cap_take_by_rule(capture, group, rule, extent, &dataset);

	if (status || !dataset)
		return status;
	capture->index_bytes += dataset->bytes;
	status = cap_check_memory(capture, dataset->path, (double)capture->index_bytes);
	if (status)
		return status;
	*values = malloc(dataset->bytes + 1);
	return *values ? cap_dataset_read(capture, dataset, NULL, NULL, *values)
		       : cap_fail_memory(capture->path);
}

static mla_status check_offsets(const struct capture *capture, const char *group, const char *name,
				const int32_t *offsets, int64_t count)
{
	if (offsets[0])
		return cap_fail(capture->path, "%s/%s starts at %" PRId32 ", expected 0", group,
				name, offsets[0]);
	for (int64_t i = 0; i < count; i++)
		if (offsets[i + 1] < offsets[i])
			return cap_fail(capture->path,
					"%s/%s is not non-decreasing at %" PRId64 " (%" PRId32
					" -> %" PRId32 ")",
					group, name, i + 1, offsets[i], offsets[i + 1]);
	return MLA_OK;
}

/* ---- pages ---------------------------------------------------------------------------------- */

/* A page that a request needs, and where in kv_page_indices. */
struct use {
	int32_t page;
	int64_t entry;
};

static int compare_uses(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	if (x->page != y->page)
		return x->page < y->page ? -1 : 1;
	return x->entry < y->entry ? -1 : x->entry > y->entry;
}

static mla_status check_request_length(const struct capture *capture, const struct cap_step *step,
				       const char *group, int64_t request, int64_t *needed)
{
	const int64_t size = capture->config.page_size;
	const int64_t given = step->kv_indptr[request + 1] - step->kv_indptr[request];

	if (step->kv_len[request] < 0)
		return cap_fail(capture->path,
				"%s/kv_len[%" PRId64 "] = %" PRId32 ", expected 0 or more", group,
				request, step->kv_len[request]);
	*needed = ((int64_t)step->kv_len[request] + size - 1) / size;
	if (*needed > given)
		return cap_fail(capture->path,
				"%s/kv_len[%" PRId64 "] = %" PRId32 " needs %" PRId64
				" pages of %" PRId64 ", kv_indptr gives %" PRId64,
				group, request, step->kv_len[request], *needed, size, given);
	return MLA_OK;
}

/* The page entries that a request reads, which uses receives. */
static mla_status check_request_pages(const struct capture *capture, const struct cap_step *step,
				      const char *group, int64_t request, struct use *uses,
				      int64_t *count)
{
	const int64_t pages = capture->extent[DIM_PAGES], first = step->kv_indptr[request];
	mla_status status = check_request_length(capture, step, group, request, count);

	for (int64_t i = 0; !status && i < *count; i++) {
		const int32_t page = step->kv_page_indices[first + i];

		if (page < 0 || page >= pages)
			status = cap_fail(capture->path,
					  "%s/kv_page_indices[%" PRId64 "] = %" PRId32
					  " is out of range, ckv_cache has %" PRId64 " pages",
					  group, first + i, page, pages);
		uses[i] = (struct use){page, first + i};
	}
	if (status)
		return status;
	qsort(uses, (size_t)*count, sizeof(*uses), compare_uses);
	for (int64_t i = 1; i < *count; i++)
		if (uses[i].page == uses[i - 1].page)
			return cap_fail(capture->path,
					"%s/kv_page_indices: request %" PRId64 " uses page %" PRId32
					" twice (entries %" PRId64 " and %" PRId64 ")",
					group, request, uses[i].page, uses[i - 1].entry,
					uses[i].entry);
	return MLA_OK;
}

/* The pages among the uses, each once. A cache has a page even where none is needed. */
static mla_status keep_pages(const struct capture *capture, struct cap_step *step,
			     const struct use *uses, int64_t count)
{
	step->pages = malloc(((size_t)count + 1) * sizeof(*step->pages));
	if (!step->pages)
		return cap_fail_memory(capture->path);
	for (int64_t i = 0; i < count; i++)
		step->pages[i] = uses[i].page;
	step->num_pages = cap_sort_pages(step->pages, count);
	if (!count && capture->extent[DIM_PAGES])
		step->pages[step->num_pages++] = 0;
	return MLA_OK;
}

static mla_status check_pages(const struct capture *capture, struct cap_step *step,
			      const char *group)
{
	const int64_t requests = step->extent[DIM_REQUESTS];
	const size_t entries = (size_t)step->extent[DIM_PAGE_ENTRIES];
	struct use *uses = malloc((entries + 1) * sizeof(*uses));
	int64_t used = 0, count = 0;
	mla_status status = uses ? MLA_OK : cap_fail_memory(capture->path);

	for (int64_t r = 0; !status && r < requests; r++, used += count)
		status = check_request_pages(capture, step, group, r, uses + used, &count);
	if (!status)
		status = keep_pages(capture, step, uses, used);
	free(uses);
	return status;
}

/* Reads and checks the index arrays in the order of cap_step_rules. */
static mla_status read_indices(struct capture *capture, struct cap_step *step, const char *group)
{
	enum { KV_LEN, QO_INDPTR, KV_INDPTR, PAGE_INDICES, POSITIONS, Q_POS0 };
	const struct cap_rule *rules = cap_step_rules;
	int64_t *extent = step->extent, requests;
	mla_status status = read_index(capture, group, &rules[KV_LEN], extent, &step->kv_len);

	requests = extent[DIM_REQUESTS];
	extent[DIM_OFFSETS] = requests + 1;
	if (!status)
		status = read_index(capture, group, &rules[QO_INDPTR], extent, &step->qo_indptr);
	if (!status)
		status = read_index(capture, group, &rules[KV_INDPTR], extent, &step->kv_indptr);
	if (!status)
		status = read_index(capture, group, &rules[PAGE_INDICES], extent,
				    &step->kv_page_indices);
	if (!status)
		status = read_index(capture, group, &rules[Q_POS0], extent, &step->q_pos0);
	if (!status)
		status = check_offsets(capture, group, "qo_indptr", step->qo_indptr, requests);
	if (!status)
		status = check_offsets(capture, group, "kv_indptr", step->kv_indptr, requests);
	if (status)
		return status;
	if (step->kv_indptr[requests] > extent[DIM_PAGE_ENTRIES])
		return cap_fail(capture->path,
				"%s/kv_indptr ends at %" PRId32 ", kv_page_indices has %" PRId64
				" entries",
				group, step->kv_indptr[requests], extent[DIM_PAGE_ENTRIES]);
	extent[DIM_QUERIES] = step->qo_indptr[requests];
	status = read_index(capture, group, &rules[POSITIONS], extent, &step->positions);
	return status ? status : check_pages(capture, step, group);
}

static mla_status check_problem(const struct capture *capture, struct cap_step *step, int layer)
{
	const struct cap_object *object;
	char group[CAP_PATH];

	snprintf(group, sizeof(group), "/steps/%03d/layers/%03d", step->number, layer);
	object = cap_find(capture, group);
	if (!object)
		return cap_fail(capture->path,
				"missing group %s: every step has every layer of /layers", group);
	return cap_check_group(capture, group, cap_problem_rules, step->extent);
}

/* ---- a step --------------------------------------------------------------------------------- */

void cap_fill_config(const struct capture *capture, mla_config *config)
{
	const struct cap_config *from = &capture->config;

	*config = (mla_config){
		.struct_size = sizeof(*config),
		.num_heads = (int32_t)from->num_heads,
		.head_dim_ckv = (int32_t)from->kv_lora_rank,
		.head_dim_kpe = (int32_t)from->qk_rope_head_dim,
		.page_size = (int32_t)from->page_size,
		.causal = (int32_t)from->causal,
		.lse_base = from->lse_base,
		.q_dtype = from->dtype,
		.ckv_dtype = from->ckv_dtype,
		.kpe_dtype = from->kpe_dtype,
		.out_dtype = from->out_dtype,
		.sm_scale = from->softmax_scale,
	};
}

/* What the library would refuse, in its words. */
static mla_status check_batch(const struct capture *capture, const struct cap_step *step,
			      const char *group)
{
	const mla_batch batch = {
		.struct_size = sizeof(batch),
		.batch_size = (int32_t)step->extent[DIM_REQUESTS],
		.qo_indptr = step->qo_indptr,
		.kv_indptr = step->kv_indptr,
		.kv_len = step->kv_len,
		.q_pos0 = step->q_pos0,
	};
	mla_config config;

	cap_fill_config(capture, &config);
	if (validate_problem(&config, &batch))
		return cap_fail(capture->path, "%s: %s", group, mla_last_error());
	return MLA_OK;
}

static mla_status check_step(struct capture *capture, struct cap_step *step)
{
	const struct cap_attribute *name;
	char group[CAP_PATH];
	mla_status status;

	snprintf(group, sizeof(group), "/steps/%03d", step->number);
	memcpy(step->extent, capture->extent, sizeof(step->extent));
	status = cap_need_attribute(capture, group, "name", CAP_STRING, &name);
	if (status)
		return status;
	step->name = name->text;
	status = read_indices(capture, step, group);
	if (!status)
		status = check_batch(capture, step, group);
	if (!status)
		status = cap_check_group(capture, group, cap_step_rules, step->extent);
	for (int i = 0; !status && i < capture->num_layers; i++)
		status = check_problem(capture, step, capture->layers[i]);
	return status;
}

/* A layer of a step that /layers lacks has no cache. */
static mla_status check_stray_layers(const struct capture *capture)
{
	for (size_t i = 0; i < capture->listing.num_objects; i++) {
		const char *path = capture->listing.objects[i].path;
		int length = 0;

		if (!sscanf(path, "/steps/%*3d%n", &length) && length > 0 &&
		    !strncmp(path + length, "/layers/", 8) && !strchr(path + length + 8, '/') &&
		    !cap_find(capture, path + length))
			return cap_fail(capture->path, "%s has no %s", path, path + length);
	}
	return MLA_OK;
}

mla_status cap_check_steps(struct capture *capture)
{
	int *numbers, count;
	mla_status status = cap_list_groups(capture, "/steps", &numbers, &count);

	if (!status) {
		capture->steps = calloc((size_t)count, sizeof(*capture->steps));
		if (!capture->steps)
			status = cap_fail_memory(capture->path);
	}
	for (int i = 0; !status && i < count; i++) {
		capture->steps[i].number = numbers[i];
		capture->num_steps = i + 1;
		status = check_step(capture, &capture->steps[i]);
	}
	free(numbers);
	return status ? status : check_stray_layers(capture);
}
