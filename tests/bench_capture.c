/* bench_capture.c - how fast a capture is written, verified and loaded. Loading checks fletcher32
 * and looks for values that are not finite; it must stay above 0.05 GB/s, so that a conversion by
 * HDF5 (0.01 GB/s) cannot slip in.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "capture/capture.h"
#include "case/generate.h"
#include "output_fixture.h"

enum { REPEATS = 5 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int fail(void)
{
	printf("%s\n", mla_last_error());
	return 1;
}

static int make_case(struct mla_case *c)
{
	static const int32_t qo_len[] = {64}, kv_len[] = {65536};
	const struct generate_spec spec = {
		.seed = 3,
		.config = {.struct_size = sizeof(mla_config),
			   .num_heads = 16,
			   .head_dim_ckv = 512,
			   .head_dim_kpe = 64,
			   .page_size = 64,
			   .sm_scale = 0.1352337788},
		.batch_size = 1,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_NORMAL,
	};

	return generate_case(&spec, c);
}

/* By the clock, since two processes work; best of some, because a busy machine is not what is
 * measured; the file is in the page cache. */
static double load_seconds(const char *path)
{
	double best = 1e9;

	for (int i = 0; i < REPEATS; i++) {
		const double start = now();
		double taken;
		struct capture *capture;
		struct mla_case c;

		if (capture_open(path, &capture))
			return -1;
		if (capture_load(capture, 0, 0, &c)) {
			capture_close(capture);
			return -1;
		}
		taken = now() - start;
		best = taken < best ? taken : best;
		case_free(&c);
		capture_close(capture);
	}
	return best;
}

static int measure(const char *path, const struct mla_case *c, bool compress)
{
	const struct capture_writing how = {
		.notes = "a benchmark", .tool = "bench_capture", .compress = compress};
	const double bytes = (65536 + 64 * 16) * 576 * 2.0;
	double start = now(), written, verified, loaded;

	if (put_capture(path, c, &how))
		return fail();
	written = now() - start;
	start = now();
	if (capture_verify(path, false, NULL))
		return fail();
	verified = now() - start;
	loaded = load_seconds(path);
	if (loaded < 0)
		return fail();
	printf("capture of %.1f MB, %s: written %.2f GB/s, verified %.2f GB/s, loaded %.2f GB/s\n",
	       bytes * 1e-6, compress ? "shuffle + deflate" : "fletcher32 only",
	       bytes * 1e-9 / written, bytes * 1e-9 / verified, bytes * 1e-9 / loaded);
	if (!compress && bytes * 1e-9 / loaded < 0.05) {
		printf("FAILED: loading is slower than 0.05 GB/s\n");
		return 1;
	}
	return 0;
}

int main(void)
{
	char path[] = "/tmp/bench-capture-XXXXXX";
	const int descriptor = mkstemp(path);
	struct mla_case c;
	int status;

	if (descriptor < 0 || make_case(&c)) {
		printf("FAILED: no temporary file or no memory\n");
		return 1;
	}
	close(descriptor);
	status = measure(path, &c, false) || measure(path, &c, true);
	unlink(path);
	case_free(&c);
	return status;
}
