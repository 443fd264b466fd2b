/* open.c - capture_open: the check of an opened file against the schema's tables: attributes,
 * shapes, layers.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/validate.h"

enum { SCHEMA_VERSION = 1 };

/* ---- attributes ----------------------------------------------------------------------------- */

mla_status cap_need_attribute(const struct capture *capture, const char *object, const char *name,
			      enum cap_attribute_type type, const struct cap_attribute **one)
{
	static const char *const type_names[] = {"a string", "uint32", "float64"};

	*one = cap_attributes_find(&capture->listing.attributes, object, name);
	if (!*one)
		return cap_fail(capture->path, "missing attribute %s@%s", object, name);
	if ((*one)->type != type)
		return cap_fail(capture->path, "attribute %s@%s is %s, expected %s", object, name,
				type_names[(*one)->type], type_names[type]);
	return MLA_OK;
}

/* A string whose value is nothing to check. */
static mla_status need_string(const struct capture *capture, const char *object, const char *name)
{
	const struct cap_attribute *one;

	return cap_need_attribute(capture, object, name, CAP_STRING, &one);
}

/* The words as "a", "b" or "c". */
static void list_words(const char *const *words, char *text, size_t size)
{
	size_t used = 0;

	for (int i = 0; words[i] && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s\"%s\"",
					 i == 0         ? ""
					 : words[i + 1] ? ", "
							: " or ",
					 words[i]);
}

static mla_status read_choice(const struct capture *capture, const char *object, const char *name,
			      const char *const *words, int32_t *choice)
{
	const struct cap_attribute *one;
	mla_status status = cap_need_attribute(capture, object, name, CAP_STRING, &one);
	char expected[128];

	if (status)
		return status;
	for (*choice = 0; words[*choice]; ++*choice)
		if (!strcmp(words[*choice], one->text))
			return MLA_OK;
	list_words(words, expected, sizeof(expected));
	return cap_fail(capture->path, "%s@%s is \"%.64s\", expected %s", object, name, one->text,
			expected);
}

static mla_status check_root(struct capture *capture)
{
	const struct cap_attribute *schema =
		cap_attributes_find(&capture->listing.attributes, "/", "schema");
	const struct cap_attribute *version =
		cap_attributes_find(&capture->listing.attributes, "/", "schema_version");
	mla_status status;
	int32_t kind;

	if (!schema || schema->type != CAP_STRING || !version || version->type != CAP_U32)
		return cap_fail(capture->path,
				"no string /@schema and uint32 /@schema_version: not a capture; "
				"this build reads mla-capture version %d",
				SCHEMA_VERSION);
	if (strcmp(schema->text, "mla-capture") || version->number != SCHEMA_VERSION)
		return cap_fail(capture->path,
				"schema is \"%.64s\" version %" PRIu32
				"; this build reads mla-capture version %d",
				schema->text, version->number, SCHEMA_VERSION);
	status = read_choice(capture, "/", "kind", cap_kind_words, &kind);
	if (!status)
		capture->kind = (enum capture_kind)kind;
	for (int i = 0; !status && cap_provenance[i]; i++)
		status = need_string(capture, "/", cap_provenance[i]);
	return status;
}

static mla_status read_number(struct capture *capture, const struct cap_number_rule *rule)
{
	const struct cap_attribute *one;
	mla_status status = cap_need_attribute(capture, "/config", rule->name, CAP_U32, &one);

	if (status)
		return status;
	if (one->number < rule->min || one->number > rule->max)
		return cap_fail(capture->path,
				"/config@%s = %" PRIu32 ", expected %" PRIu32 " to %" PRIu32,
				rule->name, one->number, rule->min, rule->max);
	memcpy((char *)&capture->config + rule->offset, &one->number, sizeof(uint32_t));
	return MLA_OK;
}

static mla_status read_real(struct capture *capture, const struct cap_real_rule *rule)
{
	const struct cap_attribute *one;
	mla_status status = cap_need_attribute(capture, "/config", rule->name, CAP_DOUBLE, &one);

	if (status)
		return status;
	if (!isfinite(one->real))
		return cap_fail(capture->path, "/config@%s = %g, expected a finite number",
				rule->name, one->real);
	if (rule->offset == offsetof(struct cap_config, softmax_scale) &&
	    validate_scale(one->real, "/config@softmax_scale"))
		return cap_fail(capture->path, "%s", mla_last_error());
	memcpy((char *)&capture->config + rule->offset, &one->real, sizeof(double));
	return MLA_OK;
}

static mla_status read_config(struct capture *capture)
{
	mla_status status = MLA_OK;

	for (const struct cap_number_rule *rule = cap_numbers; !status && rule->name; rule++)
		status = read_number(capture, rule);
	for (const struct cap_real_rule *rule = cap_reals; !status && rule->name; rule++)
		status = read_real(capture, rule);
	for (const struct cap_choice_rule *rule = cap_choices; !status && rule->name; rule++) {
		int32_t choice = capture->config.dtype;

		if (!rule->optional ||
		    cap_attributes_find(&capture->listing.attributes, "/config", rule->name))
			status = read_choice(capture, "/config", rule->name, rule->words, &choice);
		memcpy((char *)&capture->config + rule->offset, &choice, sizeof(choice));
	}
	return status ? status : need_string(capture, "/config", "rope_scaling");
}

static mla_status check_config(struct capture *capture)
{
	const struct cap_config *config = &capture->config;
	const bool model = capture->kind == CAPTURE_MODEL_FORWARD;
	int64_t *extent = capture->extent;
	mla_status status = read_config(capture);

	if (status)
		return status;
	if (model && (!config->qk_nope_head_dim || !config->v_head_dim))
		return cap_fail(capture->path,
				"/config: qk_nope_head_dim = %" PRIu32 " and v_head_dim = %" PRIu32
				", a model-forward capture needs both",
				config->qk_nope_head_dim, config->v_head_dim);

	for (int i = 0; i < CAP_NUM_DIMS; i++)
		extent[i] = -1;
	extent[DIM_PAGE_SIZE] = config->page_size;
	extent[DIM_HEADS] = config->num_heads;
	extent[DIM_CKV] = config->kv_lora_rank;
	extent[DIM_KPE] = config->qk_rope_head_dim;
	extent[DIM_NOPE] = config->qk_nope_head_dim;
	extent[DIM_V] = config->v_head_dim;
	extent[DIM_Q] = model ? config->qk_nope_head_dim : config->kv_lora_rank;
	extent[DIM_D] = model ? config->v_head_dim : config->kv_lora_rank;
	return MLA_OK;
}

/* ---- datasets ------------------------------------------------------------------------------- */

static const char *const dim_names[CAP_NUM_DIMS] = {
	[DIM_REQUESTS] = "requests",
	[DIM_OFFSETS] = "requests + 1",
	[DIM_PAGE_ENTRIES] = "page entries",
	[DIM_QUERIES] = "total_q",
	[DIM_PAGES] = "pages",
	[DIM_PAGE_SIZE] = "page_size",
	[DIM_HEADS] = "num_heads",
	[DIM_CKV] = "kv_lora_rank",
	[DIM_KPE] = "qk_rope_head_dim",
	[DIM_NOPE] = "qk_nope_head_dim",
	[DIM_V] = "v_head_dim",
	[DIM_Q] = "qk_nope_head_dim, or kv_lora_rank if absorbed",
	[DIM_D] = "v_head_dim, or kv_lora_rank if absorbed",
};

static void format_shape(char *text, size_t size, int rank, const int64_t *extent)
{
	size_t used = (size_t)snprintf(text, size, "[");

	for (int i = 0; i < rank && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? "," : "",
					 extent[i]);
	if (used < size)
		snprintf(text + used, size - used, "]");
}

static mla_status fail_shape(const struct capture *capture, const struct cap_dataset *dataset,
			     const struct cap_rule *rule, const int64_t *extent)
{
	int64_t found[CAP_MAX_RANK] = {0}, expected[CAP_MAX_RANK] = {0};
	char found_text[96], expected_text[96], names[160];
	size_t used = 0;

	for (int i = 0; i < dataset->rank; i++)
		found[i] = (int64_t)dataset->extent[i];
	for (int i = 0; i < rule->rank; i++) {
		const int64_t e = extent[rule->dim[i]];

		expected[i] = e < 0 && i < dataset->rank ? found[i] : e;
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
					 dim_names[rule->dim[i]]);
	}
	format_shape(found_text, sizeof(found_text), dataset->rank, found);
	format_shape(expected_text, sizeof(expected_text), rule->rank, expected);
	return cap_fail(capture->path, "%s: shape %s, expected %s (%s)", dataset->path, found_text,
			expected_text, names);
}

/* The path of a rule's dataset, and whether it is there; it may be absent if nothing needs it. */
static mla_status find_by_rule(const struct capture *capture, const char *group,
			       const struct cap_rule *rule, char path[CAP_PATH], bool *there)
{
	const bool applies = cap_rule_applies(rule, &capture->config);

	cap_join(path, group, rule->name);
	*there = cap_find(capture, path);
	if (*there && !applies)
		return cap_fail(capture->path, "%s exists, but qk_rope_head_dim is 0", path);
	if (!*there && applies && (rule->required & 1u << capture->kind))
		return cap_fail(capture->path, "missing dataset %s", path);
	return MLA_OK;
}

mla_status cap_take_by_rule(const struct capture *capture, const char *group,
			    const struct cap_rule *rule, int64_t *extent,
			    const struct cap_dataset **dataset)
{
	const enum cap_element element = cap_rule_element(rule, &capture->config);
	char path[CAP_PATH];
	bool there, right;
	mla_status status = find_by_rule(capture, group, rule, path, &there);

	*dataset = NULL;
	if (!status && there)
		status = cap_dataset_find(capture, path, (int)element, dataset);
	if (status || !there)
		return status;
	right = (*dataset)->rank == rule->rank;
	for (int i = 0; right && i < rule->rank; i++) {
		const int64_t e = extent[rule->dim[i]];

		right = e < 0 || e == (int64_t)(*dataset)->extent[i];
	}
	if (!right)
		return fail_shape(capture, *dataset, rule, extent);
	for (int i = 0; i < rule->rank; i++)
		extent[rule->dim[i]] = (int64_t)(*dataset)->extent[i];
	return MLA_OK;
}

static mla_status check_rule(const struct capture *capture, const char *group,
			     const struct cap_rule *rule, int64_t *extent)
{
	const struct cap_dataset *dataset;
	mla_status status = cap_take_by_rule(capture, group, rule, extent, &dataset);

	if (!status && dataset && rule->reference)
		status = need_string(capture, dataset->path, "computed_by");
	if (!status && dataset && rule->reference)
		status = need_string(capture, dataset->path, "dtype");
	return status;
}

mla_status cap_check_group(const struct capture *capture, const char *group,
			   const struct cap_rule *rules, int64_t *extent)
{
	mla_status status = MLA_OK;

	for (const struct cap_rule *rule = rules; !status && rule->name; rule++)
		status = check_rule(capture, group, rule, extent);
	return status;
}

static mla_status check_harmless(const struct capture *capture, const char *path, uint64_t *total,
				 uint64_t *stored)
{
	const struct cap_attribute *sha;
	const struct cap_dataset *dataset;
	mla_status status = cap_need_attribute(capture, path, "sha256", CAP_STRING, &sha);

	if (status)
		return status;
	if (strlen(sha->text) != 64 || strspn(sha->text, "0123456789abcdef") != 64)
		return cap_fail(capture->path,
				"%s@sha256 is \"%.64s\", expected 64 lower-case hex digits", path,
				sha->text);
	status = cap_dataset_find(capture, path, CAP_ANY_ELEMENT, &dataset);
	if (status)
		return status;
	*total += dataset->bytes;
	*stored += dataset->stored;
	return MLA_OK;
}

/* Datasets beyond the schema are carried along; they too must be harmless and have a checksum. */
static mla_status check_every_dataset(struct capture *capture)
{
	uint64_t total = 0, stored = 0; /* 65,536 times 2^37 fit */
	mla_status status = MLA_OK;

	for (size_t i = 0; !status && i < capture->listing.num_objects; i++)
		if (!capture->listing.objects[i].group)
			status = check_harmless(capture, capture->listing.objects[i].path, &total,
						&stored);
	if (status)
		return status;
	if (stored > capture->file_bytes)
		return cap_fail(capture->path,
				"datasets claim %" PRIu64 " stored bytes in a file of %" PRIu64,
				stored, capture->file_bytes);
	if (total > CAP_TOTAL_BYTES(capture->file_bytes))
		return cap_fail(capture->path,
				"holds %" PRIu64
				" bytes of elements, expected at most 4 GiB and 64 "
				"times the file's %" PRIu64 " bytes",
				total, capture->file_bytes);
	return MLA_OK;
}

/* ---- layers and steps ----------------------------------------------------------------------- */

mla_status cap_list_groups(const struct capture *capture, const char *parent, int **numbers,
			   int *count)
{
	enum { MAX_GROUPS = 1000 };
	char path[CAP_PATH];

	*count = 0;
	*numbers = malloc(MAX_GROUPS * sizeof(**numbers));
	if (!*numbers)
		return cap_fail_memory(capture->path);
	for (int i = 0; i < MAX_GROUPS; i++) {
		snprintf(path, sizeof(path), "%s/%03d", parent, i);
		if (cap_find(capture, path))
			(*numbers)[(*count)++] = i;
	}
	if (!*count)
		return cap_fail(capture->path, "no group %s/000 to %s/999, expected one", parent,
				parent);
	return MLA_OK;
}

static mla_status check_layer(struct capture *capture, int layer)
{
	const struct cap_attribute *index;
	char group[CAP_PATH];
	mla_status status;

	snprintf(group, sizeof(group), "/layers/%03d", layer);
	status = cap_need_attribute(capture, group, "layer_index", CAP_U32, &index);
	if (status)
		return status;
	if (index->number != (uint32_t)layer)
		return cap_fail(capture->path, "%s@layer_index = %" PRIu32 ", expected %d", group,
				index->number, layer);
	return cap_check_group(capture, group, cap_layer_rules, capture->extent);
}

static mla_status check_layers(struct capture *capture)
{
	mla_status status =
		cap_list_groups(capture, "/layers", &capture->layers, &capture->num_layers);

	for (int i = 0; !status && i < capture->num_layers; i++)
		status = check_layer(capture, capture->layers[i]);
	return status;
}

/* Last: what is wrong with the attribute that was changed says more. */
static mla_status check_content(struct capture *capture)
{
	const char *stored = cap_text_of(capture, "/", "content_sha256");
	char hex[SHA256_TEXT];
	mla_status status;

	if (!stored)
		return MLA_OK;
	status = cap_content_sha256(&capture->listing.attributes, capture->path, hex);
	if (status || !strcmp(stored, hex))
		return status;
	return cap_fail(capture->path,
			"content_sha256 mismatch (file %.16s..., attributes %.16s...): an "
			"attribute was changed",
			stored, hex);
}

/* ---- the interface -------------------------------------------------------------------------- */

static mla_status check_all(struct capture *capture)
{
	static mla_status (*const checks[])(struct capture *) = {
		cap_file_open,   check_root,          check_config,  check_layers,
		cap_check_steps, check_every_dataset, check_content,
	};
	mla_status status = MLA_OK;

	for (size_t i = 0; !status && i < sizeof(checks) / sizeof(*checks); i++)
		status = checks[i](capture);
	return status;
}

mla_status capture_open(const char *path, struct capture **capture)
{
	mla_status status;

	*capture = calloc(1, sizeof(**capture));
	if (*capture)
		(*capture)->path = strdup(path);
	if (*capture && (*capture)->path)
		status = check_all(*capture);
	else
		status = cap_fail_memory(path);
	if (status) {
		capture_close(*capture);
		*capture = NULL;
	}
	return status;
}

void capture_close(struct capture *capture)
{
	if (!capture)
		return;
	for (int i = 0; i < capture->num_steps; i++) {
		struct cap_step *step = &capture->steps[i];
		int32_t *const lists[] = {step->kv_len, step->qo_indptr, step->kv_indptr,
					  step->pages,  step->positions, step->kv_page_indices,
					  step->q_pos0};

		for (size_t k = 0; k < sizeof(lists) / sizeof(*lists); k++)
			free(lists[k]);
	}
	free(capture->steps);
	free(capture->layers);
	cap_listing_free(&capture->listing);
	cap_reader_close(capture->reader);
	free(capture->path);
	free(capture);
}

enum capture_kind capture_kind(const struct capture *capture)
{
	return capture->kind;
}

int capture_num_steps(const struct capture *capture)
{
	return capture->num_steps;
}

int capture_num_layers(const struct capture *capture)
{
	return capture->num_layers;
}

int capture_step_number(const struct capture *capture, int step)
{
	return capture->steps[step].number;
}

int capture_layer_number(const struct capture *capture, int layer)
{
	return capture->layers[layer];
}

const char *capture_step_name(const struct capture *capture, int step)
{
	return capture->steps[step].name;
}
