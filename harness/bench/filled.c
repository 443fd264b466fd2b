/* filled.c - problems whose values exist on the GPU alone: the fill, the second opinion of
 * 01_naive, and the rows that the fp64 truth is computed for.
 */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "bench/problem.h"
#include "case/cell.h"
#include "device/bulk.h"
#include "device/gpu.h"
#include "device/guarded.h"
#include "device/rig.h"
#include "lib/error.h"

enum {
	MAX_SAMPLES = 4, /* requests that the fp64 truth looks at */
	TRUTH_ROWS = 8,
};

/* |values| are 0.8 in the mean and at most 3.46: a sum of p|v| of 1.5 stands for those that are not
 * known here, twice it for any that occur. */
static const float typical_sum = 1.5f;
/* Scores of N(0, 1) inputs at this scale stay below. */
static const double largest_score = 16;

/* Device memory of one copy. */
struct copy {
	void *q_nope, *q_pe, *pool, *kv_indices;
	struct guarded out, lse;
};

struct filled {
	uint64_t seed, checksum;
	struct copy *copies;                /* [problem->num_copies] */
	int64_t rows, out_bytes, lse_bytes; /* outputs, guards left out */
	void *want, *want_lse;              /* of 01_naive, f32, device */
	void *sum, *difference;             /* device */
	/* a few requests in host memory, as a case */
	struct mla_case sample;
	int32_t requests[MAX_SAMPLES];
	struct check_truth truth;
};

static int64_t bytes_of(const mla_tensor *t)
{
	return t->extent[0] * t->stride[0];
}

static int64_t table_bytes(const struct mla_case *c)
{
	return c->tensors.num_kv_indices * (int64_t)sizeof(int32_t);
}

/* ---- device memory --------------------------------------------------------------------------- */

static mla_status alloc_copy(const struct mla_case *c, const struct filled *f, struct copy *copy)
{
	const struct {
		void **place;
		int64_t bytes;
	} blocks[] = {
		{&copy->q_nope, bytes_of(&c->tensors.q_nope)},
		{&copy->q_pe, bytes_of(&c->tensors.q_pe)},
		{&copy->pool, cell_pool_bytes(c)},
		{&copy->kv_indices, table_bytes(c)},
	};
	mla_status status = MLA_OK;

	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]) && !status; i++)
		status = gpu_alloc(blocks[i].place, (size_t)blocks[i].bytes);
	if (!status)
		status = guarded_make(&copy->out, (size_t)f->out_bytes);
	return status ? status : guarded_make(&copy->lse, (size_t)f->lse_bytes);
}

static void free_copy(struct copy *copy)
{
	void *const blocks[] = {copy->q_nope, copy->q_pe, copy->pool, copy->kv_indices};

	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
		gpu_free(blocks[i]);
	guarded_free(&copy->out);
	guarded_free(&copy->lse);
}

static mla_tensors tensors_of(const struct mla_case *c, const struct copy *copy)
{
	const int64_t queries = case_total_q(c), heads = c->config.num_heads;
	const int64_t dims = c->config.head_dim_ckv;
	mla_tensors t = c->tensors;

	t.q_nope.data = copy->q_nope;
	t.q_pe.data = copy->q_pe;
	t.ckv.data = copy->pool;
	t.kpe.data = (char *)copy->pool + 2 * dims;
	t.kv_indices = copy->kv_indices;
	t.out = (mla_tensor){.data = copy->out.data,
			     .dtype = MLA_BF16,
			     .ndim = 3,
			     .extent = {queries, heads, dims},
			     .stride = {2 * heads * dims, 2 * dims, 2}};
	t.lse = (mla_tensor){.data = copy->lse.data,
			     .dtype = MLA_F32,
			     .ndim = 2,
			     .extent = {queries, heads},
			     .stride = {4 * heads, 4}};
	return t;
}

/* keys: of each page table entry, in device memory. */
static mla_status fill_copy(const struct mla_case *c, const struct filled *f,
			    const struct copy *copy, const int32_t *keys, mla_stream stream)
{
	const struct bulk_pool pool = {.data = copy->pool,
				       .pages = copy->kv_indices,
				       .keys = keys,
				       .entries = c->tensors.num_kv_indices,
				       .page_size = c->config.page_size,
				       .row = c->config.head_dim_ckv + c->config.head_dim_kpe,
				       .seed = cell_seed_pool(f->seed)};
	mla_status status =
		gpu_upload(copy->kv_indices, c->tensors.kv_indices, (size_t)table_bytes(c));

	if (!status)
		status = gpu_fill(copy->pool, POISON_BYTE, (size_t)cell_pool_bytes(c));
	if (!status)
		status = gpu_sync(NULL);
	if (!status)
		status = bulk_fill_pool(&pool, stream);
	if (!status)
		status = bulk_fill(copy->q_nope, bytes_of(&c->tensors.q_nope) / 2,
				   cell_seed_q_nope(f->seed), stream);
	if (!status)
		status = bulk_fill(copy->q_pe, bytes_of(&c->tensors.q_pe) / 2,
				   cell_seed_q_pe(f->seed), stream);
	return status ? status : gpu_sync(stream);
}

static mla_status fill_copies(struct bench_problem *problem, struct filled *f)
{
	const struct mla_case *c = problem->c;
	int32_t *keys = cell_keys(c);
	void *device_keys = NULL;
	mla_status status = keys ? gpu_alloc(&device_keys, (size_t)table_bytes(c))
				 : mla_fail(MLA_NO_MEMORY, "no memory for the page table");

	if (!status)
		status = gpu_upload(device_keys, keys, (size_t)table_bytes(c));
	for (int i = 0; i < problem->num_copies && !status; i++) {
		struct copy *copy = &f->copies[i];

		status = alloc_copy(c, f, copy);
		if (!status)
			status = fill_copy(c, f, copy, device_keys, problem->stream);
		problem->copies[i] = tensors_of(c, copy);
	}
	gpu_free(device_keys);
	free(keys);
	return status;
}

/* ---- inputs and outputs ---------------------------------------------------------------------- */

static mla_status checksum_of(const struct bench_problem *problem, int index, uint64_t *checksum)
{
	const struct mla_case *c = problem->c;
	const struct filled *f = problem->state;
	const struct copy *copy = &f->copies[index];
	const struct {
		const void *data;
		int64_t bytes;
	} inputs[] = {{copy->q_nope, bytes_of(&c->tensors.q_nope)},
		      {copy->q_pe, bytes_of(&c->tensors.q_pe)},
		      {copy->pool, cell_pool_bytes(c)},
		      {copy->kv_indices, table_bytes(c)}};
	mla_status status = gpu_fill(f->sum, 0, sizeof(*checksum));

	if (!status)
		status = gpu_sync(NULL);
	for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]) && !status; i++)
		status =
			bulk_add_checksum(inputs[i].data, inputs[i].bytes, f->sum, problem->stream);
	if (!status)
		status = gpu_sync(problem->stream);
	return status ? status : gpu_download(checksum, f->sum, sizeof(*checksum));
}

static mla_status repoison_filled(struct bench_problem *problem, int copy)
{
	const struct filled *f = problem->state;
	const mla_status status = guarded_poison(&f->copies[copy].out);

	return status ? status : guarded_poison(&f->copies[copy].lse);
}

/* ---- the second opinion ---------------------------------------------------------------------- */

/* The first copy with the outputs of 01_naive, which are not rounded. */
static mla_tensors unrounded(const struct bench_problem *problem, const struct filled *f)
{
	mla_tensors tensors = problem->copies[0];

	tensors.out.data = f->want;
	tensors.out.dtype = MLA_F32;
	for (int i = 0; i < 3; i++)
		tensors.out.stride[i] *= 2;
	tensors.lse.data = f->want_lse;
	return tensors;
}

/* 01_naive on the first copy: filling it has ended, so the rig has a stream of its own. */
static mla_status make_second_opinion(struct bench_problem *problem, struct filled *f)
{
	const mla_batch *batch = &problem->c->batch;
	mla_config config = problem->c->config;
	struct rig rig = {0};
	mla_tensors tensors;
	mla_status status = gpu_alloc(&f->want, (size_t)f->out_bytes * 2);

	config.out_dtype = MLA_F32;
	if (!status)
		status = gpu_alloc(&f->want_lse, (size_t)f->lse_bytes);
	if (!status)
		status = rig_open(&rig, "01_naive", &config, batch, NULL);
	tensors = unrounded(problem, f);
	if (!status)
		status = rig_upload(&rig, batch, &tensors);
	if (!status)
		status = rig_run(&rig, &tensors);
	if (!status)
		status = gpu_sync(rig_stream(&rig));
	rig_close(&rig);
	return status;
}

/* ---- a few requests on the host -------------------------------------------------------------- */

/* The first, the shortest, the longest and the last request, each once, rising. */
static int choose_requests(const mla_batch *batch, int32_t requests[MAX_SAMPLES])
{
	int32_t shortest = 0, longest = 0, n = 0;

	for (int32_t r = 1; r < batch->batch_size; r++) {
		if (batch->kv_len[r] < batch->kv_len[shortest])
			shortest = r;
		if (batch->kv_len[r] > batch->kv_len[longest])
			longest = r;
	}
	for (int32_t r = 0; r < batch->batch_size; r++)
		if (r == 0 || r == shortest || r == longest || r == batch->batch_size - 1)
			requests[n++] = r;
	return n;
}

/* Pages of the sample are numbered in the order of their requests. */
static bool make_sample_batch(const struct mla_case *c, const int32_t *requests, int32_t n,
			      struct mla_case *s)
{
	int32_t *qo_indptr = case_alloc(s, ((size_t)n + 1) * sizeof(int32_t));
	int32_t *kv_indptr = case_alloc(s, ((size_t)n + 1) * sizeof(int32_t));
	int32_t *kv_len = case_alloc(s, (size_t)n * sizeof(int32_t));

	if (!qo_indptr || !kv_indptr || !kv_len)
		return false;
	for (int32_t i = 0; i < n; i++) {
		const int32_t r = requests[i];

		kv_len[i] = c->batch.kv_len[r];
		qo_indptr[i + 1] = qo_indptr[i] + c->batch.qo_indptr[r + 1] - c->batch.qo_indptr[r];
		kv_indptr[i + 1] = kv_indptr[i] + c->batch.kv_indptr[r + 1] - c->batch.kv_indptr[r];
	}
	s->batch = (mla_batch){.struct_size = sizeof(mla_batch),
			       .batch_size = n,
			       .qo_indptr = qo_indptr,
			       .kv_indptr = kv_indptr,
			       .kv_len = kv_len};

	int32_t *pages = case_alloc(s, (size_t)kv_indptr[n] * sizeof(int32_t));

	for (int32_t i = 0; pages && i < kv_indptr[n]; i++)
		pages[i] = i;
	s->tensors.kv_indices = pages;
	s->tensors.num_kv_indices = kv_indptr[n];
	return pages;
}

static bool make_sample_memory(const struct mla_case *c, struct mla_case *s)
{
	mla_tensors *t = &s->tensors;
	const int64_t queries = case_total_q(s);

	t->struct_size = sizeof(*t);
	t->q_nope = c->tensors.q_nope;
	t->q_pe = c->tensors.q_pe;
	t->ckv = c->tensors.ckv;
	t->kpe = c->tensors.kpe;
	t->q_nope.extent[0] = t->q_pe.extent[0] = queries;
	t->ckv.extent[0] = t->kpe.extent[0] = t->num_kv_indices;
	t->q_nope.data = case_alloc(s, (size_t)bytes_of(&t->q_nope));
	t->q_pe.data = case_alloc(s, (size_t)bytes_of(&t->q_pe));
	t->ckv.data = case_alloc(s, (size_t)bytes_of(&t->ckv));
	if (!t->q_nope.data || !t->q_pe.data || !t->ckv.data)
		return false;
	t->kpe.data = (char *)t->ckv.data + 2 * c->config.head_dim_ckv;
	return true;
}

/* Rows of the sampled requests, from a device array [total_q, ...] to a host array. */
static mla_status gather_rows(const struct bench_problem *problem, const void *device, void *host,
			      int64_t row_bytes)
{
	const struct filled *f = problem->state;
	const int32_t *from = problem->c->batch.qo_indptr, *to = f->sample.batch.qo_indptr;
	mla_status status = MLA_OK;

	for (int32_t i = 0; i < f->sample.batch.batch_size && !status; i++)
		status = gpu_download((char *)host + to[i] * row_bytes,
				      (const char *)device + from[f->requests[i]] * row_bytes,
				      (size_t)((to[i + 1] - to[i]) * row_bytes));
	return status;
}

static mla_status gather_pages(const struct bench_problem *problem)
{
	const struct filled *f = problem->state;
	const struct mla_case *c = problem->c;
	const int64_t page_bytes = c->tensors.ckv.stride[0];
	const char *pool = f->copies[0].pool;
	char *host = f->sample.tensors.ckv.data;
	mla_status status = MLA_OK;

	for (int32_t i = 0; i < f->sample.batch.batch_size; i++) {
		const int32_t r = f->requests[i];

		for (int32_t e = c->batch.kv_indptr[r]; e < c->batch.kv_indptr[r + 1] && !status;
		     e++, host += page_bytes)
			status = gpu_download(host, pool + c->tensors.kv_indices[e] * page_bytes,
					      (size_t)page_bytes);
	}
	return status;
}

/* The sample is what the GPU really holds, not what it was meant to be filled with. */
static mla_status make_sample(struct bench_problem *problem, struct filled *f)
{
	const struct mla_case *c = problem->c;
	const int n = choose_requests(&c->batch, f->requests);
	mla_tensors *t = &f->sample.tensors;
	mla_status status;

	f->sample.config = c->config;
	if (!make_sample_batch(c, f->requests, n, &f->sample) || !make_sample_memory(c, &f->sample))
		return mla_fail(MLA_NO_MEMORY, "no memory for the requests that are looked at");
	status = gather_rows(problem, f->copies[0].q_nope, t->q_nope.data, t->q_nope.stride[0]);
	if (!status)
		status = gather_rows(problem, f->copies[0].q_pe, t->q_pe.data, t->q_pe.stride[0]);
	if (!status)
		status = gather_pages(problem);
	return status ? status : check_truth_make(&f->sample, TRUTH_ROWS, &f->truth);
}

/* ---- judging --------------------------------------------------------------------------------- */

static void judge_gathered(const struct mla_case *sample, const struct check_truth *truth,
			   void *out, float *lse, struct check_verdict *verdict)
{
	const mla_tensors outputs = check_packed(sample, out, lse);

	check_outputs(sample, truth, &outputs, verdict);
}

/* Outputs of the sampled requests against the fp64 truth. dtype: what out holds. */
static void judge_sample(const struct bench_problem *problem, const void *out, const void *lse,
			 int32_t dtype, struct check_verdict *verdict)
{
	const struct filled *f = problem->state;
	struct mla_case sample = f->sample;
	const int64_t heads = sample.config.num_heads, rows = case_total_q(&sample) * heads;
	const int64_t out_row = sample.config.head_dim_ckv * (int64_t)ref_dtype_size(dtype);
	void *host_out = malloc((size_t)(rows * out_row));
	float *host_lse = malloc((size_t)rows * sizeof(float));

	sample.config.out_dtype = dtype;
	if (!host_out || !host_lse)
		bench_verdict_fail(verdict, "no memory to bring outputs back");
	else if (gather_rows(problem, out, host_out, heads * out_row) ||
		 gather_rows(problem, lse, host_lse, heads * (int64_t)sizeof(float)))
		bench_verdict_fail(verdict, "%s", mla_last_error());
	else
		judge_gathered(&sample, &f->truth, host_out, host_lse, verdict);
	free(host_out);
	free(host_lse);
}

/* The truth counts requests in its sample. */
static void name_requests(const struct filled *f, struct check_verdict *verdict)
{
	char why[sizeof(verdict->why)], names[MAX_SAMPLES * 12] = "";

	if (verdict->outcome == CHECK_PASS)
		return;
	memcpy(why, verdict->why, sizeof(why));
	for (int32_t i = 0; i < f->sample.batch.batch_size; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%d",
			 i ? ", " : "", f->requests[i]);
	bench_verdict_fail(verdict, "of requests %s, counted from 0: %.400s", names, why);
}

static mla_status compare_rows(const struct bench_problem *problem, int copy,
			       struct bulk_difference *difference)
{
	const struct filled *f = problem->state;
	const mla_batch *batch = &problem->c->batch;
	int32_t longest = 0;
	struct bulk_comparison comparison = {
		.out = problem->copies[copy].out.data,
		.lse = problem->copies[copy].lse.data,
		.want = f->want,
		.want_lse = f->want_lse,
		.rows = f->rows,
		.dims = problem->c->config.head_dim_ckv,
		.element_bound = (float)(CHECK_ELEMENT_FACTOR * CHECK_EPS_BF16),
		.floor = typical_sum,
		.rms_bound = (float)CHECK_ROW_RMS,
	};
	mla_status status;

	for (int32_t r = 0; r < batch->batch_size; r++)
		longest = batch->kv_len[r] > longest ? batch->kv_len[r] : longest;
	/* 01_naive may be off as far as the other */
	comparison.lse_bound = (float)(2 * (CHECK_LSE_ABS + CHECK_LSE_SUM * longest +
					    CHECK_LSE_REL * largest_score));
	status = bulk_compare(&comparison, f->difference, problem->stream);
	if (!status)
		status = gpu_sync(problem->stream);
	return status ? status : gpu_download(difference, f->difference, sizeof(*difference));
}

static void note_difference(const struct bench_problem *problem, const struct bulk_difference *d,
			    struct check_verdict *verdict)
{
	const struct filled *f = problem->state;
	const int64_t heads = problem->c->config.num_heads;
	const int64_t row = (int64_t)d->first_row, query = row / heads;
	const int32_t *qo_indptr = problem->c->batch.qo_indptr;
	int32_t request = 0;

	verdict->worst_element = fmax(verdict->worst_element, d->element);
	verdict->worst_rms = fmax(verdict->worst_rms, d->rms);
	verdict->worst_lse = fmax(verdict->worst_lse, d->lse);
	if (d->wrong_rows == 0 || verdict->outcome == CHECK_FAIL)
		return;
	while (qo_indptr[request + 1] <= query)
		request++;
	bench_verdict_fail(verdict,
			   "%llu of %lld rows differ from 01_naive's, the first is that of request "
			   "%d query %lld head %lld; worst element %.3g, rms %.3g, lse %.3g of "
			   "their bounds",
			   d->wrong_rows, (long long)f->rows, request,
			   (long long)(query - qo_indptr[request]), (long long)(row % heads),
			   (double)d->element, (double)d->rms, (double)d->lse);
}

static mla_status look_beside(const struct copy *copy, bool *intact)
{
	bool out = false, lse = false;
	mla_status status = guarded_look(&copy->out, &out);

	if (!status)
		status = guarded_look(&copy->lse, &lse);
	*intact = !status && out && lse;
	return status;
}

static void judge_filled(struct bench_problem *problem, int copy, struct check_verdict *verdict)
{
	const struct filled *f = problem->state;
	struct bulk_difference difference;
	uint64_t checksum = 0;
	bool intact;
	mla_status status;

	judge_sample(problem, problem->copies[copy].out.data, problem->copies[copy].lse.data,
		     MLA_BF16, verdict);
	name_requests(f, verdict);
	status = look_beside(&f->copies[copy], &intact);
	if (intact)
		status = compare_rows(problem, copy, &difference);
	if (intact && !status)
		status = checksum_of(problem, copy, &checksum);
	if (status)
		bench_verdict_fail(verdict, "%s", mla_last_error());
	else if (!intact)
		bench_verdict_fail(verdict, "memory beside the outputs was written");
	else if (checksum != f->checksum)
		bench_verdict_fail(verdict, "the inputs were changed");
	else
		note_difference(problem, &difference, verdict);
}

/* ---- the problem ----------------------------------------------------------------------------- */

static void free_filled(struct bench_problem *problem)
{
	struct filled *f = problem->state;

	for (int i = 0; f->copies && i < problem->num_copies; i++)
		free_copy(&f->copies[i]);
	free(f->copies);
	gpu_free(f->want);
	gpu_free(f->want_lse);
	gpu_free(f->sum);
	gpu_free(f->difference);
	check_truth_free(&f->truth);
	case_free(&f->sample);
	free(f);
}

static const struct bench_origin filled = {repoison_filled, judge_filled, free_filled};

static mla_status check_second_opinion(const struct bench_problem *problem, const struct filled *f)
{
	struct check_verdict verdict = {.outcome = CHECK_FAIL};

	judge_sample(problem, f->want, f->want_lse, MLA_F32, &verdict);
	if (verdict.outcome == CHECK_PASS)
		return MLA_OK;
	return mla_fail(MLA_CUDA, "01_naive, the second opinion on this cell, is wrong: %.400s",
			verdict.why);
}

static mla_status make_filled(struct bench_problem *problem, struct filled *f)
{
	const struct mla_case *c = problem->c;
	mla_status status;

	f->rows = case_total_q(c) * c->config.num_heads;
	f->out_bytes = f->rows * c->config.head_dim_ckv * 2;
	f->lse_bytes = f->rows * (int64_t)sizeof(float);

	const double outputs =
		(double)(guarded_size((size_t)f->out_bytes) + guarded_size((size_t)f->lse_bytes));

	status = bench_problem_plan(problem, (double)cell_pool_bytes(c) + outputs +
						     (double)bytes_of(&c->tensors.q_nope) +
						     (double)bytes_of(&c->tensors.q_pe) +
						     (double)table_bytes(c));
	if (status)
		return status;
	f->copies = calloc((size_t)problem->num_copies, sizeof(*f->copies));
	if (!f->copies)
		return mla_fail(MLA_NO_MEMORY, "no memory for the list of copies");
	status = gpu_stream_create(&problem->stream);
	if (!status)
		status = gpu_alloc(&f->sum, sizeof(uint64_t));
	if (!status)
		status = gpu_alloc(&f->difference, sizeof(struct bulk_difference));
	if (!status)
		status = fill_copies(problem, f);
	if (!status)
		status = checksum_of(problem, 0, &f->checksum);
	if (!status)
		status = make_sample(problem, f);
	if (!status)
		status = make_second_opinion(problem, f);
	return status ? status : check_second_opinion(problem, f);
}

mla_status bench_problem_fill(const struct mla_case *c, uint64_t seed,
			      struct bench_problem *problem)
{
	struct filled *f = calloc(1, sizeof(*f));
	mla_status status;

	*problem = (struct bench_problem){0};
	if (!f)
		return mla_fail(MLA_NO_MEMORY, "no memory for the problem");
	f->seed = seed;
	*problem = (struct bench_problem){.c = c, .origin = &filled, .state = f};
	status = make_filled(problem, f);
	if (status)
		bench_problem_free(problem);
	return status;
}
