/* clock.c - lanes, their graphs, samples in turns, and when to stop.
 */
#define _GNU_SOURCE
#include "bench/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device/bulk.h"
#include "lib/error.h"

enum {
	LAUNCHES = 20,       /* single launches that are queued at a time */
	HOLD_US = 50,        /* the GPU waits while a replay is queued: this and twice as long as */
	MOST_HOLD_US = 5000, /* queuing took when it was tried */
	HOLD_LAUNCH_US = 15, /* and this long per single launch */
	WARM_UP_US = 30000,  /* at least one call, and this long */
	WARM_UP_REPLAYS = 200, /* at most */
	LEAST_CALLS = 10,
	GRAPH_US = 2000,
};

const char *const bench_mode_names[BENCH_NUM_MODES] = {"graph", "launch", "host"};

double bench_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* ---- decisions ------------------------------------------------------------------------------- */

bool bench_is_enough(const struct bench_stop *stop, const struct stats *stats, double seconds)
{
	if (stop->samples > 0)
		return stats->n >= stop->samples;
	if (stats->n < STATS_LEAST)
		return false;
	if (stats->n >= BENCH_MIN_SAMPLES && stats_spread(stats) < stop->noise)
		return true;
	return seconds >= stop->seconds || stats->n >= BENCH_MOST_SAMPLES;
}

int bench_calls_per_graph(int copies, double about_us)
{
	if (about_us >= BENCH_LONG_US)
		return 1;

	const double wanted = fmax(LEAST_CALLS, GRAPH_US / fmax(about_us, 1));

	return copies * (int)ceil(wanted / copies);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

void bench_timing_free(struct bench_timing *timing)
{
	free(timing->samples);
	*timing = (struct bench_timing){0};
}

bool bench_timing_enough(const struct bench_timing *timing)
{
	return timing->stats.n >= STATS_LEAST;
}

void bench_lane_close(struct bench_lane *lane)
{
	nvml_log_free(&lane->log);
	gpu_graph_destroy(lane->graph);
	lane->graph = NULL;
}

static void fail(struct bench_lane *lane, mla_status status)
{
	lane->status = status;
	lane->done = true;
	snprintf(lane->why, sizeof(lane->why), "%s", mla_last_error());
	bench_lane_close(lane);
	bench_timing_free(&lane->timing);
}

static mla_status next_call(struct bench_lane *lane, mla_stream stream)
{
	const int copy = lane->next;

	lane->next = (copy + 1) % lane->copies;
	return lane->call(lane->what, copy, stream);
}

/* The shortest of three calls, after one that loads whatever is loaded late. */
static mla_status estimate(struct bench_lane *lane, struct gpu_timer *timer, mla_stream stream)
{
	mla_status status = next_call(lane, stream);

	lane->about_us = INFINITY;
	for (int i = 0; i < 3 && !status; i++) {
		double us = 0;

		status = gpu_timer_start(timer, stream);
		if (!status)
			status = next_call(lane, stream);
		if (!status)
			status = gpu_timer_stop(timer, stream);
		if (!status)
			status = gpu_timer_read(timer, &us);
		lane->about_us = fmin(lane->about_us, us);
		if (us >= BENCH_LONG_US)
			break;
	}
	return status;
}

static mla_status make_graph(struct bench_lane *lane, mla_stream stream)
{
	mla_status status;

	lane->timing.calls = bench_calls_per_graph(lane->copies, lane->about_us);
	lane->next = 0;
	status = gpu_capture_begin(stream);
	if (status)
		return status;
	for (int i = 0; i < lane->timing.calls && !status; i++)
		status = next_call(lane, stream);
	if (!status)
		return gpu_capture_end(stream, &lane->graph);
	gpu_capture_abandon(stream);
	return status;
}

/* Queues what one sample runs, untimed. */
static mla_status run_once(struct bench_lane *lane, mla_stream stream)
{
	return lane->graph ? gpu_graph_launch(lane->graph, stream) : next_call(lane, stream);
}

/* How long the host takes to queue a replay, once the graph is on the device. */
static mla_status try_replay(struct bench_lane *lane, mla_stream stream)
{
	mla_status status = gpu_graph_launch(lane->graph, stream);
	double start;

	if (!status)
		status = gpu_sync(stream);
	start = bench_now_us();
	if (!status)
		status = gpu_graph_launch(lane->graph, stream);
	lane->hold_us = fmin(HOLD_US + 2 * (bench_now_us() - start), MOST_HOLD_US);
	return status;
}

static mla_status warm_up(struct bench_lane *lane, const struct bench_clock *clock)
{
	const double us = lane->about_us * lane->timing.calls;
	const int wanted = (int)fmin(ceil(WARM_UP_US / fmax(us, 1)), WARM_UP_REPLAYS);
	/* beside a long call, queuing is short */
	mla_status status = lane->graph && lane->about_us < BENCH_LONG_US
				    ? try_replay(lane, clock->stream)
				    : MLA_OK;

	for (int i = 0; i < wanted && !status; i++)
		status = run_once(lane, clock->stream);
	return status ? status : gpu_sync(clock->stream);
}

static mla_status open_lane(struct bench_lane *lane, const struct bench_clock *clock,
			    struct gpu_timer *timer)
{
	mla_status status;

	lane->status = MLA_OK;
	lane->why[0] = '\0';
	lane->timing = (struct bench_timing){.mode = clock->mode, .calls = 1};
	lane->graph = NULL;
	lane->seconds = 0;
	lane->hold_us = HOLD_US;
	lane->next = lane->room = 0;
	lane->done = false;
	if (clock->mode == BENCH_HOST)
		return next_call(lane, clock->stream); /* warms up */
	status = estimate(lane, timer, clock->stream);
	if (!status && clock->mode == BENCH_GRAPH)
		status = make_graph(lane, clock->stream);
	return status ? status : warm_up(lane, clock);
}

/* ---- samples --------------------------------------------------------------------------------- */

static mla_status keep(struct bench_lane *lane, double us)
{
	struct bench_timing *timing = &lane->timing;

	if (timing->stats.n == lane->room) {
		const int room = lane->room ? 2 * lane->room : 64;
		double *more = realloc(timing->samples, (size_t)room * sizeof(*more));

		if (!more)
			return mla_fail(MLA_NO_MEMORY, "no memory for the samples");
		timing->samples = more;
		lane->room = room;
	}
	timing->samples[timing->stats.n++] = us;
	return MLA_OK;
}

static mla_status sample_host(struct bench_lane *lane, const struct bench_clock *clock)
{
	mla_status status = next_call(lane, clock->stream);

	nvml_log_add(&lane->log, clock->nvml);
	return status ? status : keep(lane, *lane->took_us);
}

static mla_status sample_graph(struct bench_lane *lane, struct gpu_timer *timer,
			       const struct bench_clock *clock)
{
	const mla_stream stream = clock->stream;
	double us = 0;
	mla_status status = bulk_spin(lane->hold_us, stream);

	if (!status)
		status = gpu_timer_start(timer, stream);
	if (!status)
		status = gpu_graph_launch(lane->graph, stream);
	if (!status)
		status = gpu_timer_stop(timer, stream);
	nvml_log_add(&lane->log, clock->nvml);
	if (!status)
		status = gpu_timer_read(timer, &us);
	return status ? status : keep(lane, us / lane->timing.calls);
}

static mla_status sample_launches(struct bench_lane *lane, struct gpu_timer **timers, int n,
				  const struct bench_clock *clock)
{
	const mla_stream stream = clock->stream;
	mla_status status = bulk_spin((double)HOLD_LAUNCH_US * n, stream);

	for (int i = 0; i < n && !status; i++) {
		status = gpu_timer_start(timers[i], stream);
		if (!status)
			status = next_call(lane, stream);
		if (!status)
			status = gpu_timer_stop(timers[i], stream);
	}
	nvml_log_add(&lane->log, clock->nvml);
	for (int i = 0; i < n && !status; i++) {
		double us = 0;

		status = gpu_timer_read(timers[i], &us);
		if (!status)
			status = keep(lane, us);
	}
	return status;
}

/* Single launches by the dozen, unless they are long or fewer are wanted. */
static int launches_at_once(const struct bench_lane *lane, const struct bench_stop *stop)
{
	const int left = stop->samples - lane->timing.stats.n;

	if (lane->about_us >= BENCH_LONG_US)
		return 1;
	return stop->samples > 0 && left < LAUNCHES ? left : LAUNCHES;
}

static mla_status sample(struct bench_lane *lane, const struct bench_clock *clock,
			 struct gpu_timer **timers)
{
	if (clock->mode == BENCH_HOST)
		return sample_host(lane, clock);
	if (clock->mode == BENCH_GRAPH)
		return sample_graph(lane, timers[0], clock);
	return sample_launches(lane, timers, launches_at_once(lane, &clock->stop), clock);
}

static mla_status take_samples(struct bench_lane *lane, const struct bench_clock *clock,
			       struct gpu_timer **timers)
{
	struct bench_timing *timing = &lane->timing;
	const double start = bench_now_us();
	mla_status status = sample(lane, clock, timers);

	lane->seconds += (bench_now_us() - start) * 1e-6;
	if (!status)
		status = stats_of(timing->samples, timing->stats.n, &timing->stats);
	if (status)
		return status;
	timing->settled = stats_spread(&timing->stats) < clock->stop.noise;
	lane->done = bench_is_enough(&clock->stop, &timing->stats, lane->seconds);
	return MLA_OK;
}

static double share_of(const struct bench_lane *lane, const struct bench_stop *stop)
{
	if (lane->done)
		return 1;
	return stop->samples > 0 ? (double)lane->timing.stats.n / stop->samples
				 : fmin(lane->seconds / stop->seconds, 1);
}

/* Each lane that is not done takes a turn; how far is the slowest? */
static double take_turns(struct bench_lane *lanes, int num_lanes, const struct bench_clock *clock,
			 struct gpu_timer **timers)
{
	double least = 1;

	for (int i = 0; i < num_lanes; i++) {
		mla_status status = MLA_OK;

		if (!lanes[i].done)
			status = take_samples(&lanes[i], clock, timers);
		if (status)
			fail(&lanes[i], status);
		least = fmin(least, share_of(&lanes[i], &clock->stop));
	}
	return least;
}

static mla_status make_timers(struct gpu_timer **timers, enum bench_mode mode)
{
	mla_status status = MLA_OK;

	for (int i = 0; i < LAUNCHES && mode != BENCH_HOST && !status; i++)
		status = gpu_timer_create(&timers[i]);
	return status;
}

void bench_time(struct bench_lane *lanes, int num_lanes, const struct bench_clock *clock)
{
	struct gpu_timer *timers[LAUNCHES] = {0};
	const mla_status ready = make_timers(timers, clock->mode);
	double share = 0;

	for (int i = 0; i < num_lanes; i++) {
		const mla_status status = ready ? ready : open_lane(&lanes[i], clock, timers[0]);

		if (status)
			fail(&lanes[i], status);
	}
	while (num_lanes > 0 && share < 1) {
		if (clock->progress)
			clock->progress(clock->opaque, share);
		share = take_turns(lanes, num_lanes, clock, timers);
		for (int i = 0; i < num_lanes && share >= 1; i++)
			share = lanes[i].done ? share : 0;
	}
	for (int i = 0; i < num_lanes; i++)
		if (!lanes[i].status)
			lanes[i].timing.load = nvml_log_load(&lanes[i].log);
	for (int i = 0; i < LAUNCHES; i++)
		gpu_timer_destroy(timers[i]);
}

mla_status bench_time_again(struct bench_lane *lane, const struct bench_clock *clock)
{
	mla_status status = lane->graph ? gpu_graph_launch(lane->graph, clock->stream) : MLA_OK;

	for (int i = 0; i < lane->copies && !lane->graph && !status; i++)
		status = next_call(lane, clock->stream);
	return status ? status : gpu_sync(clock->stream);
}
