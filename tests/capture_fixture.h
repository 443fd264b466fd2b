/* capture_fixture.h - what the tests of captures share: a folder of their own, a small capture of
 * each kind with junk wherever junk is allowed, ways to damage it with HDF5's own functions, and a
 * digest of all that a case holds.
 */
#ifndef MLA_CAPTURE_FIXTURE_H
#define MLA_CAPTURE_FIXTURE_H

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/poison.h"
#include "capture/internal.h"
#include "output_fixture.h"
#include "reference/reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a folder ------------------------------------------------------------------------------- */

static char folder[64];

static inline void make_folder(void)
{
	snprintf(folder, sizeof(folder), "/tmp/mla-capture-XXXXXX");
	if (!mkdtemp(folder))
		abort();
}

/* Names in the folder. */
static inline int count_files(void)
{
	DIR *list = opendir(folder);
	int count = -2; /* "." and ".." */

	while (list && readdir(list))
		count++;
	closedir(list);
	return count;
}

/* A file in the folder; the text lives until the eighth call after this one. */
static inline const char *in_folder(const char *name)
{
	static char paths[8][160];
	static int turn;
	char *path = paths[turn++ % 8];

	snprintf(path, 160, "%s/%.90s", folder, name);
	return path;
}

static inline void remove_folder(void)
{
	DIR *list = opendir(folder);

	for (struct dirent *entry; list && (entry = readdir(list));)
		if (entry->d_name[0] != '.')
			unlink(in_folder(entry->d_name));
	closedir(list);
	rmdir(folder);
}

static inline void write_bytes(const char *path, const void *data, size_t bytes)
{
	FILE *stream = fopen(path, "wb");

	if (!stream || fwrite(data, 1, bytes, stream) != bytes || fclose(stream))
		abort();
}

static inline unsigned char *read_bytes(const char *path, size_t *bytes)
{
	FILE *stream = fopen(path, "rb");
	unsigned char *data;

	if (!stream || fseek(stream, 0, SEEK_END))
		abort();
	*bytes = (size_t)ftell(stream);
	rewind(stream);
	data = malloc(*bytes + 1);
	if (!data || fread(data, 1, *bytes, stream) != *bytes)
		abort();
	fclose(stream);
	return data;
}

static inline void copy_file(const char *from, const char *to)
{
	size_t bytes;
	unsigned char *data = read_bytes(from, &bytes);

	write_bytes(to, data, bytes);
	free(data);
}

/* ---- a small capture ------------------------------------------------------------------------ */

/* Two requests that share their first page, a prefill and two decode steps, layers 2 and 5. Pages 2
 * and 7 are nobody's; slots that no step sees are NaN; page entries that nobody needs are poison.
 */
enum {
	HEADS = 3,
	CKV = 8,
	KPE = 4,
	NOPE = 6,
	V = 5,
	PAGE_SIZE = 2,
	PAGES = 8,
	REQUESTS = 2,
	STEPS = 3,
	LAYERS = 2,
};

static const int fixture_layers[LAYERS] = {2, 5};

static const struct {
	const char *name;
	int32_t qo_indptr[3], kv_indptr[3], kv_len[2], entries[7], positions[8];
} fixture_steps[STEPS] = {
	{"prefill",
	 {0, 5, 8},
	 {0, 4, 7},
	 {5, 3},
	 {6, 1, 4, POISON_PAGE, 6, 0, POISON_PAGE},
	 {0, 1, 2, 3, 4, 0, 1, 2}},
	{"decode", {0, 1, 2}, {0, 4, 7}, {6, 4}, {6, 1, 4, POISON_PAGE, 6, 0, POISON_PAGE}, {5, 3}},
	{"decode", {0, 1, 2}, {0, 4, 7}, {7, 5}, {6, 1, 4, 3, 6, 0, 5}, {6, 4}},
};

static inline int32_t fixture_queries(int step)
{
	return fixture_steps[step].qo_indptr[REQUESTS];
}

struct fixture {
	struct cap_writer writer;
	enum capture_kind kind;
	int32_t dtype;
	uint64_t state;
};

static inline void need(mla_status status)
{
	if (status) {
		fprintf(stderr, "fixture: %s\n", mla_last_error());
		abort();
	}
}

/* In [-2, 2], never 0. */
static inline double fixture_value(struct fixture *f)
{
	f->state = f->state * 6364136223846793005u + 1442695040888963407u;
	return ((double)(f->state >> 40) - 8388607.75) / 4194304;
}

static inline void fixture_tensor(struct fixture *f, const char *group, const char *name,
				  int32_t dtype, int64_t a, int64_t b, int64_t c)
{
	const int64_t extent[3] = {a, b, c}, count = a * b * (c ? c : 1);
	const int size = ref_dtype_size(dtype);
	char *data = calloc((size_t)count, (size_t)size);
	const bool cache = strstr(name, "cache") != NULL;
	struct cap_sink sink;
	char path[CAP_PATH];

	cap_join(path, group, name);
	for (int64_t i = 0; data && i < count; i++) {
		const int64_t page = i / (b * (c ? c : 1)), slot = c ? i / c % b : 0;
		const bool junk = cache && (page == 2 || page == 7 ||
					    ((page == 3 || page == 5) && slot == 1));

		ref_store(data + i * size, dtype, junk ? (double)NAN : fixture_value(f));
	}
	need(!data ||
	     cap_sink_open(&f->writer, path, (enum cap_element)dtype, c ? 3 : 2, extent, &sink));
	need(cap_sink_close(&sink, cap_sink_rows(&sink, data, (hsize_t)a)));
	free(data);
}

static inline void fixture_index(struct fixture *f, const char *group, const char *name,
				 const int32_t *values, int64_t count)
{
	char path[CAP_PATH];

	cap_join(path, group, name);
	need(cap_write_index(&f->writer, path, values, count));
}

static inline void fixture_string(struct fixture *f, const char *object, const char *name,
				  const char *text)
{
	need(cap_write_string(&f->writer, object, name, text));
}

static inline void fixture_facts(struct fixture *f)
{
	const bool model = f->kind == CAPTURE_MODEL_FORWARD;
	const struct {
		const char *name;
		uint32_t value;
	} numbers[] = {
		{"num_heads", HEADS},
		{"head_start", 7},
		{"hidden_size", 24},
		{"q_lora_rank", 0},
		{"kv_lora_rank", CKV},
		{"qk_nope_head_dim", model ? NOPE : 0},
		{"qk_rope_head_dim", KPE},
		{"v_head_dim", model ? V : 0},
		{"num_layers", 9},
		{"page_size", PAGE_SIZE},
		{"causal", 1},
	};
	const struct cap_attribute reals[] = {
		{.name = "softmax_scale", .real = 1 / sqrt(NOPE + KPE)},
		{.name = "rope_theta", .real = 10000},
		{.name = "rms_norm_eps", .real = 1e-6},
	};

	fixture_string(f, "/", "schema", "mla-capture");
	need(cap_write_u32(&f->writer, "/", "schema_version", 1));
	fixture_string(f, "/", "kind", cap_kind_words[f->kind]);
	for (int i = 0; cap_provenance[i]; i++)
		fixture_string(f, "/", cap_provenance[i],
			       strcmp(cap_provenance[i], "software") ? "a test" : "{\"a\": \"1\"}");
	need(cap_write_group(&f->writer, "/config"));
	for (size_t i = 0; i < COUNT(numbers); i++)
		need(cap_write_u32(&f->writer, "/config", numbers[i].name, numbers[i].value));
	for (size_t i = 0; i < COUNT(reals); i++) {
		struct cap_attribute one = reals[i];

		one.object = "/config";
		one.type = CAP_DOUBLE;
		need(cap_write_attribute(&f->writer, &one));
	}
	fixture_string(f, "/config", "rope_layout", "interleaved");
	fixture_string(f, "/config", "rope_scaling", "none");
	fixture_string(f, "/config", "lse_base", model ? "e" : "2");
	fixture_string(f, "/config", "dtype", cap_dtype_words[f->dtype]);
}

static inline void fixture_layer(struct fixture *f, int layer)
{
	char group[CAP_PATH];

	snprintf(group, sizeof(group), "/layers/%03d", layer);
	need(cap_write_group(&f->writer, group));
	need(cap_write_u32(&f->writer, group, "layer_index", (uint32_t)layer));
	fixture_tensor(f, group, "ckv_cache", f->dtype, PAGES, PAGE_SIZE, CKV);
	fixture_tensor(f, group, "kpe_cache", f->dtype, PAGES, PAGE_SIZE, KPE);
	if (f->kind == CAPTURE_MODEL_FORWARD) {
		fixture_tensor(f, group, "w_uk", f->dtype, HEADS, NOPE, CKV);
		fixture_tensor(f, group, "w_uv", f->dtype, HEADS, V, CKV);
	}
}

static inline void fixture_problem(struct fixture *f, int step, int layer)
{
	const bool model = f->kind == CAPTURE_MODEL_FORWARD;
	const int64_t queries = fixture_queries(step);
	char group[CAP_PATH], path[CAP_PATH];

	snprintf(group, sizeof(group), "/steps/%03d/layers/%03d", step, layer);
	need(cap_write_group(&f->writer, group));
	fixture_tensor(f, group, "q_nope", f->dtype, queries, HEADS, model ? NOPE : CKV);
	fixture_tensor(f, group, "q_pe", f->dtype, queries, HEADS, KPE);
	fixture_tensor(f, group, "out_model", f->dtype, queries, HEADS, model ? V : CKV);
	fixture_tensor(f, group, "out_ref", MLA_F32, queries, HEADS, model ? V : CKV);
	fixture_tensor(f, group, "lse_ref", MLA_F32, queries, HEADS, 0);
	for (int i = 0; i < 2; i++) {
		cap_join(path, group, i ? "lse_ref" : "out_ref");
		fixture_string(f, path, "computed_by", "a test");
		fixture_string(f, path, "dtype", "fp64");
	}
}

static inline void fixture_step(struct fixture *f, int step)
{
	char group[CAP_PATH];

	snprintf(group, sizeof(group), "/steps/%03d", step);
	need(cap_write_group(&f->writer, group));
	fixture_string(f, group, "name", fixture_steps[step].name);
	fixture_index(f, group, "qo_indptr", fixture_steps[step].qo_indptr, REQUESTS + 1);
	fixture_index(f, group, "kv_indptr", fixture_steps[step].kv_indptr, REQUESTS + 1);
	fixture_index(f, group, "kv_page_indices", fixture_steps[step].entries, 7);
	fixture_index(f, group, "kv_len", fixture_steps[step].kv_len, REQUESTS);
	fixture_index(f, group, "positions", fixture_steps[step].positions, fixture_queries(step));
	if (step == 1)
		fixture_index(f, group, "q_pos0", fixture_steps[step].positions, REQUESTS);
	if (step == 0)
		fixture_index(f, group, "token_ids", fixture_steps[step].positions,
			      fixture_queries(step));
	snprintf(group, sizeof(group), "/steps/%03d/layers", step);
	need(cap_write_group(&f->writer, group));
	for (int i = 0; i < LAYERS; i++)
		fixture_problem(f, step, fixture_layers[i]);
}

static inline void fixture_write(const char *path, enum capture_kind kind, int32_t dtype,
				 bool compress)
{
	struct fixture f = {.kind = kind, .dtype = dtype, .state = 1};
	struct output output;

	need(output_open(&output, path, &fixture_replaces));
	need(cap_writer_open(&f.writer, &output, compress));
	fixture_facts(&f);
	need(cap_write_group(&f.writer, "/layers"));
	need(cap_write_group(&f.writer, "/steps"));
	for (int i = 0; i < LAYERS; i++)
		fixture_layer(&f, fixture_layers[i]);
	for (int i = 0; i < STEPS; i++)
		fixture_step(&f, i);
	need(cap_writer_commit(&f.writer));
	cap_writer_close(&f.writer);
}

/* ---- a digest ------------------------------------------------------------------------------- */

static inline void digest_add(uint64_t *digest, const void *data, size_t bytes)
{
	const unsigned char *c = data;

	for (size_t i = 0; data && i < bytes; i++)
		*digest = (*digest ^ c[i]) * 1099511628211u; /* FNV-1a */
}

/* Tensors of a loaded case are contiguous. */
static inline void digest_tensor(uint64_t *digest, const mla_tensor *tensor)
{
	size_t bytes = tensor->data ? (size_t)ref_dtype_size(tensor->dtype) : 0;

	for (int i = 0; tensor->data && i < tensor->ndim; i++) {
		bytes *= (size_t)tensor->extent[i];
		digest_add(digest, &tensor->extent[i], sizeof(tensor->extent[i]));
	}
	digest_add(digest, tensor->data, bytes);
}

static inline void digest_case(uint64_t *digest, const struct mla_case *c)
{
	const mla_tensor *const tensors[] = {
		&c->tensors.q_nope, &c->tensors.q_pe, &c->tensors.ckv, &c->tensors.kpe, &c->q_raw,
		&c->w_uk,           &c->w_uv,         &c->out_model,   &c->out_ref,     &c->lse_ref,
	};
	const size_t requests = (size_t)c->batch.batch_size;

	digest_add(digest, &c->config, sizeof(c->config));
	digest_add(digest, c->batch.qo_indptr, (requests + 1) * 4);
	digest_add(digest, c->batch.kv_indptr, (requests + 1) * 4);
	digest_add(digest, c->batch.kv_len, requests * 4);
	digest_add(digest, c->batch.q_pos0, requests * 4);
	digest_add(digest, c->tensors.kv_indices, (size_t)c->tensors.num_kv_indices * 4);
	for (size_t i = 0; i < COUNT(tensors); i++)
		digest_tensor(digest, tensors[i]);
}

/* Opens a file and loads every case of it. */
static inline mla_status digest_file(const char *path, uint64_t *digest)
{
	struct capture *capture;
	mla_status status = capture_open(path, &capture);

	*digest = 14695981039346656037u;
	if (status)
		return status;
	for (int s = 0; !status && s < capture_num_steps(capture); s++)
		for (int l = 0; !status && l < capture_num_layers(capture); l++) {
			struct mla_case c;

			status = capture_load(capture, s, l, &c);
			if (!status) {
				digest_case(digest, &c);
				case_free(&c);
			}
		}
	capture_close(capture);
	return status;
}

/* ---- for the tests -------------------------------------------------------------------------- */

#ifdef CRITERION_H_
static inline struct capture *open_good(const char *path)
{
	struct capture *capture;

	cr_assert(!capture_open(path, &capture), "%s", mla_last_error());
	return capture;
}

static inline void load_good(struct capture *capture, int step, int layer, struct mla_case *c)
{

	cr_assert(!capture_load(capture, step, layer, c), "%s", mla_last_error());
}

#endif

#endif
