/* compare.c - reads result files, finds pairs of measurements, and judges them.
 */
#include "report/compare.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/input.h"
#include "lib/error.h"
#include "report/results.h"

#define SCHEMA         "mla-results"
#define SCHEMA_VERSION 1

/* ---- reading --------------------------------------------------------------------------------- */

/* Where a reader is, for its sentences. */
struct reader {
	struct compare_file *file;
	int index; /* of the measurement, -1 outside */
	int max_times;
};

static mla_status fail(const struct reader *reader, mla_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static mla_status fail(const struct reader *reader, mla_status status, const char *format, ...)
{
	char text[256], place[48] = "";
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (reader->index >= 0)
		snprintf(place, sizeof(place), "measurements[%d]: ", reader->index);
	return mla_fail(status, "%s: %s%s", reader->file->path, place, text);
}

static const char *kind_of(const json_t *value)
{
	static const char *const kinds[] = {
		[JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
		[JSON_INTEGER] = "a number", [JSON_REAL] = "a number",  [JSON_TRUE] = "true",
		[JSON_FALSE] = "false",      [JSON_NULL] = "null"};

	return value ? kinds[json_typeof(value)] : "nothing";
}

/* The string under key; absent and null become "" unless it is needed. */
static mla_status read_string(const struct reader *reader, const json_t *object, const char *key,
			      bool needed, const char **text)
{
	const json_t *value = json_object_get(object, key);

	*text = json_is_string(value) ? json_string_value(value) : "";
	if (json_is_string(value) ? (**text || !needed)
				  : (!needed && (!value || json_is_null(value))))
		return MLA_OK;
	if (json_is_string(value))
		return fail(reader, MLA_INVALID, "\"%s\" is empty", key);
	return fail(reader, MLA_INVALID, "\"%s\" is %s, expected a string", key, kind_of(value));
}

static int compare_doubles(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Timestamps come in steps; what differs by rounding alone is no step. */
static double smallest_step(const double *sorted, int n)
{
	double step = 0;

	for (int i = 1; i < n; i++) {
		const double difference = sorted[i] - sorted[i - 1];

		if (difference > 1e-6 * sorted[i] && (step == 0 || difference < step))
			step = difference;
	}
	return step;
}

/* A picosecond and thirty years: quotients, sums and pictures of times between have no limits. */
static const double LEAST_US = 1e-6, MOST_US = 1e15;

static mla_status read_samples(const struct reader *reader, const json_t *timing,
			       struct compare_time *time)
{
	const json_t *samples = json_object_get(timing, "samples_us");
	const size_t n = json_array_size(samples);

	if (!json_is_array(samples) || n == 0 || n > 100000000)
		return fail(reader, MLA_INVALID,
			    "\"samples_us\" is %s, expected an array of microseconds",
			    json_is_array(samples) ? "empty" : kind_of(samples));

	double *values = malloc(n * sizeof(*values));

	if (!values)
		return fail(reader, MLA_NO_MEMORY, "not enough memory for %zu samples", n);

	mla_status status = MLA_OK;

	for (size_t i = 0; i < n && !status; i++) {
		const json_t *value = json_array_get(samples, i);

		values[i] = json_number_value(value);
		if (!json_is_number(value))
			status = fail(reader, MLA_INVALID, "samples_us[%zu] is %s, expected a time",
				      i, kind_of(value));
		else if (!(values[i] >= LEAST_US && values[i] <= MOST_US))
			status = fail(reader, MLA_INVALID,
				      "samples_us[%zu] is %g, expected a time from %g to %g us", i,
				      values[i], LEAST_US, MOST_US);
	}
	if (!status) {
		qsort(values, n, sizeof(*values), compare_doubles);
		time->tick = smallest_step(values, (int)n);
		if (stats_of(values, (int)n, &time->stats))
			status =
				fail(reader, MLA_NO_MEMORY, "not enough memory for %zu samples", n);
	}
	time->samples = samples;
	free(values);
	return status;
}

static bool same_times(const struct compare_time *a, const struct compare_time *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->sha256, b->sha256) &&
	       !strcmp(a->implementation, b->implementation) && !strcmp(a->mode, b->mode) &&
	       !strcmp(a->cache, b->cache);
}

static mla_status append(struct reader *reader, const struct compare_time *time)
{
	struct compare_file *file = reader->file;

	for (int i = 0; i < file->count; i++)
		if (same_times(&file->times[i], time))
			return fail(reader, MLA_INVALID,
				    "case %s, %s, %s %s stands in the file twice", time->name,
				    time->implementation, time->mode, time->cache);
	if (file->count == reader->max_times) {
		reader->max_times = 2 * reader->max_times + 16;

		struct compare_time *grown =
			realloc(file->times, (size_t)reader->max_times * sizeof(*grown));

		if (!grown)
			return fail(reader, MLA_NO_MEMORY, "not enough memory");
		file->times = grown;
	}
	file->times[file->count++] = *time;
	return MLA_OK;
}

static double median_mhz(const json_t *timing)
{
	const json_t *clocks = json_object_get(timing, "clocks");

	return json_number_value(json_object_get(json_object_get(clocks, "sm_mhz"), "median"));
}

/* Files from before clocks were read with the samples have one reading from just before them, or
 * two for all of the file. */
static double sm_mhz_of(const struct compare_file *file, const json_t *timing)
{
	const double own = median_mhz(timing);
	const double before = json_number_value(json_object_get(timing, "sm_mhz"));

	return own > 0 ? own : before > 0 ? before : file->sm_mhz;
}

static mla_status read_timing(struct reader *reader, const json_t *timing,
			      struct compare_time *time)
{
	mla_status status = read_string(reader, timing, "mode", true, &time->mode);

	if (!status)
		status = read_string(reader, timing, "cache", true, &time->cache);
	if (!status)
		status = read_samples(reader, timing, time);
	time->unsettled = json_is_false(json_object_get(timing, "settled"));
	time->sm_mhz = sm_mhz_of(reader->file, timing);
	return status ? status : append(reader, time);
}

/* Whose times and whether it was right. */
static mla_status read_subject(const struct reader *reader, const json_t *json,
			       struct compare_time *time)
{
	const json_t *c = json_object_get(json, "case");
	mla_status status;

	if (!json_is_object(c))
		return fail(reader, MLA_INVALID, "\"case\" is %s, expected an object", kind_of(c));
	status = read_string(reader, c, "name", true, &time->name);
	if (!status)
		status = read_string(reader, c, "sha256", false, &time->sha256);
	if (!status)
		status = read_string(reader, json, "implementation", true, &time->implementation);
	if (!status)
		status = read_string(reader, json, "status", true, &time->status);
	return status ? status : read_string(reader, json, "why", false, &time->why);
}

static mla_status read_measurement(struct reader *reader, const json_t *json)
{
	struct compare_time time = {.mode = "", .cache = ""};
	const json_t *timings = json_object_get(json, "timings");
	mla_status status = read_subject(reader, json, &time);

	if (status)
		return status;
	if (strcmp(time.status, "PASS"))
		return append(reader, &time);
	if (!json_is_array(timings) || json_array_size(timings) == 0)
		return fail(reader, MLA_INVALID,
			    "\"timings\" is %s, expected an array with something in it",
			    json_is_array(timings) ? "empty" : kind_of(timings));
	for (size_t i = 0; i < json_array_size(timings) && !status; i++)
		status = read_timing(reader, json_array_get(timings, i), &time);
	return status;
}

static void read_environment(struct compare_file *file)
{
	const json_t *environment = json_object_get(file->root, "environment");
	const json_t *gpu = json_object_get(environment, "gpu");
	const json_t *cpu = json_object_get(environment, "cpu");
	const double threads = json_number_value(json_object_get(environment, "threads"));
	const json_t *mhz = json_object_get(json_object_get(environment, "clocks"), "sm_mhz");

	file->gpu = json_is_string(gpu) ? json_string_value(gpu) : "";
	file->cpu = json_is_string(cpu) ? json_string_value(cpu) : "";
	file->threads = threads >= 1 && threads <= INT_MAX ? (int)threads : 0;
	for (size_t i = 0; i < json_array_size(mhz); i++)
		file->sm_mhz +=
			json_number_value(json_array_get(mhz, i)) / (double)json_array_size(mhz);
}

static mla_status read_root(struct reader *reader)
{
	const json_t *root = reader->file->root, *schema = json_object_get(root, "schema");
	const json_t *version = json_object_get(root, "schema_version");
	const json_t *measurements = json_object_get(root, "measurements");
	mla_status status = MLA_OK;

	if (!json_is_string(schema) || strcmp(json_string_value(schema), SCHEMA))
		return fail(reader, MLA_INVALID, "\"schema\" is %s%s%s, expected \"%s\"",
			    json_is_string(schema) ? "\"" : "",
			    json_is_string(schema) ? json_string_value(schema) : kind_of(schema),
			    json_is_string(schema) ? "\"" : "", SCHEMA);
	if (!json_is_integer(version))
		return fail(reader, MLA_INVALID, "\"schema_version\" is %s, expected %d",
			    json_is_number(version) ? "no whole number" : kind_of(version),
			    SCHEMA_VERSION);
	if (json_integer_value(version) != SCHEMA_VERSION)
		return fail(reader, MLA_INVALID,
			    "\"schema_version\" is %lld, this program reads %d",
			    (long long)json_integer_value(version), SCHEMA_VERSION);
	status = results_check(reader->file->path, root);
	if (status)
		return status;
	if (!json_is_array(measurements))
		return fail(reader, MLA_INVALID, "\"measurements\" is %s, expected an array",
			    kind_of(measurements));
	read_environment(reader->file);
	for (size_t i = 0; i < json_array_size(measurements) && !status; i++) {
		reader->index = (int)i;
		status = read_measurement(reader, json_array_get(measurements, i));
	}
	return status;
}

mla_status compare_open(const char *path, struct compare_file *file)
{
	struct reader reader = {.file = file, .index = -1};
	mla_status status;

	*file = (struct compare_file){.path = path, .gpu = "", .cpu = ""};
	status = input_json(path, &file->root);
	if (!status)
		status = read_root(&reader);
	if (status)
		compare_close(file);
	return status;
}

/* ---- turns ----------------------------------------------------------------------------------- */

static bool same_value(const json_t *a, const json_t *b, const char *key)
{
	const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);

	return x == y || json_equal(x, y);
}

static bool same_subject(const json_t *a, const json_t *b)
{
	const json_t *x = json_object_get(a, "case"), *y = json_object_get(b, "case");

	return same_value(x, y, "name") && same_value(x, y, "sha256") &&
	       same_value(a, b, "implementation");
}

static bool same_kind(const json_t *a, const json_t *b)
{
	return same_value(a, b, "mode") && same_value(a, b, "cache");
}

/* The index of the one that is the same, or the array's size. */
static size_t find(const json_t *array, const json_t *wanted,
		   bool (*same)(const json_t *, const json_t *))
{
	size_t i = 0;

	while (i < json_array_size(array) && !same(json_array_get(array, i), wanted))
		i++;
	return i;
}

/* The clock of two turns together: each counts as much as its samples. */
static int add_clocks(json_t *mine, const json_t *timing)
{
	const double a = median_mhz(mine), b = median_mhz(timing);
	const double n = (double)json_array_size(json_object_get(mine, "samples_us"));
	const double more = (double)json_array_size(json_object_get(timing, "samples_us"));
	json_t *mhz = json_object_get(json_object_get(mine, "clocks"), "sm_mhz");

	if (!(a > 0 && b > 0))
		return 0;
	return json_object_set_new(mhz, "median", json_real((a * n + b * more) / (n + more)));
}

static int add_timing(json_t *timings, json_t *timing)
{
	json_t *mine = json_array_get(timings, find(timings, timing, same_kind));
	int status;

	if (!mine)
		return json_array_append(timings, timing);
	status = add_clocks(mine, timing);
	if (!status && json_is_false(json_object_get(timing, "settled")))
		status = json_object_set_new(mine, "settled", json_false());
	return status ? status
		      : json_array_extend(json_object_get(mine, "samples_us"),
					  json_object_get(timing, "samples_us"));
}

static bool is_right(const json_t *measurement)
{
	return !strcmp(json_string_value(json_object_get(measurement, "status")), "PASS");
}

/* Both were read before, so that all is there that is asked for. */
static int add_measurement(json_t *measurements, json_t *measurement)
{
	const size_t i = find(measurements, measurement, same_subject);
	json_t *mine = json_array_get(measurements, i);
	json_t *timings = json_object_get(measurement, "timings");
	int status = 0;

	if (!mine)
		return json_array_append(measurements, measurement);
	if (!is_right(mine))
		return 0;
	if (!is_right(measurement))
		return json_array_set(measurements, i, measurement);
	for (size_t j = 0; j < json_array_size(timings) && !status; j++)
		status = add_timing(json_object_get(mine, "timings"), json_array_get(timings, j));
	return status;
}

static mla_status reread(struct compare_file *file)
{
	struct reader reader = {.file = file, .index = -1};

	free(file->times);
	file->times = NULL;
	file->count = 0;
	file->sm_mhz = 0;
	return read_root(&reader);
}

mla_status compare_add_turn(const char *path, struct compare_file *file)
{
	json_t *measurements = json_object_get(file->root, "measurements"), *more;
	struct compare_file turn;
	mla_status status = compare_open(path, &turn);
	int failed = 0;

	if (status)
		return status;
	more = json_object_get(turn.root, "measurements");
	if (strcmp(turn.gpu, file->gpu))
		status = mla_fail(MLA_INVALID,
				  "%s ran on \"%s\", %s on \"%s\", expected turns on one GPU",
				  file->path, file->gpu, path, turn.gpu);
	for (size_t i = 0; !status && i < json_array_size(more) && !failed; i++)
		failed = add_measurement(measurements, json_array_get(more, i));
	if (failed)
		status = mla_fail(MLA_NO_MEMORY, "%s: not enough memory", path);
	compare_close(&turn);
	return status ? status : reread(file);
}

void compare_close(struct compare_file *file)
{
	json_decref(file->root);
	free(file->times);
	*file = (struct compare_file){0};
}

/* ---- judging --------------------------------------------------------------------------------- */

const char *compare_verdict_name(enum compare_verdict verdict)
{
	static const char *const names[] = {
		[COMPARE_FASTER] = "FASTER", [COMPARE_SAME] = "SAME",   [COMPARE_SLOWER] = "SLOWER",
		[COMPARE_UNSURE] = "UNSURE", [COMPARE_WRONG] = "WRONG",
	};

	return names[verdict];
}

const char *compare_verdict_meaning(enum compare_verdict verdict)
{
	static const char *const meanings[] = {
		[COMPARE_FASTER] = "the medians' intervals are disjoint, and B is faster by more "
				   "than the threshold",
		[COMPARE_SAME] = "the whole interval of A/B lies within the threshold, or both are "
				 "the same samples",
		[COMPARE_SLOWER] = "the medians' intervals are disjoint, and B is slower by more "
				   "than the threshold",
		[COMPARE_UNSURE] = "none of these: too few samples, too noisy, or a difference of "
				   "about the threshold; take more samples",
		[COMPARE_WRONG] = "A passed its check, B did not: there is no time to compare",
	};

	return meanings[verdict];
}

bool compare_is_enough(const struct compare_time *a, const struct compare_time *b)
{
	return a->stats.n >= STATS_LEAST && b->stats.n >= STATS_LEAST;
}

static enum compare_verdict judge(const struct compare_result *r, double floor)
{
	const double most = 1 + floor, least = 1 / (1 + floor);

	if (r->low > 1 && r->ratio > most)
		return COMPARE_FASTER;
	if (r->high < 1 && r->ratio < least)
		return COMPARE_SLOWER;
	return r->low >= least && r->high <= most ? COMPARE_SAME : COMPARE_UNSURE;
}

struct compare_result compare_times(const struct compare_time *a, const struct compare_time *b,
				    double threshold)
{
	const struct stats *old = &a->stats, *new = &b->stats;
	struct compare_result result = {.verdict = COMPARE_WRONG};

	if (new->n == 0)
		return result;
	result.ratio = old->median / new->median;
	result.low = old->low / new->high;
	result.high = old->high / new->low;

	const double steps = fmax(a->tick / old->median, b->tick / new->median);

	if (!compare_is_enough(a, b))
		result.verdict = COMPARE_UNSURE;
	else if (a->samples && json_equal(a->samples, b->samples))
		result = (struct compare_result){COMPARE_SAME, 1, 1, 1};
	else
		result.verdict = judge(&result, fmax(threshold, steps));
	return result;
}

int compare_partner(const struct compare_time *a, const struct compare_file *b,
		    const struct compare_pairing *pairing)
{
	const char *wanted = a->implementation;

	if (pairing->from) {
		if (strcmp(wanted, pairing->from))
			return -1;
		wanted = pairing->to;
	}
	for (int i = 0; i < b->count; i++) {
		const struct compare_time *t = &b->times[i];
		const bool same_mode = !strcmp(t->mode, a->mode) && !strcmp(t->cache, a->cache);

		if (!strcmp(t->name, a->name) && !strcmp(t->sha256, a->sha256) &&
		    !strcmp(t->implementation, wanted) && (same_mode || t->stats.n == 0))
			return i;
	}
	return -1;
}
