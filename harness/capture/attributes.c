/* attributes.c - the attributes of a capture as one list, and the checksum over them. */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void free_attribute(struct cap_attribute *one)
{
	free(one->object);
	free(one->name);
	free(one->text);
}

mla_status cap_attributes_add(struct cap_attributes *all, const struct cap_attribute *one,
			      const char *file)
{
	struct cap_attribute copy = *one;

	if (all->count == all->capacity) {
		const size_t capacity = all->capacity ? 2 * all->capacity : 64;
		struct cap_attribute *list = realloc(all->list, capacity * sizeof(*list));

		if (!list)
			return cap_fail_memory(file);
		all->list = list;
		all->capacity = capacity;
	}
	copy.object = strdup(one->object);
	copy.name = strdup(one->name);
	copy.text = one->type == CAP_STRING ? strdup(one->text) : NULL;
	if (!copy.object || !copy.name || (one->type == CAP_STRING && !copy.text)) {
		free_attribute(&copy);
		return cap_fail_memory(file);
	}
	all->list[all->count++] = copy;
	return MLA_OK;
}

static int compare_attributes(const void *a, const void *b)
{
	const struct cap_attribute *x = a, *y = b;
	const int order = strcmp(x->object, y->object);

	return order ? order : strcmp(x->name, y->name);
}

void cap_attributes_sort(struct cap_attributes *all)
{
	if (all->count)
		qsort(all->list, all->count, sizeof(*all->list), compare_attributes);
}

const struct cap_attribute *cap_attributes_find(const struct cap_attributes *all,
						const char *object, const char *name)
{
	const struct cap_attribute key = {.object = (char *)object, .name = (char *)name};

	if (!all->count)
		return NULL;
	return bsearch(&key, all->list, all->count, sizeof(key), compare_attributes);
}

const struct cap_attribute *cap_attributes_of(const struct cap_attributes *all, const char *object,
					      size_t *count)
{
	size_t begin = 0, end = all->count;

	while (begin < end) {
		const size_t middle = begin + (end - begin) / 2;

		if (strcmp(all->list[middle].object, object) < 0)
			begin = middle + 1;
		else
			end = middle;
	}
	while (end < all->count && !strcmp(all->list[end].object, object))
		end++;
	*count = end - begin;
	return all->list + begin;
}

void cap_attributes_free(struct cap_attributes *all)
{
	for (size_t i = 0; i < all->count; i++)
		free_attribute(&all->list[i]);
	free(all->list);
	memset(all, 0, sizeof(*all));
}

/* PATH@NAME=VALUE and a line feed; NULL if memory ran out. */
static char *listing_line(const struct cap_attribute *one)
{
	char number[24], *line;
	const char *value = one->text;
	uint64_t bits;
	size_t size;

	if (one->type == CAP_U32) {
		snprintf(number, sizeof(number), "%" PRIu32, one->number);
		value = number;
	} else if (one->type == CAP_DOUBLE) {
		memcpy(&bits, &one->real, sizeof(bits));
		snprintf(number, sizeof(number), "%016" PRIx64, bits);
		value = number;
	}
	size = strlen(one->object) + strlen(one->name) + strlen(value) + 4;
	line = malloc(size);
	if (line)
		snprintf(line, size, "%s@%s=%s\n", one->object, one->name, value);
	return line;
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b); /* compares bytes as unsigned */
}

static bool is_content_sha256(const struct cap_attribute *one)
{
	return !strcmp(one->object, "/") && !strcmp(one->name, "content_sha256");
}

mla_status cap_content_sha256(const struct cap_attributes *all, const char *file,
			      char hex[SHA256_TEXT])
{
	char **lines = calloc(all->count + 1, sizeof(*lines));
	struct sha256 *sha = sha256_begin();
	size_t count = 0;
	bool complete = lines && sha;

	for (size_t i = 0; complete && i < all->count; i++) {
		if (is_content_sha256(&all->list[i]))
			continue;
		lines[count] = listing_line(&all->list[i]);
		complete = lines[count++];
	}
	if (complete) {
		qsort(lines, count, sizeof(*lines), compare_lines);
		for (size_t i = 0; i < count; i++)
			sha256_add(sha, lines[i], strlen(lines[i]));
	}
	sha256_finish(sha, complete ? hex : NULL);
	for (size_t i = 0; lines && i < count; i++)
		free(lines[i]);
	free(lines);
	return complete ? MLA_OK : cap_fail_memory(file);
}
