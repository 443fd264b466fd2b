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

/* Says which of a request's entries name one page; pages: each of its pages once, rising. */
static mla_status fail_twice(const struct capture *capture, const struct cap_step *step,
			     const char *group, int64_t request, const int32_t *pages,
			     int64_t count)
{
	const int32_t *entries = step->kv_page_indices;
	bool *seen = calloc((size_t)count, sizeof(*seen)), *here;
	int64_t first = step->kv_indptr[request], second = first;

	if (!seen)
		return cap_fail_memory(capture->path);
	while (here = &seen[cap_find_page(pages, count, entries[second])], !*here) {
		*here = true;
		second++;
	}
	free(seen);
	while (entries[first] != entries[second])
		first++;
	return cap_fail(capture->path,
			"%s/kv_page_indices: request %" PRId64 " uses page %" PRId32
			" twice (entries %" PRId64 " and %" PRId64 ")",
			group, request, entries[first], first, second);
}

/* The pages that a request needs, which pages receives, rising. */
static mla_status check_request_pages(const struct capture *capture, const struct cap_step *step,
				      const char *group, int64_t request, int32_t *pages,
				      int64_t *count)
{
	const int64_t all = capture->extent[DIM_PAGES], first = step->kv_indptr[request];
	mla_status status = check_request_length(capture, step, group, request, count);

	for (int64_t i = 0; !status && i < *count; i++) {
		pages[i] = step->kv_page_indices[first + i];
		if (pages[i] < 0 || pages[i] >= all)
			status = cap_fail(capture->path,
					  "%s/kv_page_indices[%" PRId64 "] = %" PRId32
					  " is out of range, ckv_cache has %" PRId64 " pages",
					  group, first + i, pages[i], all);
	}
	if (status)
		return status;

	const int64_t distinct = cap_sort_pages(pages, *count);

	return distinct == *count ? MLA_OK
				  : fail_twice(capture, step, group, request, pages, distinct);
}

/* Only the pages that the step needs are kept, each once. */
static void keep_pages(struct capture *capture, struct cap_step *step, int64_t used)
{
	const int64_t entries = step->extent[DIM_PAGE_ENTRIES];
	int32_t *smaller;

	step->num_pages = cap_sort_pages(step->pages, used);
	if (!used && capture->extent[DIM_PAGES]) /* a cache has a page even where none is needed */
		step->pages[step->num_pages++] = 0;
	smaller = realloc(step->pages, ((size_t)step->num_pages + 1) * sizeof(*smaller));
	if (smaller)
		step->pages = smaller;
	if (step->num_pages < entries)
		capture->index_bytes -= (uint64_t)(entries - step->num_pages) * sizeof(*smaller);
}

static mla_status check_pages(struct capture *capture, struct cap_step *step, const char *group)
{
	const size_t bytes = (size_t)step->extent[DIM_PAGE_ENTRIES] * sizeof(*step->pages);
	int64_t used = 0, count = 0;
	mla_status status;

	capture->index_bytes += bytes;
	status = cap_check_memory(capture, group, (double)capture->index_bytes);
	if (status)
		return status;
	step->pages = malloc(bytes + sizeof(*step->pages));
	if (!step->pages)
		return cap_fail_memory(capture->path);
	for (int64_t r = 0; !status && r < step->extent[DIM_REQUESTS]; r++, used += count)
		status = check_request_pages(capture, step, group, r, step->pages + used, &count);
	if (!status)
		keep_pages(capture, step, used);
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
