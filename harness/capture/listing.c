/* listing.c - names, shapes and attributes of a file as a list, and the list as bytes: the way from
 * the process that parses to the one that is told.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

mla_status cap_listing_add(struct cap_listing *listing, const char *file, const char *path,
			   bool group)
{
	struct cap_object *one;

	if (listing->num_objects == listing->objects_capacity) {
		const size_t capacity = 2 * listing->objects_capacity + 64;
		struct cap_object *list = realloc(listing->objects, capacity * sizeof(*list));

		if (!list)
			return cap_fail_memory(file);
		listing->objects = list;
		listing->objects_capacity = capacity;
	}
	one = &listing->objects[listing->num_objects];
	*one = (struct cap_object){.group = group, .path = strdup(path)};
	if (!one->path)
		return cap_fail_memory(file);
	one->dataset.path = one->path;
	listing->num_objects++;
	return MLA_OK;
}

static int compare_objects(const void *a, const void *b)
{
	return strcmp(((const struct cap_object *)a)->path, ((const struct cap_object *)b)->path);
}

void cap_listing_sort(struct cap_listing *listing)
{
	qsort(listing->objects, listing->num_objects, sizeof(*listing->objects), compare_objects);
	cap_attributes_sort(&listing->attributes);
}

const struct cap_object *cap_listing_find(const struct cap_listing *listing, const char *path)
{
	const struct cap_object key = {.path = (char *)path};

	return bsearch(&key, listing->objects, listing->num_objects, sizeof(key), compare_objects);
}

void cap_listing_free(struct cap_listing *listing)
{
	for (size_t i = 0; i < listing->num_objects; i++) {
		free(listing->objects[i].path);
		free(listing->objects[i].dataset.type);
		free(listing->objects[i].dataset.fault);
	}
	free(listing->objects);
	cap_attributes_free(&listing->attributes);
	*listing = (struct cap_listing){0};
}

/* ---- as bytes -------------------------------------------------------------------------------- */

/* What is written or read next, and how much room or how many bytes are left. */
struct wire {
	char *at;
	size_t left;
	bool broken; /* there was not enough */
};

static void put(struct wire *wire, const void *data, size_t bytes)
{
	if (wire->broken || bytes > wire->left) {
		wire->broken = true;
		return;
	}
	memcpy(wire->at, data, bytes);
	wire->at += bytes;
	wire->left -= bytes;
}

static void put_number(struct wire *wire, uint64_t number)
{
	put(wire, &number, sizeof(number));
}

/* NULL is as good as "". */
static void put_text(struct wire *wire, const char *text)
{
	put(wire, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void put_object(struct wire *wire, const struct cap_object *object)
{
	const struct cap_dataset *d = &object->dataset;

	put_text(wire, object->path);
	put_number(wire, object->group);
	put_text(wire, d->type);
	put_text(wire, d->fault);
	put_number(wire, (uint64_t)(int64_t)d->element);
	put_number(wire, (uint64_t)d->rank);
	put(wire, d->extent, sizeof(d->extent));
	put(wire, d->chunk, sizeof(d->chunk));
	put_number(wire, d->stored);
	put_number(wire, d->deflated);
}

size_t cap_listing_write(const struct cap_listing *listing, void *window, size_t size)
{
	struct wire wire = {.at = window, .left = size};

	put_number(&wire, listing->num_objects);
	put_number(&wire, listing->attributes.count);
	for (size_t i = 0; i < listing->num_objects; i++)
		put_object(&wire, &listing->objects[i]);
	for (size_t i = 0; i < listing->attributes.count; i++) {
		const struct cap_attribute *one = &listing->attributes.list[i];

		put_text(&wire, one->object);
		put_text(&wire, one->name);
		put_text(&wire, one->text);
		put_number(&wire, one->type);
		put_number(&wire, one->number);
		put(&wire, &one->real, sizeof(one->real));
	}
	return wire.broken ? 0 : size - wire.left;
}

static void get(struct wire *wire, void *data, size_t bytes)
{
	if (wire->broken || bytes > wire->left) {
		wire->broken = true;
		memset(data, 0, bytes);
		return;
	}
	memcpy(data, wire->at, bytes);
	wire->at += bytes;
	wire->left -= bytes;
}

static uint64_t get_number(struct wire *wire)
{
	uint64_t number;

	get(wire, &number, sizeof(number));
	return number;
}

/* Stays in the window. */
static const char *get_text(struct wire *wire)
{
	const char *text = wire->at;
	const size_t length = wire->broken ? 0 : strnlen(text, wire->left);

	if (wire->broken || length == wire->left) {
		wire->broken = true;
		return "";
	}
	wire->at += length + 1;
	wire->left -= length + 1;
	return text;
}

static bool keep_text(const char *text, char **kept)
{
	*kept = *text ? strdup(text) : NULL;
	return !*text || *kept;
}

/* Numbers that could not have been listed break the wire. */
static mla_status get_dataset(struct wire *wire, const char *file, bool group,
			      struct cap_dataset *d)
{
	const char *type = get_text(wire), *fault = get_text(wire);
	const uint64_t element = get_number(wire), rank = get_number(wire);

	if (!keep_text(type, &d->type) || !keep_text(fault, &d->fault))
		return cap_fail_memory(file);
	get(wire, d->extent, sizeof(d->extent));
	get(wire, d->chunk, sizeof(d->chunk));
	d->stored = get_number(wire);
	d->deflated = get_number(wire);
	if (group)
		return MLA_OK;
	d->element = d->type ? CAP_ANY_ELEMENT : (int)element;
	d->rank = (int)rank;
	if (d->type || d->fault)
		return MLA_OK;
	wire->broken |= element >= CAP_NUM_ELEMENTS || rank < 1 || rank > CAP_MAX_RANK ||
			!cap_dataset_measure(d);
	for (int i = 0; !wire->broken && d->bytes && i < d->rank; i++)
		wire->broken = !d->chunk[i];
	return MLA_OK;
}

static mla_status get_object(struct wire *wire, const char *file, struct cap_listing *listing)
{
	const char *path = get_text(wire);
	const bool group = get_number(wire);
	mla_status status = cap_listing_add(listing, file, path, group);

	if (status)
		return status;
	/* rising: each is there once, and can be looked up */
	if (listing->num_objects > 1 &&
	    strcmp(listing->objects[listing->num_objects - 2].path, path) >= 0)
		wire->broken = true;
	return get_dataset(wire, file, group, &listing->objects[listing->num_objects - 1].dataset);
}

static mla_status get_attribute(struct wire *wire, const char *file,
				struct cap_attributes *attributes)
{
	struct cap_attribute one = {.object = (char *)get_text(wire)};
	uint64_t type, number;

	one.name = (char *)get_text(wire);
	one.text = (char *)get_text(wire);
	type = get_number(wire);
	number = get_number(wire);
	get(wire, &one.real, sizeof(one.real));
	one.type = (enum cap_attribute_type)type;
	one.number = (uint32_t)number;
	wire->broken |= type > CAP_DOUBLE || number > UINT32_MAX;
	return wire->broken ? MLA_OK : cap_attributes_add(attributes, &one, file);
}

mla_status cap_listing_read(struct cap_listing *listing, const char *file, const void *window,
			    size_t size)
{
	struct wire wire = {.at = (char *)window, .left = size};
	const uint64_t objects = get_number(&wire), attributes = get_number(&wire);
	mla_status status = MLA_OK;

	wire.broken |= objects > CAP_MAX_OBJECTS;
	for (uint64_t i = 0; !status && !wire.broken && i < objects; i++)
		status = get_object(&wire, file, listing);
	for (uint64_t i = 0; !status && !wire.broken && i < attributes; i++)
		status = get_attribute(&wire, file, &listing->attributes);
	if (!status && wire.broken)
		status = cap_fail(file, "the parser's listing of this file is damaged: treat it as "
					"hostile");
	cap_listing_sort(listing);
	return status;
}
