/* verify.c - everything that can be found wrong with a capture. */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "lib/geometry.h"

/* What a verification works on. */
struct verify {
	struct capture *capture;
	bool strict;
	FILE *log;       /* or NULL */
	int32_t *pages;  /* [num_pages] needed by some step, rising */
	int32_t *needed; /* [num_pages] slots of them */
	int64_t num_pages;
	uint64_t num_datasets, bytes;
};

/* A warning, which strictness makes an error. */
static mla_status warn(struct verify *verify, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static mla_status warn(struct verify *verify, const char *format, ...)
{
	char text[ERROR_SIZE - 64];
	va_list arguments;
	mla_status status;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	status = cap_fail(verify->capture->path, verify->strict ? "%s" : "warning: %s", text);
	if (verify->strict)
		return status;
	if (verify->log)
		text_print(verify->log, "%s\n", mla_last_error());
	return MLA_OK;
}

/* ---- attributes ----------------------------------------------------------------------------- */

/* mscale as the softmax scale takes it: 0.1 * mscale_all_dim * ln(factor) + 1 under YaRN, else 1.
 * false: the JSON does not say. */
static bool implied_mscale(const char *rope_scaling, double *mscale)
{
	json_t *root = json_loads(rope_scaling, 0, NULL);
	const char *type = json_string_value(json_object_get(root, "rope_type"));
	const double factor = json_number_value(json_object_get(root, "factor"));
	const double all_dim = json_number_value(json_object_get(root, "mscale_all_dim"));
	bool known;

	if (!type)
		type = json_string_value(json_object_get(root, "type"));
	known = type && (!strcmp(type, "default") || (!strcmp(type, "yarn") && factor >= 1));
	*mscale = known && !strcmp(type, "yarn") ? 0.1 * all_dim * log(factor) + 1 : 1;
	json_decref(root);
	return known;
}

static mla_status check_scale(struct verify *verify)
{
	const struct cap_config *config = &verify->capture->config;
	const char *rope_scaling = cap_text_of(verify->capture, "/config", "rope_scaling");
	const double dim = (double)config->qk_nope_head_dim + config->qk_rope_head_dim;
	double mscale = 1, implied;

	if (!config->qk_nope_head_dim || !rope_scaling)
		return MLA_OK;
	if (strcmp(rope_scaling, "none") && !implied_mscale(rope_scaling, &mscale))
		return warn(verify,
			    "/config@rope_scaling is not \"none\" nor JSON with rope_type "
			    "\"yarn\" and factor, or \"default\": softmax_scale not checked");
	implied = mscale * mscale / sqrt(dim);
	if (fabs(config->softmax_scale - implied) <= 1e-6 * implied)
		return MLA_OK;
	return warn(verify, "/config@softmax_scale = %.7g but rope_scaling implies %.7g%s",
		    config->softmax_scale, implied,
		    fabs(config->softmax_scale * sqrt(dim) - 1) < 1e-6
			    ? " (mscale missing? some versions of transformers leave it out)"
			    : "");
}

static mla_status check_software(struct verify *verify)
{
	const char *software = cap_text_of(verify->capture, "/", "software");
	json_t *root;

	if (!software || !strcmp(software, "none"))
		return MLA_OK;
	root = json_loads(software, 0, NULL);
	if (!root)
		return warn(verify, "/@software is not JSON");
	json_decref(root);
	return MLA_OK;
}

/* ---- datasets ------------------------------------------------------------------------------- */

/* Is it one of these? Of caches only what some step needs must be finite. */
static bool is_named(const char *path, const char *const *names)
{
	const char *name = strrchr(path, '/') + 1;

	while (*names && strcmp(name, *names))
		names++;
	return *names;
}

static const char *const caches[] = {"ckv_cache", "kpe_cache", NULL};
static const char *const all_finite[] = {"w_uk", "w_uv", "q_nope", "q_pe", NULL};

/* Rows that are read at once: whole chunks, as many as fit a slab. */
static uint64_t slab_rows(const struct cap_dataset *dataset)
{
	const uint64_t chunk = dataset->chunk[0] ? dataset->chunk[0] : 1;
	const uint64_t fit =
		dataset->row_bytes < CAP_SLAB_BYTES ? CAP_SLAB_BYTES / (dataset->row_bytes + 1) : 1;

	return fit > chunk ? fit / chunk * chunk : chunk;
}

/* What is not finite among the rows of a slab; of a cache only needed slots count, which *page
 * walks through. */
static uint64_t count_bad(const struct verify *verify, const struct cap_dataset *dataset,
			  const char *slab, uint64_t row, uint64_t rows, int64_t *page,
			  uint64_t *first)
{
	uint64_t bad = 0, at = 0;

	if (is_named(dataset->path, all_finite))
		return cap_count_bad(dataset, slab, row, rows, first);
	if (!is_named(dataset->path, caches))
		return 0;
	for (; *page < verify->num_pages && (uint64_t)verify->pages[*page] < row + rows; ++*page) {
		const uint64_t p = (uint64_t)verify->pages[*page];
		const uint64_t found =
			cap_count_bad_slots(dataset, slab + (p - row) * dataset->row_bytes, p,
					    verify->needed[*page], &at);

		if (found && !bad)
			*first = at;
		bad += found;
	}
	return bad;
}

/* Reads slab after slab: sha256 over all, and what is not finite. */
static mla_status scan_slabs(const struct verify *verify, const struct cap_dataset *dataset,
			     void *slab, struct sha256 *sha)
{
	const uint64_t step = slab_rows(dataset), rows = dataset->extent[0];
	uint64_t bad = 0, first = 0, at = 0;
	int64_t page = 0;
	mla_status status;

	for (uint64_t row = 0; dataset->bytes && row < rows; row += step) {
		const uint64_t start[CAP_MAX_RANK] = {row};
		uint64_t count[CAP_MAX_RANK], found;

		memcpy(count, dataset->extent, sizeof(count));
		count[0] = rows - row < step ? rows - row : step;
		status = cap_dataset_read(verify->capture, dataset, start, count, slab);
		if (status)
			return status;
		sha256_add(sha, slab, count[0] * dataset->row_bytes);
		found = count_bad(verify, dataset, slab, row, count[0], &page, &at);
		if (found && !bad)
			first = at;
		bad += found;
	}
	if (bad)
		return cap_fail_non_finite(verify->capture->path, dataset, bad, first);
	return MLA_OK;
}

static mla_status compare_sha256(struct verify *verify, const char *path, const char *hex)
{
	const char *stored = cap_text_of(verify->capture, path, "sha256");

	if (stored && !strcmp(stored, hex))
		return MLA_OK;
	return cap_fail(verify->capture->path, "%s: sha256 mismatch (file %.16s..., data %.16s...)",
			path, stored ? stored : "none", hex);
}

static mla_status scan_dataset(struct verify *verify, const char *path)
{
	const struct cap_dataset *dataset;
	char hex[SHA256_TEXT];
	struct sha256 *sha;
	mla_status status;
	uint64_t rows;
	void *slab;

	status = cap_dataset_find(verify->capture, path, CAP_ANY_ELEMENT, &dataset);
	if (status)
		return status;
	rows = slab_rows(dataset);
	if (rows > dataset->extent[0])
		rows = dataset->extent[0];
	status = cap_check_memory(verify->capture, path, (double)rows * (double)dataset->row_bytes);
	if (status)
		return status;
	slab = malloc(rows * dataset->row_bytes + 1);
	sha = sha256_begin();
	if (slab && sha)
		status = scan_slabs(verify, dataset, slab, sha);
	else
		status = cap_fail_memory(verify->capture->path);
	sha256_finish(sha, status ? NULL : hex);
	if (!status)
		status = compare_sha256(verify, path, hex);
	verify->num_datasets++;
	verify->bytes += dataset->bytes;
	free(slab);
	return status;
}

/* The pages of all steps, each once. */
static mla_status join_pages(struct verify *verify)
{
	const struct capture *capture = verify->capture;
	int64_t most = 0, count = 0;

	for (int i = 0; i < capture->num_steps; i++)
		most += capture->steps[i].num_pages;
	verify->pages = malloc(((size_t)most + 1) * sizeof(*verify->pages));
	verify->needed = calloc((size_t)most + 1, sizeof(*verify->needed));
	if (!verify->pages || !verify->needed)
		return cap_fail_memory(capture->path);
	for (int i = 0; i < capture->num_steps; i++) {
		const struct cap_step *step = &capture->steps[i];

		memcpy(verify->pages + count, step->pages,
		       (size_t)step->num_pages * sizeof(*step->pages));
		count += step->num_pages;
	}
	verify->num_pages = cap_sort_pages(verify->pages, count);
	return MLA_OK;
}

static mla_status mark_pages(struct verify *verify)
{
	const struct capture *capture = verify->capture;
	const int32_t size = (int32_t)capture->config.page_size;
	mla_status status = join_pages(verify);

	for (int i = 0; !status && i < capture->num_steps; i++) {
		const struct cap_step *step = &capture->steps[i];
		const size_t entries = (size_t)step->extent[DIM_PAGE_ENTRIES];
		int32_t *table = malloc((entries + 1) * sizeof(*table));

		if (!table)
			return cap_fail_memory(capture->path);
		cap_compact_table(step, size, verify->pages, verify->num_pages, table);
		cap_mark_needed(step, size, table, verify->needed);
		free(table);
	}
	return status;
}

static mla_status scan_datasets(struct verify *verify)
{
	const struct cap_listing *listing = &verify->capture->listing;
	mla_status status = mark_pages(verify);

	for (size_t i = 0; !status && i < listing->num_objects; i++)
		if (!listing->objects[i].group)
			status = scan_dataset(verify, listing->objects[i].path);
	return status;
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* The positions that the queries were rotated for, against where the mask has them. */
static mla_status check_positions(struct verify *verify, const struct cap_step *step)
{
	const mla_batch batch = {
		.qo_indptr = step->qo_indptr, .kv_len = step->kv_len, .q_pos0 = step->q_pos0};

	for (int32_t r = 0; r < step->extent[DIM_REQUESTS]; r++) {
		const int64_t first = geometry_position(&batch, r);

		for (int32_t i = step->qo_indptr[r]; i < step->qo_indptr[r + 1]; i++)
			if (step->positions[i] != first + i - step->qo_indptr[r])
				return warn(verify,
					    "/steps/%03d/positions[%" PRId32 "] = %" PRId32
					    ", expected %" PRId64 " (%s of request %" PRId32
					    " and the query's number)",
					    step->number, i, step->positions[i],
					    first + i - step->qo_indptr[r],
					    step->q_pos0 ? "q_pos0" : "kv_len - qo_len", r);
	}
	return MLA_OK;
}

static mla_status check_loads(const struct verify *verify)
{
	mla_status status = MLA_OK;

	for (int l = 0; !status && l < verify->capture->num_layers; l++)
		status = cap_check_loads(verify->capture, l);
	return status;
}

static mla_status check_steps(struct verify *verify)
{
	const struct capture *capture = verify->capture;
	mla_status status = MLA_OK;

	for (int i = 0; !status && i < capture->num_steps; i++)
		status = check_positions(verify, &capture->steps[i]);
	return status;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static mla_status verify_all(struct verify *verify)
{
	const struct capture *capture = verify->capture;
	mla_status status = scan_datasets(verify);

	if (!status)
		status = check_loads(verify);
	if (!status && !cap_text_of(capture, "/", "content_sha256"))
		status =
			warn(verify, "no /@content_sha256: a changed attribute would not be found");
	if (!status)
		status = check_scale(verify);
	if (!status)
		status = check_steps(verify);
	if (!status)
		status = check_software(verify);
	if (!status && verify->log)
		text_print(verify->log,
			   "%s: good: %s, %d steps, %d layers, %" PRIu64
			   " datasets, %.1f MB checked\n",
			   capture->path, cap_kind_words[capture->kind], capture->num_steps,
			   capture->num_layers, verify->num_datasets, (double)verify->bytes * 1e-6);
	return status;
}

mla_status capture_verify(const char *path, bool strict, FILE *log)
{
	struct verify verify = {.strict = strict, .log = log};
	mla_status status = capture_open(path, &verify.capture);

	if (!status)
		status = verify_all(&verify);
	free(verify.pages);
	free(verify.needed);
	capture_close(verify.capture);
	return status;
}
