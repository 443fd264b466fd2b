/* read.c - one (step, layer) of a capture as a case in memory. */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/geometry.h"
#include "reference/reference.h"

/* What a load works on. */
struct load {
	struct capture *capture;
	const struct cap_step *step;
	struct mla_case *c;
	char layer_group[CAP_PATH], problem_group[CAP_PATH];
	int32_t *visible; /* as cap_mark_visible fills it */
};

void cap_mark_visible(const struct cap_step *step, int32_t page_size, int32_t *visible)
{
	const mla_config config = {.page_size = page_size};
	const mla_batch batch = {
		.batch_size = (int32_t)step->extent[DIM_REQUESTS],
		.qo_indptr = step->qo_indptr,
		.kv_indptr = step->kv_indptr,
		.kv_len = step->kv_len,
		.q_pos0 = step->q_pos0,
	};

	geometry_mark(&config, &batch, step->kv_page_indices, GEOMETRY_KEPT, visible);
}

uint64_t cap_count_bad(const struct cap_dataset *dataset, const void *data, uint64_t row,
		       uint64_t rows, const int32_t *visible, uint64_t *first)
{
	const uint64_t size = cap_element_size(dataset->element);
	const uint64_t row_count = dataset->row_bytes / size;
	uint64_t slot_count, found = 0, at = 0;

	if (!visible) {
		found = cap_count_non_finite(dataset->element, data, rows * row_count, &at);
		*first = row * row_count + at;
		return found;
	}
	slot_count = row_count / dataset->extent[1];
	for (uint64_t i = 0; i < rows; i++) {
		const uint64_t count = (uint64_t)visible[row + i] * slot_count;
		const char *page = (const char *)data + i * dataset->row_bytes;
		const uint64_t bad = cap_count_non_finite(dataset->element, page, count, &at);

		if (bad && !found)
			*first = (row + i) * row_count + at;
		found += bad;
	}
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

/* Which values of a dataset must be finite. */
enum finite { FINITE_ANY, FINITE_ALL, FINITE_VISIBLE };

static mla_status check_finite(const struct load *load, const struct cap_dataset *dataset,
			       const void *data, enum finite finite)
{
	uint64_t bad = 0, first = 0;

	if (finite != FINITE_ANY && dataset->bytes)
		bad = cap_count_bad(dataset, data, 0, dataset->extent[0],
				    finite == FINITE_VISIBLE ? load->visible : NULL, &first);
	return bad ? cap_fail_non_finite(load->capture->path, dataset, bad, first) : MLA_OK;
}

/* Reads a dataset into a tensor of the case; nothing if it is absent, which open has allowed. */
static mla_status load_tensor(const struct load *load, const char *group, const char *name,
			      enum finite finite, mla_tensor *tensor)
{
	const struct capture *capture = load->capture;
	struct cap_dataset dataset;
	char path[CAP_PATH];
	int64_t extent[CAP_MAX_RANK];
	mla_status status;

	cap_join(path, group, name);
	if (!cap_find(capture, path))
		return MLA_OK;
	status = cap_dataset_open(capture, path, CAP_ANY_ELEMENT, &dataset);
	if (status)
		return status;
	for (int i = 0; i < dataset.rank; i++)
		extent[i] = (int64_t)dataset.extent[i];
	*tensor = case_tensor(load->c, (int32_t)dataset.element, dataset.rank, extent);
	if (!tensor->data)
		status = cap_fail_memory(capture->path);
	else
		status = cap_dataset_read(capture, &dataset, NULL, NULL, tensor->data);
	if (!status)
		status = check_finite(load, &dataset, tensor->data, finite);
	cap_dataset_close(&dataset);
	return status;
}

static void fill_config(const struct capture *capture, mla_config *config)
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

static int32_t *copy_index(struct mla_case *c, const int32_t *from, int64_t count)
{
	int32_t *to = case_alloc(c, (size_t)count * sizeof(*to));

	if (to && count)
		memcpy(to, from, (size_t)count * sizeof(*to));
	return to;
}

static mla_status fill_batch(const struct load *load)
{
	const struct cap_step *step = load->step;
	const int64_t requests = step->extent[DIM_REQUESTS];
	const int64_t entries = step->extent[DIM_PAGE_ENTRIES];
	struct mla_case *c = load->c;
	mla_batch *batch = &c->batch;

	batch->struct_size = sizeof(*batch);
	batch->batch_size = (int32_t)requests;
	batch->qo_indptr = copy_index(c, step->qo_indptr, requests + 1);
	batch->kv_indptr = copy_index(c, step->kv_indptr, requests + 1);
	batch->kv_len = copy_index(c, step->kv_len, requests);
	if (step->q_pos0)
		batch->q_pos0 = copy_index(c, step->q_pos0, requests);
	c->tensors.struct_size = sizeof(c->tensors);
	c->tensors.kv_indices = copy_index(c, step->kv_page_indices, entries);
	c->tensors.num_kv_indices = entries;
	if (!batch->qo_indptr || !batch->kv_indptr || !batch->kv_len ||
	    (step->q_pos0 && !batch->q_pos0) || !c->tensors.kv_indices)
		return cap_fail_memory(load->capture->path);
	return MLA_OK;
}

static mla_status load_tensors(const struct load *load)
{
	const bool model = load->capture->kind == CAPTURE_MODEL_FORWARD;
	struct mla_case *c = load->c;
	const struct {
		const char *group, *name;
		enum finite finite;
		mla_tensor *tensor;
	} parts[] = {
		{load->layer_group, "ckv_cache", FINITE_VISIBLE, &c->tensors.ckv},
		{load->layer_group, "kpe_cache", FINITE_VISIBLE, &c->tensors.kpe},
		{load->layer_group, "w_uk", FINITE_ALL, &c->w_uk},
		{load->layer_group, "w_uv", FINITE_ALL, &c->w_uv},
		{load->problem_group, "q_nope", FINITE_ALL, model ? &c->q_raw : &c->tensors.q_nope},
		{load->problem_group, "q_pe", FINITE_ALL, &c->tensors.q_pe},
		{load->problem_group, "out_model", FINITE_ANY, &c->out_model},
		{load->problem_group, "out_ref", FINITE_ANY, &c->out_ref},
		{load->problem_group, "lse_ref", FINITE_ANY, &c->lse_ref},
	};
	mla_status status = MLA_OK;

	for (size_t i = 0; !status && i < sizeof(parts) / sizeof(*parts); i++)
		status = load_tensor(load, parts[i].group, parts[i].name, parts[i].finite,
				     parts[i].tensor);
	return status;
}

/* q_nope = q_raw absorbed with W_UK: fp64 sums, rounded once. In blocks of queries, because the
 * fp64 intermediate of a long prefill would not fit in memory. */
static mla_status absorb(const struct load *load)
{
	enum { BLOCK = 64 };
	struct mla_case *c = load->c;
	const int64_t total_q = c->q_raw.extent[0];
	const int64_t row = c->q_raw.extent[1] * c->w_uk.extent[2];
	const int64_t extent[3] = {total_q, c->q_raw.extent[1], c->w_uk.extent[2]};
	const size_t size = cap_element_size((enum cap_element)c->q_raw.dtype);
	double *block = malloc((size_t)(BLOCK * row) * sizeof(*block));
	uint64_t bad, first;

	c->tensors.q_nope = case_tensor(c, c->q_raw.dtype, 3, extent);
	if (!block || !c->tensors.q_nope.data) {
		free(block);
		return cap_fail_memory(load->capture->path);
	}
	for (int64_t t = 0; t < total_q; t += BLOCK) {
		mla_tensor part = c->q_raw;
		char *to = (char *)c->tensors.q_nope.data + t * c->tensors.q_nope.stride[0];

		part.data = (char *)part.data + t * part.stride[0];
		part.extent[0] = total_q - t < BLOCK ? total_q - t : BLOCK;
		ref_absorb_q(&part, &c->w_uk, block);
		for (int64_t i = 0; i < part.extent[0] * row; i++)
			ref_store(to + (size_t)i * size, part.dtype, block[i]);
	}
	free(block);
	bad = cap_count_non_finite((enum cap_element)c->q_raw.dtype, c->tensors.q_nope.data,
				   (uint64_t)(total_q * row), &first);
	if (bad)
		return cap_fail(load->capture->path,
				"%s/q_nope: %" PRIu64 " values overflow %s once absorbed with W_UK",
				load->problem_group, bad,
				cap_element_name((enum cap_element)c->q_raw.dtype));
	return MLA_OK;
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

	snprintf(load->c->name, sizeof(load->c->name), "%.80s:%03d/%03d",
		 slash ? slash + 1 : load->capture->path, load->step->number, layer);
}

static mla_status load_case(struct load *load)
{
	mla_status status = fill_batch(load);

	if (status)
		return status;
	load->visible = calloc((size_t)load->capture->extent[DIM_PAGES] + 1, sizeof(int32_t));
	if (!load->visible)
		return cap_fail_memory(load->capture->path);
	cap_mark_visible(load->step, (int32_t)load->capture->config.page_size, load->visible);
	status = load_tensors(load);
	free(load->visible);
	if (!status && load->capture->kind == CAPTURE_MODEL_FORWARD)
		status = absorb(load);
	if (!status)
		naturalise_lse(load->capture, &load->c->lse_ref);
	return status;
}

mla_status capture_load(struct capture *capture, int step, int layer, struct mla_case *c)
{
	struct load load = {.capture = capture, .c = c};
	mla_status status;
	int number;

	memset(c, 0, sizeof(*c));
	if (step < 0 || step >= capture->num_steps || layer < 0 || layer >= capture->num_layers)
		return cap_fail(capture->path,
				"no step index %d with layer index %d: %d steps, %d layers", step,
				layer, capture->num_steps, capture->num_layers);
	number = capture->layers[layer];
	load.step = &capture->steps[step];
	snprintf(load.layer_group, CAP_PATH, "/layers/%03d", number);
	snprintf(load.problem_group, CAP_PATH, "/steps/%03d/layers/%03d", load.step->number,
		 number);
	name_case(&load, number);
	fill_config(capture, &c->config);
	status = load_case(&load);
	if (status)
		case_free(c);
	return status;
}
