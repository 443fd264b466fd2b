/* ceilings_measure.c - measures the ceilings, each as timed launches of a few milliseconds.
 */
#define _GNU_SOURCE
#include "bench/ceilings.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device/bulk.h"
#include "device/peak.h"
#include "lib/error.h"

const struct ceiling_name ceiling_names[CEILING_NUM_KINDS] = {
	{"read_gbs", "read", "GB/s", "plain loads of all of a large buffer"},
	{"copy_gbs", "copy", "GB/s", "copy on the device, read and written bytes counted"},
	{"mma_tflops", "mma.sync", "TFLOP/s", "mma.sync m16n8k16 bf16 on registers alone"},
	{"wgmma_tflops", "wgmma", "TFLOP/s", "wgmma m64n128k16 bf16 on shared memory alone"},
	{"gemm_tflops", "GEMM", "TFLOP/s", "cuBLAS, bf16, 8192 x 8192 x 8192"},
};

double ceilings_read_gbs(const struct ceilings *ceilings)
{
	return ceilings->of[CEILING_READ].stats.median;
}

double ceilings_tflops(const struct ceilings *ceilings)
{
	double most = 0;

	for (int i = CEILING_MMA; i <= CEILING_GEMM; i++)
		if (ceilings->of[i].stats.median > most)
			most = ceilings->of[i].stats.median;
	return most;
}

/* ---- cuBLAS, if it is there ------------------------------------------------------------------ */

enum { GEMM = 8192 };

/* Of library_types.h and cublas_api.h, whose values do not change. */
enum { NO_TRANSPOSE = 0, TYPE_BF16 = 14, COMPUTE_F32 = 68, ALGO_DEFAULT = -1 };

typedef void *blas_handle;
typedef int (*blas_create)(blas_handle *);
typedef int (*blas_destroy)(blas_handle);
typedef int (*blas_set_stream)(blas_handle, mla_stream);
typedef int (*blas_gemm)(blas_handle, int, int, int, int, int, const void *, const void *, int, int,
			 const void *, int, int, const void *, void *, int, int, int, int);

struct blas {
	void *library;
	blas_handle handle;
	blas_destroy destroy;
	blas_gemm gemm;
};

static void find(void *library, const char *name, void *function, size_t size)
{
	void *address = dlsym(library, name);

	memcpy(function, &address, size);
}

static mla_status blas_open(struct blas *blas, mla_stream stream)
{
	static const char *const names[] = {"libcublas.so", "libcublas.so.13", "libcublas.so.12",
					    "libcublas.so.11"};
	blas_create create = NULL;
	blas_set_stream set_stream = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !blas->library; i++)
		blas->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!blas->library)
		return mla_fail(MLA_REFUSED, "libcublas.so was not found");
	find(blas->library, "cublasCreate_v2", &create, sizeof(create));
	find(blas->library, "cublasSetStream_v2", &set_stream, sizeof(set_stream));
	find(blas->library, "cublasDestroy_v2", &blas->destroy, sizeof(blas->destroy));
	find(blas->library, "cublasGemmEx", &blas->gemm, sizeof(blas->gemm));
	if (!create || !set_stream || !blas->destroy || !blas->gemm)
		return mla_fail(MLA_REFUSED, "libcublas.so lacks a function that is needed");

	int error = create(&blas->handle);

	if (!error)
		error = set_stream(blas->handle, stream);
	return error ? mla_fail(MLA_CUDA, "cuBLAS cannot be started (status %d)", error) : MLA_OK;
}

/* The library stays loaded: CUDA's own do not like to be unloaded. */
static void blas_close(struct blas *blas)
{
	if (blas->handle)
		blas->destroy(blas->handle);
}

/* ---- what is timed --------------------------------------------------------------------------- */

struct meter {
	char *data; /* random bf16 */
	int64_t bytes;
	void *sink;
	mla_stream stream;
	struct blas blas;
	double work; /* of a call: bytes or FLOP */
	int ctas_per_sm;
};

/* A few milliseconds each on a GPU of a few hundred TFLOP/s. */
enum { MMA_ROUNDS = 8000, WGMMA_ROUNDS = 2000 };

static mla_status call_read(void *what, int copy, mla_stream stream)
{
	struct meter *meter = what;

	(void)copy;
	meter->work = (double)meter->bytes;
	return peak_read(meter->data, meter->bytes, meter->ctas_per_sm, meter->sink, stream);
}

static mla_status call_copy(void *what, int copy, mla_stream stream)
{
	struct meter *meter = what;
	const int64_t half = meter->bytes / 2;

	(void)copy;
	meter->work = 2.0 * (double)half;
	return peak_copy(meter->data + half, meter->data, half, stream);
}

static mla_status call_mma(void *what, int copy, mla_stream stream)
{
	struct meter *meter = what;

	(void)copy;
	return peak_mma(MMA_ROUNDS, meter->sink, &meter->work, stream);
}

static mla_status call_wgmma(void *what, int copy, mla_stream stream)
{
	struct meter *meter = what;

	(void)copy;
	return peak_wgmma(WGMMA_ROUNDS, meter->sink, &meter->work, stream);
}

static mla_status call_gemm(void *what, int copy, mla_stream stream)
{
	struct meter *meter = what;
	const int64_t size = (int64_t)GEMM * GEMM * 2;
	const float one = 1, zero = 0;

	(void)copy;
	(void)stream; /* set when the handle was made */
	if (meter->bytes < 3 * size)
		return mla_fail(MLA_NO_MEMORY, "the GPU has no memory for three matrices");
	meter->work = 2.0 * GEMM * GEMM * GEMM;

	const int error = meter->blas.gemm(
		meter->blas.handle, NO_TRANSPOSE, NO_TRANSPOSE, GEMM, GEMM, GEMM, &one, meter->data,
		TYPE_BF16, GEMM, meter->data + size, TYPE_BF16, GEMM, &zero, meter->data + 2 * size,
		TYPE_BF16, GEMM, COMPUTE_F32, ALGO_DEFAULT);

	return error ? mla_fail(MLA_CUDA, "cublasGemmEx: status %d", error) : MLA_OK;
}

/* ---- measuring ------------------------------------------------------------------------------- */

static void miss(struct ceiling *ceiling, const char *why)
{
	*ceiling = (struct ceiling){0};
	snprintf(ceiling->why, sizeof(ceiling->why), "%s", why);
}

/* Times become rates; kept if better than what is there already. */
static void keep_rate(struct bench_lane *lane, double work, double unit, struct ceiling *ceiling)
{
	struct ceiling found = {.load = lane->timing.load};

	for (int i = 0; i < lane->timing.stats.n; i++)
		lane->timing.samples[i] = work / lane->timing.samples[i] * unit;
	if (stats_of(lane->timing.samples, lane->timing.stats.n, &found.stats))
		miss(ceiling, mla_last_error());
	else if (found.stats.median > ceiling->stats.median)
		*ceiling = found;
}

static void measure(struct meter *meter, bench_call call, double unit,
		    const struct bench_clock *clock, struct ceiling *ceiling)
{
	struct bench_lane lane = {.call = call, .what = meter, .copies = 1};

	bench_time(&lane, 1, clock);
	if (lane.status)
		miss(ceiling, lane.why);
	else
		keep_rate(&lane, meter->work, unit, ceiling);
	bench_timing_free(&lane.timing);
	bench_lane_close(&lane);
}

static void measure_all(struct meter *meter, const struct bench_clock *clock,
			struct ceilings *ceilings)
{
	static const int ctas_per_sm[] = {4, 8, 16, 32};
	const double gbs = 1e-3, tflops = 1e-6; /* from bytes and FLOP per microsecond */

	for (size_t i = 0; i < sizeof(ctas_per_sm) / sizeof(ctas_per_sm[0]); i++) {
		meter->ctas_per_sm = ctas_per_sm[i];
		measure(meter, call_read, gbs, clock, &ceilings->of[CEILING_READ]);
	}
	measure(meter, call_mma, tflops, clock, &ceilings->of[CEILING_MMA]);
	measure(meter, call_wgmma, tflops, clock, &ceilings->of[CEILING_WGMMA]);
	if (blas_open(&meter->blas, meter->stream))
		miss(&ceilings->of[CEILING_GEMM], mla_last_error());
	else
		measure(meter, call_gemm, tflops, clock, &ceilings->of[CEILING_GEMM]);
	blas_close(&meter->blas);
	measure(meter, call_copy, gbs, clock, &ceilings->of[CEILING_COPY]);
}

/* Half of what is free, at most 8 GiB: far more than any cache. */
static mla_status open_meter(struct meter *meter)
{
	const int64_t most = (int64_t)8 << 30, half = (int64_t)(gpu_free_bytes() / 2);
	mla_status status = gpu_stream_create(&meter->stream);

	meter->bytes = (half < most ? half : most) & ~(int64_t)4095;
	if (!status)
		status = gpu_alloc((void **)&meter->data, (size_t)meter->bytes);
	if (!status)
		status = gpu_alloc(&meter->sink, 64);
	if (!status)
		status = bulk_fill(meter->data, meter->bytes / 2, 1, meter->stream);
	return status ? status : gpu_sync(meter->stream);
}

int ceilings_measure(const struct bench_stop *stop, const struct nvml *nvml,
		     void (*progress)(void *opaque, double share), struct ceilings *ceilings)
{
	struct meter meter = {0};
	const time_t now = time(NULL);
	struct tm utc;
	int measured = 0;

	*ceilings = (struct ceilings){0};
	snprintf(ceilings->gpu, sizeof(ceilings->gpu), "%s", gpu_name());
	if (gmtime_r(&now, &utc))
		strftime(ceilings->date, sizeof(ceilings->date), "%Y-%m-%dT%H:%M:%SZ", &utc);

	const mla_status status = open_meter(&meter);
	const struct bench_clock clock = {.mode = BENCH_LAUNCH,
					  .stop = *stop,
					  .stream = meter.stream,
					  .nvml = nvml,
					  .progress = progress};

	if (!status)
		measure_all(&meter, &clock, ceilings);
	for (int i = 0; i < CEILING_NUM_KINDS; i++) {
		if (status)
			miss(&ceilings->of[i], mla_last_error());
		measured += ceilings->of[i].stats.n > 0;
	}
	gpu_free(meter.data);
	gpu_free(meter.sink);
	if (meter.stream)
		gpu_stream_destroy(meter.stream);
	return measured;
}
