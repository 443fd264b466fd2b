/* instrument.c - the benchmark's own tests on a GPU.
 */
#include "suite/instrument.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "base/random.h"
#include "bench/clock.h"
#include "bench/problem.h"
#include "case/cell.h"
#include "device/bulk.h"
#include "device/gpu.h"
#include "lib/error.h"
#include "reference/reference.h"

enum { VALUES = 100003, ROWS = 37, DIMS = 512 };
static const double spin_us = 1000, spin_tolerance = 0.02;

static void line(struct suite_result *result, bool passed, const char *name, const char *detail)
{
	char whole[96];

	snprintf(whole, sizeof(whole), "bench: %s", name);
	suite_line(result, passed ? CHECK_PASS : CHECK_FAIL, whole, detail);
}

/* ---- time ------------------------------------------------------------------------------------ */

static mla_status call_spin(void *what, int copy, mla_stream stream)
{
	(void)copy;
	return bulk_spin(*(const double *)what, stream);
}

static void test_clock(struct suite_result *result, enum bench_mode mode)
{
	double us = spin_us;
	struct bench_lane lane = {.call = call_spin, .what = &us, .copies = 3};
	struct bench_clock clock = {.mode = mode, .stop = {.samples = 20, .noise = 0.005}};
	char name[64], detail[320];
	bool passed = false;

	snprintf(name, sizeof(name), "a wait of %.0f us, %s", us, bench_mode_names[mode]);
	if (gpu_stream_create(&clock.stream)) {
		line(result, false, name, mla_last_error());
		return;
	}
	bench_time(&lane, 1, &clock);
	if (lane.status) {
		snprintf(detail, sizeof(detail), "%s", lane.why);
	} else {
		const double median = lane.timing.stats.median;

		passed = fabs(median / us - 1) <= spin_tolerance;
		snprintf(detail, sizeof(detail),
			 "measured %.2f us, %d calls per sample, IQR %.2f%%", median,
			 lane.timing.calls, 100 * stats_spread(&lane.timing.stats));
	}
	line(result, passed, name, detail);
	bench_timing_free(&lane.timing);
	bench_lane_close(&lane);
	gpu_stream_destroy(clock.stream);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Uploads to new device memory, which the caller frees, also after a failure. */
static mla_status to_device(void **device, const void *host, size_t bytes)
{
	mla_status status = gpu_alloc(device, bytes);

	if (!status)
		status = gpu_upload(*device, host, bytes);
	return status ? status : gpu_sync(NULL);
}

static void test_fill(struct suite_result *result)
{
	uint16_t *host = malloc(VALUES * sizeof(*host));
	void *device = NULL;
	int same = 0;

	if (host && !gpu_alloc(&device, VALUES * sizeof(*host)) &&
	    !bulk_fill(device, VALUES, 7, NULL) && !gpu_sync(NULL) &&
	    !gpu_download(host, device, VALUES * sizeof(*host)))
		while (same < VALUES && host[same] == random_value(7, (uint64_t)same))
			same++;
	line(result, same == VALUES, "values made on the GPU are those of the host",
	     same == VALUES ? "" : mla_last_error());
	gpu_free(device);
	free(host);
}

/* Fills the pool of a cell on the GPU and brings it back. keys: of each page table entry. */
static mla_status fill_pool(const struct mla_case *c, uint64_t seed, const int32_t *keys,
			    void *back)
{
	const size_t bytes = (size_t)cell_pool_bytes(c);
	const size_t table = (size_t)c->tensors.num_kv_indices * sizeof(int32_t);
	void *pool = NULL, *pages = NULL, *device_keys = NULL;
	mla_status status = to_device(&pages, c->tensors.kv_indices, table);

	if (!status)
		status = to_device(&device_keys, keys, table);
	if (!status)
		status = gpu_alloc(&pool, bytes);
	if (!status)
		status = gpu_fill(pool, POISON_BYTE, bytes);
	if (!status)
		status = gpu_sync(NULL);
	if (!status)
		status = bulk_fill_pool(&(struct bulk_pool){.data = pool,
							    .pages = pages,
							    .keys = device_keys,
							    .entries = c->tensors.num_kv_indices,
							    .page_size = c->config.page_size,
							    .row = 576,
							    .seed = cell_seed_pool(seed)},
					NULL);
	if (!status)
		status = gpu_sync(NULL);
	if (!status)
		status = gpu_download(back, pool, bytes);
	gpu_free(pool);
	gpu_free(pages);
	gpu_free(device_keys);
	return status;
}

/* A whole cell with a ragged end, filled on both sides. */
static void test_fill_pool(struct suite_result *result)
{
	enum { CELL_SEED = 5 };
	struct cell cell;
	struct mla_case c = {0};
	int32_t *keys = NULL;
	void *back = NULL;
	bool same = false;
	mla_status status = cell_parse("b3_100v_h4_q1_p16", &cell);

	if (!status)
		status = cell_case(&cell, CELL_SEED, &c);
	if (!status)
		status = cell_fill(&c, CELL_SEED);
	if (!status) {
		keys = cell_keys(&c);
		back = malloc((size_t)cell_pool_bytes(&c));
		status = keys && back ? fill_pool(&c, CELL_SEED, keys, back)
				      : mla_fail(MLA_NO_MEMORY, "no memory for the cache");
		same = !status && !memcmp(back, c.tensors.ckv.data, (size_t)cell_pool_bytes(&c));
	}
	line(result, same, "a cache filled on the GPU is that of the host",
	     status ? mla_last_error() : "");
	free(back);
	free(keys);
	case_free(&c);
}

/* ---- comparison ------------------------------------------------------------------------------ */

struct outputs {
	uint16_t out[ROWS * DIMS];
	float lse[ROWS], want[ROWS * DIMS], want_lse[ROWS];
};

/* bf16 roundings of what is wanted. */
static void make_outputs(struct outputs *o)
{
	for (int i = 0; i < ROWS * DIMS; i++) {
		const uint16_t bits = random_value(3, (uint64_t)i);

		o->want[i] = (float)ref_load(&bits, MLA_BF16) * 0.01f;
		ref_store(&o->out[i], MLA_BF16, o->want[i]);
	}
	for (int i = 0; i < ROWS; i++)
		o->lse[i] = o->want_lse[i] = (float)i;
	o->lse[5] = o->want_lse[5] = -INFINITY;
}

static bool compare(const struct outputs *o, struct bulk_difference *difference)
{
	void *block = NULL, *found = NULL;

	if (to_device(&block, o, sizeof(*o))) {
		gpu_free(block);
		return false;
	}

	const struct outputs *device = block;
	const struct bulk_comparison comparison = {.out = device->out,
						   .lse = device->lse,
						   .want = device->want,
						   .want_lse = device->want_lse,
						   .rows = ROWS,
						   .dims = DIMS,
						   .element_bound = 1.0f / 128,
						   .floor = 1.5f,
						   .rms_bound = 0.005f,
						   .lse_bound = 1e-4f};
	const bool compared = !gpu_alloc(&found, sizeof(*difference)) &&
			      !bulk_compare(&comparison, found, NULL) && !gpu_sync(NULL) &&
			      !gpu_download(difference, found, sizeof(*difference));

	gpu_free(found);
	gpu_free(block);
	return compared;
}

/* One error at a time; each must be found in its row, and nothing in what is right. */
static void test_compare(struct suite_result *result)
{
	static const struct {
		const char *name;
		int row;
	} errors[] = {{"none", -1}, {"nan", 11}, {"large", 12},
		      {"row", 13},  {"lse", 14}, {"inf", 5}};
	struct outputs *o = malloc(sizeof(*o));
	char detail[256] = "";
	bool passed = o;

	for (size_t e = 0; passed && e < sizeof(errors) / sizeof(errors[0]); e++) {
		struct bulk_difference d = {0};
		const int row = errors[e].row;

		make_outputs(o);
		if (row == 11)
			o->out[row * DIMS + 100] = 0xffff;
		if (row == 12)
			ref_store(&o->out[row * DIMS + 511], MLA_BF16, 0.5);
		for (int i = 0; row == 13 && i < DIMS; i++)
			ref_store(&o->out[row * DIMS + i], MLA_BF16,
				  o->want[row * DIMS + i] * 1.01);
		if (row == 14)
			o->lse[row] += 1e-3f;
		if (row == 5)
			o->lse[row] = 0;
		passed = compare(o, &d) &&
			 (row < 0 ? d.wrong_rows == 0
				  : d.wrong_rows == 1 && d.first_row == (unsigned)row);
		if (!passed)
			snprintf(detail, sizeof(detail),
				 "%s: %llu rows are wrong, first %llu; element %g rms %g lse %g",
				 errors[e].name, d.wrong_rows, d.first_row, (double)d.element,
				 (double)d.rms, (double)d.lse);
	}
	line(result, passed, "the comparison finds what is wrong and nothing else", detail);
	free(o);
}

static bool checksum(const void *device, size_t bytes, uint64_t *sum)
{
	void *place = NULL;
	const bool summed = !gpu_alloc(&place, sizeof(*sum)) && !gpu_fill(place, 0, sizeof(*sum)) &&
			    !bulk_add_checksum(device, (int64_t)bytes, place, NULL) &&
			    !gpu_sync(NULL) && !gpu_download(sum, place, sizeof(*sum));

	gpu_free(place);
	return summed;
}

static void test_checksum(struct suite_result *result)
{
	static const int places[] = {0, 17, 4096, VALUES - 1};
	unsigned char *host = malloc(VALUES);
	uint64_t before = 0, again = 0, after = 0;
	void *device = NULL;
	bool passed = false;

	for (int i = 0; host && i < VALUES; i++)
		host[i] = (unsigned char)random_number(1, (uint64_t)i);
	if (host && !to_device(&device, host, VALUES))
		passed = checksum(device, VALUES, &before) && checksum(device, VALUES, &again) &&
			 before == again;
	for (size_t i = 0; passed && i < sizeof(places) / sizeof(places[0]); i++) {
		host[places[i]] ^= 4;
		passed = !gpu_upload(device, host, VALUES) && !gpu_sync(NULL) &&
			 checksum(device, VALUES, &after) && after != before;
		host[places[i]] ^= 4;
	}
	line(result, passed, "the checksum repeats, and tells a changed bit", "");
	gpu_free(device);
	free(host);
}

/* ---- a problem ------------------------------------------------------------------------------- */

/* Outputs that no kernel wrote are wrong, whichever way the inputs were made. */
static void test_unwritten(struct suite_result *result)
{
	enum { CELL_SEED = 9 };
	struct cell cell;
	struct mla_case c = {0};
	struct bench_problem problem = {0};
	struct check_verdict verdict = {.outcome = CHECK_PASS};
	mla_status status = cell_parse("b3_300v_h16_q2", &cell);

	if (!status)
		status = cell_case(&cell, CELL_SEED, &c);
	if (!status)
		status = bench_problem_fill(&c, CELL_SEED, &problem);
	/* MLA_INVALID: built with one rung */
	if (status == MLA_INVALID || check_outcome_of(status) == CHECK_SKIP) {
		suite_line(result, CHECK_SKIP, "bench: outputs that were not written",
			   mla_last_error());
	} else {
		if (!status && !bench_problem_repoison(&problem))
			bench_problem_judge(&problem, 0, &verdict);
		line(result, !status && verdict.outcome == CHECK_FAIL,
		     "outputs that were not written are wrong",
		     status ? mla_last_error() : verdict.why);
	}
	bench_problem_free(&problem);
	case_free(&c);
}

void suite_instrument(struct suite_result *result)
{
	test_clock(result, BENCH_GRAPH);
	test_clock(result, BENCH_LAUNCH);
	test_fill(result);
	test_fill_pool(result);
	test_compare(result);
	test_checksum(result);
	test_unwritten(result);
}
