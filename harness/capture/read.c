/* read.c - one (step, layer) of a capture as a case in memory. */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/geometry.h"
#include "lib/plain.h"
#include "reference/reference.h"

/* What a load works on. */
struct load {
	struct capture *capture;
	const struct cap_step *step;
	struct mla_case *c;
	char layer_group[CAP_PATH], problem_group[CAP_PATH];
	int32_t *needed; /* [step->num_pages] as cap_mark_needed fills it */
};

/* Queries that are absorbed at once: the fp64 numbers of a long prefill would not fit in memory. */
enum { BLOCK = 64 };

/* ---- pages ---------------------------------------------------------------------------------- */

static int compare_pages(const void *a, const void *b)
{
	const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return x < y ? -1 : x > y;
}

int64_t cap_sort_pages(int32_t *pages, int64_t count)
{
	int64_t kept = 0;

	qsort(pages, (size_t)count, sizeof(*pages), compare_pages);
	for (int64_t i = 0; i < count; i++)
		if (!i || pages[i] != pages[i - 1])
			pages[kept++] = pages[i];
	return kept;
}

int32_t cap_find_page(const int32_t *pages, int64_t count, int32_t page)
{
	const int32_t *found = bsearch(&page, pages, (size_t)count, sizeof(page), compare_pages);

	return (int32_t)(found - pages);
}

void cap_compact_table(const struct cap_step *step, int32_t page_size, const int32_t *pages,
		       int64_t num_pages, int32_t *table)
{
	for (int64_t i = 0; i < step->extent[DIM_PAGE_ENTRIES]; i++)
		table[i] = -1;
	for (int64_t r = 0; r < step->extent[DIM_REQUESTS]; r++) {
		const int64_t first = step->kv_indptr[r];
		const int64_t count = ((int64_t)step->kv_len[r] + page_size - 1) / page_size;

		for (int64_t i = first; i < first + count; i++)
			table[i] = cap_find_page(pages, num_pages, step->kv_page_indices[i]);
	}
}

void cap_mark_needed(const struct cap_step *step, int32_t page_size, const int32_t *table,
		     int32_t *slots)
{
	const mla_config config = {.page_size = page_size};
	const mla_batch batch = {
		.batch_size = (int32_t)step->extent[DIM_REQUESTS],
		.qo_indptr = step->qo_indptr,
		.kv_indptr = step->kv_indptr,
		.kv_len = step->kv_len,
		.q_pos0 = step->q_pos0,
	};

	geometry_mark(&config, &batch, table, GEOMETRY_KEPT, slots);
}

/* ---- what is not finite --------------------------------------------------------------------- */

uint64_t cap_count_bad(const struct cap_dataset *dataset, const void *data, uint64_t row,
		       uint64_t rows, uint64_t *first)
{
	const uint64_t row_count = dataset->row_bytes / cap_element_size(dataset->element);
	uint64_t at = 0;
	const uint64_t found = cap_count_non_finite(dataset->element, data, rows * row_count, &at);

	*first = row * row_count + at;
	return found;
}

uint64_t cap_count_bad_slots(const struct cap_dataset *dataset, const void *data, uint64_t row,
			     int32_t slots, uint64_t *first)
{
	const uint64_t row_count = dataset->row_bytes / cap_element_size(dataset->element);
	const uint64_t slot_count = row_count / dataset->extent[1];
	uint64_t at = 0;
	const uint64_t found =
		cap_count_non_finite(dataset->element, data, (uint64_t)slots * slot_count, &at);

	*first = row * row_count + at;
	return found;
}

mla_status cap_fail_non_finite(const char *file, const struct cap_dataset *dataset, uint64_t count,
			       uint64_t first)
{
	char text[128];
	size_t used = 0;
	uint64_t rest = dataset->bytes / cap_element_size(dataset->element);

	for (int i = 0; i < dataset->rank; i++) {
		rest /= dataset->extent[i];
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%" PRIu64,
					 i ? "," : "", first / rest);
		first %= rest;
	}
	return cap_fail(file, "%s: %" PRIu64 " non-finite values, first at [%s]", dataset->path,
			count, text);
}

/* ---- tensors -------------------------------------------------------------------------------- */

/* The bytes of so many rows of a dataset, all of them if rows is negative; 0 if it is absent. */
static double bytes_of(const struct load *load, const char *group, const char *name, int64_t rows)
{
	const struct cap_object *object;
	char path[CAP_PATH];

	cap_join(path, group, name);
	object = cap_find(load->capture, path);
	if (!object)
		return 0;
	return rows < 0 ? (double)object->dataset.bytes
			: (double)object->dataset.row_bytes * (double)rows;
}

/* A block of fp64 numbers, and all queries, rounded. */
static double absorbed_bytes(const struct load *load)
{
	const struct cap_config *config = &load->capture->config;
	const double row = (double)config->num_heads * config->kv_lora_rank;

	if (load->capture->kind != CAPTURE_MODEL_FORWARD)
		return 0;
	return row *
	       (BLOCK * (double)sizeof(double) +
		(double)load->step->extent[DIM_QUERIES] * (double)cap_element_size(config->dtype));
}

/* Refused before any of it is read, where a small file asks for much memory. */
static mla_status check_memory(const struct load *load)
{
	static const char *const shared[] = {"w_uk", "w_uv", NULL};
	static const char *const own[] = {"q_nope",  "q_pe",    "out_model",
					  "out_ref", "lse_ref", NULL};
	const int64_t pages = load->step->num_pages;
	double bytes = absorbed_bytes(load) +
		       bytes_of(load, load->layer_group, "ckv_cache", pages) +
		       bytes_of(load, load->layer_group, "kpe_cache", pages);

	for (int i = 0; shared[i]; i++)
		bytes += bytes_of(load, load->layer_group, shared[i], -1);
	for (int i = 0; own[i]; i++)
		bytes += bytes_of(load, load->problem_group, own[i], -1);
	return cap_check_memory(load->capture, load->problem_group, bytes);
}

/* A tensor of the case like the dataset, of so many rows. */
static mla_status make_tensor(const struct load *load, const struct cap_dataset *dataset,
			      int64_t rows, mla_tensor *tensor)
{
	int64_t extent[CAP_MAX_RANK];

	for (int i = 0; i < dataset->rank; i++)
		extent[i] = i ? (int64_t)dataset->extent[i] : rows;
	*tensor = case_tensor(load->c, dataset->element, dataset->rank, extent);
	return tensor->data ? MLA_OK : cap_fail_memory(load->capture->path);
}

/* Reads a dataset into a tensor of the case; nothing if it is absent, which open has allowed. */
static mla_status load_tensor(const struct load *load, const char *group, const char *name,
			      bool finite, mla_tensor *tensor)
{
	const struct capture *capture = load->capture;
	const struct cap_dataset *dataset;
	uint64_t bad = 0, first = 0;
	char path[CAP_PATH];
	mla_status status;

	cap_join(path, group, name);
	if (!cap_find(capture, path))
		return MLA_OK;
	status = cap_dataset_find(capture, path, CAP_ANY_ELEMENT, &dataset);
	if (!status)
		status = make_tensor(load, dataset, (int64_t)dataset->extent[0], tensor);
	if (!status)
		status = cap_dataset_read(capture, dataset, NULL, NULL, tensor->data);
	if (status)
		return status;
	if (finite && dataset->bytes)
		bad = cap_count_bad(dataset, tensor->data, 0, dataset->extent[0], &first);
	return bad ? cap_fail_non_finite(capture->path, dataset, bad, first) : MLA_OK;
}

/* How many of the step's pages from number i on are read at once: as many as lie within a slab of
 * the file, and with no gap that is wider than a chunk. */
static int64_t pages_at_once(const struct load *load, const struct cap_dataset *dataset, int64_t i)
{
	const int32_t *pages = load->step->pages;
	const int64_t fit = (int64_t)(CAP_SLAB_BYTES / (dataset->row_bytes + 1));
	int64_t n = 1;

	while (i + n < load->step->num_pages && pages[i + n] - pages[i] < fit &&
	       (uint64_t)(pages[i + n] - pages[i + n - 1]) <= dataset->chunk[0])
		n++;
	return n;
}

/* Takes pages i to i + n of the step out of the rows that lie in the slab. */
static mla_status take_pages(const struct load *load, const struct cap_dataset *dataset, int64_t i,
			     int64_t n, const char *slab, const mla_tensor *tensor)
{
	const int32_t *pages = load->step->pages;
	const size_t row = dataset->row_bytes;
	uint64_t bad = 0, first = 0, at = 0;

	for (int64_t k = i; k < i + n; k++) {
		const char *from = slab + (size_t)(pages[k] - pages[i]) * row;
		const uint64_t found = cap_count_bad_slots(dataset, from, (uint64_t)pages[k],
							   load->needed[k], &at);

		if (found && !bad)
			first = at;
		bad += found;
		memcpy((char *)tensor->data + (size_t)k * row, from, row);
	}
	return bad ? cap_fail_non_finite(load->capture->path, dataset, bad, first) : MLA_OK;
}

static mla_status load_pages(const struct load *load, const struct cap_dataset *dataset,
			     const mla_tensor *tensor)
{
	const struct cap_step *step = load->step;
	uint64_t start[CAP_MAX_RANK] = {0}, count[CAP_MAX_RANK];
	const size_t most =
		dataset->row_bytes > CAP_SLAB_BYTES ? dataset->row_bytes : CAP_SLAB_BYTES;
	mla_status status = MLA_OK;
	int64_t n;
	char *slab = malloc(most);

	if (!slab)
		return cap_fail_memory(load->capture->path);
	memcpy(count, dataset->extent, sizeof(count));
	for (int64_t i = 0; !status && i < step->num_pages; i += n) {
		n = pages_at_once(load, dataset, i);
		start[0] = (uint64_t)step->pages[i];
		count[0] = (uint64_t)(step->pages[i + n - 1] - step->pages[i] + 1);
		status = cap_dataset_read(load->capture, dataset, start, count, slab);
		if (!status)
			status = take_pages(load, dataset, i, n, slab, tensor);
	}
	free(slab);
	return status;
}

/* Of a cache only the pages that the step needs are loaded, in their order: the case's table names
 * them 0, 1, 2, ... */
static mla_status load_cache(const struct load *load, const char *name, mla_tensor *tensor)
{
	const struct capture *capture = load->capture;
	const struct cap_dataset *dataset;
	char path[CAP_PATH];
	mla_status status;

	cap_join(path, load->layer_group, name);
	if (!cap_find(capture, path))
		return MLA_OK;
	status = cap_dataset_find(capture, path, CAP_ANY_ELEMENT, &dataset);
	if (!status)
		status = make_tensor(load, dataset, load->step->num_pages, tensor);
	return status || !dataset->bytes ? status : load_pages(load, dataset, tensor);
}

static int32_t *copy_index(struct mla_case *c, const int32_t *from, int64_t count)
{
	int32_t *to = case_alloc(c, (size_t)count * sizeof(*to));

	if (to && count)
		memcpy(to, from, (size_t)count * sizeof(*to));
	return to;
}

static mla_status fill_batch(struct load *load)
{
	const struct cap_step *step = load->step;
	const int64_t requests = step->extent[DIM_REQUESTS];
	const int64_t entries = step->extent[DIM_PAGE_ENTRIES];
	struct mla_case *c = load->c;
	mla_batch *batch = &c->batch;
	int32_t *table = case_alloc(c, (size_t)entries * sizeof(*table));

	if (!table)
		return cap_fail_memory(load->capture->path);
	cap_compact_table(step, (int32_t)load->capture->config.page_size, step->pages,
			  step->num_pages, table);
	batch->struct_size = sizeof(*batch);
	batch->batch_size = (int32_t)requests;
	batch->qo_indptr = copy_index(c, step->qo_indptr, requests + 1);
	batch->kv_indptr = copy_index(c, step->kv_indptr, requests + 1);
	batch->kv_len = copy_index(c, step->kv_len, requests);
	if (step->q_pos0)
		batch->q_pos0 = copy_index(c, step->q_pos0, requests);
	c->tensors.struct_size = sizeof(c->tensors);
	c->tensors.kv_indices = table;
	c->tensors.num_kv_indices = entries;
	if (!batch->qo_indptr || !batch->kv_indptr || !batch->kv_len ||
	    (step->q_pos0 && !batch->q_pos0))
		return cap_fail_memory(load->capture->path);
	return MLA_OK;
}

static mla_status load_tensors(const struct load *load)
{
	const bool model = load->capture->kind == CAPTURE_MODEL_FORWARD;
	struct mla_case *c = load->c;
	const struct {
		const char *group, *name;
		bool finite;
		mla_tensor *tensor;
	} parts[] = {
		{load->layer_group, "w_uk", true, &c->w_uk},
		{load->layer_group, "w_uv", true, &c->w_uv},
		{load->problem_group, "q_nope", true, model ? &c->q_raw : &c->tensors.q_nope},
		{load->problem_group, "q_pe", true, &c->tensors.q_pe},
		{load->problem_group, "out_model", false, &c->out_model},
		{load->problem_group, "out_ref", false, &c->out_ref},
		{load->problem_group, "lse_ref", false, &c->lse_ref},
	};
	mla_status status = load_cache(load, "ckv_cache", &c->tensors.ckv);

	if (!status)
		status = load_cache(load, "kpe_cache", &c->tensors.kpe);
	for (size_t i = 0; !status && i < sizeof(parts) / sizeof(*parts); i++)
		status = load_tensor(load, parts[i].group, parts[i].name, parts[i].finite,
				     parts[i].tensor);
	return status;
}

/* ---- absorption ------------------------------------------------------------------------------ */

/* At most BLOCK queries of q_raw, from the first on. */
static mla_tensor block_of(const mla_tensor *q_raw, int64_t first)
{
	mla_tensor part = *q_raw;

	part.data = (char *)part.data + first * part.stride[0];
	part.extent[0] = q_raw->extent[0] - first < BLOCK ? q_raw->extent[0] - first : BLOCK;
	return part;
}

/* Absorbs a block: fp64 sums in block, rounded once to where they belong. */
static void absorb_block(const mla_tensor *part, const mla_tensor *w_uk, double *block, char *to)
{
	const int64_t count = part->extent[0] * part->extent[1] * w_uk->extent[2];
	const size_t size = cap_element_size(part->dtype);

	ref_absorb_q(part, w_uk, block);
	for (int64_t i = 0; i < count; i++)
		ref_store(to + (size_t)i * size, part->dtype, block[i]);
}

static mla_status fail_overflow(const struct load *load, int32_t dtype, uint64_t count)
{
	return cap_fail(load->capture->path,
			"%s/q_nope: %" PRIu64 " values overflow %s once absorbed with W_UK",
			load->problem_group, count, cap_element_name(dtype));
}

/* q_nope = q_raw absorbed with W_UK. */
static mla_status absorb(const struct load *load)
{
	struct mla_case *c = load->c;
	const int64_t total_q = c->q_raw.extent[0];
	const int64_t row = c->q_raw.extent[1] * c->w_uk.extent[2];
	const int64_t extent[3] = {total_q, c->q_raw.extent[1], c->w_uk.extent[2]};
	double *block = malloc((size_t)(BLOCK * row) * sizeof(*block));
	uint64_t bad, first;

	c->tensors.q_nope = case_tensor(c, c->q_raw.dtype, 3, extent);
	if (!block || !c->tensors.q_nope.data) {
		free(block);
		return cap_fail_memory(load->capture->path);
	}
	for (int64_t t = 0; t < total_q; t += BLOCK) {
		const mla_tensor part = block_of(&c->q_raw, t);

		absorb_block(&part, &c->w_uk, block,
			     (char *)c->tensors.q_nope.data + t * c->tensors.q_nope.stride[0]);
	}
	free(block);
	bad = cap_count_non_finite(c->q_raw.dtype, c->tensors.q_nope.data,
				   (uint64_t)(total_q * row), &first);
	return bad ? fail_overflow(load, c->q_raw.dtype, bad) : MLA_OK;
}

/* The largest |value| of contiguous elements. */
static double largest(const mla_tensor *t, int64_t count)
{
	const size_t size = cap_element_size(t->dtype);
	double most = 0;

	for (int64_t i = 0; i < count; i++)
		most = fmax(most,
			    fabs(ref_load((const char *)t->data + (size_t)i * size, t->dtype)));
	return most;
}

static double largest_number(int32_t dtype)
{
	static const double most[] = {
		[MLA_BF16] = 0x1.fep127, [MLA_F16] = 65504, [MLA_F32] = 0x1.fffffep127};

	return most[dtype];
}

/* How many absorbed queries of a step overflow. Where even the largest numbers of all cannot, and
 * they hardly ever can, nothing is computed. */
static mla_status check_overflow(const struct load *load, const mla_tensor *w_uk, double largest_w)
{
	const mla_tensor *q = &load->c->q_raw;
	const int64_t row = q->extent[1] * w_uk->extent[2], nope = w_uk->extent[1];
	const size_t bytes = (size_t)(BLOCK * row) * cap_element_size(q->dtype);
	double *block = malloc((size_t)(BLOCK * row) * sizeof(*block));
	char *rounded = malloc(bytes + 1);
	uint64_t bad = 0, first;

	for (int64_t t = 0; block && rounded && t < q->extent[0]; t += BLOCK) {
		const mla_tensor part = block_of(q, t);
		const double most =
			largest(&part, part.extent[0] * q->extent[1] * nope) * largest_w;

		if (most * (double)nope <= largest_number(q->dtype))
			continue;
		absorb_block(&part, w_uk, block, rounded);
		bad += cap_count_non_finite(q->dtype, rounded, (uint64_t)(part.extent[0] * row),
					    &first);
	}
	const bool enough = block && rounded;

	free(block);
	free(rounded);
	if (!enough)
		return cap_fail_memory(load->capture->path);
	return bad ? fail_overflow(load, q->dtype, bad) : MLA_OK;
}

/* The file keeps lse_ref in its own base, a case in base e. */
static void naturalise_lse(const struct capture *capture, mla_tensor *lse)
{
	float *values = lse->data;

	if (!values || capture->config.lse_base == MLA_LSE_NATURAL)
		return;
	for (int64_t i = 0; i < lse->extent[0] * lse->extent[1]; i++)
		values[i] = (float)(values[i] * M_LN2);
}

static void name_case(const struct load *load, int layer)
{
	const char *slash = strrchr(load->capture->path, '/');
	char file[80];

	plain_copy(file, sizeof(file), slash ? slash + 1 : load->capture->path);
	snprintf(load->c->name, sizeof(load->c->name), "%s:%03d/%03d", file, load->step->number,
		 layer);
}

/* ---- a case ---------------------------------------------------------------------------------- */

static mla_status load_case(struct load *load)
{
	mla_status status = check_memory(load);

	if (status)
		return status;
	load->needed = calloc((size_t)load->step->num_pages + 1, sizeof(*load->needed));
	if (!load->needed)
		return cap_fail_memory(load->capture->path);
	status = fill_batch(load);
	if (!status) {
		cap_mark_needed(load->step, (int32_t)load->capture->config.page_size,
				load->c->tensors.kv_indices, load->needed);
		status = load_tensors(load);
	}
	free(load->needed);
	if (!status && load->capture->kind == CAPTURE_MODEL_FORWARD)
		status = absorb(load);
	if (!status)
		naturalise_lse(load->capture, &load->c->lse_ref);
	return status;
}

/* Indices as the caller of this room has them. */
static mla_status begin(struct capture *capture, int step, int layer, struct mla_case *c,
			struct load *load)
{
	int number;

	*c = (struct mla_case){0};
	*load = (struct load){.capture = capture, .c = c};
	if (step < 0 || step >= capture->num_steps || layer < 0 || layer >= capture->num_layers)
		return cap_fail(capture->path,
				"no step index %d with layer index %d: %d steps, %d layers", step,
				layer, capture->num_steps, capture->num_layers);
	number = capture->layers[layer];
	load->step = &capture->steps[step];
	snprintf(load->layer_group, CAP_PATH, "/layers/%03d", number);
	snprintf(load->problem_group, CAP_PATH, "/steps/%03d/layers/%03d", load->step->number,
		 number);
	name_case(load, number);
	cap_fill_config(capture, &c->config);
	return MLA_OK;
}

/* part: what of the case is made. */
static mla_status load(struct capture *capture, int step, int layer, struct mla_case *c,
		       mla_status (*part)(struct load *load))
{
	struct load load;
	mla_status status = begin(capture, step, layer, c, &load);

	if (!status)
		status = part(&load);
	if (status)
		case_free(c);
	return status;
}

mla_status capture_load(struct capture *capture, int step, int layer, struct mla_case *c)
{
	return load(capture, step, layer, c, load_case);
}

mla_status capture_load_batch(struct capture *capture, int step, int layer, struct mla_case *c)
{
	return load(capture, step, layer, c, fill_batch);
}

/* What capture_load would find in a step, once all datasets are known to be good. */
static mla_status check_load(struct capture *capture, int step, int layer, const mla_tensor *w_uk,
			     double largest_w)
{
	struct mla_case c;
	struct load load;
	mla_status status = begin(capture, step, layer, &c, &load);

	if (!status)
		status = check_memory(&load);
	if (!status && w_uk->data)
		status = load_tensor(&load, load.problem_group, "q_nope", false, &c.q_raw);
	if (!status && w_uk->data)
		status = check_overflow(&load, w_uk, largest_w);
	case_free(&c);
	return status;
}

mla_status cap_check_loads(struct capture *capture, int layer)
{
	struct mla_case weights;
	struct load load;
	mla_status status = begin(capture, 0, layer, &weights, &load);
	const mla_tensor *w_uk = &weights.w_uk;
	double most = 0;

	if (!status && capture->kind == CAPTURE_MODEL_FORWARD)
		status = check_memory(&load);
	if (!status && capture->kind == CAPTURE_MODEL_FORWARD)
		status = load_tensor(&load, load.layer_group, "w_uk", false, &weights.w_uk);
	if (!status && w_uk->data)
		most = largest(w_uk, w_uk->extent[0] * w_uk->extent[1] * w_uk->extent[2]);
	for (int s = 0; !status && s < capture->num_steps; s++)
		status = check_load(capture, s, layer, w_uk, most);
	case_free(&weights);
	return status;
}
