/* cut.c - a part of a capture as a capture of its own: chosen steps, layers, heads and
 * requests. Pages that nothing in the part uses are dropped; the order of the others is kept.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
	struct capture_error *error;
	struct capture_part part;            /* filled in: every count is that of a list */
	int *all;                            /* 0, 1, 2, ... for the lists that were not given */
	int32_t *new_page;                   /* [pages] number in the part, -1: dropped */
	struct selection kept[CAP_NUM_DIMS]; /* no runs: everything is kept */
};

/* ---- what is chosen ------------------------------------------------------------------------- */

static int check_choice(const struct cut *cut, const char *what, const int *chosen, int count,
			int64_t limit)
{
	for (int i = 0; i < count; i++) {
		if (chosen[i] < 0 || chosen[i] >= limit)
			return cap_fail(cut->error, cut->from->path,
					"no %s with index %d, there are %" PRId64, what, chosen[i],
					limit);
		for (int k = 0; k < i; k++)
			if (chosen[k] == chosen[i])
				return cap_fail(cut->error, cut->from->path,
						"%s with index %d is chosen twice", what,
						chosen[i]);
	}
	return 0;
}

static int check_part(struct cut *cut)
{
	const struct capture *from = cut->from;
	struct capture_part *part = &cut->part;
	const int heads = (int)from->config.num_heads;
	const int longest = from->num_steps > from->num_layers ? from->num_steps : from->num_layers;

	cut->all = malloc((size_t)longest * sizeof(*cut->all));
	if (!cut->all)
		return cap_fail_memory(cut->error, from->path);
	for (int i = 0; i < longest; i++)
		cut->all[i] = i;
	if (part->num_steps == 0) {
		part->steps = cut->all;
		part->num_steps = from->num_steps;
	}
	if (part->num_layers == 0) {
		part->layers = cut->all;
		part->num_layers = from->num_layers;
	}
	if (part->head_begin == 0 && part->head_end == 0)
		part->head_end = heads;
	if (part->head_begin < 0 || part->head_begin >= part->head_end || part->head_end > heads)
		return cap_fail(cut->error, from->path,
				"heads [%d, %d) are not a part of the %d heads here",
				part->head_begin, part->head_end, heads);
	if (check_choice(cut, "step", part->steps, part->num_steps, from->num_steps) ||
	    check_choice(cut, "layer", part->layers, part->num_layers, from->num_layers))
		return -1;
	for (int i = 0; i < part->num_steps; i++) {
		const struct cap_step *step = &from->steps[part->steps[i]];

		if (check_choice(cut, "request", part->requests, part->num_requests,
				 step->extent[DIM_REQUESTS]))
			return -1;
	}
	return 0;
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

static int select_runs(struct cut *cut, enum cap_dim dim, int64_t most)
{
	struct selection *kept = &cut->kept[dim];

	free(kept->runs);
	memset(kept, 0, sizeof(*kept));
	kept->runs = malloc(((size_t)most + 1) * sizeof(*kept->runs));
	return kept->runs ? 0 : cap_fail_memory(cut->error, cut->from->path);
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

static int select_pages(struct cut *cut)
{
	const int64_t pages = cut->from->extent[DIM_PAGES];
	struct selection *kept = &cut->kept[DIM_PAGES];

	cut->new_page = malloc(((size_t)pages + 1) * sizeof(*cut->new_page));
	if (!cut->new_page || select_runs(cut, DIM_PAGES, pages))
		return cap_fail_memory(cut->error, cut->from->path);
	for (int64_t p = 0; p < pages; p++)
		cut->new_page[p] = -1;
	for (int i = 0; i < cut->part.num_steps; i++) {
		const struct cap_step *step = &cut->from->steps[cut->part.steps[i]];

		for (int64_t k = 0; k < num_requests(cut, step); k++) {
			const int64_t r = request(cut, k), needed = pages_needed(cut, step, r);
			const int32_t *entries = step->kv_page_indices + step->kv_indptr[r];

			for (int64_t e = 0; e < needed; e++)
				cut->new_page[entries[e]] = 0;
		}
	}
	for (int64_t p = 0; p < pages; p++)
		if (cut->new_page[p] == 0) {
			cut->new_page[p] = (int32_t)kept->total;
			add_run(kept, p, p + 1);
		}
	return 0;
}

static int select_heads(struct cut *cut)
{
	if (select_runs(cut, DIM_HEADS, 1))
		return -1;
	add_run(&cut->kept[DIM_HEADS], cut->part.head_begin, cut->part.head_end);
	return 0;
}

static int select_step(struct cut *cut, const struct cap_step *step)
{
	const int64_t count = num_requests(cut, step);

	if (select_runs(cut, DIM_REQUESTS, count) || select_runs(cut, DIM_QUERIES, count))
		return -1;
	for (int64_t k = 0; k < count; k++) {
		const int64_t r = request(cut, k);

		add_run(&cut->kept[DIM_REQUESTS], r, r + 1);
		add_run(&cut->kept[DIM_QUERIES], step->qo_indptr[r], step->qo_indptr[r + 1]);
	}
	return 0;
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
static int copy_attributes(struct cut *cut, const char *object, const char *const *except)
{
	size_t count;
	const struct cap_attribute *list =
		cap_attributes_of(&cut->from->attributes, object, &count);

	for (size_t i = 0; i < count; i++)
		if (!any_of(list[i].name, except) &&
		    cap_write_attribute(&cut->writer, &list[i], cut->error))
			return -1;
	return 0;
}

static int copy_group(struct cut *cut, const char *path)
{
	return cap_write_group(&cut->writer, path, cut->error) || copy_attributes(cut, path, NULL)
		       ? -1
		       : 0;
}

/* Copies rows [run.begin, run.end) of the first dimension, cut down to the box in the others. */
static int copy_run(struct cut *cut, const struct cap_dataset *dataset, struct cap_sink *sink,
		    struct run run, const hsize_t *box_start, void *slab, int64_t slab_rows)
{
	hsize_t start[CAP_MAX_RANK], count[CAP_MAX_RANK];

	memcpy(start, box_start, sizeof(start));
	memcpy(count, sink->extent, sizeof(count));
	for (int64_t row = run.begin; row < run.end; row += slab_rows) {
		start[0] = (hsize_t)row;
		count[0] = (hsize_t)(run.end - row < slab_rows ? run.end - row : slab_rows);
		if (cap_dataset_read(cut->from, dataset, start, count, slab, cut->error) ||
		    cap_sink_rows(sink, slab, count[0], cut->error))
			return -1;
	}
	return 0;
}

/* Copies what is kept of a dataset. Only heads are ever cut in another than the first dimension,
 * and they are one run. */
static int copy_rows(struct cut *cut, const struct cap_rule *rule,
		     const struct cap_dataset *dataset, struct cap_sink *sink)
{
	const struct selection *kept = &cut->kept[rule->dim[0]];
	const struct run whole = {0, (int64_t)dataset->extent[0]};
	const struct run *runs = kept->runs ? kept->runs : &whole;
	const int64_t num_runs = kept->runs ? kept->num_runs : 1;
	const int64_t fit = sink->row_bytes ? CAP_SLAB_BYTES / (int64_t)sink->row_bytes : 0;
	const int64_t slab_rows = fit ? fit : 1;
	hsize_t start[CAP_MAX_RANK] = {0};
	void *slab;
	int status = 0;

	if (!sink->row_bytes)
		return 0;
	for (int i = 1; i < rule->rank; i++)
		if (cut->kept[rule->dim[i]].runs)
			start[i] = (hsize_t)cut->kept[rule->dim[i]].runs[0].begin;
	slab = malloc((size_t)slab_rows * sink->row_bytes);
	if (!slab)
		return cap_fail_memory(cut->error, cut->from->path);
	for (int64_t i = 0; !status && i < num_runs; i++)
		status = copy_run(cut, dataset, sink, runs[i], start, slab, slab_rows);
	free(slab);
	return status;
}

static int copy_dataset(struct cut *cut, const struct cap_rule *rule, const char *path)
{
	static const char *const rewritten[] = {"sha256", NULL};
	int64_t extent[CAP_MAX_RANK];
	struct cap_dataset dataset;
	struct cap_sink sink;
	int status;

	if (cap_dataset_open(cut->from, path, CAP_ANY_ELEMENT, &dataset, cut->error))
		return -1;
	for (int i = 0; i < rule->rank; i++) {
		const struct selection *kept = &cut->kept[rule->dim[i]];

		extent[i] = kept->runs ? kept->total : (int64_t)dataset.extent[i];
	}
	cut->writer.compress = dataset.deflated;
	status = cap_sink_open(&cut->writer, path, dataset.element, rule->rank, extent, &sink,
			       cut->error);
	if (!status)
		status = cap_sink_close(&sink, copy_rows(cut, rule, &dataset, &sink), cut->error);
	cap_dataset_close(&dataset);
	return status ? status : copy_attributes(cut, path, rewritten);
}

static int copy_datasets(struct cut *cut, const char *group, const struct cap_rule *rules,
			 const char *const *except)
{
	for (const struct cap_rule *rule = rules; rule->name; rule++) {
		char path[CAP_PATH];

		cap_join(path, group, rule->name);
		if (cap_find(cut->from, path) && !any_of(rule->name, except) &&
		    copy_dataset(cut, rule, path))
			return -1;
	}
	return 0;
}

/* ---- the parts of the file ------------------------------------------------------------------ */

/* Where the part comes from. Steps, layers and heads show in the file itself. */
static int write_origin(struct cut *cut)
{
	const struct cap_attribute *sha =
		cap_attributes_find(&cut->from->attributes, "/", "content_sha256");
	const char *slash = strrchr(cut->from->path, '/');
	char text[1024];
	size_t used = (size_t)snprintf(text, sizeof(text), "%.200s, content_sha256 %.64s",
				       slash ? slash + 1 : cut->from->path,
				       sha && sha->text ? sha->text : "none");

	for (int i = 0; i < cut->part.num_requests && used < sizeof(text); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%d",
					 i ? "," : ", requests ", cut->part.requests[i]);
	return cap_write_string(&cut->writer, "/", "derived_from", text, cut->error);
}

static int copy_facts(struct cut *cut)
{
	static const char *const root_rewritten[] = {"content_sha256", "derived_from", NULL};
	static const char *const config_rewritten[] = {"num_heads", "head_start", NULL};
	const uint32_t heads = (uint32_t)(cut->part.head_end - cut->part.head_begin);
	const uint32_t head_start = cut->from->config.head_start + (uint32_t)cut->part.head_begin;

	return copy_attributes(cut, "/", root_rewritten) || write_origin(cut) ||
			       cap_write_group(&cut->writer, "/config", cut->error) ||
			       copy_attributes(cut, "/config", config_rewritten) ||
			       cap_write_u32(&cut->writer, "/config", "num_heads", heads,
					     cut->error) ||
			       cap_write_u32(&cut->writer, "/config", "head_start", head_start,
					     cut->error)
		       ? -1
		       : 0;
}

static int copy_layers(struct cut *cut)
{
	if (copy_group(cut, "/layers"))
		return -1;
	for (int i = 0; i < cut->part.num_layers; i++) {
		char group[CAP_PATH];

		snprintf(group, sizeof(group), "/layers/%03d",
			 cut->from->layers[cut->part.layers[i]]);
		if (copy_group(cut, group) || copy_datasets(cut, group, cap_layer_rules, NULL))
			return -1;
	}
	return 0;
}

/* Offsets and page entries of the part. */
static int write_indices(struct cut *cut, const struct cap_step *step, const char *group,
			 int32_t *qo_indptr, int32_t *kv_indptr, int32_t *entries)
{
	const int64_t count = num_requests(cut, step);
	char path[CAP_PATH];

	qo_indptr[0] = kv_indptr[0] = 0;
	for (int64_t k = 0; k < count; k++) {
		const int64_t r = request(cut, k), needed = pages_needed(cut, step, r);

		qo_indptr[k + 1] = qo_indptr[k] + step->qo_indptr[r + 1] - step->qo_indptr[r];
		kv_indptr[k + 1] = kv_indptr[k] + (int32_t)needed;
		for (int64_t e = 0; e < needed; e++)
			entries[kv_indptr[k] + e] =
				cut->new_page[step->kv_page_indices[step->kv_indptr[r] + e]];
	}
	cap_join(path, group, "qo_indptr");
	if (cap_write_index(&cut->writer, path, qo_indptr, count + 1, cut->error))
		return -1;
	cap_join(path, group, "kv_indptr");
	if (cap_write_index(&cut->writer, path, kv_indptr, count + 1, cut->error))
		return -1;
	cap_join(path, group, "kv_page_indices");
	return cap_write_index(&cut->writer, path, entries, kv_indptr[count], cut->error);
}

static int copy_indices(struct cut *cut, const struct cap_step *step, const char *group)
{
	const size_t offsets = (size_t)num_requests(cut, step) + 1;
	const size_t entries = (size_t)step->extent[DIM_PAGE_ENTRIES];
	int32_t *memory = malloc((2 * offsets + entries) * sizeof(*memory));
	int status;

	if (!memory)
		return cap_fail_memory(cut->error, cut->from->path);
	status = write_indices(cut, step, group, memory, memory + offsets, memory + 2 * offsets);
	free(memory);
	return status;
}

static int copy_step(struct cut *cut, const struct cap_step *step)
{
	static const char *const rebuilt[] = {"qo_indptr", "kv_indptr", "kv_page_indices", NULL};
	char group[CAP_PATH];

	snprintf(group, sizeof(group), "/steps/%03d", step->number);
	if (select_step(cut, step) || copy_group(cut, group) || copy_indices(cut, step, group) ||
	    copy_datasets(cut, group, cap_step_rules, rebuilt))
		return -1;
	snprintf(group, sizeof(group), "/steps/%03d/layers", step->number);
	if (copy_group(cut, group))
		return -1;
	for (int i = 0; i < cut->part.num_layers; i++) {
		snprintf(group, sizeof(group), "/steps/%03d/layers/%03d", step->number,
			 cut->from->layers[cut->part.layers[i]]);
		if (copy_group(cut, group) || copy_datasets(cut, group, cap_problem_rules, NULL))
			return -1;
	}
	return 0;
}

static int copy_part(struct cut *cut)
{
	if (copy_facts(cut) || copy_layers(cut) || copy_group(cut, "/steps"))
		return -1;
	for (int i = 0; i < cut->part.num_steps; i++)
		if (copy_step(cut, &cut->from->steps[cut->part.steps[i]]))
			return -1;
	return cap_writer_commit(&cut->writer, cut->error);
}

int capture_cut(const char *path, const char *out_path, const struct capture_part *part,
		struct capture_error *error)
{
	struct cut cut = {.error = error, .part = *part};
	int status;

	cut.from = capture_open(path, error);
	if (!cut.from)
		return -1;
	status = check_part(&cut);
	if (!status)
		status = select_pages(&cut) || select_heads(&cut) ? -1 : 0;
	if (!status) {
		status = cap_writer_open(&cut.writer, out_path, false, error);
		if (!status)
			status = copy_part(&cut);
		cap_writer_close(&cut.writer);
	}
	for (int i = 0; i < CAP_NUM_DIMS; i++)
		free(cut.kept[i].runs);
	free(cut.new_page);
	free(cut.all);
	capture_close(cut.from);
	return status;
}
