/* cut.c - a part of a capture as a capture of its own: chosen steps, layers, heads and
 * requests. Pages that nothing in the part uses are dropped; the order of the others is kept.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/plain.h"

/* Consecutive indices of a dimension. */
struct run {
	int64_t begin, end;
};

/* What is kept of a dimension: runs, in the order in which they are written. */
struct selection {
	struct run *runs;
	int64_t num_runs, total;
};

struct cut {
	struct capture *from;
	struct cap_writer writer;
	struct capture_part part; /* filled in: every count is that of a list */
	int *all;                 /* 0, 1, 2, ... for the lists that were not given */
	int32_t *pages;           /* [num_pages] of the file that the part keeps, rising */
	int64_t num_pages;
	struct selection kept[CAP_NUM_DIMS]; /* no runs: everything is kept */
};

/* ---- what is chosen ------------------------------------------------------------------------- */

static mla_status check_choice(const struct cut *cut, const char *what, const int *chosen,
			       int count, int64_t limit)
{
	bool *seen = calloc((size_t)limit + 1, sizeof(*seen));
	mla_status status = seen ? MLA_OK : cap_fail_memory(cut->from->path);

	for (int i = 0; i < count && !status; i++) {
		if (chosen[i] < 0 || chosen[i] >= limit) {
			status =
				cap_fail(cut->from->path, "no %s with index %d, there are %" PRId64,
					 what, chosen[i], limit);
		} else if (seen[chosen[i]]) {
			status = cap_fail(cut->from->path, "%s with index %d is chosen twice", what,
					  chosen[i]);
		} else {
			seen[chosen[i]] = true;
		}
	}
	free(seen);
	return status;
}

static mla_status check_part(struct cut *cut)
{
	const struct capture *from = cut->from;
	struct capture_part *part = &cut->part;
	const int heads = (int)from->config.num_heads;
	const int longest = from->num_steps > from->num_layers ? from->num_steps : from->num_layers;
	mla_status status;

	cut->all = malloc((size_t)longest * sizeof(*cut->all));
	if (!cut->all)
		return cap_fail_memory(from->path);
	for (int i = 0; i < longest; i++)
		cut->all[i] = i;
	if (!part->num_steps) {
		part->steps = cut->all;
		part->num_steps = from->num_steps;
	}
	if (!part->num_layers) {
		part->layers = cut->all;
		part->num_layers = from->num_layers;
	}
	if (!part->head_begin && !part->head_end)
		part->head_end = heads;
	if (part->head_begin < 0 || part->head_begin >= part->head_end || part->head_end > heads)
		return cap_fail(from->path,
				"heads %d to %" PRId64 " are not a part of the %d heads here",
				part->head_begin, (int64_t)part->head_end - 1, heads);
	status = check_choice(cut, "step", part->steps, part->num_steps, from->num_steps);
	if (!status)
		status = check_choice(cut, "layer", part->layers, part->num_layers,
				      from->num_layers);
	for (int i = 0; !status && i < part->num_steps; i++)
		status = check_choice(cut, "request", part->requests, part->num_requests,
				      from->steps[part->steps[i]].extent[DIM_REQUESTS]);
	return status;
}

/* Requests of a step that the part holds, and number i of them. */
static int64_t num_requests(const struct cut *cut, const struct cap_step *step)
{
	return cut->part.num_requests ? cut->part.num_requests : step->extent[DIM_REQUESTS];
}

static int64_t request(const struct cut *cut, int64_t i)
{
	return cut->part.num_requests ? cut->part.requests[i] : i;
}

static int64_t pages_needed(const struct cut *cut, const struct cap_step *step, int64_t r)
{
	const int64_t size = cut->from->config.page_size;

	return ((int64_t)step->kv_len[r] + size - 1) / size;
}

/* ---- selections ----------------------------------------------------------------------------- */

static mla_status select_runs(struct cut *cut, enum cap_dim dim, int64_t most)
{
	struct selection *kept = &cut->kept[dim];

	free(kept->runs);
	memset(kept, 0, sizeof(*kept));
	kept->runs = malloc(((size_t)most + 1) * sizeof(*kept->runs));
	return kept->runs ? MLA_OK : cap_fail_memory(cut->from->path);
}

/* Appends [begin, end), to the last run if it goes on from there. */
static void add_run(struct selection *kept, int64_t begin, int64_t end)
{
	if (begin == end)
		return;
	kept->total += end - begin;
	if (kept->num_runs && kept->runs[kept->num_runs - 1].end == begin)
		kept->runs[kept->num_runs - 1].end = end;
	else
		kept->runs[kept->num_runs++] = (struct run){begin, end};
}

/* The pages that a step's chosen requests need, with every repetition. */
static void collect_pages(struct cut *cut, const struct cap_step *step)
{
	for (int64_t k = 0; k < num_requests(cut, step); k++) {
		const int64_t r = request(cut, k), needed = pages_needed(cut, step, r);
		const int32_t *entries = step->kv_page_indices + step->kv_indptr[r];

		for (int64_t e = 0; e < needed; e++)
			cut->pages[cut->num_pages++] = entries[e];
	}
}

static mla_status select_pages(struct cut *cut)
{
	struct selection *kept = &cut->kept[DIM_PAGES];
	int64_t most = 0;
	mla_status status;

	for (int i = 0; i < cut->part.num_steps; i++)
		most += cut->from->steps[cut->part.steps[i]].extent[DIM_PAGE_ENTRIES];
	cut->pages = malloc(((size_t)most + 1) * sizeof(*cut->pages));
	if (!cut->pages)
		return cap_fail_memory(cut->from->path);
	for (int i = 0; i < cut->part.num_steps; i++)
		collect_pages(cut, &cut->from->steps[cut->part.steps[i]]);
	cut->num_pages = cap_sort_pages(cut->pages, cut->num_pages);
	status = select_runs(cut, DIM_PAGES, cut->num_pages);
	for (int64_t i = 0; !status && i < cut->num_pages; i++)
		add_run(kept, cut->pages[i], cut->pages[i] + 1);
	return status;
}

static mla_status select_heads(struct cut *cut)
{
	const mla_status status = select_runs(cut, DIM_HEADS, 1);

	if (!status)
		add_run(&cut->kept[DIM_HEADS], cut->part.head_begin, cut->part.head_end);
	return status;
}

static mla_status select_step(struct cut *cut, const struct cap_step *step)
{
	const int64_t count = num_requests(cut, step);
	mla_status status = select_runs(cut, DIM_REQUESTS, count);

	if (!status)
		status = select_runs(cut, DIM_QUERIES, count);
	for (int64_t k = 0; !status && k < count; k++) {
		const int64_t r = request(cut, k);

		add_run(&cut->kept[DIM_REQUESTS], r, r + 1);
		add_run(&cut->kept[DIM_QUERIES], step->qo_indptr[r], step->qo_indptr[r + 1]);
	}
	return status;
}

/* ---- copying -------------------------------------------------------------------------------- */

static bool any_of(const char *name, const char *const *names)
{
	for (; names && *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

/* All attributes of an object but those named. */
static mla_status copy_attributes(struct cut *cut, const char *object, const char *const *except)
{
	size_t count;
	const struct cap_attribute *list =
		cap_attributes_of(&cut->from->listing.attributes, object, &count);
	mla_status status = MLA_OK;

	for (size_t i = 0; !status && i < count; i++)
		if (!any_of(list[i].name, except))
			status = cap_write_attribute(&cut->writer, &list[i]);
	return status;
}

static mla_status copy_group(struct cut *cut, const char *path)
{
	const mla_status status = cap_write_group(&cut->writer, path);

	return status ? status : copy_attributes(cut, path, NULL);
}

/* Copies rows [run.begin, run.end) of the first dimension, cut down to the box in the others. */
static mla_status copy_run(struct cut *cut, const struct cap_dataset *dataset,
			   struct cap_sink *sink, struct run run, const uint64_t *box_start,
			   void *slab, int64_t slab_rows)
{
	uint64_t start[CAP_MAX_RANK], count[CAP_MAX_RANK] = {0};
	mla_status status = MLA_OK;

	memcpy(start, box_start, sizeof(start));
	for (int i = 1; i < sink->rank; i++)
		count[i] = sink->extent[i];
	for (int64_t row = run.begin; !status && row < run.end; row += slab_rows) {
		start[0] = (uint64_t)row;
		count[0] = (uint64_t)(run.end - row < slab_rows ? run.end - row : slab_rows);
		status = cap_dataset_read(cut->from, dataset, start, count, slab);
		if (!status)
			status = cap_sink_rows(sink, slab, count[0]);
	}
	return status;
}

/* Copies what is kept of a dataset. Only heads are ever cut in another than the first dimension,
 * and they are one run. */
static mla_status copy_rows(struct cut *cut, const struct cap_rule *rule,
			    const struct cap_dataset *dataset, struct cap_sink *sink)
{
	const struct selection *kept = &cut->kept[rule->dim[0]];
	const struct run whole = {0, (int64_t)dataset->extent[0]};
	const struct run *runs = kept->runs ? kept->runs : &whole;
	const int64_t num_runs = kept->runs ? kept->num_runs : 1;
	const int64_t fit = sink->row_bytes ? CAP_SLAB_BYTES / (int64_t)sink->row_bytes : 0;
	const int64_t slab_rows = fit ? fit : 1;
	const double slab_bytes = (double)slab_rows * (double)sink->row_bytes;
	uint64_t start[CAP_MAX_RANK] = {0};
	mla_status status = cap_check_memory(cut->from, dataset->path, slab_bytes);
	void *slab;

	if (status || !sink->row_bytes)
		return status;
	for (int i = 1; i < rule->rank; i++)
		if (cut->kept[rule->dim[i]].runs)
			start[i] = (uint64_t)cut->kept[rule->dim[i]].runs[0].begin;
	slab = malloc((size_t)slab_rows * sink->row_bytes);
	if (!slab)
		return cap_fail_memory(cut->from->path);
	for (int64_t i = 0; !status && i < num_runs; i++)
		status = copy_run(cut, dataset, sink, runs[i], start, slab, slab_rows);
	free(slab);
	return status;
}

static mla_status copy_dataset(struct cut *cut, const struct cap_rule *rule, const char *path)
{
	static const char *const rewritten[] = {"sha256", NULL};
	const struct cap_dataset *dataset;
	int64_t extent[CAP_MAX_RANK];
	struct cap_sink sink;
	mla_status status;

	status = cap_dataset_find(cut->from, path, CAP_ANY_ELEMENT, &dataset);
	if (status)
		return status;
	for (int i = 0; i < rule->rank; i++) {
		const struct selection *kept = &cut->kept[rule->dim[i]];

		extent[i] = kept->runs ? kept->total : (int64_t)dataset->extent[i];
	}
	cut->writer.compress = dataset->deflated;
	status = cap_sink_open(&cut->writer, path, (enum cap_element)dataset->element, rule->rank,
			       extent, &sink);
	if (!status)
		status = cap_sink_close(&sink, copy_rows(cut, rule, dataset, &sink));
	return status ? status : copy_attributes(cut, path, rewritten);
}

static mla_status copy_datasets(struct cut *cut, const char *group, const struct cap_rule *rules,
				const char *const *except)
{
	mla_status status = MLA_OK;

	for (const struct cap_rule *rule = rules; !status && rule->name; rule++) {
		char path[CAP_PATH];

		cap_join(path, group, rule->name);
		if (cap_find(cut->from, path) && !any_of(rule->name, except))
			status = copy_dataset(cut, rule, path);
	}
	return status;
}

/* ---- the parts of the file ------------------------------------------------------------------ */

/* ", requests 0-2,5": neighbours as a range. What has no room is counted: " and 7 more". */
static void list_requests(const struct capture_part *part, char *text, size_t size)
{
	const int n = part->num_requests, *list = part->requests;
	size_t used = strlen(text);

	for (int i = 0, last; i < n; i = last + 1) {
		char range[64];

		for (last = i; last + 1 < n && list[last + 1] == list[last] + 1; last++)
			;
		snprintf(range, sizeof(range), last > i ? "%s%d-%d" : "%s%d",
			 i ? "," : ", requests ", list[i], list[last]);
		if (used + strlen(range) + sizeof(" and 2147483647 more") > size) {
			snprintf(text + used, size - used, " and %d more", n - i);
			return;
		}
		used += (size_t)snprintf(text + used, size - used, "%s", range);
	}
}

/* Where the part comes from. Steps, layers and heads show in the file itself. */
static mla_status write_origin(struct cut *cut)
{
	const struct cap_attribute *sha =
		cap_attributes_find(&cut->from->listing.attributes, "/", "content_sha256");
	const char *slash = strrchr(cut->from->path, '/');
	char name[512], text[1024];

	plain_copy(name, sizeof(name), slash ? slash + 1 : cut->from->path);
	snprintf(text, sizeof(text), "%s, content_sha256 %.64s", name,
		 sha && sha->text ? sha->text : "none");
	list_requests(&cut->part, text, sizeof(text));
	return cap_write_string(&cut->writer, "/", "derived_from", text);
}

static mla_status copy_facts(struct cut *cut)
{
	static const char *const root_rewritten[] = {"content_sha256", "derived_from", NULL};
	static const char *const config_rewritten[] = {"num_heads", "head_start", NULL};
	const uint32_t heads = (uint32_t)(cut->part.head_end - cut->part.head_begin);
	const uint32_t head_start = cut->from->config.head_start + (uint32_t)cut->part.head_begin;
	mla_status status = copy_attributes(cut, "/", root_rewritten);

	if (!status)
		status = write_origin(cut);
	if (!status)
		status = cap_write_group(&cut->writer, "/config");
	if (!status)
		status = copy_attributes(cut, "/config", config_rewritten);
	if (!status)
		status = cap_write_u32(&cut->writer, "/config", "num_heads", heads);
	if (!status)
		status = cap_write_u32(&cut->writer, "/config", "head_start", head_start);
	return status;
}

static mla_status copy_layers(struct cut *cut)
{
	mla_status status = copy_group(cut, "/layers");

	for (int i = 0; !status && i < cut->part.num_layers; i++) {
		char group[CAP_PATH];

		snprintf(group, sizeof(group), "/layers/%03d",
			 cut->from->layers[cut->part.layers[i]]);
		status = copy_group(cut, group);
		if (!status)
			status = copy_datasets(cut, group, cap_layer_rules, NULL);
	}
	return status;
}

/* Offsets and page entries of the part. */
static mla_status write_indices(struct cut *cut, const struct cap_step *step, const char *group,
				int32_t *qo_indptr, int32_t *kv_indptr, int32_t *entries)
{
	const int64_t count = num_requests(cut, step);
	char path[CAP_PATH];
	mla_status status;

	qo_indptr[0] = kv_indptr[0] = 0;
	for (int64_t k = 0; k < count; k++) {
		const int64_t r = request(cut, k), needed = pages_needed(cut, step, r);

		qo_indptr[k + 1] = qo_indptr[k] + step->qo_indptr[r + 1] - step->qo_indptr[r];
		kv_indptr[k + 1] = kv_indptr[k] + (int32_t)needed;
		for (int64_t e = 0; e < needed; e++)
			entries[kv_indptr[k] + e] =
				cap_find_page(cut->pages, cut->num_pages,
					      step->kv_page_indices[step->kv_indptr[r] + e]);
	}
	cap_join(path, group, "qo_indptr");
	status = cap_write_index(&cut->writer, path, qo_indptr, count + 1);
	cap_join(path, group, "kv_indptr");
	if (!status)
		status = cap_write_index(&cut->writer, path, kv_indptr, count + 1);
	cap_join(path, group, "kv_page_indices");
	if (!status)
		status = cap_write_index(&cut->writer, path, entries, kv_indptr[count]);
	return status;
}

static mla_status copy_indices(struct cut *cut, const struct cap_step *step, const char *group)
{
	const size_t offsets = (size_t)num_requests(cut, step) + 1;
	const size_t entries = (size_t)step->extent[DIM_PAGE_ENTRIES];
	int32_t *memory = malloc((2 * offsets + entries) * sizeof(*memory));
	mla_status status;

	if (!memory)
		return cap_fail_memory(cut->from->path);
	status = write_indices(cut, step, group, memory, memory + offsets, memory + 2 * offsets);
	free(memory);
	return status;
}

static mla_status copy_step(struct cut *cut, const struct cap_step *step)
{
	static const char *const rebuilt[] = {"qo_indptr", "kv_indptr", "kv_page_indices", NULL};
	char group[CAP_PATH];
	mla_status status = select_step(cut, step);

	snprintf(group, sizeof(group), "/steps/%03d", step->number);
	if (!status)
		status = copy_group(cut, group);
	if (!status)
		status = copy_indices(cut, step, group);
	if (!status)
		status = copy_datasets(cut, group, cap_step_rules, rebuilt);
	snprintf(group, sizeof(group), "/steps/%03d/layers", step->number);
	if (!status)
		status = copy_group(cut, group);
	for (int i = 0; !status && i < cut->part.num_layers; i++) {
		snprintf(group, sizeof(group), "/steps/%03d/layers/%03d", step->number,
			 cut->from->layers[cut->part.layers[i]]);
		status = copy_group(cut, group);
		if (!status)
			status = copy_datasets(cut, group, cap_problem_rules, NULL);
	}
	return status;
}

static mla_status copy_part(struct cut *cut)
{
	mla_status status = copy_facts(cut);

	if (!status)
		status = copy_layers(cut);
	if (!status)
		status = copy_group(cut, "/steps");
	for (int i = 0; !status && i < cut->part.num_steps; i++)
		status = copy_step(cut, &cut->from->steps[cut->part.steps[i]]);
	return status ? status : cap_writer_commit(&cut->writer);
}

mla_status capture_cut(const char *path, struct output *output, const struct capture_part *part)
{
	struct cut cut = {.part = *part};
	mla_status status = capture_open(path, &cut.from);

	if (!status)
		status = check_part(&cut);
	if (!status)
		status = select_pages(&cut);
	if (!status)
		status = select_heads(&cut);
	if (!status)
		status = cap_writer_open(&cut.writer, output, false);
	if (!status)
		status = copy_part(&cut);
	cap_writer_close(&cut.writer);
	for (int i = 0; i < CAP_NUM_DIMS; i++)
		free(cut.kept[i].runs);
	free(cut.pages);
	free(cut.all);
	capture_close(cut.from);
	return status;
}
