/* clock.h - times calls.
 *
 * A lane is one thing to be timed: a function that queues a call, or on the CPU makes it. Lanes are
 * timed in turns, sample by sample, so that a clock that drifts drifts for all. Three modes:
 *
 * - graph: a CUDA graph of many calls is replayed; a sample is the time of a replay over its calls:
 *   what a server sees that replays its decode step.
 * - launch: each call stands between two timestamps of the stream: what a first call costs.
 * - host: a call runs on the CPU and says itself how long it took.
 *
 * Before each of the first two, one thread of the GPU waits a little, so that what is timed is
 * queued before it starts and the host's own speed does not count. Clocks and power are read while
 * each sample runs, after all of it was queued: they are those of the samples.
 */
#ifndef MLA_BENCH_CLOCK_H
#define MLA_BENCH_CLOCK_H

#include <stdbool.h>

#include "base/stats.h"
#include "device/gpu.h"
#include "device/nvml.h"

enum bench_mode { BENCH_GRAPH, BENCH_LAUNCH, BENCH_HOST, BENCH_NUM_MODES };
extern const char *const bench_mode_names[BENCH_NUM_MODES];

/* When to stop: after exactly `samples`, if that is not 0; else once there are BENCH_MIN_SAMPLES
 * and the noise (quartile distance over median) is below `noise`, or after `seconds`, with
 * STATS_LEAST at least. */
struct bench_stop {
	int samples;
	double noise, seconds;
};
enum { BENCH_MIN_SAMPLES = 20, BENCH_MOST_SAMPLES = 1000 };
/* The noise that is asked for unless told otherwise: above it a time bears a sign. */
#define BENCH_NOISE 0.005
/* Enough after n samples that took this long? */
bool bench_is_enough(const struct bench_stop *stop, const struct stats *stats, double seconds);

/* Calls in a graph: whole rounds of the copies, ten at least, and two milliseconds, which makes the
 * start of a replay small. A call of BENCH_LONG_US or more, beside which the cache is small, stands
 * alone. */
#define BENCH_LONG_US 20000.0
int bench_calls_per_graph(int copies, double about_us);

struct bench_timing {
	enum bench_mode mode;
	bool cold;
	int calls;       /* per sample */
	double *samples; /* [stats.n] microseconds per call, in the order they were taken */
	struct stats stats;
	bool settled;          /* the noise was below what was asked for */
	struct nvml_load load; /* while the samples ran; n 0 where nobody tells */
};
void bench_timing_free(struct bench_timing *timing);
/* Enough samples for a median that is known? */
bool bench_timing_enough(const struct bench_timing *timing);

/* Queues one call on inputs `copy`. */
typedef mla_status (*bench_call)(void *what, int copy, mla_stream stream);

struct bench_lane {
	bench_call call;
	void *what;
	int copies;            /* calls take turns on copies 0 ... copies - 1 */
	const double *took_us; /* of BENCH_HOST: where a call leaves how long it took */

	/* bench_time leaves: */
	mla_status status; /* not MLA_OK: why says what went wrong, there is no timing */
	char why[256];
	struct bench_timing timing;

	/* its own: */
	struct gpu_graph *graph;
	struct nvml_log log;
	double about_us, seconds, hold_us;
	int next, room;
	bool done;
};

/* Times all lanes, which are zero but for the first four fields. progress may be NULL; it is told
 * how far the slowest lane is, 0 to 1. nvml may be NULL. */
struct bench_clock {
	enum bench_mode mode;
	struct bench_stop stop;
	mla_stream stream;
	const struct nvml *nvml;
	void (*progress)(void *opaque, double share);
	void *opaque;
};
void bench_time(struct bench_lane *lanes, int num_lanes, const struct bench_clock *clock);
/* Once more what was timed: the graph, or a call on each copy; waits for its end. */
mla_status bench_time_again(struct bench_lane *lane, const struct bench_clock *clock);
/* Frees all but the timing, which the caller may keep. */
void bench_lane_close(struct bench_lane *lane);

/* Monotonic microseconds of the host. */
double bench_now_us(void);

#endif
