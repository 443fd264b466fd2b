/* ceilings_file.c - the file that keeps measured ceilings, one entry per kind of GPU.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/ceilings.h"

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

/* The whole file, checked so far as all entries share. NULL: *missing, or a sentence. */
static json_t *read_file(const char *path, bool *missing, char *why, size_t size)
{
	json_error_t error;
	FILE *file = fopen(path, "r");

	*missing = !file && errno == ENOENT;
	if (!file) {
		snprintf(why, size, "%s: %s", path, strerror(errno));
		return NULL;
	}
	json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &error);

	fclose(file);
	if (!root) {
		snprintf(why, size, "%s: line %d: %s", path, error.line, error.text);
		return NULL;
	}
	const char *schema = json_string_value(json_object_get(root, "schema"));

	if (schema && !strcmp(schema, SCHEMA) &&
	    json_integer_value(json_object_get(root, "schema_version")) == 1 &&
	    json_is_object(json_object_get(root, "gpus")))
		return root;
	snprintf(why, size, "%s: expected schema \"" SCHEMA "\", version 1, with \"gpus\"", path);
	json_decref(root);
	return NULL;
}

/* A rate is a finite number above 0, and the order statistics are in order. */
static int read_ceiling(const json_t *json, struct ceiling *ceiling)
{
	struct stats *s = &ceiling->stats;
	struct stats found = {0};
	const char *text = NULL;

	*ceiling = (struct ceiling){0};
	if (json_unpack((json_t *)json, "{s:s}", "why", &text) == 0) {
		snprintf(ceiling->why, sizeof(ceiling->why), "%s", text);
		return 0;
	}
	if (json_unpack((json_t *)json, "{s:i, s:F, s:F, s:F, s:F, s:F, s?F, s?F}", "n", &found.n,
			"min", &found.min, "q1", &found.q1, "median", &found.median, "q3",
			&found.q3, "max", &found.max, "sm_mhz", &ceiling->load.sm_mhz, "power_w",
			&ceiling->load.power_w))
		return -1;
	*s = found;
	return s->n > 0 && s->min > 0 && s->min <= s->q1 && s->q1 <= s->median &&
			       s->median <= s->q3 && s->q3 <= s->max && isfinite(s->max)
		       ? 0
		       : -1;
}

static int read_entry(const char *path, const json_t *entry, struct ceilings *ceilings, char *why,
		      size_t size)
{
	const char *date = json_string_value(json_object_get(entry, "date"));

	snprintf(ceilings->date, sizeof(ceilings->date), "%s", date ? date : "");
	for (int i = 0; i < CEILING_NUM_KINDS; i++)
		if (read_ceiling(json_object_get(entry, ceiling_names[i].key), &ceilings->of[i])) {
			snprintf(why, size,
				 "%s: \"%s\" of \"%s\" is no measurement; run mla ceilings again",
				 path, ceiling_names[i].key, ceilings->gpu);
			return -1;
		}
	return 1;
}

int ceilings_load(const char *path, const char *gpu, struct ceilings *ceilings, char *why,
		  size_t size)
{
	bool missing;
	json_t *root = read_file(path, &missing, why, size);

	*ceilings = (struct ceilings){0};
	if (!root)
		return missing ? 0 : -1;
	snprintf(ceilings->gpu, sizeof(ceilings->gpu), "%s", gpu);

	const json_t *entry = json_object_get(json_object_get(root, "gpus"), gpu);
	const int found = entry ? read_entry(path, entry, ceilings, why, size) : 0;

	json_decref(root);
	if (found != 1)
		*ceilings = (struct ceilings){0};
	return found;
}

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *ceiling_json(const struct ceiling *ceiling)
{
	const struct stats *s = &ceiling->stats;

	if (s->n == 0)
		return json_pack("{s:s}", "why", ceiling->why);
	return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "n", s->n, "min", s->min, "q1",
			 s->q1, "median", s->median, "q3", s->q3, "max", s->max, "sm_mhz",
			 ceiling->load.sm_mhz, "power_w", ceiling->load.power_w);
}

static int put_entry(json_t *root, const struct ceilings *ceilings)
{
	json_t *entry = json_pack("{s:s}", "date", ceilings->date);
	int failed = !entry;

	for (int i = 0; i < CEILING_NUM_KINDS; i++)
		failed |= json_object_set_new(entry, ceiling_names[i].key,
					      ceiling_json(&ceilings->of[i]));
	return failed | json_object_set_new(json_object_get(root, "gpus"), ceilings->gpu, entry);
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

/* Beside the file first, so that a reader never sees half of it. */
static int replace_file(const char *path, const json_t *root)
{
	char *beside = NULL;

	if (asprintf(&beside, "%s.%ld", path, (long)getpid()) < 0)
		return -1;
	int failed = json_dump_file(root, beside, JSON_INDENT(1)) || rename(beside, path);

	if (failed)
		unlink(beside);
	free(beside);
	return failed ? -1 : 0;
}

int ceilings_save(const char *path, const struct ceilings *ceilings, char *why, size_t size)
{
	bool missing;
	json_t *root;

	make_folders(path);
	root = read_file(path, &missing, why, size);
	if (!root && !missing)
		return -1;
	if (!root)
		root = json_pack("{s:s, s:i, s:{}}", "schema", SCHEMA, "schema_version", 1, "gpus");

	const int failed = !root || put_entry(root, ceilings) || replace_file(path, root);

	json_decref(root);
	if (failed)
		snprintf(why, size, "%s: cannot be written", path);
	return failed ? -1 : 0;
}
