/* bench.c - timing: copies, warm-up, samples, and the check after them.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu.h"

/* ---- work ------------------------------------------------------------------------------------ */

/* Keys of request b that its query i sees. */
static int64_t visible_keys(const struct mla_case *c, int32_t b, int64_t i)
{
	const mla_batch *batch = &c->batch;
	const int64_t kv_len = batch->kv_len[b];
	if (!c->config.causal)
		return kv_len;
	const int64_t qo_len = batch->qo_indptr[b + 1] - batch->qo_indptr[b];
	const int64_t end = (batch->q_pos0 ? batch->q_pos0[b] : kv_len - qo_len) + i + 1;
	return end < 0 ? 0 : end < kv_len ? end : kv_len;
}

double bench_multiply_adds(const struct mla_case *c)
{
	double pairs = 0;
	for (int32_t b = 0; b < c->batch.batch_size; b++) {
		const int64_t qo_len = c->batch.qo_indptr[b + 1] - c->batch.qo_indptr[b];
		for (int64_t i = 0; i < qo_len; i++)
			pairs += (double)visible_keys(c, b, i);
	}
	return pairs * c->config.num_heads *
	       (2.0 * c->config.head_dim_ckv + c->config.head_dim_kpe);
}

/* Cache slots that some query sees, a slot of a shared page counted once. -1 without memory. */
static int64_t visible_slots(const struct mla_case *c)
{
	const int32_t page_size = c->config.page_size;
	const int64_t num_pages = c->tensors.ckv.extent[0];
	int32_t *used = calloc(num_pages > 0 ? (size_t)num_pages : 1, sizeof(*used));
	if (!used)
		return -1;
	for (int32_t b = 0; b < c->batch.batch_size; b++) {
		const int64_t qo_len = c->batch.qo_indptr[b + 1] - c->batch.qo_indptr[b];
		const int32_t *pages = c->tensors.kv_indices + c->batch.kv_indptr[b];
		int64_t keys = qo_len > 0 ? visible_keys(c, b, qo_len - 1) : 0;
		for (; keys > 0; keys -= page_size, pages++) {
			const int32_t here = keys < page_size ? (int32_t)keys : page_size;
			if (here > used[*pages])
				used[*pages] = here;
		}
	}
	int64_t slots = 0;
	for (int64_t p = 0; p < num_pages; p++)
		slots += used[p];
	free(used);
	return slots;
}

int bench_work_of(const struct mla_case *c, struct bench_work *work)
{
	const mla_config *config = &c->config;
	const int64_t slots = visible_slots(c);
	if (slots < 0)
		return -1;
	const double rows = (double)case_total_q(c) * config->num_heads;
	const double slot = (double)config->head_dim_ckv * ref_dtype_size(config->ckv_dtype) +
			    (double)config->head_dim_kpe * ref_dtype_size(config->kpe_dtype);
	const double q = ((double)config->head_dim_ckv + config->head_dim_kpe) *
			 ref_dtype_size(config->q_dtype);
	const double out = (double)config->head_dim_ckv * ref_dtype_size(config->out_dtype) + 4;
	work->multiply_adds = bench_multiply_adds(c);
	work->flop = 2 * work->multiply_adds;
	work->bytes = (double)slots * slot + rows * (q + out);
	return 0;
}

/* ---- common ---------------------------------------------------------------------------------- */

static double now_microseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

void bench_result_free(struct bench_result *result)
{
	free(result->samples);
	result->samples = NULL;
}

static void fail(struct bench_result *result, const char *what)
{
	result->verdict.outcome = CHECK_FAIL;
	snprintf(result->verdict.why, sizeof(result->verdict.why), "%s", what);
}

static bool good(const struct bench_result *result)
{
	return result->verdict.outcome == CHECK_PASS;
}

/* Fails with the library's sentence unless all is well. */
static bool ok(struct bench_result *result, mla_status status)
{
	if (status != MLA_OK)
		fail(result, mla_last_error());
	return status == MLA_OK;
}

static void keep_samples(struct bench_result *result, double *samples, int n)
{
	result->samples = samples;
	if (stats_of(samples, n, &result->time) != 0)
		fail(result, "the timings are not numbers");
}

/* ---- kernels --------------------------------------------------------------------------------- */

enum { WARM_UP = 5, PLAN_SAMPLES = 30, MAX_COPIES = 1024 };

/* Everything on the device while a kernel is timed. */
struct session {
	const struct mla_case *c;
	const struct check_truth *truth;
	mla_config config; /* the case's, fixed_split included */
	struct check_instance instance;
	struct check_device *copies;
	int num_copies;
	mla_plan *plan;
	void *scratch;
	mla_stream stream;
	struct gpu_timer **timers;
	int num_timers;
};

static size_t bytes_of(const mla_tensor *t)
{
	size_t elements = 1;
	for (int32_t i = 0; t->data && i < t->ndim; i++)
		elements *= (size_t)t->extent[i];
	return t->data ? elements * (size_t)ref_dtype_size(t->dtype) : 0;
}

/* What a call reads and writes, unused pages left out: only the rest competes for the cache. */
static void count_copies(struct session *s, struct bench_result *result)
{
	struct bench_work work = {0};
	if (bench_work_of(s->c, &work) != 0)
		work.bytes = 0;
	const mla_tensors *t = &s->instance.host;
	const size_t size = bytes_of(&t->q_nope) + bytes_of(&t->q_pe) + bytes_of(&t->ckv) +
			    bytes_of(&t->kpe) + bytes_of(&t->out) + bytes_of(&t->lse) + (1 << 16);
	const double target = 2.0 * (double)gpu_l2_bytes();
	const double room = 0.8 * (double)gpu_free_bytes() / (double)size;
	double wanted = work.bytes > 0 ? target / work.bytes + 2 : 2;
	if (wanted > MAX_COPIES)
		wanted = MAX_COPIES;
	if (wanted > room)
		wanted = room;
	s->num_copies = wanted < 1 ? 1 : (int)wanted;
	/* Coming back to a copy, everything else was touched in between. */
	result->cold = (s->num_copies - 1) * work.bytes >= target || work.bytes >= target;
	result->copies = s->num_copies;
}

static void make_plan(struct session *s, const char *kernel, struct bench_result *result)
{
	mla_device device = {.struct_size = sizeof(device)};
	mla_capacity capacity = {.struct_size = sizeof(capacity)};
	double times[PLAN_SAMPLES];
	if (!ok(result, mla_device_query(&device)) ||
	    !ok(result, mla_capacity_of(&s->config, &s->c->batch, &capacity)) ||
	    !ok(result, mla_plan_create(kernel, &s->config, &device, &capacity, &s->plan)))
		return;
	for (int i = 0; i < PLAN_SAMPLES; i++) {
		const double start = now_microseconds();
		if (!ok(result, mla_plan_build(s->plan, &s->c->batch)))
			return;
		times[i] = now_microseconds() - start;
	}
	stats_of(times, PLAN_SAMPLES, &result->plan);
}

static void make_copies(struct session *s, struct bench_result *result)
{
	mla_plan_info info = {.struct_size = sizeof(info)};
	if (!ok(result, mla_plan_get_info(s->plan, &info)))
		return;
	if (info.scratch_bytes > 0 &&
	    !ok(result, gpu_alloc(&s->scratch, (size_t)info.scratch_bytes)))
		return;
	count_copies(s, result);
	const int wanted = s->num_copies;
	s->copies = calloc((size_t)wanted, sizeof(*s->copies));
	if (!s->copies)
		fail(result, "no memory for the copies");
	for (s->num_copies = 0; good(result) && s->num_copies < wanted; s->num_copies++) {
		struct check_device *copy = &s->copies[s->num_copies];
		if (!ok(result, check_device_make(&s->instance, copy)))
			return;
		copy->device.scratch = s->scratch;
		copy->device.scratch_bytes = info.scratch_bytes;
	}
}

static void make_timers(struct session *s, int n, struct bench_result *result)
{
	if (!ok(result, gpu_stream_create(&s->stream)))
		return;
	s->timers = calloc((size_t)n, sizeof(struct gpu_timer *));
	if (!s->timers)
		fail(result, "no memory for the timers");
	for (; good(result) && s->num_timers < n; s->num_timers++)
		if (!ok(result, gpu_timer_create(&s->timers[s->num_timers])))
			return;
}

static void session_close(struct session *s)
{
	gpu_sync(s->stream);
	for (int i = 0; i < s->num_timers; i++)
		gpu_timer_destroy(s->timers[i]);
	free(s->timers);
	for (int i = 0; i < s->num_copies; i++)
		check_device_free(&s->copies[i]);
	free(s->copies);
	mla_plan_destroy(s->plan);
	gpu_free(s->scratch);
	if (s->stream)
		gpu_stream_destroy(s->stream);
	check_instance_free(&s->instance);
}

/* All calls are queued before the first is waited for: the GPU never waits for the host, unless a
 * call is shorter than its launch. */
static void take_samples(struct session *s, struct bench_result *result)
{
	const int n = s->num_timers;
	double *samples = calloc((size_t)n, sizeof(*samples));
	if (!samples) {
		fail(result, "no memory for the samples");
		return;
	}
	bool running = ok(result, mla_plan_upload(s->plan, s->stream));
	for (int i = 0; running && i < WARM_UP + n; i++) {
		const struct check_device *copy = &s->copies[i % s->num_copies];
		struct gpu_timer *timer = i < WARM_UP ? NULL : s->timers[i - WARM_UP];
		running = (!timer || ok(result, gpu_timer_start(timer, s->stream))) &&
			  ok(result, mla_run(s->plan, &copy->device, s->stream)) &&
			  (!timer || ok(result, gpu_timer_stop(timer, s->stream)));
	}
	running = ok(result, gpu_sync(s->stream)) && running;
	for (int i = 0; running && i < n; i++)
		running = ok(result, gpu_timer_read(s->timers[i], &samples[i]));
	if (running)
		keep_samples(result, samples, n);
	else
		free(samples);
}

/* The outputs that the last timed call left, judged like any other. */
static void check_again(struct session *s, struct bench_result *result)
{
	const int last = (WARM_UP + s->num_timers - 1) % s->num_copies;
	const size_t lse_bytes = bytes_of(&s->instance.host.lse);
	void *out = malloc(bytes_of(&s->instance.host.out) + 1);
	float *lse = malloc(lse_bytes + 1);
	char why[sizeof(result->verdict.why)];
	if (!out || !lse)
		fail(result, "no memory to check the timed outputs");
	else if (!check_device_collect(&s->copies[last], out, lse, why, sizeof(why)))
		fail(result, why);
	else
		check_outputs(s->c, s->truth, out, lse_bytes ? lse : NULL, &result->verdict);
	free(out);
	free(lse);
}

void bench_kernel(const struct mla_case *c, const struct check_truth *truth, const char *kernel,
		  const struct bench_options *options, struct bench_result *result)
{
	const struct check_subject subject = {
		.name = kernel, .kernel = kernel, .fixed_split = options->fixed_split};
	*result = (struct bench_result){0};
	check_subject(c, truth, &subject, &result->verdict);
	if (!good(result))
		return;
	struct session s = {.c = c, .truth = truth, .config = c->config};
	s.config.fixed_split = options->fixed_split;
	if (check_instance_make(c, &s.instance) != 0)
		fail(result, "no memory for the poisoned instance");
	if (good(result))
		make_plan(&s, kernel, result);
	if (good(result))
		make_copies(&s, result);
	if (good(result))
		make_timers(&s, options->samples, result);
	if (good(result))
		take_samples(&s, result);
	if (good(result))
		check_again(&s, result);
	session_close(&s);
}

/* ---- variants -------------------------------------------------------------------------------- */

/* Few samples: seconds each, on a machine that does other things too. */
enum { VARIANT_SAMPLES = 5 };

void bench_variant(const struct mla_case *c, const struct check_truth *truth,
		   const struct variant *variant, const struct bench_options *options,
		   struct bench_result *result)
{
	const struct check_subject subject = {.name = variant->name, .run = variant->run};
	const int n = options->samples < VARIANT_SAMPLES ? options->samples : VARIANT_SAMPLES;
	*result = (struct bench_result){0};
	double *samples = calloc((size_t)n, sizeof(*samples));
	if (!samples) {
		fail(result, "no memory for the samples");
		return;
	}
	check_subject(c, truth, &subject, &result->verdict);
	for (int i = 0; good(result) && i < n; i++) {
		/* Each run is judged, on outputs poisoned anew, and timed without the judging. */
		check_subject(c, truth, &subject, &result->verdict);
		samples[i] = result->verdict.microseconds;
	}
	if (good(result))
		keep_samples(result, samples, n);
	else
		free(samples);
}
