/* json.c - the JSON side of reports: environment, cases, verdicts, statistics.
 */
#include "report/json.h"

#include <hdf5.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "device/gpu.h"
#include "lib/version.h"
#include "report/table.h"

void report_json_set(json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, text_need(value)))
		text_need(NULL);
}

void report_json_append(json_t *array, json_t *value)
{
	if (json_array_append_new(array, text_need(value)))
		text_need(NULL);
}

json_t *report_json_number(double value)
{
	if (isnan(value))
		return text_need(json_string("nan"));
	if (isinf(value))
		return text_need(json_string(value > 0 ? "inf" : "-inf"));
	return text_need(json_real(value));
}

json_t *report_json_string(const char *text)
{
	json_t *value = json_string(text);

	if (value)
		return value;

	char *shown = text_shown(text);

	value = json_string(shown);
	free(shown);
	return text_need(value);
}

void report_json_print(const json_t *root)
{
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_ENSURE_ASCII);
	putchar('\n');
}

static json_t *gpu_json(void)
{
	if (gpu_missing())
		return json_null();

	mla_device device = {.struct_size = sizeof(device)};

	if (mla_device_query(&device))
		return json_null();
	return text_need(json_pack(
		"{s:o, s:i, s:i, s:i, s:I}", "name", report_json_string(gpu_name()), "arch",
		(int)device.arch, "sm_count", (int)device.sm_count, "smem_per_block",
		(int)device.smem_per_block, "l2_bytes", (json_int_t)gpu_l2_bytes()));
}

static json_t *environment(void)
{
	unsigned major = 0, minor = 0, release = 0;

	H5get_libversion(&major, &minor, &release);

	char hdf5[32];

	snprintf(hdf5, sizeof(hdf5), "%u.%u.%u", major, minor, release);
	return text_need(json_pack("{s:o, s:s, s:s, s:s, s:i}", "gpu", gpu_json(), "compiler",
				   __VERSION__, "hdf5", hdf5, "jansson", JANSSON_VERSION, "threads",
				   omp_get_max_threads()));
}

json_t *report_json_new(const char *schema)
{
	json_t *program = text_need(json_pack("{s:s, s:s, s:s}", "name", "mla", "version",
					      MLA_VERSION, "commit", version_commit));

	return text_need(json_pack("{s:s, s:i, s:o, s:o}", "schema", schema, "schema_version", 1,
				   "program", program, "environment", environment()));
}

static json_t *element_json(const struct check_element *e)
{
	json_t *json = text_need(json_pack("{s:I, s:I, s:I, s:I}", "request",
					   (json_int_t)e->request, "query", (json_int_t)e->query,
					   "head", (json_int_t)e->head, "dim", (json_int_t)e->dim));

	report_json_set(json, "got", report_json_number(e->got));
	report_json_set(json, "want", report_json_number(e->want));
	report_json_set(json, "ratio", report_json_number(e->ratio));
	return json;
}

json_t *report_json_verdict(const char *name, const struct check_verdict *verdict)
{
	json_t *json = text_need(json_pack("{s:s, s:s, s:o}", "name", name, "outcome",
					   report_outcome_name(verdict->outcome), "why",
					   report_json_string(verdict->why)));

	if (verdict->outcome == CHECK_SKIP)
		return json;
	report_json_set(json, "worst_element", report_json_number(verdict->worst_element));
	report_json_set(json, "worst_rms", report_json_number(verdict->worst_rms));
	report_json_set(json, "worst_lse", report_json_number(verdict->worst_lse));
	report_json_set(json, "low_power", json_boolean(verdict->low_power));
	report_json_set(json, "microseconds", report_json_number(verdict->microseconds));
	report_json_set(json, "num_wrong", json_integer(verdict->num_wrong));
	if (verdict->num_wrong > 0) {
		report_json_set(json, "first", element_json(&verdict->first));
		report_json_set(json, "worst", element_json(&verdict->worst));
	}
	return json;
}

static json_t *integers_json(const int32_t *values, int n)
{
	json_t *array = text_need(json_array());

	for (int i = 0; i < n; i++)
		report_json_append(array, json_integer(values[i]));
	return array;
}

static json_t *differences_json(const int32_t *indptr, int n)
{
	json_t *array = text_need(json_array());

	for (int i = 0; i < n; i++)
		report_json_append(array, json_integer(indptr[i + 1] - indptr[i]));
	return array;
}

json_t *report_json_case(const struct mla_case *c, const char *id)
{
	const mla_config *config = &c->config;
	json_t *json =
		text_need(json_pack("{s:o, s:s}", "name", report_json_string(c->name), "id", id));
	json_t *shape = text_need(json_pack(
		"{s:i, s:i, s:i, s:i, s:i, s:b, s:s, s:s, s:s}", "batch_size",
		(int)c->batch.batch_size, "num_heads", (int)config->num_heads, "head_dim_ckv",
		(int)config->head_dim_ckv, "head_dim_kpe", (int)config->head_dim_kpe, "page_size",
		(int)config->page_size, "causal", (int)config->causal, "q_dtype",
		ref_dtype_name(config->q_dtype), "ckv_dtype", ref_dtype_name(config->ckv_dtype),
		"out_dtype", ref_dtype_name(config->out_dtype)));

	report_json_set(shape, "sm_scale", report_json_number(config->sm_scale));
	report_json_set(shape, "qo_len", differences_json(c->batch.qo_indptr, c->batch.batch_size));
	report_json_set(shape, "kv_len", integers_json(c->batch.kv_len, c->batch.batch_size));
	report_json_set(json, "shape", shape);
	return json;
}

json_t *report_json_stats(const struct stats *stats)
{
	return text_need(json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "n", stats->n, "min",
				   stats->min, "q1", stats->q1, "median", stats->median, "q3",
				   stats->q3, "max", stats->max, "median_low", stats->low,
				   "median_high", stats->high));
}

json_t *report_json_tolerances(void)
{
	return text_need(json_pack(
		"{s:f, s:f, s:{s:f, s:f}, s:f, s:f, s:f, s:f, s:f}", "element_factor",
		CHECK_ELEMENT_FACTOR, "element_floor", CHECK_ELEMENT_FLOOR, "eps",
		ref_dtype_name(MLA_BF16), CHECK_EPS_BF16, ref_dtype_name(MLA_F16), CHECK_EPS_F16,
		"row_rms", CHECK_ROW_RMS, "lse_abs", CHECK_LSE_ABS, "lse_rel", CHECK_LSE_REL,
		"lse_cancel", CHECK_LSE_CANCEL, "lse_sum", CHECK_LSE_SUM));
}
