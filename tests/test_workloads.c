/* test_workloads.c - plans of the shapes that servers really saw. The files are not part of the
 * project: MLA_WORKLOADS names a folder that holds
 *
 *     flashinfer-bench/mla_paged_*.jsonl     axes of SGLang runs: batch size, total lengths
 *     sglang_page_tables/(*).safetensors     page tables of such runs: every length
 *     mooncake/(*)_trace.jsonl               input_length, output_length of each request
 *     azure/(*).csv                          ContextTokens, GeneratedTokens of each request
 *
 * Where a file tells totals only, the lengths are drawn at random so that the totals are met.
 */
#define _GNU_SOURCE /* getline, glob */
#include <criterion/criterion.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "plan_fixture.h"
#include "report/json.h"

#define MOST_WINDOWS 120 /* batches made from one trace */

/* ---- files --------------------------------------------------------------------------------- */

/* The files that match, below MLA_WORKLOADS; skips the test aloud if there are none to look at. */
static glob_t files_of(const char *pattern)
{
	const char *folder = getenv("MLA_WORKLOADS");
	char path[4096];
	glob_t found;

	if (folder == NULL || folder[0] == '\0')
		cr_skip_test("MLA_WORKLOADS is not set: no serving traces to plan");
	cr_assert((size_t)snprintf(path, sizeof path, "%s/%s", folder, pattern) < sizeof path);
	cr_assert(glob(path, 0, NULL, &found) == 0, "no file %s", path);
	return found;
}

/* Calls use for every line; at least one file and one line must be there. */
static void for_each_line(const char *pattern, void (*use)(const char *line, void *state),
			  void *state)
{
	glob_t found = files_of(pattern);
	char *line = NULL;
	size_t size = 0, lines = 0;

	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *file = fopen(found.gl_pathv[i], "r");

		cr_assert(file != NULL, "cannot open %s", found.gl_pathv[i]);
		for (; getline(&line, &size, file) > 0; lines++)
			use(line, state);
		fclose(file);
	}
	cr_assert(lines > 0, "%s: no lines", pattern);
	free(line);
	globfree(&found);
}

static int64_t integer_at(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	cr_assert(json_is_integer(value), "no integer \"%s\"", key);
	return json_integer_value(value);
}

/* ---- planning ------------------------------------------------------------------------------ */

struct tally {
	int64_t batches, items, merges;
};

/* One kind of kernel and device. */
struct kernel {
	int32_t num_heads, tile_rows, kv_granule, ctas_per_sm, ctas_per_worker, merge, fixed_split;
	int32_t sm_count;
};

static const struct kernel kernels[] = {
	{128, 64, 64, 1, 1, MLA_MERGE_SEPARATE, 0, 132},
	{128, 128, 64, 1, 2, MLA_MERGE_FUSED, 0, 132},
	{16, 16, 128, 2, 1, MLA_MERGE_SEPARATE, 0, 108},
	{128, 64, 64, 1, 1, MLA_MERGE_SEPARATE, 2048, 132},
	{96, 64, 32, 1, 1, MLA_MERGE_NONE, 0, 78},
};

static void prove(const struct ragged *batch, const struct kernel *kernel, int32_t page_size,
		  struct tally *tally)
{
	mla_traits traits = fixture_traits(kernel->tile_rows, kernel->kv_granule);
	mla_config config = fixture_config(kernel->num_heads, 1);
	mla_device device = known_with_sms(kernel->sm_count);
	mla_plan_info info = {.struct_size = sizeof info};
	mla_capacity capacity;
	mla_plan *plan = NULL;
	char why[512];

	traits.ctas_per_sm = kernel->ctas_per_sm;
	traits.ctas_per_worker = kernel->ctas_per_worker;
	traits.merge = kernel->merge;
	config.fixed_split = kernel->fixed_split;
	config.page_size = page_size;
	capacity = fixture_capacity(&config, &batch->view);
	cr_assert(mla_plan_create_for_traits(&traits, &config, &device, &capacity, &plan) == MLA_OK,
		  "%s", mla_last_error());
	cr_assert(mla_plan_build(plan, &batch->view) == MLA_OK, "%s", mla_last_error());
	cr_assert(plan_check(plan, why, sizeof why) == MLA_OK, "%s", why);
	cr_assert(mla_plan_get_info(plan, &info) == MLA_OK);
	tally->batches++;
	tally->items += info.num_items;
	tally->merges += info.num_merges;
	mla_plan_destroy(plan);
}

static void prove_all(const struct ragged *batch, int32_t page_size, struct tally *tally)
{
	for (size_t i = 0; i < COUNT(kernels); i++)
		prove(batch, &kernels[i], page_size, tally);
}

static void report(const char *name, const struct tally *tally)
{
	printf("%s: %lld plans, %lld items, %lld merges proved\n", name, (long long)tally->batches,
	       (long long)tally->items, (long long)tally->merges);
	cr_assert(tally->batches > 0, "%s: nothing planned", name);
}

/* ---- axes of flashinfer-bench -------------------------------------------------------------- */

/* total = the sum of n parts, each at least `least`: long and short ones, as requests are. */
static void share_out(uint64_t *rng, int64_t total, int64_t least, int64_t *part, int32_t n)
{
	int64_t weights = 0, given = 0, rest = total - least * n;

	cr_assert(rest >= 0, "%lld do not make %d parts of at least %lld", (long long)total, n,
		  (long long)least);
	for (int32_t i = 0; i < n; i++)
		weights += part[i] = random_in(rng, 1, 1LL << random_in(rng, 4, 10));
	for (int32_t i = 0; i < n; i++)
		given += part[i] = rest * part[i] / weights;
	part[0] += rest - given;
	for (int32_t i = 0; i < n; i++)
		part[i] += least;
}

struct bench_state {
	uint64_t rng;
	struct tally tally;
};

/* Page size 1: num_kv_indices is the number of keys. Decode has one query per request. */
static void prove_axes(const char *line, void *opaque)
{
	struct bench_state *state = opaque;
	json_t *root = json_loads(line, 0, NULL);
	const json_t *axes = json_object_get(json_object_get(root, "workload"), "axes");
	int32_t n = (int32_t)integer_at(axes, "len_indptr") - 1;
	bool prefill = json_object_get(axes, "total_q") != NULL;
	int64_t total_q = integer_at(axes, prefill ? "total_q" : "batch_size");
	int64_t before = integer_at(axes, "num_kv_indices") - total_q;
	int64_t *q = calloc((size_t)n, sizeof *q), *cached = calloc((size_t)n, sizeof *cached);
	struct ragged batch = ragged_new(n);

	cr_assert(n > 0 && q != NULL && cached != NULL && before >= 0, "%s", line);
	share_out(&state->rng, total_q, 1, q, n);
	share_out(&state->rng, before, 0, cached, n);
	for (int32_t i = 0; i < n; i++)
		ragged_set(&batch, i, q[i], q[i] + cached[i], 1);
	prove_all(&batch, 1, &state->tally);
	free(q);
	free(cached);
	ragged_free(&batch);
	json_decref(root);
}

Test(workloads, flashinfer_bench_decode)
{
	struct bench_state state = {.rng = 1};

	for_each_line("flashinfer-bench/mla_paged_decode*.jsonl", prove_axes, &state);
	report("flashinfer-bench decode", &state.tally);
}

Test(workloads, flashinfer_bench_prefill)
{
	struct bench_state state = {.rng = 2};

	for_each_line("flashinfer-bench/mla_paged_prefill*.jsonl", prove_axes, &state);
	report("flashinfer-bench prefill", &state.tally);
}

/* ---- page tables of SGLang ----------------------------------------------------------------- */

/* safetensors: 8 bytes little-endian length, that many bytes of JSON, data. Returns the tensor
 * kv_indptr, which the caller frees. */
static int32_t *read_indptr(const char *path, int32_t *entries)
{
	FILE *file = fopen(path, "rb");
	unsigned char length[8] = {0};
	char header[4096];
	const json_t *tensor, *offsets;
	json_t *root;
	int32_t *values;
	long begin;
	size_t n, size;

	cr_assert(file != NULL && fread(length, 1, 8, file) == 8, "cannot read %s", path);
	n = length[0] | (size_t)length[1] << 8;
	cr_assert(n < sizeof header && fread(header, 1, n, file) == n, "%s: header", path);
	root = json_loadb(header, n, 0, NULL);
	tensor = json_object_get(root, "kv_indptr");
	offsets = json_object_get(tensor, "data_offsets");
	begin = (long)json_integer_value(json_array_get(offsets, 0));
	size = (size_t)(json_integer_value(json_array_get(offsets, 1)) - begin);
	cr_assert(size >= 8 && size < 1 << 20 && size % sizeof *values == 0, "%s: kv_indptr", path);
	values = malloc(size);
	cr_assert(values != NULL && fseek(file, 8 + (long)n + begin, SEEK_SET) == 0 &&
			  fread(values, 1, size, file) == size,
		  "%s: data", path);
	*entries = (int32_t)(size / sizeof *values);
	json_decref(root);
	fclose(file);
	return values;
}

Test(workloads, sglang_page_tables)
{
	glob_t found = files_of("sglang_page_tables/*.safetensors");
	struct tally tally = {0};

	for (size_t f = 0; f < found.gl_pathc; f++) {
		int32_t entries, *indptr = read_indptr(found.gl_pathv[f], &entries);
		struct ragged batch = ragged_new(entries - 1);

		for (int32_t i = 0; i + 1 < entries; i++)
			ragged_set(&batch, i, 1, indptr[i + 1] - indptr[i], 1);
		prove_all(&batch, 1, &tally);
		ragged_free(&batch);
		free(indptr);
	}
	globfree(&found);
	report("SGLang page tables", &tally);
}

/* ---- traces -------------------------------------------------------------------------------- */

struct request {
	int32_t input, output;
};

struct trace {
	struct request *requests;
	size_t count, room;
};

static void trace_add(struct trace *trace, int64_t input, int64_t output)
{
	cr_assert(input >= 0 && input < 1 << 28 && output >= 0 && output < 1 << 28);
	if (trace->count == trace->room) {
		trace->room = trace->room ? 2 * trace->room : 1024;
		trace->requests = realloc(trace->requests, trace->room * sizeof *trace->requests);
		cr_assert(trace->requests != NULL);
	}
	trace->requests[trace->count++] =
		(struct request){.input = (int32_t)input, .output = (int32_t)output};
}

static void add_mooncake(const char *line, void *trace)
{
	json_t *root = json_loads(line, 0, NULL);

	trace_add(trace, integer_at(root, "input_length"), integer_at(root, "output_length"));
	json_decref(root);
}

/* TIMESTAMP,ContextTokens,GeneratedTokens and one line of names. */
static void add_azure(const char *line, void *trace)
{
	long input, output;

	if (sscanf(line, "%*[^,],%ld,%ld", &input, &output) == 2)
		trace_add(trace, input, output);
	else
		cr_assert(strncmp(line, "TIMESTAMP", 9) == 0, "not a request: %s", line);
}

/* Requests [first, first + n) on a server at one moment: most somewhere in their answer, one query
 * each (two with a drafted token), some in a chunk of at most 512 queries of their prompt. */
static struct ragged moment(const struct trace *trace, size_t first, int32_t n, uint64_t *rng)
{
	struct ragged batch = ragged_new(n);
	int32_t drafted = (int32_t)random_in(rng, 0, 1);

	for (int32_t i = 0; i < n; i++) {
		const struct request *r = &trace->requests[first + (size_t)i];
		int64_t q = 1 + drafted, kv = r->input + q + random_in(rng, 0, r->output);

		if (random_in(rng, 0, 15) == 0) {
			kv = random_in(rng, 0, r->input);
			q = kv < 512 ? kv : 512;
		}
		ragged_set(&batch, i, q, kv, 64);
	}
	return batch;
}

static void prove_trace(struct trace *trace, const char *name)
{
	struct tally tally = {0};
	uint64_t rng = 3;
	size_t first = 0;

	for (int windows = 0; windows < MOST_WINDOWS && first < trace->count; windows++) {
		size_t n = (size_t)random_in(&rng, 1, 1LL << random_in(&rng, 0, 8));
		struct ragged batch;

		n = n < trace->count - first ? n : trace->count - first;
		batch = moment(trace, first, (int32_t)n, &rng);
		prove_all(&batch, 64, &tally);
		ragged_free(&batch);
		first += n;
	}
	free(trace->requests);
	report(name, &tally);
}

Test(workloads, mooncake)
{
	struct trace trace = {0};

	for_each_line("mooncake/*_trace.jsonl", add_mooncake, &trace);
	prove_trace(&trace, "mooncake");
}

Test(workloads, azure)
{
	struct trace trace = {0};

	for_each_line("azure/*.csv", add_azure, &trace);
	prove_trace(&trace, "azure");
}
