/* states.c - mla_merge on the GPU against mla_merge_host.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "device/gpu.h"
#include "suite/internal.h"

enum { STATES = 7, MERGE_ROWS = 37, MERGE_DIM = 100 };

static void fill_states(float *states, float *lse)
{
	uint64_t state = 11;

	for (int i = 0; i < STATES * MERGE_ROWS; i++)
		lse[i] = suite_draw(&state, 5) ? (float)suite_draw(&state, 4000) / 50.f - 40.f
					       : -INFINITY;
	for (int s = 0; s < STATES; s++)
		lse[s * MERGE_ROWS + 3] = -INFINITY; /* a row that saw nothing */
	for (int i = 0; i < STATES * MERGE_ROWS; i++)
		for (int c = 0; c < MERGE_DIM; c++)
			states[i * MERGE_DIM + c] =
				isinf(lse[i]) ? NAN
					      : (float)suite_draw(&state, 2000) / 1000.f - 1.f;
}

static mla_tensor packed(void *data, int32_t ndim, int64_t a, int64_t b, int64_t c)
{
	mla_tensor t = {.data = data, .dtype = MLA_F32, .ndim = ndim, .extent = {a, b, c}};
	int64_t bytes = sizeof(float);

	for (int32_t i = ndim - 1; i >= 0; i--) {
		t.stride[i] = bytes;
		bytes *= t.extent[i];
	}
	return t;
}

static mla_merge_args merge_of(char *block, int32_t base, const size_t *offset)
{
	return (mla_merge_args){
		.struct_size = sizeof(mla_merge_args),
		.lse_base = base,
		.states = packed(block + offset[0], 3, STATES, MERGE_ROWS, MERGE_DIM),
		.states_lse = packed(block + offset[1], 2, STATES, MERGE_ROWS, 0),
		.out = packed(block + offset[2], 2, MERGE_ROWS, MERGE_DIM, 0),
		.lse = packed(block + offset[3], 1, MERGE_ROWS, 0, 0),
	};
}

/* Of what the device gives from what the host gives, relative if that is large. */
static double distance(float host, float device)
{
	/* equal infinities are equal */
	const double off =
		host == device ? 0 : fabs((double)host - device) / fmax(1.0, fabs((double)host));

	return isnan(off) ? INFINITY : off;
}

/* Device against host, in both LSE bases; differences are float rounding. */
void suite_merge(const struct suite_context *x)
{
	const size_t offset[] = {
		0,
		STATES * MERGE_ROWS * MERGE_DIM * sizeof(float),
		STATES * MERGE_ROWS * (MERGE_DIM + 1) * sizeof(float),
		(STATES * MERGE_ROWS * (MERGE_DIM + 1) + MERGE_ROWS * MERGE_DIM) * sizeof(float),
	};
	const size_t bytes = offset[3] + MERGE_ROWS * sizeof(float);
	float *host = calloc(1, bytes), *back = calloc(1, bytes);
	void *device = NULL;
	double worst = 0;

	if (!host || !back || gpu_alloc(&device, bytes)) {
		suite_line(x->result, CHECK_FAIL, "mla_merge", "no memory");
		free(host);
		free(back);
		return;
	}
	fill_states(host, host + offset[1] / sizeof(float));
	for (int32_t base = MLA_LSE_NATURAL; base <= MLA_LSE_BASE2; base++) {
		const mla_merge_args on_host = merge_of((char *)host, base, offset);
		const mla_merge_args on_device = merge_of(device, base, offset);

		if (gpu_upload(device, host, bytes) || mla_merge_host(&on_host) ||
		    mla_merge(&on_device, NULL) || gpu_sync(NULL) ||
		    gpu_download(back, device, bytes))
			worst = INFINITY;
		for (size_t i = offset[2] / sizeof(float); i < bytes / sizeof(float); i++)
			worst = fmax(worst, distance(host[i], back[i]));
	}

	char detail[128];

	snprintf(detail, sizeof(detail), "device against host: largest difference %.1e", worst);
	suite_line(x->result, worst <= 1e-5 ? CHECK_PASS : CHECK_FAIL, "mla_merge", detail);
	gpu_free(device);
	free(host);
	free(back);
}
