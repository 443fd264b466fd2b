/* write.c - writes captures: a writer of groups, attributes and checksummed datasets, which
 * mla cut uses too, and capture_write for a case in memory. The same case gives the same bytes.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "lib/geometry.h"

/* ---- what goes wrong ------------------------------------------------------------------------ */

/* Of the stack of HDF5's errors, innermost first. */
struct reason {
	int error; /* the system's, 0: none is told */
	char text[256];
};

static herr_t find_reason(unsigned n, const H5E_error2_t *entry, void *data)
{
	static const char key[] = "errno = ";
	struct reason *reason = data;
	const char *found = entry->desc ? strstr(entry->desc, key) : NULL;

	if (found && !reason->error)
		reason->error = atoi(found + strlen(key));
	if (!n && entry->desc)
		snprintf(reason->text, sizeof(reason->text), "%s", entry->desc);
	return 0;
}

/* What HDF5 says of a failed write holds times and addresses: the system's reason is all that a
 * reader needs. HDF5 would try again when the file is closed, and crash: it is left as it is. */
static mla_status fail_write(struct cap_writer *writer, const char *object)
{
	struct reason reason = {.text = "no reason"};

	writer->broken = true;
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, find_reason, &reason);
	if (reason.error)
		return cap_fail(writer->path, "cannot be written: %s", strerror(reason.error));
	return cap_fail(writer->path, "cannot be written: %s: HDF5 gives %s", object, reason.text);
}

/* ---- the writer ----------------------------------------------------------------------------- */

/* The descriptor, not the name, which may be someone else's file by now in a folder of many; the
 * name where there is no /proc. */
static hid_t create_file(const struct output *output, hid_t create, hid_t access_list)
{
	char *name = text_format("/proc/self/fd/%d", output->descriptor);
	const hid_t file = H5Fcreate(access(name, F_OK) ? output->path : name, H5F_ACC_TRUNC,
				     create, access_list);

	free(name);
	return file;
}

mla_status cap_writer_open(struct cap_writer *writer, struct output *output, bool compress)
{
	hid_t access, create;
	mla_status status = MLA_OK;

	*writer = (struct cap_writer){.path = output->name, .output = output, .compress = compress};
	cap_hdf5_quiet();
	cap_types_make(writer->type);
	access = H5Pcreate(H5P_FILE_ACCESS);
	create = H5Pcreate(H5P_FILE_CREATE);
	H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
	H5Pset_obj_track_times(create, false);
	writer->file = create_file(output, create, access);
	if (writer->file < 0)
		status = fail_write(writer, "the file");
	H5Pclose(create);
	H5Pclose(access);
	return status;
}

/* What is found is said of the file that was asked for, not of the name it is written under. */
static mla_status verify_written(const struct cap_writer *writer)
{
	const size_t length = strlen(writer->output->path);
	const mla_status status = capture_verify(writer->output->path, false, NULL);
	char text[ERROR_SIZE];

	if (!status)
		return MLA_OK;
	snprintf(text, sizeof(text), "%s", mla_last_error());
	if (!strncmp(text, writer->output->path, length))
		cap_fail(writer->path, "%s", text + length + strlen(": "));
	return status;
}

mla_status cap_writer_commit(struct cap_writer *writer)
{
	const hid_t file = writer->file;
	char hex[SHA256_TEXT];
	mla_status status = cap_content_sha256(&writer->attributes, writer->path, hex);

	if (!status)
		status = cap_write_string(writer, "/", "content_sha256", hex);
	if (status)
		return status;
	writer->file = 0;
	if (H5Fclose(file) < 0)
		return fail_write(writer, "closing");
	status = verify_written(writer);
	return status ? status : output_commit(writer->output);
}

void cap_writer_close(struct cap_writer *writer)
{
	if (writer->file > 0 && !writer->broken)
		H5Fclose(writer->file);
	cap_types_close(writer->type);
	cap_attributes_free(&writer->attributes);
}

mla_status cap_write_group(struct cap_writer *writer, const char *path)
{
	const hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
	mla_status status = MLA_OK;
	hid_t group;

	H5Pset_obj_track_times(plist, false);
	group = H5Gcreate2(writer->file, path, H5P_DEFAULT, plist, H5P_DEFAULT);
	if (group < 0)
		status = fail_write(writer, path);
	else
		H5Gclose(group);
	H5Pclose(plist);
	return status;
}

mla_status cap_write_attribute(struct cap_writer *writer, const struct cap_attribute *attribute)
{
	const void *value = attribute->type == CAP_STRING ? (const void *)attribute->text
			    : attribute->type == CAP_U32  ? (const void *)&attribute->number
							  : (const void *)&attribute->real;
	const hid_t base = attribute->type == CAP_STRING ? H5T_C_S1
			   : attribute->type == CAP_U32  ? H5T_STD_U32LE
							 : H5T_IEEE_F64LE;
	const hid_t type = H5Tcopy(base), space = H5Screate(H5S_SCALAR);
	mla_status status;
	hid_t id;

	if (attribute->type == CAP_STRING) {
		H5Tset_size(type, strlen(attribute->text));
		H5Tset_strpad(type, H5T_STR_NULLPAD);
		H5Tset_cset(type, H5T_CSET_UTF8);
	}
	id = H5Acreate_by_name(writer->file, attribute->object, attribute->name, type, space,
			       H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	if (id < 0 || H5Awrite(id, type, value) < 0)
		status = fail_write(writer, attribute->name);
	else
		status = cap_attributes_add(&writer->attributes, attribute, writer->path);
	if (id >= 0 && !writer->broken)
		H5Aclose(id);
	H5Sclose(space);
	H5Tclose(type);
	return status;
}

mla_status cap_write_string(struct cap_writer *writer, const char *object, const char *name,
			    const char *text)
{
	const struct cap_attribute one = {
		.object = (char *)object,
		.name = (char *)name,
		.type = CAP_STRING,
		.text = (char *)(text && *text ? text : "none"),
	};

	return cap_write_attribute(writer, &one);
}

mla_status cap_write_u32(struct cap_writer *writer, const char *object, const char *name,
			 uint32_t number)
{
	const struct cap_attribute one = {
		.object = (char *)object,
		.name = (char *)name,
		.type = CAP_U32,
		.number = number,
	};

	return cap_write_attribute(writer, &one);
}

static mla_status write_f64(struct cap_writer *writer, const char *object, const char *name,
			    double real)
{
	const struct cap_attribute one = {
		.object = (char *)object,
		.name = (char *)name,
		.type = CAP_DOUBLE,
		.real = real,
	};

	return cap_write_attribute(writer, &one);
}

/* ---- datasets ------------------------------------------------------------------------------- */

/* Chunks of about CAP_CHUNK_BYTES: whole rows of the first dimension, or parts of one if a row is
 * larger than that. */
static hid_t storage_plist(const struct cap_sink *sink, bool compress)
{
	const hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
	hsize_t chunk[CAP_MAX_RANK], bytes = cap_element_size(sink->element);
	bool empty = false;

	H5Pset_obj_track_times(plist, false);
	for (int i = sink->rank - 1; i >= 0; i--) {
		const hsize_t fit = bytes < CAP_CHUNK_BYTES ? CAP_CHUNK_BYTES / bytes : 1;

		chunk[i] = sink->extent[i] < fit ? sink->extent[i] : fit;
		bytes *= chunk[i];
		empty |= sink->extent[i] == 0;
	}
	if (empty)
		return plist;
	H5Pset_chunk(plist, sink->rank, chunk);
	if (compress) {
		H5Pset_shuffle(plist);
		H5Pset_deflate(plist, 1);
	}
	H5Pset_fletcher32(plist);
	return plist;
}

mla_status cap_sink_open(struct cap_writer *writer, const char *path, enum cap_element element,
			 int rank, const int64_t *extent, struct cap_sink *sink)
{
	mla_status status = MLA_OK;
	hid_t plist, space;

	memset(sink, 0, sizeof(*sink));
	sink->writer = writer;
	sink->element = element;
	sink->rank = rank;
	sink->row_bytes = cap_element_size(element);
	snprintf(sink->path, sizeof(sink->path), "%s", path);
	for (int i = 0; i < rank; i++) {
		sink->extent[i] = (hsize_t)extent[i];
		sink->row_bytes *= i ? (size_t)extent[i] : 1;
	}
	sink->sha = sha256_begin();
	if (!sink->sha)
		return cap_fail_memory(writer->path);
	space = H5Screate_simple(rank, sink->extent, NULL);
	plist = storage_plist(sink, writer->compress);
	sink->id = H5Dcreate2(writer->file, path, writer->type[element], space, H5P_DEFAULT, plist,
			      H5P_DEFAULT);
	if (sink->id < 0)
		status = fail_write(writer, path);
	H5Pclose(plist);
	H5Sclose(space);
	if (status)
		sha256_finish(sink->sha, NULL);
	return status;
}

mla_status cap_sink_rows(struct cap_sink *sink, const void *data, hsize_t rows)
{
	const hid_t type = sink->writer->type[sink->element];
	hsize_t start[CAP_MAX_RANK] = {sink->rows_done}, count[CAP_MAX_RANK];
	mla_status status = MLA_OK;
	hid_t space, memory;

	if (!rows || !sink->row_bytes)
		return MLA_OK;
	memcpy(count, sink->extent, sizeof(count));
	count[0] = rows;
	space = H5Dget_space(sink->id);
	memory = H5Screate_simple(sink->rank, count, NULL);
	if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
	    H5Dwrite(sink->id, type, memory, space, H5P_DEFAULT, data) < 0)
		status = fail_write(sink->writer, sink->path);
	H5Sclose(memory);
	H5Sclose(space);
	sha256_add(sink->sha, data, rows * sink->row_bytes);
	sink->rows_done += rows;
	return status;
}

mla_status cap_sink_close(struct cap_sink *sink, mla_status so_far)
{
	char hex[SHA256_TEXT];
	mla_status status = so_far;

	sha256_finish(sink->sha, hex);
	if (!sink->writer->broken && H5Dclose(sink->id) < 0)
		status = fail_write(sink->writer, sink->path);
	if (!status)
		status = cap_write_string(sink->writer, sink->path, "sha256", hex);
	return status;
}

mla_status cap_write_index(struct cap_writer *writer, const char *path, const int32_t *values,
			   int64_t count)
{
	struct cap_sink sink;
	mla_status status = cap_sink_open(writer, path, CAP_I32, 1, &count, &sink);

	if (status)
		return status;
	status = cap_sink_rows(&sink, values, (hsize_t)count);
	return cap_sink_close(&sink, status);
}

/* ---- a case --------------------------------------------------------------------------------- */

#define LAYER_GROUP   "/layers/000"
#define STEP_GROUP    "/steps/000"
#define PROBLEM_GROUP "/steps/000/layers/000"

/* Copies one index of the first dimension, any strides, to contiguous memory. */
static void pack_row(const mla_tensor *tensor, int64_t row, size_t size, char *to)
{
	const char *from = (const char *)tensor->data + row * tensor->stride[0];
	const int64_t planes = tensor->ndim > 2 ? tensor->extent[1] : 1;
	const size_t bytes = (size_t)tensor->extent[tensor->ndim - 1] * size;

	for (int64_t i = 0; i < planes; i++)
		memcpy(to + (size_t)i * bytes, from + i * tensor->stride[1], bytes);
}

/* In blocks, because a tensor of any strides is packed before it is written. */
static mla_status write_rows(struct cap_sink *sink, const mla_tensor *tensor, int64_t rows)
{
	const size_t size = cap_element_size(sink->element), row = sink->row_bytes;
	const int64_t fit = row && row < CAP_SLAB_BYTES ? (int64_t)(CAP_SLAB_BYTES / row) : 1;
	const int64_t block = fit < rows ? fit : rows;
	char *packed = malloc((size_t)block * row + 1);
	mla_status status = packed ? MLA_OK : cap_fail_memory(sink->writer->path);

	for (int64_t at = 0; !status && row && at < rows; at += block) {
		const int64_t count = rows - at < block ? rows - at : block;

		for (int64_t i = 0; i < count; i++)
			pack_row(tensor, at + i, size, packed + (size_t)i * row);
		status = cap_sink_rows(sink, packed, (hsize_t)count);
	}
	free(packed);
	return status;
}

/* Writes the first rows of a tensor. */
static mla_status write_tensor(struct cap_writer *writer, const char *path,
			       const mla_tensor *tensor, int64_t rows)
{
	const enum cap_element element = (enum cap_element)tensor->dtype;
	const int64_t extent[3] = {rows, tensor->extent[1], tensor->extent[2]};
	struct cap_sink sink;
	mla_status status = cap_sink_open(writer, path, element, tensor->ndim, extent, &sink);

	if (status)
		return status;
	status = write_rows(&sink, tensor, rows);
	return cap_sink_close(&sink, status);
}

static mla_status write_root(struct cap_writer *writer, const struct capture_writing *how)
{
	mla_status status = cap_write_string(writer, "/", "schema", "mla-capture");

	if (!status)
		status = cap_write_u32(writer, "/", "schema_version", 1);
	if (!status)
		status = cap_write_string(writer, "/", "kind", cap_kind_words[CAPTURE_SYNTHETIC]);
	for (int i = 0; !status && cap_provenance[i]; i++) {
		const char *name = cap_provenance[i];
		const char *text = !strcmp(name, "notes")          ? how->notes
				   : !strcmp(name, "capture_tool") ? how->tool
								   : "none";

		status = cap_write_string(writer, "/", name, text);
	}
	return status;
}

static void config_of_case(const struct mla_case *c, struct cap_config *config)
{
	*config = (struct cap_config){
		.num_heads = (uint32_t)c->config.num_heads,
		.kv_lora_rank = (uint32_t)c->config.head_dim_ckv,
		.qk_rope_head_dim = (uint32_t)c->config.head_dim_kpe,
		.page_size = (uint32_t)c->config.page_size,
		.causal = c->config.causal != 0,
		.softmax_scale = c->config.sm_scale,
		.rope_layout = 2, /* none: generated values were never rotated */
		.lse_base = c->config.lse_base,
		.dtype = c->config.q_dtype,
		.ckv_dtype = c->config.ckv_dtype,
		.kpe_dtype = c->config.kpe_dtype,
		.out_dtype = c->config.out_dtype,
	};
}

/* Writes /config from the tables that read it. */
static mla_status write_config(struct cap_writer *writer, const struct cap_config *config)
{
	const char *base = (const char *)config;
	mla_status status = MLA_OK;
	uint32_t number;
	int32_t choice;
	double real;

	for (const struct cap_number_rule *rule = cap_numbers; !status && rule->name; rule++) {
		memcpy(&number, base + rule->offset, sizeof(number));
		status = cap_write_u32(writer, "/config", rule->name, number);
	}
	for (const struct cap_real_rule *rule = cap_reals; !status && rule->name; rule++) {
		memcpy(&real, base + rule->offset, sizeof(real));
		status = write_f64(writer, "/config", rule->name, real);
	}
	for (const struct cap_choice_rule *rule = cap_choices; !status && rule->name; rule++) {
		memcpy(&choice, base + rule->offset, sizeof(choice));
		if (!rule->optional || choice != config->dtype)
			status = cap_write_string(writer, "/config", rule->name,
						  rule->words[choice]);
	}
	return status ? status : cap_write_string(writer, "/config", "rope_scaling", "none");
}

/* Positions of the queries, as the causal mask counts them. */
static mla_status write_positions(struct cap_writer *writer, const struct mla_case *c)
{
	const mla_batch *batch = &c->batch;
	const int64_t total_q = case_total_q(c);
	int32_t *positions = malloc((size_t)total_q * sizeof(*positions) + 1);
	mla_status status;

	if (!positions)
		return cap_fail_memory(writer->path);
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int32_t begin = batch->qo_indptr[r], end = batch->qo_indptr[r + 1];
		const int32_t first = (int32_t)geometry_position(batch, r);

		for (int32_t i = begin; i < end; i++)
			positions[i] = first + (i - begin);
	}
	status = cap_write_index(writer, STEP_GROUP "/positions", positions, total_q);
	free(positions);
	return status;
}

static mla_status write_step(struct cap_writer *writer, const struct mla_case *c)
{
	static const int32_t zero = 0;
	const mla_batch *batch = &c->batch;
	const int64_t requests = batch->batch_size;
	const struct {
		const char *path;
		const int32_t *values;
		int64_t count;
	} parts[] = {
		{STEP_GROUP "/qo_indptr", requests ? batch->qo_indptr : &zero, requests + 1},
		{STEP_GROUP "/kv_indptr", requests ? batch->kv_indptr : &zero, requests + 1},
		{STEP_GROUP "/kv_page_indices", c->tensors.kv_indices, c->tensors.num_kv_indices},
		{STEP_GROUP "/kv_len", batch->kv_len, requests},
	};
	mla_status status = cap_write_string(writer, STEP_GROUP, "name", "synthetic");

	for (size_t i = 0; !status && i < sizeof(parts) / sizeof(*parts); i++)
		status = cap_write_index(writer, parts[i].path, parts[i].values, parts[i].count);
	if (!status && batch->q_pos0)
		status = cap_write_index(writer, STEP_GROUP "/q_pos0", batch->q_pos0, requests);
	return status ? status : write_positions(writer, c);
}

/* A reference that a case carries is in base e. */
static mla_status write_lse(struct cap_writer *writer, const struct mla_case *c)
{
	const double factor = c->config.lse_base == MLA_LSE_BASE2 ? 1 / M_LN2 : 1;
	const int64_t rows = case_total_q(c), heads = c->lse_ref.extent[1];
	const int64_t extent[2] = {rows, heads};
	float *values = malloc((size_t)(rows * heads) * sizeof(*values) + 1);
	mla_tensor lse = {.data = values, .dtype = MLA_F32, .ndim = 2};
	mla_status status;

	if (!values)
		return cap_fail_memory(writer->path);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t h = 0; h < heads; h++) {
			const char *from = (const char *)c->lse_ref.data +
					   i * c->lse_ref.stride[0] + h * c->lse_ref.stride[1];
			float value;

			memcpy(&value, from, sizeof(value));
			values[i * heads + h] = (float)(value * factor);
		}
	memcpy(lse.extent, extent, sizeof(extent));
	lse.stride[0] = heads * (int64_t)sizeof(float);
	lse.stride[1] = sizeof(float);
	status = write_tensor(writer, PROBLEM_GROUP "/lse_ref", &lse, rows);
	free(values);
	return status;
}

static mla_status write_reference_facts(struct cap_writer *writer, const char *path,
					const struct capture_writing *how)
{
	const mla_status status = cap_write_string(writer, path, "computed_by", how->tool);

	return status ? status : cap_write_string(writer, path, "dtype", "fp64");
}

static mla_status write_tensors(struct cap_writer *writer, const struct mla_case *c,
				const struct capture_writing *how)
{
	const int64_t total_q = case_total_q(c);
	const struct {
		const char *path;
		const mla_tensor *tensor;
		int64_t rows;
	} parts[] = {
		{LAYER_GROUP "/ckv_cache", &c->tensors.ckv, c->tensors.ckv.extent[0]},
		{LAYER_GROUP "/kpe_cache", &c->tensors.kpe, c->tensors.kpe.extent[0]},
		{PROBLEM_GROUP "/q_nope", &c->tensors.q_nope, total_q},
		{PROBLEM_GROUP "/q_pe", &c->tensors.q_pe, total_q},
		{PROBLEM_GROUP "/out_ref", &c->out_ref, total_q},
	};
	mla_status status = MLA_OK;

	for (size_t i = 0; !status && i < sizeof(parts) / sizeof(*parts); i++)
		if (parts[i].tensor->data)
			status =
				write_tensor(writer, parts[i].path, parts[i].tensor, parts[i].rows);
	if (!status && c->out_ref.data)
		status = write_reference_facts(writer, PROBLEM_GROUP "/out_ref", how);
	if (!status && c->lse_ref.data)
		status = write_lse(writer, c);
	if (!status && c->lse_ref.data)
		status = write_reference_facts(writer, PROBLEM_GROUP "/lse_ref", how);
	return status;
}

static mla_status write_case(struct cap_writer *writer, const struct mla_case *c,
			     const struct capture_writing *how)
{
	static const char *const groups[] = {
		"/config",     "/layers", LAYER_GROUP, "/steps", STEP_GROUP, STEP_GROUP "/layers",
		PROBLEM_GROUP,
	};
	struct cap_config config;
	mla_status status = MLA_OK;

	for (size_t i = 0; !status && i < sizeof(groups) / sizeof(*groups); i++)
		status = cap_write_group(writer, groups[i]);
	config_of_case(c, &config);
	if (!status)
		status = write_root(writer, how);
	if (!status)
		status = write_config(writer, &config);
	if (!status)
		status = cap_write_u32(writer, LAYER_GROUP, "layer_index", 0);
	if (!status)
		status = write_step(writer, c);
	if (!status)
		status = write_tensors(writer, c, how);
	return status ? status : cap_writer_commit(writer);
}

/* What a synthetic file cannot hold. */
static mla_status check_writable(const char *path, const struct mla_case *c)
{
	const int32_t dtypes[] = {c->config.q_dtype, c->config.ckv_dtype, c->config.kpe_dtype,
				  c->config.out_dtype};

	if (c->q_raw.data || c->w_uk.data || c->w_uv.data || c->out_model.data)
		return cap_fail(path,
				"the case \"%s\" carries a model's tensors; a synthetic capture "
				"does not hold them (mla cut copies parts of captures)",
				c->name);
	for (size_t i = 0; i < sizeof(dtypes) / sizeof(*dtypes); i++)
		if (dtypes[i] < MLA_BF16 || dtypes[i] > MLA_F32)
			return cap_fail(path,
					"the case \"%s\" has dtype %" PRId32
					"; a capture holds bf16, fp16 and f32",
					c->name, dtypes[i]);
	return MLA_OK;
}

mla_status capture_write(struct output *output, const struct mla_case *c,
			 const struct capture_writing *how)
{
	struct cap_writer writer = {0};
	mla_status status = check_writable(output->name, c);

	if (!status)
		status = cap_writer_open(&writer, output, how->compress);
	if (!status)
		status = write_case(&writer, c, how);
	cap_writer_close(&writer);
	return status;
}
