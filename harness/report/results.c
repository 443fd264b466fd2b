/* results.c - the JSON of results: where they were measured, and every sample; and cases as a file
 * has them.
 */
#define _GNU_SOURCE
#include "report/results.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/text.h"
#include "device/gpu.h"
#include "lib/version.h"
#include "report/json.h"
#include "report/timings.h"

#ifndef MLA_FLAGS
#define MLA_FLAGS ""
#endif

/* ---- environment ----------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text)
{
	return *text ? report_json_string(text) : json_null();
}

/* 13020 is "13.2" */
static json_t *version_json(int version)
{
	if (version == 0)
		return json_null();
	return json_sprintf("%d.%d", version / 1000, version % 1000 / 10);
}

static json_t *date_json(void)
{
	const time_t now = time(NULL);
	char text[32] = "";
	struct tm utc;

	if (gmtime_r(&now, &utc))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
	return text_or_null(text);
}

static json_t *os_json(void)
{
	struct utsname name;

	if (uname(&name))
		return json_null();

	char *text = text_format("%s %s %s", name.sysname, name.release, name.machine);
	json_t *json = report_json_string(text);

	free(text);
	return json;
}

/* "Intel(R) Xeon(R) ..."; null where the system does not say so. */
static json_t *cpu_json(void)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[256], *name = NULL;

	while (file && !name && fgets(line, sizeof(line), file))
		if (!strncmp(line, "model name", 10) && (name = strchr(line, ':')))
			name += strspn(name, ": \t");
	if (file)
		fclose(file);
	if (!name)
		return json_null();
	name[strcspn(name, "\n")] = '\0';
	return report_json_string(name);
}

static void add_device(json_t *json)
{
	mla_device device = {.struct_size = sizeof(device)};
	const bool here = !gpu_missing() && !mla_device_query(&device);

	report_json_set(json, "gpu", here ? report_json_string(gpu_name()) : json_null());
	report_json_set(json, "arch", here ? json_sprintf("sm_%d", device.arch) : json_null());
	report_json_set(json, "sm_count", here ? json_integer(device.sm_count) : json_null());
	report_json_set(json, "l2_bytes",
			here ? json_integer((json_int_t)gpu_l2_bytes()) : json_null());
}

/* Besides what every report says. */
static void add_environment(json_t *json, const struct nvml *nvml)
{
	const struct gpu_versions versions = gpu_versions();

	add_device(json);
	report_json_set(json, "driver",
			*nvml_driver(nvml) ? report_json_string(nvml_driver(nvml))
					   : version_json(versions.driver));
	report_json_set(json, "cuda_runtime", version_json(versions.runtime));
	report_json_set(json, "toolkit", version_json(versions.toolkit));
	report_json_set(json, "compiler_flags", json_string(MLA_FLAGS));
	report_json_set(json, "commit", json_string(version_commit));
	report_json_set(json, "cpu", cpu_json());
	report_json_set(json, "os", os_json());
	report_json_set(json, "date_utc", date_json());
}

static json_t *rate_json(double rate)
{
	return rate > 0 ? report_json_number(rate) : json_null();
}

json_t *results_ceilings(const struct ceilings *ceilings)
{
	json_t *json = ceilings ? json_object() : json_null();

	for (int i = 0; i < CEILING_NUM_KINDS && ceilings; i++)
		report_json_set(json, ceiling_names[i].key,
				ceilings->of[i].stats.n
					? report_json_number(ceilings->of[i].stats.median)
					: json_null());
	if (ceilings)
		report_json_set(json, "tensor_tflops", rate_json(ceilings_tflops(ceilings)));
	return json;
}

static json_t *command_json(int argc, char *const *argv)
{
	char *line = text_format("%s", argv[0]);

	for (int i = 1; i < argc; i++) {
		char *longer = text_format("%s %s", line, argv[i]);

		free(line);
		line = longer;
	}

	json_t *json = report_json_string(line);

	free(line);
	return json;
}

json_t *results_new(int argc, char *const *argv, const struct ceilings *ceilings,
		    const struct nvml *nvml)
{
	json_t *root = report_json_new(RESULTS_SCHEMA);

	add_environment(json_object_get(root, "environment"), nvml);
	report_json_set(root, "command", command_json(argc, argv));
	report_json_set(root, "ceilings", results_ceilings(ceilings));
	report_json_set(root, "measurements", json_array());
	return root;
}

/* ---- measurements ---------------------------------------------------------------------------- */

static json_t *integers_json(const int32_t *values, int n, const int32_t *minus)
{
	json_t *array = json_array();

	for (int i = 0; i < n; i++)
		report_json_append(array, json_integer(values[i] - (minus ? minus[i] : 0)));
	return array;
}

static void set_bound(json_t *json, const struct case_bound *bound)
{
	const bool known = bound->us > 0;

	report_json_set(json, "bound_us", known ? report_json_number(bound->us) : json_null());
	report_json_set(json, "bound_by",
			known ? json_string(case_limit_names[bound->by]) : json_null());
}

json_t *results_case(const struct timings_shown *shown)
{
	const struct mla_case *c = shown->c;
	const mla_batch *batch = &c->batch;
	const int32_t n = batch->batch_size;
	int64_t tokens = 0;
	int32_t least = n ? batch->kv_len[0] : 0, most = least;
	json_t *json = json_object();

	for (int32_t r = 0; r < n; r++) {
		tokens += batch->kv_len[r];
		least = batch->kv_len[r] < least ? batch->kv_len[r] : least;
		most = batch->kv_len[r] > most ? batch->kv_len[r] : most;
	}
	report_json_set(json, "name", report_json_string(shown->name));
	report_json_set(json, "sha256", json_string(shown->sha256));
	report_json_set(json, "batch_size", json_integer(n));
	report_json_set(json, "num_heads", json_integer(c->config.num_heads));
	report_json_set(json, "total_q", json_integer(case_total_q(c)));
	report_json_set(json, "kv_tokens", json_integer(tokens));
	report_json_set(json, "kv_len_min", json_integer(least));
	report_json_set(json, "kv_len_max", json_integer(most));
	report_json_set(json, "page_size", json_integer(c->config.page_size));
	report_json_set(json, "causal", json_boolean(c->config.causal));
	report_json_set(json, "dtype", json_string(ref_dtype_name(c->config.q_dtype)));
	report_json_set(json, "sm_scale", report_json_number(c->config.sm_scale));
	report_json_set(json, "flop", report_json_number(shown->work.flop));
	report_json_set(json, "bytes", report_json_number(shown->work.bytes));
	set_bound(json, &shown->bound);
	report_json_set(json, "qo_len",
			integers_json(batch->qo_indptr + (n > 0), n, batch->qo_indptr));
	report_json_set(json, "kv_len", integers_json(batch->kv_len, n, NULL));
	return json;
}

static json_t *errors_json(const struct check_verdict *verdict)
{
	if (verdict->outcome == CHECK_SKIP)
		return json_null();

	json_t *json = json_object();

	report_json_set(json, "element", report_json_number(verdict->worst_element));
	report_json_set(json, "rms", report_json_number(verdict->worst_rms));
	report_json_set(json, "lse", report_json_number(verdict->worst_lse));
	return json;
}

static json_t *host_stats_json(const struct stats *stats)
{
	if (stats->n == 0)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:f, s:i}", "median", stats->median, "q1", stats->q1,
			 "q3", stats->q3, "min", stats->min, "n", stats->n);
}

static json_t *figure_json(const struct stats *stats)
{
	if (stats->n == 0)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:i}", "min", stats->min, "median", stats->median, "max",
			 stats->max, "n", stats->n);
}

/* Of the timing's own samples; null if nobody told. */
static json_t *load_json(const struct nvml_load *load)
{
	json_t *json;

	if (load->sm_mhz.n == 0)
		return json_null();
	json = json_object();
	report_json_set(json, "sm_mhz", figure_json(&load->sm_mhz));
	report_json_set(json, "mem_mhz", figure_json(&load->mem_mhz));
	report_json_set(json, "power_w", figure_json(&load->power_w));
	return json;
}

static json_t *timing_json(const struct bench_timing *timing)
{
	const struct stats *s = &timing->stats;
	json_t *json = json_object(), *samples = json_array();

	report_json_set(json, "mode", json_string(bench_mode_names[timing->mode]));
	report_json_set(json, "cache", json_string(timing->cold ? "cold" : "hot"));
	report_json_set(json, "calls_per_sample", json_integer(timing->calls));
	report_json_set(json, "median_us", report_json_number(s->median));
	report_json_set(json, "q1_us", report_json_number(s->q1));
	report_json_set(json, "q3_us", report_json_number(s->q3));
	report_json_set(json, "min_us", report_json_number(s->min));
	report_json_set(json, "median_low_us", report_json_number(s->low));
	report_json_set(json, "median_high_us", report_json_number(s->high));
	report_json_set(json, "settled", json_boolean(timing->settled));
	report_json_set(json, "enough_samples", json_boolean(bench_timing_enough(timing)));
	report_json_set(json, "clocks", load_json(&timing->load));
	for (int i = 0; i < s->n; i++)
		report_json_append(samples, report_json_number(timing->samples[i]));
	report_json_set(json, "samples_us", samples);
	return json;
}

void results_add(json_t *root, const struct timings_shown *shown)
{
	for (int i = 0; i < shown->count; i++) {
		const struct bench_result *result = &shown->results[i];
		json_t *json = json_object(), *timings = json_array();

		report_json_set(json, "case", results_case(shown));
		report_json_set(json, "implementation",
				report_json_string(shown->implementations[i]));
		report_json_set(json, "status",
				json_string(report_outcome_name(result->verdict.outcome)));
		report_json_set(json, "why", report_json_string(result->verdict.why));
		report_json_set(json, "errors", errors_json(&result->verdict));
		report_json_set(json, "plan_us", host_stats_json(&result->plan));
		report_json_set(json, "upload_us", host_stats_json(&result->upload));
		report_json_set(json, "copies", json_integer(result->copies));
		for (int t = 0; t < result->num_timings; t++)
			report_json_append(timings, timing_json(&result->timings[t]));
		report_json_set(json, "timings", timings);
		report_json_append(json_object_get(root, "measurements"), json);
	}
}

/* ---- cases of a file that was read ------------------------------------------------------------
 */

bool results_read_ceilings(const json_t *root, struct ceilings *ceilings)
{
	const json_t *json = json_object_get(root, "ceilings");
	const char *gpu =
		json_string_value(json_object_get(json_object_get(root, "environment"), "gpu"));

	*ceilings = (struct ceilings){0};
	snprintf(ceilings->gpu, sizeof(ceilings->gpu), "%s", gpu ? gpu : "");
	for (int i = 0; i < CEILING_NUM_KINDS; i++) {
		const double rate = json_number_value(json_object_get(json, ceiling_names[i].key));

		if (rate > 0)
			ceilings->of[i].stats = (struct stats){.n = 1, .median = rate};
	}
	return json_is_object(json);
}

static const json_t *case_at(const json_t *root, size_t measurement)
{
	const json_t *all = json_object_get(root, "measurements");

	return json_object_get(json_array_get(all, measurement), "case");
}

static bool same_case(const json_t *a, const json_t *b)
{
	static const char *const keys[] = {"name", "sha256"};

	for (int i = 0; i < 2; i++) {
		const json_t *x = json_object_get(a, keys[i]), *y = json_object_get(b, keys[i]);

		if ((x || y) && !json_equal(x, y))
			return false;
	}
	return true;
}

json_t *results_read_case(const json_t *root, size_t measurement, const struct ceilings *ceilings,
			  struct timings_shown *shown)
{
	const json_t *found = case_at(root, measurement);
	const char *name = json_string_value(json_object_get(found, "name"));

	if (!name)
		return NULL;
	for (size_t i = 0; i < measurement; i++)
		if (same_case(case_at(root, i), found))
			return NULL;

	json_t *json = text_need(json_deep_copy(found));

	*shown = (struct timings_shown){.name = name};
	shown->work.flop = json_number_value(json_object_get(found, "flop"));
	shown->work.bytes = json_number_value(json_object_get(found, "bytes"));
	shown->work.multiply_adds = shown->work.flop / 2;
	shown->bound = timings_bound(&shown->work, ceilings);
	set_bound(json, &shown->bound);
	return json;
}
