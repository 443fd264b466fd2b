/* launches.c - what launch_kernel can do besides launching, which no test of a rung shows: a
 * cluster, a tensor map among the arguments, an early start; and that a capture which went wrong
 * leaves its reason.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "base/random.h"
#include "device/gpu.h"
#include "device/probe.h"
#include "lib/error.h"
#include "suite/internal.h"

/* Rows and pages of the cache stand apart from each other, so that strides count. */
enum {
	PAGES = 6,
	PAGE_SIZE = 24,
	DIMS = 576,
	ROW_PITCH = DIMS + 8,
	PAGE_PITCH = PAGE_SIZE * ROW_PITCH + 64,
	ELEMENTS = PAGES * PAGE_PITCH,
	OUT_ELEMENTS = PAGES * PAGE_SIZE * PROBE_COLUMNS,
};

struct exchange {
	uint16_t *cache, *want, *got; /* host */
	void *device_cache, *device_out;
};

static void fill(struct exchange *e, int32_t first_column)
{
	for (int i = 0; i < ELEMENTS; i++)
		e->cache[i] = random_value(SUITE_SEED, (uint64_t)i);
	for (int page = 0; page < PAGES; page++)
		for (int row = 0; row < PAGE_SIZE; row++)
			memcpy(&e->want[(page * PAGE_SIZE + row) * PROBE_COLUMNS],
			       &e->cache[(page ^ 1) * PAGE_PITCH + row * ROW_PITCH + first_column],
			       PROBE_COLUMNS * sizeof(uint16_t));
}

static mla_status run(struct exchange *e, int32_t first_column)
{
	const mla_tensor cache = {
		.data = e->device_cache,
		.dtype = MLA_BF16,
		.ndim = 3,
		.extent = {PAGES, PAGE_SIZE, DIMS},
		.stride = {PAGE_PITCH * 2, ROW_PITCH * 2, 2},
	};
	mla_status status = gpu_upload(e->device_cache, e->cache, ELEMENTS * sizeof(uint16_t));

	if (!status)
		status = gpu_fill(e->device_out, POISON_BYTE, OUT_ELEMENTS * sizeof(uint16_t));
	if (!status)
		status = gpu_sync(NULL);
	if (!status)
		status = probe_exchange(&cache, first_column, e->device_out, NULL);
	if (!status)
		status = gpu_sync(NULL);
	return status ? status
		      : gpu_download(e->got, e->device_out, OUT_ELEMENTS * sizeof(uint16_t));
}

static mla_status make(struct exchange *e)
{
	mla_status status;

	e->cache = malloc(ELEMENTS * sizeof(uint16_t));
	e->want = malloc(OUT_ELEMENTS * sizeof(uint16_t));
	e->got = malloc(OUT_ELEMENTS * sizeof(uint16_t));
	if (!e->cache || !e->want || !e->got)
		return mla_fail(MLA_NO_MEMORY, "no memory for the pages of a test");
	status = gpu_alloc(&e->device_cache, ELEMENTS * sizeof(uint16_t));
	return status ? status : gpu_alloc(&e->device_out, OUT_ELEMENTS * sizeof(uint16_t));
}

static void release(struct exchange *e)
{
	free(e->cache);
	free(e->want);
	free(e->got);
	gpu_free(e->device_cache);
	gpu_free(e->device_out);
}

void suite_launches(const struct suite_context *x)
{
	static const int32_t first_columns[] = {0, 512};
	static const char name[] = "launch: a cluster, a tensor map, early";
	struct exchange e = {0};
	mla_status status = make(&e);
	int right = 0;

	for (size_t i = 0; i < sizeof(first_columns) / sizeof(first_columns[0]) && !status; i++) {
		fill(&e, first_columns[i]);
		status = run(&e, first_columns[i]);
		right += !status && !memcmp(e.got, e.want, OUT_ELEMENTS * sizeof(uint16_t));
	}
	if (status)
		suite_line(x->result, check_outcome_of(status), name, mla_last_error());
	else if (right == 2)
		suite_line(x->result, CHECK_PASS, name,
			   "pages came by TMA and went to the other "
			   "block of each pair");
	else
		suite_line(x->result, CHECK_FAIL, name, "other pages than the cache holds");
	release(&e);
}

void suite_lost_capture(const struct suite_context *x)
{
	static const char name[] = "launch: a lost capture leaves its reason";
	mla_stream stream = NULL;
	char reason[ERROR_SIZE] = "";
	mla_status status = gpu_stream_create(&stream);

	if (!status)
		status = gpu_capture_begin(stream);
	if (status) {
		suite_line(x->result, check_outcome_of(status), name, mla_last_error());
	} else {
		const mla_status wrong = gpu_sync(stream); /* nobody may wait in a capture */

		snprintf(reason, sizeof(reason), "%s", mla_last_error());
		gpu_capture_abandon(stream);
		status = wrong && !strcmp(reason, mla_last_error()) ? gpu_sync(stream) : MLA_CUDA;
		suite_line(x->result, status ? CHECK_FAIL : CHECK_PASS, name, reason);
	}
	if (stream)
		gpu_stream_destroy(stream);
}
