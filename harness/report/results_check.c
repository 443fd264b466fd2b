/* results_check.c - whether what a result file says under the keys that this program reads is of
 * the kind that it has to be. What must be there is for those to say who need it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "report/results.h"

/* More than any suite has; what goes through all pairs of them ends all the same. */
enum { MOST_MEASUREMENTS = 5000, MOST_TIMINGS = 20000 };

enum kind { OBJECT, STRING, NUMBER, TRUTH, NUMBERS };

static const char *const expected[] = {
	[OBJECT] = "an object",
	[STRING] = "a string",
	[NUMBER] = "a number that is not negative",
	[TRUTH] = "true or false",
	[NUMBERS] = "an array of numbers",
};

struct rule {
	const char *key;
	enum kind kind;
};

static const struct rule root_rules[] = {{"environment", OBJECT}, {"ceilings", OBJECT}, {0}};
static const struct rule environment_rules[] = {
	{"gpu", STRING}, {"cpu", STRING}, {"clocks", OBJECT}, {0}};
static const struct rule clocks_rules[] = {{"sm_mhz", NUMBERS}, {0}};
static const struct rule measurement_rules[] = {{"case", OBJECT}, {"why", STRING}, {0}};
static const struct rule case_rules[] = {
	{"name", STRING},  {"sha256", STRING},    {"flop", NUMBER},     {"bytes", NUMBER},
	{"dtype", STRING}, {"kv_tokens", NUMBER}, {"bound_us", NUMBER}, {0}};
static const struct rule timing_rules[] = {{"mode", STRING},   {"cache", STRING},
					   {"sm_mhz", NUMBER}, {"settled", TRUTH},
					   {"clocks", OBJECT}, {0}};

static bool is_number(const json_t *value)
{
	return json_is_number(value) && json_number_value(value) >= 0;
}

static bool is_kind(const json_t *value, enum kind kind)
{
	bool good = true;

	switch (kind) {
	case OBJECT:
		return json_is_object(value);
	case STRING:
		return json_is_string(value);
	case NUMBER:
		return is_number(value);
	case TRUTH:
		return json_is_boolean(value);
	case NUMBERS:
		for (size_t i = 0; i < json_array_size(value); i++)
			good &= is_number(json_array_get(value, i));
		return good && json_is_array(value);
	}
	return false;
}

/* place: "measurements[3].case.", or "". */
static mla_status fail(const char *path, const char *place, const char *key, const json_t *found,
		       const char *wanted)
{
	char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
	const mla_status status =
		mla_fail(MLA_INVALID, "%.300s: %s%s is %.40s%s, expected %s", path, place, key,
			 text ? text : "not there", text && strlen(text) > 40 ? "..." : "", wanted);

	free(text);
	return status;
}

/* Absent and null say nothing, whatever the kind. */
static mla_status check(const char *path, const char *place, const json_t *object,
			const struct rule *rules)
{
	for (const struct rule *rule = rules; rule->key; rule++) {
		const json_t *value = json_object_get(object, rule->key);

		if (value && !json_is_null(value) && !is_kind(value, rule->kind))
			return fail(path, place, rule->key, value, expected[rule->kind]);
	}
	return MLA_OK;
}

static mla_status check_ceilings(const char *path, const json_t *ceilings)
{
	for (int i = 0; i < CEILING_NUM_KINDS; i++) {
		const json_t *value = json_object_get(ceilings, ceiling_names[i].key);

		if (value && !json_is_null(value) && !(json_number_value(value) > 0))
			return fail(path, "ceilings.", ceiling_names[i].key, value,
				    "a number above 0");
	}
	return MLA_OK;
}

static mla_status check_timings(const char *path, const char *place, const json_t *timings)
{
	mla_status status = MLA_OK;

	for (size_t i = 0; i < json_array_size(timings) && !status; i++) {
		const json_t *timing = json_array_get(timings, i);
		char inside[96];

		snprintf(inside, sizeof(inside), "%stimings[%zu]", place, i);
		if (!json_is_object(timing))
			return fail(path, inside, "", timing, expected[OBJECT]);
		strcat(inside, ".");
		status = check(path, inside, timing, timing_rules);
	}
	return status;
}

static mla_status check_measurement(const char *path, size_t index, const json_t *measurement)
{
	char place[48], inside[64];
	mla_status status;

	snprintf(place, sizeof(place), "measurements[%zu]", index);
	if (!json_is_object(measurement))
		return fail(path, place, "", measurement, expected[OBJECT]);
	strcat(place, ".");
	snprintf(inside, sizeof(inside), "%scase.", place);
	status = check(path, place, measurement, measurement_rules);
	if (!status)
		status = check(path, inside, json_object_get(measurement, "case"), case_rules);
	return status ? status
		      : check_timings(path, place, json_object_get(measurement, "timings"));
}

static mla_status check_count(const char *path, const char *what, size_t count, int most)
{
	if (count <= (size_t)most)
		return MLA_OK;
	return mla_fail(MLA_INVALID, "%.300s: it has %zu %s, expected at most %d", path, count,
			what, most);
}

mla_status results_check(const char *path, const json_t *root)
{
	const json_t *environment = json_object_get(root, "environment");
	const json_t *measurements = json_object_get(root, "measurements");
	size_t timings = 0;
	mla_status status = check(path, "", root, root_rules);

	if (!status)
		status = check(path, "environment.", environment, environment_rules);
	if (!status)
		status = check(path, "environment.clocks.", json_object_get(environment, "clocks"),
			       clocks_rules);
	if (!status)
		status = check_ceilings(path, json_object_get(root, "ceilings"));
	if (!status)
		status = check_count(path, "measurements", json_array_size(measurements),
				     MOST_MEASUREMENTS);
	for (size_t i = 0; i < json_array_size(measurements) && !status; i++) {
		const json_t *measurement = json_array_get(measurements, i);

		timings += json_array_size(json_object_get(measurement, "timings"));
		status = check_measurement(path, i, measurement);
	}
	return status ? status : check_count(path, "timings", timings, MOST_TIMINGS);
}
