/* suite_gpu.c - everything about the kernels that needs a GPU: captures, adversarial shapes, cases
 * made for one weakness each, graphs that outlive their plan, uploads in flight, bits that must
 * repeat, caches beyond 2^31 bytes, the merge, and what mla_run must refuse.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/capture.h"
#include "case/generate.h"
#include "device/gpu.h"
#include "report/tally.h"
#include "suite/instrument.h"
#include "suite/suite.h"

enum {
	MAX_KERNELS = 32,
	SEED = 2026,
	ADVERSARIAL = 200, /* random shapes */
	REPLANS = 100,     /* re-plans of one captured graph */
	REPEATS = 1000,    /* runs that must give the same bits */
};

struct context {
	const char *kernels[MAX_KERNELS];
	int num_kernels;
	struct suite_result *result;
};

/* A small generator of its own: the shapes of a suite must not change with generate.c. */
static uint32_t draw(uint64_t *state, uint32_t below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((*state >> 33) % below);
}

/* Of many cases, as one line. */
static void report_tally(struct suite_result *result, const char *group, const char *kernel,
			 const struct tally *t)
{
	const char *first = t->failed ? t->failures[0] : t->skip;
	char name[128], detail[1024], element[32], rms[32], lse[32];

	snprintf(name, sizeof(name), "%s %s", kernel, group);
	snprintf(detail, sizeof(detail),
		 "%d of %d right, %d refused; worst element %s, rms %s, lse %s of the bound%s%s",
		 t->passed, t->passed + t->failed, t->skipped,
		 report_ratio(t->worst_element, element, sizeof(element)),
		 report_ratio(t->worst_rms, rms, sizeof(rms)),
		 report_ratio(t->worst_lse, lse, sizeof(lse)), first ? "; first: " : "",
		 first ? first : "");
	suite_line(result, tally_outcome(t), name, detail);
}

/* One line for a test that a kernel passes or fails as a whole. */
static void report(const struct context *x, const char *kernel, const char *test,
		   enum check_outcome outcome, const char *detail)
{
	char name[128];

	snprintf(name, sizeof(name), "%s %s", kernel, test);
	suite_line(x->result, outcome, name, detail);
}

/* false after a line that says so. */
static bool make_case(const struct context *x, const char *test, const struct generate_spec *spec,
		      struct mla_case *c)
{
	if (generate_case(spec, c) == 0)
		return true;
	suite_line(x->result, CHECK_FAIL, test, "no memory for the case");
	return false;
}

/* ---- a kernel on a case, step by step -------------------------------------------------------- */

/* A case on the device with a plan for one kernel. */
struct rig {
	const struct mla_case *c;
	const char *kernel;
	int32_t fixed_split;
	struct check_instance instance;
	struct check_device device;
	mla_plan *plan;
	mla_stream stream;
	void *scratch;
	void *out;  /* host, contiguous, as the case's outputs */
	float *lse; /* host */
	size_t out_bytes, lse_bytes;
};

static void rig_free(struct rig *r)
{
	mla_plan_destroy(r->plan);
	gpu_free(r->scratch);
	if (r->stream)
		gpu_stream_destroy(r->stream);
	if (r->device.state)
		check_device_free(&r->device);
	check_instance_free(&r->instance);
	free(r->out);
	free(r->lse);
}

static mla_status rig_plan(struct rig *r, const char *kernel, const mla_config *config)
{
	mla_device device;
	mla_capacity capacity;
	mla_plan_info info = {.struct_size = sizeof(info)};
	mla_status status = mla_device_query(&device);

	if (!status)
		status = mla_capacity_of(config, &r->c->batch, &capacity);
	if (!status)
		status = mla_plan_create(kernel, config, &device, &capacity, &r->plan);
	if (!status)
		status = mla_plan_get_info(r->plan, &info);
	if (!status)
		status = gpu_alloc(&r->scratch, (size_t)info.scratch_bytes);
	if (!status)
		status = gpu_fill(r->scratch, 0xff, (size_t)info.scratch_bytes);
	r->device.device.scratch = r->scratch;
	r->device.device.scratch_bytes = info.scratch_bytes;
	return status;
}

/* Everything up to, not including, mla_plan_build. */
static mla_status rig_make(struct rig *r, const struct mla_case *c, const char *kernel,
			   int32_t fixed_split)
{
	const int64_t rows = case_total_q(c) * c->config.num_heads;
	mla_config config = c->config;
	mla_status status;

	*r = (struct rig){.c = c, .kernel = kernel, .fixed_split = fixed_split};
	config.fixed_split = fixed_split;
	r->out_bytes =
		(size_t)rows * c->config.head_dim_ckv * (size_t)ref_dtype_size(c->config.out_dtype);
	r->lse_bytes = (size_t)rows * sizeof(float);
	r->out = malloc(r->out_bytes + 1);
	r->lse = malloc(r->lse_bytes + 1);
	if (!r->out || !r->lse || check_instance_make(c, &r->instance))
		return MLA_NO_MEMORY;
	status = check_device_make(&r->instance, &r->device);
	if (!status)
		status = gpu_stream_create(&r->stream);
	return status ? status : rig_plan(r, kernel, &config);
}

static mla_status rig_upload(struct rig *r, const mla_batch *batch)
{
	const mla_status status = mla_plan_build(r->plan, batch);

	return status ? status : mla_plan_upload(r->plan, r->stream);
}

/* Outputs to the host, guards and inputs checked. */
static bool rig_collect(struct rig *r, char *why, size_t size)
{
	if (gpu_sync(r->stream)) {
		snprintf(why, size, "%s", mla_last_error());
		return false;
	}
	return check_device_collect(&r->device, r->out, r->lse, why, size);
}

static mla_status rig_run(struct rig *r)
{
	mla_status status = check_device_repoison(&r->device);

	if (!status)
		status = mla_run(r->plan, &r->device.device, r->stream);
	return status ? status : gpu_sync(r->stream);
}

/* Collects: are these the outputs of c, which has the tensors of the rig's case and its batch or a
 * smaller one? */
static bool rig_right(struct rig *r, const struct mla_case *c, char *why, size_t size)
{
	struct check_truth truth;
	struct check_verdict verdict = {.outcome = CHECK_FAIL};

	if (!rig_collect(r, why, size))
		return false;
	if (check_truth_make(c, 0, &truth)) {
		snprintf(why, size, "no memory for the truth");
		return false;
	}
	check_outputs(c, &truth, r->out, r->lse, &verdict);
	check_truth_free(&truth);
	snprintf(why, size, "%s", verdict.why);
	return verdict.outcome == CHECK_PASS;
}

/* A test of one kernel; why is empty at first. On failure an empty one stands for mla_last_error,
 * else it is the line's detail. */
typedef bool (*rig_test)(struct rig *r, char *why, size_t size);

static const char *reason(const char *why)
{
	return *why ? why : mla_last_error();
}

/* A line and a rig of its own for each kernel. */
static void each_kernel(const struct context *x, const struct mla_case *c, const char *name,
			int32_t fixed_split, rig_test test)
{
	for (int k = 0; k < x->num_kernels; k++) {
		struct rig r;
		char why[512] = "";
		const mla_status made = rig_make(&r, c, x->kernels[k], fixed_split);

		if (made)
			report(x, x->kernels[k], name,
			       made == MLA_REFUSED ? CHECK_SKIP : CHECK_FAIL, mla_last_error());
		else if (test(&r, why, sizeof(why)))
			report(x, x->kernels[k], name, CHECK_PASS, why);
		else
			report(x, x->kernels[k], name, CHECK_FAIL, reason(why));
		rig_free(&r);
	}
}

/* ---- captures and shapes --------------------------------------------------------------------- */

static void try_case(const struct context *x, const struct mla_case *c, int32_t fixed_split,
		     bool graph, struct tally *tallies)
{
	struct check_truth truth;

	if (check_truth_make(c, 0, &truth)) {
		suite_line(x->result, CHECK_FAIL, c->name, "no memory for the truth");
		return;
	}
	for (int k = 0; k < x->num_kernels; k++) {
		const struct check_subject subject = {
			.name = x->kernels[k],
			.kernel = x->kernels[k],
			.fixed_split = fixed_split,
			.graph = graph,
		};
		struct check_verdict verdict;

		check_subject(c, &truth, &subject, &verdict);
		tally_add(&tallies[k], &verdict, c->name, NULL);
	}
	check_truth_free(&truth);
}

static void report_tallies(const struct context *x, const char *group, struct tally *tallies)
{
	for (int k = 0; k < x->num_kernels; k++) {
		report_tally(x->result, group, x->kernels[k], &tallies[k]);
		tally_free(&tallies[k]);
	}
}

static void test_capture(const struct context *x, const char *path)
{
	struct tally tallies[MAX_KERNELS] = {0};
	struct capture *capture;
	const char *slash = strrchr(path, '/');

	if (capture_open(path, &capture)) {
		suite_line(x->result, CHECK_FAIL, path, mla_last_error());
		return;
	}
	for (int s = 0; s < capture_num_steps(capture); s++)
		for (int l = 0; l < capture_num_layers(capture); l++) {
			struct mla_case c = {0};

			if (capture_load(capture, s, l, &c))
				suite_line(x->result, CHECK_FAIL, path, mla_last_error());
			else
				try_case(x, &c, 0, (s + l) % 2, tallies);
			case_free(&c);
		}
	report_tallies(x, slash ? slash + 1 : path, tallies);
	capture_close(capture);
}

static void test_adversarial(const struct context *x)
{
	struct tally tallies[MAX_KERNELS] = {0};

	for (int n = 0; n < ADVERSARIAL; n++) {
		struct mla_case c = {0};

		/* every third in fixed-split mode, every second as a graph */
		if (generate_adversarial(SEED, n, &c))
			suite_line(x->result, CHECK_FAIL, "adversarial", "no memory for a case");
		else
			try_case(x, &c, n % 3 == 2 ? 128 * (1 + n % 5) : 0, n % 2, tallies);
		case_free(&c);
	}
	report_tallies(x, "adversarial shapes", tallies);
}

static mla_config deepseek(int32_t heads)
{
	return (mla_config){
		.struct_size = sizeof(mla_config),
		.num_heads = heads,
		.head_dim_ckv = 512,
		.head_dim_kpe = 64,
		.page_size = 64,
		.causal = 1,
		.sm_scale = 0.1352337788608801, /* DeepSeek-V3 */
	};
}

/* One case with the balanced plan, and as a graph with splits at fixed_split keys if that is not 0.
 */
static void test_generated(const struct context *x, const char *group,
			   const struct generate_spec *spec, int32_t fixed_split)
{
	struct tally tallies[MAX_KERNELS] = {0};
	struct mla_case c = {0};

	if (!make_case(x, group, spec, &c))
		return;
	try_case(x, &c, 0, false, tallies);
	if (fixed_split)
		try_case(x, &c, fixed_split, true, tallies);
	case_free(&c);
	report_tallies(x, group, tallies);
}

/* Peaked synthetic inputs with all 128 heads: row tiles, rescaling, merges of unlike maxima. */
static void test_peaked(const struct context *x)
{
	static const int32_t qo_len[] = {1, 2, 1, 4}, kv_len[] = {8736, 129, 2048, 4097};
	const struct generate_spec spec = {
		.seed = SEED,
		.config = deepseek(128),
		.batch_size = 4,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
		.extra_pages = 7,
	};

	test_generated(x, "peaked, 128 heads", &spec, 0);
}

/* Scores of several hundred: exp overflows, in fp16 at 11 and in f32 at 88, unless the maximum is
 * taken off first. */
static void test_huge(const struct context *x)
{
	static const int32_t qo_len[] = {3, 3}, kv_len[] = {700, 2100};
	struct generate_spec spec = {
		.seed = SEED + 3,
		.config = deepseek(128),
		.batch_size = 2,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_HUGE,
		.fused = 1,
		.extra_pages = 7,
	};

	spec.config.q_dtype = spec.config.ckv_dtype = MLA_F16;
	spec.config.kpe_dtype = spec.config.out_dtype = MLA_F16;
	test_generated(x, "huge scores, fp16", &spec, 256);
}

/* Rows that see no key at all, for want of keys or because they come before the first, and rows of
 * a split tile that see none of its last part: of 513 keys in parts of 256 only the last query sees
 * the last, and with 4 heads all four queries share a tile of 16 rows. */
static void test_nothing(const struct context *x)
{
	static const int32_t qo_len[] = {9, 2, 1, 4, 40}, kv_len[] = {4, 0, 3000, 513, 30};
	const struct generate_spec spec = {
		.seed = SEED + 4,
		.config = deepseek(4),
		.batch_size = 5,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
	};

	test_generated(x, "rows that see nothing", &spec, 256);
}

/* Rows of few and of many states in one launch of the merge: 2, 6, 40 and 547 with the fixed splits
 * (32 and 512 are where the merge changes its way), fewer where workers share the keys evenly. 120
 * MB of keys. Of N(0,1) values every state counts, of peaked ones their maxima are unlike. Some
 * rows are NaN throughout. */
static void test_unlike_splits(const struct context *x)
{
	enum { COUNT = 44, LONG = 13 };
	int32_t qo_len[COUNT], kv_len[COUNT];
	struct generate_spec spec = {
		.seed = SEED + 5,
		.config = deepseek(16),
		.batch_size = COUNT,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
	};

	for (int i = 0; i < COUNT; i++) {
		qo_len[i] = 1;
		kv_len[i] = i == LONG ? 70000 : i % 15 == 7 ? 5000 : i % 4 ? 700 : 250;
	}
	test_generated(x, "few and many splits, peaked", &spec, 128);
	spec.values = GENERATE_NORMAL;
	spec.nan_rows = 5;
	test_generated(x, "few and many splits, N(0,1)", &spec, 128);
}

/* ---- a small ragged case for the tests that follow --------------------------------------------
 */

enum { BASE_REQUESTS = 6 };

static bool make_base(const struct context *x, const char *test, struct mla_case *c)
{
	static const int32_t qo_len[BASE_REQUESTS] = {1, 3, 1, 5, 2, 4};
	static const int32_t kv_len[BASE_REQUESTS] = {700, 65, 1290, 400, 17, 2000};
	const struct generate_spec spec = {
		.seed = SEED + 1,
		.config = deepseek(16),
		.batch_size = BASE_REQUESTS,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.extra_pages = 3,
	};

	return make_case(x, test, &spec, c);
}

/* ---- one captured graph, many plans -----------------------------------------------------------
 */

struct replan {
	int32_t qo_indptr[BASE_REQUESTS + 1], kv_len[BASE_REQUESTS];
	mla_batch batch;
};

/* Another batch within the capacity of base: every length is redrawn, zero included; the requests
 * keep their pages. */
static void redraw(const struct mla_case *base, uint64_t *state, struct replan *r)
{
	const mla_batch *b = &base->batch;

	r->batch = *b;
	r->batch.batch_size = 1 + (int32_t)draw(state, (uint32_t)b->batch_size);
	r->qo_indptr[0] = 0;
	for (int32_t i = 0; i < r->batch.batch_size; i++) {
		const int32_t qo_len = b->qo_indptr[i + 1] - b->qo_indptr[i];

		r->qo_indptr[i + 1] = r->qo_indptr[i] + (int32_t)draw(state, (uint32_t)qo_len + 1);
		r->kv_len[i] = (int32_t)draw(state, (uint32_t)b->kv_len[i] + 1);
	}
	r->batch.qo_indptr = r->qo_indptr;
	r->batch.kv_len = r->kv_len;
}

static bool replay(struct rig *r, struct gpu_graph *graph, uint64_t *state, int n, char *why,
		   size_t size)
{
	struct mla_case c = *r->c;
	struct replan again;
	char detail[512] = "";
	bool right;

	redraw(r->c, state, &again);
	c.batch = again.batch;
	right = !check_device_repoison(&r->device) && !rig_upload(r, &again.batch) &&
		!gpu_graph_launch(graph, r->stream) && rig_right(r, &c, detail, sizeof(detail));
	if (!right)
		snprintf(why, size, "re-plan %d: %.400s", n, reason(detail));
	return right;
}

static struct gpu_graph *capture_run(struct rig *r)
{
	struct gpu_graph *graph = NULL;

	if (gpu_capture_begin(r->stream))
		return NULL;

	const mla_status run = mla_run(r->plan, &r->device.device, r->stream);
	const mla_status end = gpu_capture_end(r->stream, &graph);

	if (run || end) {
		gpu_graph_destroy(graph);
		return NULL;
	}
	return graph;
}

static bool replans(struct rig *r, char *why, size_t size)
{
	uint64_t state = SEED;
	struct gpu_graph *graph = rig_upload(r, &r->c->batch) ? NULL : capture_run(r);
	int done = 0;

	while (graph && done < REPLANS && replay(r, graph, &state, done, why, size))
		done++;
	if (done == REPLANS)
		snprintf(why, size, "%d re-plans replayed, all right", done);
	gpu_graph_destroy(graph);
	return done == REPLANS;
}

/* ---- plan, plan, run, run ---------------------------------------------------------------------
 */

/* Two batches uploaded and run back to back with no wait in between: the first must not see the
 * second's plan. Both write the same outputs; the first's are kept by an out tensor of its own. */
static bool back_to_back(struct rig *r, char *why, size_t size)
{
	mla_tensors second = r->device.device;
	struct replan again;
	uint64_t state = 5;
	void *out;
	bool right;

	redraw(r->c, &state, &again);
	if (gpu_alloc(&out, (size_t)second.out.stride[0] * (size_t)second.out.extent[0]))
		return false;
	second.out.data = out;
	second.lse.data = NULL;
	right = !rig_upload(r, &r->c->batch) && !mla_run(r->plan, &r->device.device, r->stream) &&
		!rig_upload(r, &again.batch) && !mla_run(r->plan, &second, r->stream) &&
		rig_right(r, r->c, why, size);
	gpu_free(out);
	return right;
}

/* ---- bits --------------------------------------------------------------------------------------
 */

static bool repeats(struct rig *r, char *why, size_t size)
{
	void *out = malloc(r->out_bytes + 1);
	float *lse = malloc(r->lse_bytes + 1);
	int same = 0;

	if (out && lse && !rig_upload(r, &r->c->batch) && !rig_run(r) &&
	    rig_collect(r, why, size)) {
		memcpy(out, r->out, r->out_bytes);
		memcpy(lse, r->lse, r->lse_bytes);
		while (same < REPEATS && !rig_run(r) && rig_collect(r, why, size) &&
		       !memcmp(out, r->out, r->out_bytes) && !memcmp(lse, r->lse, r->lse_bytes))
			same++;
		snprintf(why, size, "%d of %d runs gave the same bits", same, REPEATS);
	}
	free(out);
	free(lse);
	return same == REPEATS;
}

/* A request alone, as a case of its own that shares the tensors. */
static struct mla_case alone(const struct mla_case *c, int32_t request, int32_t *arrays)
{
	struct mla_case one = *c;
	const mla_batch *b = &c->batch;

	arrays[0] = arrays[2] = 0;
	arrays[1] = b->qo_indptr[request + 1] - b->qo_indptr[request];
	arrays[3] = b->kv_indptr[request + 1] - b->kv_indptr[request];
	arrays[4] = b->kv_len[request];
	one.batch = (mla_batch){
		.struct_size = sizeof(mla_batch),
		.batch_size = 1,
		.qo_indptr = arrays,
		.kv_indptr = arrays + 2,
		.kv_len = arrays + 4,
	};
	one.tensors.kv_indices += b->kv_indptr[request];
	one.tensors.num_kv_indices = arrays[3];
	one.tensors.q_nope.data = (char *)c->tensors.q_nope.data +
				  b->qo_indptr[request] * c->tensors.q_nope.stride[0];
	one.tensors.q_nope.extent[0] = arrays[1];
	one.tensors.q_pe.data =
		(char *)c->tensors.q_pe.data + b->qo_indptr[request] * c->tensors.q_pe.stride[0];
	one.tensors.q_pe.extent[0] = arrays[1];
	return one;
}

static bool same_alone(const struct rig *batch, int32_t request, char *why, size_t size)
{
	int32_t arrays[5];
	const struct mla_case one = alone(batch->c, request, arrays);
	const size_t rows =
		(size_t)batch->c->batch.qo_indptr[request] * (size_t)batch->c->config.num_heads;
	const size_t row_bytes = batch->lse_bytes ? batch->out_bytes / (batch->lse_bytes / 4) : 0;
	struct rig r;
	char detail[256] = "";
	const bool ran = !rig_make(&r, &one, batch->kernel, batch->fixed_split) &&
			 !rig_upload(&r, &one.batch) && !rig_run(&r) &&
			 rig_collect(&r, detail, sizeof(detail));
	const bool same = ran &&
			  !memcmp(r.out, (char *)batch->out + rows * row_bytes, r.out_bytes) &&
			  !memcmp(r.lse, batch->lse + rows, r.lse_bytes);

	if (!same)
		snprintf(why, size, "request %d alone: %.400s", request,
			 ran ? "other bits" : reason(detail));
	rig_free(&r);
	return same;
}

/* In fixed-split mode the bits of a request do not depend on the rest of the batch. */
static bool batch_stable(struct rig *r, char *why, size_t size)
{
	bool same = !rig_upload(r, &r->c->batch) && !rig_run(r) && rig_collect(r, why, size);

	for (int32_t i = 0; i < r->c->batch.batch_size && same; i++)
		same = same_alone(r, i, why, size);
	if (same)
		snprintf(why, size, "every request alone gives the same bits as in the batch");
	return same;
}

static void test_base(const struct context *x)
{
	static const struct {
		const char *name;
		int32_t fixed_split;
		rig_test test;
	} tests[] = {
		{"graph, re-planned", 0, replans},
		{"graph, re-planned, fixed split", 256, replans},
		{"plan, run, plan, run without a wait", 0, back_to_back},
		{"repeat-stable", 0, repeats},
		/* more than eight parts for the longest */
		{"batch-stable, fixed split", 128, batch_stable},
	};
	struct mla_case c = {0};

	if (!make_base(x, "graphs and bits", &c))
		return;
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		each_kernel(x, &c, tests[i].name, tests[i].fixed_split, tests[i].test);
	case_free(&c);
}

/* The same of rows of more states than one warp merges: 47 and 6 parts. */
static void test_many_splits(const struct context *x)
{
	static const int32_t qo_len[] = {1, 1, 2}, kv_len[] = {6000, 700, 5999};
	const struct generate_spec spec = {
		.seed = SEED + 6,
		.config = deepseek(16),
		.batch_size = 3,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_NORMAL,
	};
	struct mla_case c = {0};

	if (!make_case(x, "many splits", &spec, &c))
		return;
	each_kernel(x, &c, "repeat-stable, many splits", 128, repeats);
	each_kernel(x, &c, "batch-stable, many splits", 128, batch_stable);
	case_free(&c);
}

/* ---- caches beyond 2^31 bytes ------------------------------------------------------------------
 */

/* The same case in a pool of which only the last pages are real: page offsets exceed 2^32 bytes. */
static bool far_pages(struct rig *r, char *why, size_t size)
{
	const mla_batch *batch = &r->c->batch;
	mla_tensors far = r->device.device;
	const int64_t shift = ((int64_t)5 << 30) / far.ckv.stride[0];
	const size_t cache = (size_t)(far.ckv.stride[0] * far.ckv.extent[0]);
	const size_t ids = (size_t)batch->kv_indptr[batch->batch_size];
	int32_t *moved = malloc(ids * sizeof(*moved));
	void *pool = NULL, *indices = NULL;
	const int64_t rope = (char *)far.kpe.data - (char *)far.ckv.data;
	bool ok = moved && !gpu_alloc(&pool, cache + (size_t)(shift * far.ckv.stride[0])) &&
		  !gpu_alloc(&indices, ids * sizeof(*moved));

	for (size_t i = 0; ok && i < ids; i++)
		moved[i] = r->instance.host.kv_indices[i] + (int32_t)shift;
	ok = ok && !gpu_upload((char *)pool + shift * far.ckv.stride[0], r->instance.host.ckv.data,
			       cache);
	ok = ok && !gpu_upload(indices, moved, ids * sizeof(*moved));
	far.ckv.data = pool;
	far.kpe.data = (char *)pool + rope;
	far.ckv.extent[0] += shift;
	far.kpe.extent[0] += shift;
	far.kv_indices = indices;
	ok = ok && !check_device_repoison(&r->device) && !rig_upload(r, batch) &&
	     !mla_check_pages(r->plan, &far, r->stream) && !mla_run(r->plan, &far, r->stream) &&
	     rig_right(r, r->c, why, size);
	if (ok)
		snprintf(why, size, "pages beyond 5 GiB");
	gpu_free(pool);
	gpu_free(indices);
	free(moved);
	return ok;
}

static void test_far_pages(const struct context *x)
{
	static const int32_t qo_len[] = {1, 2}, kv_len[] = {300, 1000};
	const struct generate_spec spec = {
		.seed = SEED + 2,
		.config = deepseek(16),
		.batch_size = 2,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
		.fused = 1,
	};
	struct mla_case c = {0};

	if (gpu_free_bytes() < (size_t)6 << 30) {
		suite_line(x->result, CHECK_SKIP, "far pages", "needs 6 GiB of free GPU memory");
		return;
	}
	if (!make_case(x, "far pages", &spec, &c))
		return;
	each_kernel(x, &c, "cache beyond 2^32 bytes", 0, far_pages);
	case_free(&c);
}

/* ---- mla_merge ----------------------------------------------------------------------------------
 */

enum { STATES = 7, MERGE_ROWS = 37, MERGE_DIM = 100 };

static void fill_states(float *states, float *lse)
{
	uint64_t state = 11;

	for (int i = 0; i < STATES * MERGE_ROWS; i++)
		lse[i] = draw(&state, 5) ? (float)draw(&state, 4000) / 50.f - 40.f : -INFINITY;
	for (int s = 0; s < STATES; s++)
		lse[s * MERGE_ROWS + 3] = -INFINITY; /* a row that saw nothing */
	for (int i = 0; i < STATES * MERGE_ROWS; i++)
		for (int c = 0; c < MERGE_DIM; c++)
			states[i * MERGE_DIM + c] =
				isinf(lse[i]) ? NAN : (float)draw(&state, 2000) / 1000.f - 1.f;
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
static void test_merge(const struct context *x)
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

/* ---- refusals -----------------------------------------------------------------------------------
 */

/* Each must be refused with its words, none may touch the GPU. */
static void refusals(const struct context *x, struct rig *r)
{
	const mla_status early = mla_run(r->plan, &r->device.device, r->stream);
	const bool not_uploaded =
		early == MLA_INVALID && strstr(mla_last_error(), "mla_plan_upload");

	report(x, r->kernel, "refuses to run before the upload",
	       not_uploaded ? CHECK_PASS : CHECK_FAIL, mla_last_error());

	const mla_status uploaded = mla_plan_upload(r->plan, r->stream);
	mla_tensors few = r->device.device, odd = few, typed = few, poor = few;

	few.q_nope.extent[0]--;
	odd.ckv.data = (char *)odd.ckv.data + 1;
	typed.out.dtype = MLA_F32;
	poor.scratch_bytes = -1;

	const struct {
		const char *name, *word;
		const mla_tensors *tensors;
	} bad[] = {
		{"too few queries", "q_nope: extent[0]", &few},
		{"misaligned cache", "ckv: address", &odd},
		{"another dtype", "out: dtype", &typed},
		{"too little scratch", "scratch", &poor},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const mla_status status = mla_run(r->plan, bad[i].tensors, r->stream);
		const bool refused =
			!uploaded && status == MLA_INVALID && strstr(mla_last_error(), bad[i].word);

		report(x, r->kernel, bad[i].name, refused ? CHECK_PASS : CHECK_FAIL,
		       mla_last_error());
	}
}

static void test_refusals(const struct context *x)
{
	struct mla_case c = {0};
	struct rig r;

	if (!make_base(x, "refusals", &c))
		return;
	if (rig_make(&r, &c, x->kernels[x->num_kernels - 1], 0) || mla_plan_build(r.plan, &c.batch))
		suite_line(x->result, CHECK_FAIL, "refusals", mla_last_error());
	else
		refusals(x, &r);
	rig_free(&r);
	case_free(&c);
}

/* ---- the suite ----------------------------------------------------------------------------------
 */

static void choose_kernels(struct context *x, const char *const *kernels, int num_kernels)
{
	for (int i = 0; i < num_kernels && x->num_kernels < MAX_KERNELS; i++)
		x->kernels[x->num_kernels++] = kernels[i];
	for (int i = 0; num_kernels == 0 && i < mla_kernel_count(); i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};

		if (!mla_kernel_get(i, &info) && info.built && x->num_kernels < MAX_KERNELS)
			x->kernels[x->num_kernels++] = info.name;
	}
}

void suite_gpu(const char *const *kernels, int num_kernels, const char *const *files, int num_files,
	       struct suite_result *result)
{
	struct context x = {.result = result};

	choose_kernels(&x, kernels, num_kernels);
	if (x.num_kernels == 0) {
		suite_line(result, CHECK_SKIP, "gpu", "no kernel is built");
		return;
	}
	suite_instrument(result);
	test_merge(&x);
	test_refusals(&x);
	for (int i = 0; i < num_files; i++)
		test_capture(&x, files[i]);
	test_adversarial(&x);
	test_peaked(&x);
	test_huge(&x);
	test_nothing(&x);
	test_unlike_splits(&x);
	test_base(&x);
	test_many_splits(&x);
	test_far_pages(&x);
}
