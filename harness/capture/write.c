/* write.c - writes captures: a writer of groups, attributes and checksummed datasets, which
 * mla cut uses too, and capture_write for a case in memory. The same case gives the same bytes.
 */
#define _GNU_SOURCE
#include "capture/internal.h"
#include "lib/geometry.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the writer ----------------------------------------------------------------------------- */

int cap_writer_open(struct cap_writer *writer, const char *path, bool compress,
		    struct capture_error *error)
{
	const size_t size = strlen(path) + sizeof(".partial");
	hid_t access, create;

	memset(writer, 0, sizeof(*writer));
	cap_hdf5_quiet();
	writer->path = path;
	writer->compress = compress;
	writer->file = -1;
	writer->partial = malloc(size);
	if (!writer->partial)
		return cap_fail_memory(error, path);
	snprintf(writer->partial, size, "%s.partial", path);
	cap_types_make(writer->type);

	access = H5Pcreate(H5P_FILE_ACCESS);
	create = H5Pcreate(H5P_FILE_CREATE);
	H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
	H5Pset_obj_track_times(create, false);
	writer->file = H5Fcreate(writer->partial, H5F_ACC_TRUNC, create, access);
	if (writer->file < 0)
		cap_fail_hdf5(error, path, "cannot be created");
	H5Pclose(create);
	H5Pclose(access);
	return writer->file < 0 ? -1 : 0;
}

/* Data first, then the name: what a crash leaves under the final name is whole. */
static int sync_file(const char *path, int flags)
{
	const int descriptor = open(path, flags);
	int status;

	if (descriptor < 0)
		return -1;
	status = fsync(descriptor);
	close(descriptor);
	return status;
}

int cap_writer_commit(struct cap_writer *writer, struct capture_error *error)
{
	char hex[SHA256_TEXT];
	const hid_t file = writer->file;

	if (cap_content_sha256(&writer->attributes, hex))
		return cap_fail_memory(error, writer->path);
	if (cap_write_string(writer, "/", "content_sha256", hex, error))
		return -1;
	writer->file = -1;
	if (H5Fclose(file) < 0)
		return cap_fail_hdf5(error, writer->path, "cannot be closed");
	if (capture_verify(writer->partial, false, NULL, error))
		return -1;
	if (sync_file(writer->partial, O_RDONLY) || rename(writer->partial, writer->path))
		return cap_fail(error, writer->path, "cannot be renamed into place: %s",
				strerror(errno));
	free(writer->partial);
	writer->partial = NULL;
	return 0;
}

void cap_writer_close(struct cap_writer *writer)
{
	if (writer->file >= 0)
		H5Fclose(writer->file);
	if (writer->partial)
		unlink(writer->partial);
	free(writer->partial);
	cap_types_close(writer->type);
	cap_attributes_free(&writer->attributes);
}

int cap_write_group(struct cap_writer *writer, const char *path, struct capture_error *error)
{
	const hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
	hid_t group;

	H5Pset_obj_track_times(plist, false);
	group = H5Gcreate2(writer->file, path, H5P_DEFAULT, plist, H5P_DEFAULT);
	if (group < 0)
		cap_fail_hdf5(error, writer->path, path);
	else
		H5Gclose(group);
	H5Pclose(plist);
	return group < 0 ? -1 : 0;
}

int cap_write_attribute(struct cap_writer *writer, const struct cap_attribute *attribute,
			struct capture_error *error)
{
	const void *value = attribute->type == CAP_STRING ? (const void *)attribute->text
			    : attribute->type == CAP_U32  ? (const void *)&attribute->number
							  : (const void *)&attribute->real;
	const hid_t base = attribute->type == CAP_STRING ? H5T_C_S1
			   : attribute->type == CAP_U32  ? H5T_STD_U32LE
							 : H5T_IEEE_F64LE;
	const hid_t type = H5Tcopy(base), space = H5Screate(H5S_SCALAR);
	hid_t id;
	int status = 0;

	if (attribute->type == CAP_STRING) {
		H5Tset_size(type, strlen(attribute->text));
		H5Tset_strpad(type, H5T_STR_NULLPAD);
		H5Tset_cset(type, H5T_CSET_UTF8);
	}
	id = H5Acreate_by_name(writer->file, attribute->object, attribute->name, type, space,
			       H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	if (id < 0 || H5Awrite(id, type, value) < 0)
		status = cap_fail_hdf5(error, writer->path, attribute->name);
	else if (cap_attributes_add(&writer->attributes, attribute))
		status = cap_fail_memory(error, writer->path);
	if (id >= 0)
		H5Aclose(id);
	H5Sclose(space);
	H5Tclose(type);
	return status;
}

int cap_write_string(struct cap_writer *writer, const char *object, const char *name,
		     const char *text, struct capture_error *error)
{
	const struct cap_attribute one = {
		.object = (char *)object,
		.name = (char *)name,
		.type = CAP_STRING,
		.text = (char *)(text && *text ? text : "none"),
	};

	return cap_write_attribute(writer, &one, error);
}

int cap_write_u32(struct cap_writer *writer, const char *object, const char *name, uint32_t number,
		  struct capture_error *error)
{
	const struct cap_attribute one = {
		.object = (char *)object,
		.name = (char *)name,
		.type = CAP_U32,
		.number = number,
	};

	return cap_write_attribute(writer, &one, error);
}

static int write_f64(struct cap_writer *writer, const char *object, const char *name, double real,
		     struct capture_error *error)
{
	const struct cap_attribute one = {
		.object = (char *)object,
		.name = (char *)name,
		.type = CAP_DOUBLE,
		.real = real,
	};

	return cap_write_attribute(writer, &one, error);
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

int cap_sink_open(struct cap_writer *writer, const char *path, enum cap_element element, int rank,
		  const int64_t *extent, struct cap_sink *sink, struct capture_error *error)
{
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
		return cap_fail_memory(error, writer->path);

	space = H5Screate_simple(rank, sink->extent, NULL);
	plist = storage_plist(sink, writer->compress);
	sink->id = H5Dcreate2(writer->file, path, writer->type[element], space, H5P_DEFAULT, plist,
			      H5P_DEFAULT);
	if (sink->id < 0)
		cap_fail_hdf5(error, writer->path, path);
	H5Pclose(plist);
	H5Sclose(space);
	if (sink->id < 0)
		sha256_finish(sink->sha, NULL);
	return sink->id < 0 ? -1 : 0;
}

int cap_sink_rows(struct cap_sink *sink, const void *data, hsize_t rows,
		  struct capture_error *error)
{
	const hid_t type = sink->writer->type[sink->element];
	hsize_t start[CAP_MAX_RANK] = {sink->rows_done}, count[CAP_MAX_RANK];
	hid_t space, memory;
	int status = 0;

	if (!rows || !sink->row_bytes)
		return 0;
	memcpy(count, sink->extent, sizeof(count));
	count[0] = rows;
	space = H5Dget_space(sink->id);
	memory = H5Screate_simple(sink->rank, count, NULL);
	if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
	    H5Dwrite(sink->id, type, memory, space, H5P_DEFAULT, data) < 0)
		status = cap_fail_hdf5(error, sink->writer->path, sink->path);
	H5Sclose(memory);
	H5Sclose(space);
	sha256_add(sink->sha, data, rows * sink->row_bytes);
	sink->rows_done += rows;
	return status;
}

int cap_sink_close(struct cap_sink *sink, int so_far, struct capture_error *error)
{
	char hex[SHA256_TEXT];
	int status = so_far;

	sha256_finish(sink->sha, hex);
	if (H5Dclose(sink->id) < 0 && !status)
		status = cap_fail_hdf5(error, sink->writer->path, sink->path);
	if (!status)
		status = cap_write_string(sink->writer, sink->path, "sha256", hex, error);
	return status;
}

int cap_write_index(struct cap_writer *writer, const char *path, const int32_t *values,
		    int64_t count, struct capture_error *error)
{
	struct cap_sink sink;
	int status;

	if (cap_sink_open(writer, path, CAP_I32, 1, &count, &sink, error))
		return -1;
	status = cap_sink_rows(&sink, values, (hsize_t)count, error);
	return cap_sink_close(&sink, status, error);
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

/* Writes the first extent[0] rows of a tensor. */
static int write_tensor(struct cap_writer *writer, const char *path, const mla_tensor *tensor,
			int64_t rows, struct capture_error *error)
{
	const enum cap_element element = (enum cap_element)tensor->dtype;
	const int64_t extent[3] = {rows, tensor->extent[1], tensor->extent[2]};
	struct cap_sink sink;
	int status = 0;

	if (cap_sink_open(writer, path, element, tensor->ndim, extent, &sink, error))
		return -1;

	const size_t row = sink.row_bytes;
	const int64_t fit = row && row < CAP_SLAB_BYTES ? (int64_t)(CAP_SLAB_BYTES / row) : 1;
	const int64_t block = fit < rows ? fit : rows;
	char *packed = malloc((size_t)block * row + 1);

	if (!packed)
		status = cap_fail_memory(error, writer->path);
	for (int64_t at = 0; !status && row && at < rows; at += block) {
		const int64_t count = rows - at < block ? rows - at : block;

		for (int64_t i = 0; i < count; i++)
			pack_row(tensor, at + i, cap_element_size(element),
				 packed + (size_t)i * row);
		status = cap_sink_rows(&sink, packed, (hsize_t)count, error);
	}
	free(packed);
	return cap_sink_close(&sink, status, error);
}

static int write_root(struct cap_writer *writer, const struct capture_writing *how,
		      struct capture_error *error)
{
	if (cap_write_string(writer, "/", "schema", "mla-capture", error) ||
	    cap_write_u32(writer, "/", "schema_version", 1, error) ||
	    cap_write_string(writer, "/", "kind", cap_kind_words[CAPTURE_SYNTHETIC], error))
		return -1;
	for (int i = 0; cap_provenance[i]; i++) {
		const char *name = cap_provenance[i];
		const char *text = !strcmp(name, "notes")          ? how->notes
				   : !strcmp(name, "capture_tool") ? how->tool
								   : "none";

		if (cap_write_string(writer, "/", name, text, error))
			return -1;
	}
	return 0;
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
static int write_config(struct cap_writer *writer, const struct cap_config *config,
			struct capture_error *error)
{
	const char *base = (const char *)config;
	uint32_t number;
	int32_t choice;
	double real;

	for (const struct cap_number_rule *rule = cap_numbers; rule->name; rule++) {
		memcpy(&number, base + rule->offset, sizeof(number));
		if (cap_write_u32(writer, "/config", rule->name, number, error))
			return -1;
	}
	for (const struct cap_real_rule *rule = cap_reals; rule->name; rule++) {
		memcpy(&real, base + rule->offset, sizeof(real));
		if (write_f64(writer, "/config", rule->name, real, error))
			return -1;
	}
	for (const struct cap_choice_rule *rule = cap_choices; rule->name; rule++) {
		memcpy(&choice, base + rule->offset, sizeof(choice));
		if (rule->optional && choice == config->dtype)
			continue;
		if (cap_write_string(writer, "/config", rule->name, rule->words[choice], error))
			return -1;
	}
	return cap_write_string(writer, "/config", "rope_scaling", "none", error);
}

/* Positions of the queries, as the causal mask counts them. */
static int write_positions(struct cap_writer *writer, const struct mla_case *c,
			   struct capture_error *error)
{
	const mla_batch *batch = &c->batch;
	const int64_t total_q = case_total_q(c);
	int32_t *positions = malloc((size_t)total_q * sizeof(*positions) + 1);
	int status;

	if (!positions)
		return cap_fail_memory(error, writer->path);
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int32_t begin = batch->qo_indptr[r], end = batch->qo_indptr[r + 1];
		const int32_t first = (int32_t)geometry_position(batch, r);

		for (int32_t i = begin; i < end; i++)
			positions[i] = first + (i - begin);
	}
	status = cap_write_index(writer, STEP_GROUP "/positions", positions, total_q, error);
	free(positions);
	return status;
}

static int write_step(struct cap_writer *writer, const struct mla_case *c,
		      struct capture_error *error)
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

	if (cap_write_string(writer, STEP_GROUP, "name", "synthetic", error))
		return -1;
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (cap_write_index(writer, parts[i].path, parts[i].values, parts[i].count, error))
			return -1;
	if (batch->q_pos0 &&
	    cap_write_index(writer, STEP_GROUP "/q_pos0", batch->q_pos0, requests, error))
		return -1;
	return write_positions(writer, c, error);
}

/* A reference that a case carries is in base e. */
static int write_lse(struct cap_writer *writer, const struct mla_case *c,
		     struct capture_error *error)
{
	const double factor = c->config.lse_base == MLA_LSE_BASE2 ? 1 / M_LN2 : 1;
	const int64_t rows = case_total_q(c), heads = c->lse_ref.extent[1];
	const int64_t extent[2] = {rows, heads};
	float *values = malloc((size_t)(rows * heads) * sizeof(*values) + 1);
	mla_tensor lse = {.data = values, .dtype = MLA_F32, .ndim = 2};
	int status;

	if (!values)
		return cap_fail_memory(error, writer->path);
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
	status = write_tensor(writer, PROBLEM_GROUP "/lse_ref", &lse, rows, error);
	free(values);
	return status;
}

static int write_reference_facts(struct cap_writer *writer, const char *path,
				 const struct capture_writing *how, struct capture_error *error)
{
	return cap_write_string(writer, path, "computed_by", how->tool, error) ||
			       cap_write_string(writer, path, "dtype", "fp64", error)
		       ? -1
		       : 0;
}

static int write_tensors(struct cap_writer *writer, const struct mla_case *c,
			 const struct capture_writing *how, struct capture_error *error)
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

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (parts[i].tensor->data &&
		    write_tensor(writer, parts[i].path, parts[i].tensor, parts[i].rows, error))
			return -1;
	if (c->out_ref.data && write_reference_facts(writer, PROBLEM_GROUP "/out_ref", how, error))
		return -1;
	if (c->lse_ref.data &&
	    (write_lse(writer, c, error) ||
	     write_reference_facts(writer, PROBLEM_GROUP "/lse_ref", how, error)))
		return -1;
	return 0;
}

static int write_case(struct cap_writer *writer, const struct mla_case *c,
		      const struct capture_writing *how, struct capture_error *error)
{
	static const char *const groups[] = {
		"/config",     "/layers", LAYER_GROUP, "/steps", STEP_GROUP, STEP_GROUP "/layers",
		PROBLEM_GROUP,
	};
	struct cap_config config;

	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++)
		if (cap_write_group(writer, groups[i], error))
			return -1;
	config_of_case(c, &config);
	if (write_root(writer, how, error) || write_config(writer, &config, error) ||
	    cap_write_u32(writer, LAYER_GROUP, "layer_index", 0, error) ||
	    write_step(writer, c, error) || write_tensors(writer, c, how, error))
		return -1;
	return cap_writer_commit(writer, error);
}

/* What a synthetic file cannot hold. */
static int check_writable(const char *path, const struct mla_case *c, struct capture_error *error)
{
	const int32_t dtypes[] = {c->config.q_dtype, c->config.ckv_dtype, c->config.kpe_dtype,
				  c->config.out_dtype};

	if (c->q_raw.data || c->w_uk.data || c->w_uv.data || c->out_model.data)
		return cap_fail(error, path,
				"the case \"%s\" carries a model's tensors; a synthetic capture "
				"does not hold them (mla cut copies parts of captures)",
				c->name);
	for (size_t i = 0; i < sizeof(dtypes) / sizeof(*dtypes); i++)
		if (dtypes[i] < MLA_BF16 || dtypes[i] > MLA_F32)
			return cap_fail(error, path,
					"the case \"%s\" has dtype %" PRId32
					"; a capture holds bf16, fp16 and f32",
					c->name, dtypes[i]);
	return 0;
}

int capture_write(const char *path, const struct mla_case *c, const struct capture_writing *how,
		  struct capture_error *error)
{
	struct cap_writer writer;
	int status;

	if (check_writable(path, c, error))
		return -1;
	status = cap_writer_open(&writer, path, how->compress, error);
	if (!status)
		status = write_case(&writer, c, how, error);
	cap_writer_close(&writer);
	return status;
}
