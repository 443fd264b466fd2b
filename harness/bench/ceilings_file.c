/* ceilings_file.c - the file that keeps measured ceilings, one entry per kind of GPU. */
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/input.h"
#include "base/output.h"
#include "bench/ceilings.h"
#include "lib/error.h"

#define SCHEMA "mla-ceilings"

char *ceilings_default_path(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int length = -1;

	if (cache && *cache == '/') /* others are to be ignored, says the specification */
		length = asprintf(&path, "%s/mla/ceilings.json", cache);
	else if (home && *home)
		length = asprintf(&path, "%s/.cache/mla/ceilings.json", home);
	return length < 0 ? NULL : path;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The whole file, checked so far as all entries share. *root is NULL if there is no such file. */
static mla_status read_file(const char *path, json_t **root)
{
	const char *schema;
	mla_status status;

	*root = NULL;
	if (access(path, F_OK) && errno == ENOENT)
		return MLA_OK;
	status = input_json(path, root);
	if (status)
		return status;

	schema = json_string_value(json_object_get(*root, "schema"));
	if (schema && !strcmp(schema, SCHEMA) &&
	    json_integer_value(json_object_get(*root, "schema_version")) == 1 &&
	    json_is_object(json_object_get(*root, "gpus")))
		return MLA_OK;
	json_decref(*root);
	*root = NULL;
	return mla_fail(MLA_INVALID, "%s: expected schema \"" SCHEMA "\", version 1, with \"gpus\"",
			path);
}

/* A rate is a finite number above 0, and the order statistics are in order. */
static bool read_ceiling(const json_t *json, struct ceiling *ceiling)
{
	struct stats *s = &ceiling->stats;
	struct stats found = {0};
	const char *text = NULL;

	*ceiling = (struct ceiling){0};
	if (!json_unpack((json_t *)json, "{s:s}", "why", &text)) {
		snprintf(ceiling->why, sizeof(ceiling->why), "%s", text);
		return true;
	}
	if (json_unpack((json_t *)json, "{s:i, s:F, s:F, s:F, s:F, s:F, s?F, s?F}", "n", &found.n,
			"min", &found.min, "q1", &found.q1, "median", &found.median, "q3",
			&found.q3, "max", &found.max, "sm_mhz", &ceiling->load.sm_mhz.median,
			"power_w", &ceiling->load.power_w.median))
		return false;
	*s = found;
	return s->n > 0 && s->min > 0 && s->min <= s->q1 && s->q1 <= s->median &&
	       s->median <= s->q3 && s->q3 <= s->max && isfinite(s->max);
}

static mla_status read_entry(const char *path, const json_t *entry, struct ceilings *ceilings)
{
	const char *date = json_string_value(json_object_get(entry, "date"));

	snprintf(ceilings->date, sizeof(ceilings->date), "%s", date ? date : "");
	for (int i = 0; i < CEILING_NUM_KINDS; i++)
		if (!read_ceiling(json_object_get(entry, ceiling_names[i].key), &ceilings->of[i]))
			return mla_fail(
				MLA_INVALID,
				"%s: \"%s\" of \"%s\" is no measurement; run mla ceilings again",
				path, ceiling_names[i].key, ceilings->gpu);
	return MLA_OK;
}

static mla_status load_entry(const char *path, const char *gpu, const json_t *entry,
			     struct ceilings *ceilings)
{
	mla_status status;

	*ceilings = (struct ceilings){0};
	snprintf(ceilings->gpu, sizeof(ceilings->gpu), "%s", gpu);
	status = read_entry(path, entry, ceilings);
	if (status)
		*ceilings = (struct ceilings){0};
	return status;
}

mla_status ceilings_load(const char *path, const char *gpu, struct ceilings *ceilings, bool *found)
{
	const json_t *entry;
	json_t *root;
	mla_status status = read_file(path, &root);

	*ceilings = (struct ceilings){0};
	*found = false;
	entry = json_object_get(json_object_get(root, "gpus"), gpu);
	if (!status && entry) {
		status = load_entry(path, gpu, entry, ceilings);
		*found = !status;
	}
	json_decref(root);
	return status;
}

mla_status ceilings_load_all(const char *path, struct ceilings **all, int *count)
{
	const char *gpu;
	json_t *root, *entry;
	mla_status status = read_file(path, &root);
	json_t *gpus = json_object_get(root, "gpus");

	*count = 0;
	*all = calloc(json_object_size(gpus) + 1, sizeof(**all));
	if (!status && !*all)
		status = mla_fail(MLA_NO_MEMORY, "%s: not enough memory", path);
	json_object_foreach(gpus, gpu, entry)
	{
		if (!status)
			status = load_entry(path, gpu, entry, &(*all)[*count]);
		*count += !status;
	}
	if (status) {
		free(*all);
		*all = NULL;
		*count = 0;
	}
	json_decref(root);
	return status;
}

mla_status ceilings_find(const char *path, const char *gpu, struct ceilings *ceilings, bool *found)
{
	char *own = path ? NULL : ceilings_default_path();
	mla_status status = MLA_OK;

	*found = false;
	if (path && access(path, F_OK)) /* who names a file means one that is there */
		status = mla_fail(MLA_INVALID, "%s: %s", path, strerror(errno));
	else if (path || (gpu && own))
		status = ceilings_load(path ? path : own, gpu ? gpu : "", ceilings, found);
	free(own);
	return status;
}

mla_status ceilings_only(const char *path, struct ceilings *ceilings, bool *found)
{
	struct ceilings *all;
	int count;
	mla_status status = ceilings_load_all(path, &all, &count);

	if (!status && count != 1)
		status = mla_fail(
			MLA_INVALID,
			"%s: has ceilings of %d GPUs, and this machine has none to choose; "
			"mla cases --gpu NAME shows their bounds",
			path, count);
	*found = !status;
	if (!status)
		*ceilings = all[0];
	free(all);
	return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *ceiling_json(const struct ceiling *ceiling)
{
	const struct stats *s = &ceiling->stats;

	if (!s->n)
		return json_pack("{s:s}", "why", ceiling->why);
	return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "n", s->n, "min", s->min, "q1",
			 s->q1, "median", s->median, "q3", s->q3, "max", s->max, "sm_mhz",
			 ceiling->load.sm_mhz.median, "power_w", ceiling->load.power_w.median);
}

static bool put_entry(json_t *root, const struct ceilings *ceilings)
{
	json_t *entry = json_pack("{s:s}", "date", ceilings->date);
	bool failed = !entry;

	for (int i = 0; i < CEILING_NUM_KINDS; i++)
		failed |= json_object_set_new(entry, ceiling_names[i].key,
					      ceiling_json(&ceilings->of[i]));
	failed |= json_object_set_new(json_object_get(root, "gpus"), ceilings->gpu, entry);
	return !failed;
}

/* The folders above the file. */
static void make_folders(const char *path)
{
	char *copy = strdup(path);

	for (char *p = copy; copy && (p = strchr(p + 1, '/'));) {
		*p = '\0';
		mkdir(copy, 0777); /* what fails here fails again when the file is opened */
		*p = '/';
	}
	free(copy);
}

mla_status ceilings_open(const char *path, struct output *output)
{
	const struct output_plan plan = {.kind = OUTPUT_JSON, .schema = SCHEMA, .regular = true};
	json_t *root = NULL;
	mla_status status;

	make_folders(path);
	status = output_open(output, path, &plan);
	if (!status)
		status = read_file(path, &root);
	json_decref(root);
	if (status)
		output_abandon(output);
	return status;
}

static mla_status save(struct output *output, const struct ceilings *ceilings)
{
	const char *path = output->name;
	json_t *root;
	mla_status status = read_file(path, &root);

	if (status)
		return status;
	if (!root)
		root = json_pack("{s:s, s:i, s:{}}", "schema", SCHEMA, "schema_version", 1, "gpus");
	if (!root || !put_entry(root, ceilings))
		status = mla_fail(MLA_NO_MEMORY, "%s: cannot be written: out of memory", path);
	if (!status)
		status = output_put_json(output, root);
	json_decref(root);
	return status;
}

mla_status ceilings_save(struct output *output, const struct ceilings *ceilings)
{
	const mla_status status = save(output, ceilings);

	output_abandon(output);
	return status;
}
