/* bench.c - kernels and variants, judged and timed.
 */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "device/gpu.h"
#include "device/rig.h"
#include "lib/error.h"

void bench_result_free(struct bench_result *result)
{
	for (int i = 0; i < result->num_timings; i++)
		bench_timing_free(&result->timings[i]);
	result->num_timings = 0;
}

/* ---- kernels --------------------------------------------------------------------------------- */

enum { PLAN_SAMPLES = 30 };

/* A kernel on the problem. Stream and scratch are those of all: they run one after the other. */
struct entry {
	struct bench_problem *problem;
	struct rig rig;
	int only_copy; /* -1: the copy that is asked for */
};

/* The clock's stream is the problem's, and so is the rig's. */
static mla_status call_entry(void *what, int copy, mla_stream stream)
{
	const struct entry *entry = what;

	(void)stream;
	return rig_run(&entry->rig,
		       &entry->problem->copies[entry->only_copy >= 0 ? entry->only_copy : copy]);
}

void bench_result_end(struct bench_result *result, mla_status status, const char *why)
{
	bench_result_free(result);
	result->verdict.outcome = check_outcome_of(status);
	snprintf(result->verdict.why, sizeof(result->verdict.why), "%s", why);
}

static bool good(const struct bench_result *result)
{
	return result->verdict.outcome == CHECK_PASS;
}

static mla_status time_plan(struct entry *entry, struct bench_result *result)
{
	double build[PLAN_SAMPLES], upload[PLAN_SAMPLES];
	const mla_stream stream = entry->problem->stream;

	for (int i = 0; i < PLAN_SAMPLES; i++) {
		const double start = bench_now_us();
		mla_status status = mla_plan_build(entry->rig.plan, &entry->problem->c->batch);
		const double built = bench_now_us();

		if (!status)
			status = mla_plan_upload(entry->rig.plan, stream);
		if (!status)
			status = gpu_sync(stream);
		if (status)
			return status;
		build[i] = built - start;
		upload[i] = bench_now_us() - built;
	}
	stats_of(build, PLAN_SAMPLES, &result->plan);
	stats_of(upload, PLAN_SAMPLES, &result->upload);
	return MLA_OK;
}

static mla_status open_entry(struct entry *entry, const char *kernel, int32_t fixed_split,
			     struct rig_shared *shared)
{
	const struct mla_case *c = entry->problem->c;
	mla_config config = c->config;

	config.fixed_split = fixed_split;
	return rig_open(&entry->rig, kernel, &config, &c->batch, shared);
}

static mla_status run_once(struct entry *entry)
{
	mla_status status = bench_problem_repoison(entry->problem);

	if (!status)
		status = mla_check_pages(entry->rig.plan, &entry->problem->copies[0],
					 entry->problem->stream);
	if (!status)
		status = rig_poison(&entry->rig);
	return status ? status : rig_run(&entry->rig, &entry->problem->copies[0]);
}

static void check_entry(struct entry *entry, struct bench_result *result)
{
	mla_status status = time_plan(entry, result);

	if (!status)
		status = run_once(entry);
	if (status)
		bench_result_end(result, status, mla_last_error());
	else
		bench_problem_judge(entry->problem, 0, &result->verdict);
}

/* All copies once more as they were timed, on poisoned outputs. */
static void check_again(struct entry *entry, struct bench_lane *lane,
			const struct bench_clock *clock, struct bench_result *result)
{
	mla_status status = bench_problem_repoison(entry->problem);
	const int first = entry->only_copy >= 0 ? entry->only_copy : 0;
	const int calls = lane->graph ? lane->timing.calls : lane->copies;
	const int touched = calls < lane->copies ? calls : lane->copies;

	lane->next = 0;
	if (!status)
		status = bench_time_again(lane, clock);
	if (status)
		bench_result_end(result, status, mla_last_error());
	for (int i = first; i < first + touched && good(result); i++) {
		struct check_verdict again = {.outcome = CHECK_FAIL};

		bench_problem_judge(entry->problem, i, &again);
		if (again.outcome == CHECK_PASS)
			continue;
		bench_result_free(result);
		bench_verdict_fail(&result->verdict, "right at first, wrong when timed: %.400s",
				   again.why);
	}
}

static void keep(struct bench_lane *lane, bool cold, struct bench_result *result)
{
	lane->timing.cold = cold;
	result->timings[result->num_timings++] = lane->timing;
	lane->timing = (struct bench_timing){0};
}

struct progress {
	const struct bench_options *options;
	char what[32];
};

static void tell(void *opaque, double share)
{
	const struct progress *progress = opaque;

	progress->options->progress(progress->options->opaque, progress->what, share);
}

/* One kind of timing for all kernels that are still good. */
static void time_entries(struct bench_problem *problem, struct entry *entries, int n,
			 enum bench_mode mode, bool hot, const struct bench_options *options,
			 struct bench_result *results)
{
	struct bench_lane *lanes = calloc((size_t)n, sizeof(*lanes));
	int *owner = calloc((size_t)n, sizeof(*owner)), num_lanes = 0;
	struct progress progress = {.options = options};
	const struct bench_clock clock = {.mode = mode,
					  .stop = options->stop,
					  .stream = problem->stream,
					  .nvml = options->nvml,
					  .progress = options->progress ? tell : NULL,
					  .opaque = &progress};

	snprintf(progress.what, sizeof(progress.what), "%s %s", bench_mode_names[mode],
		 hot ? "hot" : "cold");
	for (int i = 0; i < n && lanes && owner; i++) {
		if (!good(&results[i]))
			continue;
		entries[i].only_copy = hot ? 0 : -1;
		owner[num_lanes] = i;
		lanes[num_lanes++] = (struct bench_lane){.call = call_entry,
							 .what = &entries[i],
							 .copies = hot ? 1 : problem->num_copies};
	}
	for (int i = 0; i < n && !(lanes && owner); i++)
		bench_result_end(&results[i], MLA_NO_MEMORY, "no memory for the timings");
	if (num_lanes > 0)
		bench_time(lanes, num_lanes, &clock);
	for (int i = 0; i < num_lanes; i++) {
		struct bench_result *result = &results[owner[i]];

		if (lanes[i].status)
			bench_result_end(result, lanes[i].status, lanes[i].why);
		else
			check_again(&entries[owner[i]], &lanes[i], &clock, result);
		if (good(result))
			keep(&lanes[i], !hot && problem->cold, result);
		bench_timing_free(&lanes[i].timing);
		bench_lane_close(&lanes[i]);
	}
	free(lanes);
	free(owner);
}

static void time_all(struct bench_problem *problem, struct entry *entries, int n,
		     const struct bench_options *options, struct bench_result *results)
{
	const struct {
		bool wanted, hot;
		enum bench_mode mode;
	} kinds[BENCH_MAX_TIMINGS] = {
		{options->graph && options->cold, false, BENCH_GRAPH},
		{options->graph && options->hot, true, BENCH_GRAPH},
		{options->launch && options->cold, false, BENCH_LAUNCH},
		{options->launch && options->hot, true, BENCH_LAUNCH},
	};

	for (int k = 0; k < BENCH_MAX_TIMINGS; k++)
		if (kinds[k].wanted)
			time_entries(problem, entries, n, kinds[k].mode, kinds[k].hot, options,
				     results);
}

/* Opens all, then judges each that opened. */
static void open_entries(struct entry *entries, const char *const *kernels, int n,
			 const struct bench_options *options, struct rig_shared *shared,
			 struct bench_result *results)
{
	mla_status status;

	for (int i = 0; i < n; i++) {
		status = open_entry(&entries[i], kernels[i], options->fixed_split, shared);
		if (status)
			bench_result_end(&results[i], status, mla_last_error());
	}
	status = rig_share(shared);
	for (int i = 0; i < n; i++) {
		if (options->progress)
			options->progress(options->opaque, kernels[i], 0);
		if (good(&results[i]) && status)
			bench_result_end(&results[i], status, mla_last_error());
		if (good(&results[i]))
			check_entry(&entries[i], &results[i]);
	}
}

void bench_kernels(struct bench_problem *problem, const char *const *kernels, int num_kernels,
		   const struct bench_options *options, struct bench_result *results)
{
	struct entry *entries = calloc((size_t)num_kernels + 1, sizeof(*entries));
	struct rig_shared shared = {.stream = problem->stream};

	for (int i = 0; i < num_kernels; i++) {
		results[i] = (struct bench_result){.copies = problem->num_copies};
		if (entries)
			entries[i] = (struct entry){.problem = problem, .only_copy = -1};
		else
			bench_result_end(&results[i], MLA_NO_MEMORY, "no memory for the plans");
	}
	if (!entries)
		return;
	open_entries(entries, kernels, num_kernels, options, &shared, results);
	time_all(problem, entries, num_kernels, options, results);
	for (int i = 0; i < num_kernels; i++)
		rig_close(&entries[i].rig);
	rig_unshare(&shared);
	free(entries);
}

/* ---- variants -------------------------------------------------------------------------------- */

struct variant_run {
	const struct mla_case *c;
	const struct check_truth *truth;
	struct check_subject subject;
	struct bench_result *result;
};

/* Each run is judged, on outputs poisoned anew, and timed without the judging. */
static mla_status call_variant(void *what, int copy, mla_stream stream)
{
	const struct variant_run *run = what;
	struct check_verdict *verdict = &run->result->verdict;

	(void)copy;
	(void)stream;
	check_subject(run->c, run->truth, &run->subject, verdict);
	return verdict->outcome == CHECK_PASS ? MLA_OK : mla_fail(MLA_INVALID, "%s", verdict->why);
}

void bench_variants(const struct mla_case *c, const struct check_truth *truth,
		    const struct variant *const *variants, int num_variants,
		    const struct bench_options *options, struct bench_result *results)
{
	struct bench_lane *lanes = calloc((size_t)num_variants + 1, sizeof(*lanes));
	struct variant_run *runs = calloc((size_t)num_variants + 1, sizeof(*runs));
	struct progress progress = {.options = options, .what = "host"};
	const struct bench_clock clock = {.mode = BENCH_HOST,
					  .stop = options->stop,
					  .progress = options->progress ? tell : NULL,
					  .opaque = &progress};

	for (int i = 0; i < num_variants; i++) {
		results[i] = (struct bench_result){.copies = 1};
		if (!lanes || !runs) {
			bench_result_end(&results[i], MLA_NO_MEMORY, "no memory for the timings");
			continue;
		}
		runs[i] = (struct variant_run){
			.c = c,
			.truth = truth,
			.subject = {.name = variants[i]->name, .run = variants[i]->run},
			.result = &results[i]};
		lanes[i] = (struct bench_lane){.call = call_variant,
					       .what = &runs[i],
					       .copies = 1,
					       .took_us = &results[i].verdict.microseconds};
	}
	if (lanes && runs)
		bench_time(lanes, num_variants, &clock);
	for (int i = 0; i < num_variants && lanes && runs; i++) {
		if (!lanes[i].status)
			keep(&lanes[i], false, &results[i]);
		else if (good(&results[i]))
			bench_result_end(&results[i], lanes[i].status, lanes[i].why);
		bench_timing_free(&lanes[i].timing);
		bench_lane_close(&lanes[i]);
	}
	free(lanes);
	free(runs);
}
