/* parser.c - a file as HDF5 sees it, in a process of its own: walks the objects and reads their
 * attributes, and says what is wrong with them. It refuses before it reads: variable-length
 * strings, links that are not hard, two names of one object. What was found goes into the window.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

enum {
	KEY_BYTES = 16,
	OBJECTS_AT_ONCE = 4096, /* a piece of work */
};

struct parser {
	const char *path; /* as the user gave it */
	uint64_t file_bytes;
	hid_t file;
	hid_t type[CAP_NUM_ELEMENTS];
	struct cap_listing listing;
	unsigned char (*key)[KEY_BYTES]; /* [keys_capacity] where each object lies */
	size_t num_keys, keys_capacity;
	void *window;
	void (*begin)(void); /* of a piece of work: winds the clocks up */
	hid_t open;          /* the dataset that was read last; 0: none */
	uint64_t open_index;
};

/* ---- attributes ----------------------------------------------------------------------------- */

/* What HDF5 calls back returns a status: HDF5 stops at one that is not MLA_OK and gives it back.
 * Below 0 are its own failures. */
struct walk {
	struct parser *parser;
	const char *path; /* of the group or object at hand */
	int num_attributes;
};

static bool plain_name(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++)
		if (!isalnum((unsigned char)name[n]) && name[n] != '_')
			return false;
	return n > 0 && n < CAP_NAME;
}

/* The value of a fixed-length string as text: fit for a terminal, and nothing after its end. */
static mla_status check_string(const struct walk *walk, const char *name, const char *text,
			       size_t size)
{
	size_t at = strnlen(text, size);

	if (!at)
		return cap_fail(walk->parser->path,
				"attribute %s@%s is an empty string, expected a value or \"none\"",
				walk->path, name);
	if (text_is_plain(text, NULL))
		while (at < size && !text[at])
			at++;
	else
		text_is_plain(text, &at);
	if (at == size)
		return MLA_OK;
	return cap_fail(walk->parser->path,
			"attribute %s@%s has byte 0x%02x at %zu, expected UTF-8 without control "
			"characters, padded with zeros",
			walk->path, name, (unsigned char)text[at], at);
}

static mla_status read_string(struct walk *walk, hid_t id, hid_t type, struct cap_attribute *one)
{
	const char *file = walk->parser->path;
	const size_t size = H5Tget_size(type);
	mla_status status;

	if (H5Tis_variable_str(type))
		return cap_fail(file,
				"attribute %s@%s is a variable-length string; mla-capture needs "
				"fixed-length strings (refused for safety)",
				walk->path, one->name);
	if (size == 0 || size > CAP_MAX_STRING)
		return cap_fail(file, "attribute %s@%s has %zu bytes, expected 1 to %d", walk->path,
				one->name, size, CAP_MAX_STRING);

	one->type = CAP_STRING;
	one->text = calloc(1, size + 1);
	if (!one->text)
		return cap_fail_memory(file);
	if (H5Aread(id, type, one->text) < 0)
		status = cap_fail_hdf5(file, one->name);
	else
		status = check_string(walk, one->name, one->text, size);
	if (!status)
		status = cap_attributes_add(&walk->parser->listing.attributes, one, file);
	free(one->text);
	return status;
}

static mla_status read_number(struct walk *walk, hid_t id, hid_t type, struct cap_attribute *one)
{
	const char *file = walk->parser->path;
	char found[96];
	void *to;

	if (H5Tequal(type, H5T_STD_U32LE) > 0) {
		one->type = CAP_U32;
		to = &one->number;
	} else if (H5Tequal(type, H5T_IEEE_F64LE) > 0) {
		one->type = CAP_DOUBLE;
		to = &one->real;
	} else {
		cap_describe_type(walk->parser->type, type, found, sizeof(found));
		return cap_fail(file,
				"attribute %s@%s: type is %s, expected fixed-length string, uint32 "
				"or float64",
				walk->path, one->name, found);
	}
	if (H5Aread(id, type, to) < 0)
		return cap_fail_hdf5(file, one->name);
	return cap_attributes_add(&walk->parser->listing.attributes, one, file);
}

static mla_status read_attribute(struct walk *walk, hid_t id, const char *name)
{
	struct cap_attribute one = {.object = (char *)walk->path, .name = (char *)name};
	const hid_t space = H5Aget_space(id), type = H5Aget_type(id);
	mla_status status;

	if (space < 0 || type < 0)
		status = cap_fail_hdf5(walk->parser->path, name);
	else if (H5Sget_simple_extent_type(space) != H5S_SCALAR)
		status = cap_fail(walk->parser->path,
				  "attribute %s@%s is an array, expected one value", walk->path,
				  name);
	else if (H5Tget_class(type) == H5T_STRING)
		status = read_string(walk, id, type, &one);
	else
		status = read_number(walk, id, type, &one);
	if (space >= 0)
		H5Sclose(space);
	if (type >= 0)
		H5Tclose(type);
	return status;
}

static herr_t visit_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data)
{
	struct walk *walk = data;
	mla_status status;
	hid_t id;

	(void)info;
	if (!plain_name(name))
		return cap_fail(walk->parser->path,
				"attribute %s@%s: names are 1 to %d letters, digits and _",
				walk->path, name, CAP_NAME - 1);
	if (++walk->num_attributes > CAP_MAX_ATTRIBUTES)
		return cap_fail(walk->parser->path, "%s has more than %d attributes", walk->path,
				CAP_MAX_ATTRIBUTES);

	id = H5Aopen(object, name, H5P_DEFAULT);
	if (id < 0)
		return cap_fail_hdf5(walk->parser->path, walk->path);
	status = read_attribute(walk, id, name);
	H5Aclose(id);
	return (herr_t)status;
}

/* ---- objects -------------------------------------------------------------------------------- */

/* Where groups and datasets may be; # is a digit. */
static const char *const known_groups[] = {
	"/config",    "/layers",           "/layers/###",           "/steps",
	"/steps/###", "/steps/###/layers", "/steps/###/layers/###", NULL,
};
static const char *const dataset_parents[] = {
	"/layers/###",
	"/steps/###",
	"/steps/###/layers/###",
	NULL,
};

static bool matches(const char *const *patterns, const char *path)
{
	for (; *patterns; patterns++) {
		const char *p = *patterns, *c = path;

		while (*p && *c && (*p == '#' ? isdigit((unsigned char)*c) : *p == *c))
			p++, c++;
		if (!*p && !*c)
			return true;
	}
	return false;
}

/* Where an object lies in the file: the same for each of its names. */
static bool object_key(hid_t id, unsigned char key[KEY_BYTES])
{
	H5O_info_t info;

	memset(key, 0, KEY_BYTES);
#if H5_VERSION_GE(1, 12, 0)
	if (H5Oget_info3(id, &info, H5O_INFO_BASIC) < 0)
		return false;
	memcpy(key, &info.token, KEY_BYTES);
#else
	if (H5Oget_info2(id, &info, H5O_INFO_BASIC) < 0)
		return false;
	memcpy(key, &info.addr, sizeof(info.addr));
#endif
	return true;
}

static mla_status note_key(struct parser *parser, hid_t id, const char *path)
{
	if (parser->num_keys == parser->keys_capacity) {
		const size_t capacity = 2 * parser->keys_capacity + 64;
		void *list = realloc(parser->key, capacity * KEY_BYTES);

		if (!list)
			return cap_fail_memory(parser->path);
		parser->key = list;
		parser->keys_capacity = capacity;
	}
	if (!object_key(id, parser->key[parser->num_keys]))
		return cap_fail_hdf5(parser->path, path);
	parser->num_keys++;
	return MLA_OK;
}

static mla_status note_object(struct walk *walk, hid_t id, const char *path, bool group)
{
	struct parser *parser = walk->parser;
	struct cap_listing *listing = &parser->listing;
	mla_status status;

	if (listing->num_objects % OBJECTS_AT_ONCE == 0)
		parser->begin();
	status = cap_listing_add(listing, parser->path, path, group);

	if (!status)
		status = note_key(parser, id, path);
	if (status || group)
		return status;
	return cap_storage_describe(id, parser->type, parser->file_bytes, parser->path,
				    &listing->objects[listing->num_objects - 1].dataset);
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *data);

/* Attributes and links of an open object. The patterns bound the depth, cycles included. */
static mla_status walk_object(struct walk *walk, hid_t id, const char *path, bool group)
{
	struct walk here = {.parser = walk->parser, .path = path};
	mla_status status;
	herr_t outcome;

	if (walk->parser->listing.num_objects >= CAP_MAX_OBJECTS)
		return cap_fail(walk->parser->path, "more than %d groups and datasets",
				CAP_MAX_OBJECTS);
	status = note_object(walk, id, path, group);
	if (status)
		return status;
	outcome = H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, &here);
	if (!outcome && group)
		outcome = H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, &here);
	return outcome < 0 ? cap_fail_hdf5(walk->parser->path, path) : (mla_status)outcome;
}

static mla_status walk_child(struct walk *walk, hid_t id, const char *path)
{
	const char *file = walk->parser->path;

	switch (H5Iget_type(id)) {
	case H5I_GROUP:
		if (!matches(known_groups, path))
			return cap_fail(file, "unexpected group %s", path);
		return walk_object(walk, id, path, true);
	case H5I_DATASET:
		if (!matches(dataset_parents, walk->path))
			return cap_fail(file, "unexpected dataset %s", path);
		return walk_object(walk, id, path, false);
	default:
		return cap_fail(file, "%s is neither a group nor a dataset", path);
	}
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
	struct walk *walk = data;
	const char *file = walk->parser->path;
	char path[CAP_PATH];
	mla_status status;
	hid_t id;

	if (!plain_name(name))
		return cap_fail(file,
				"%s has a link \"%.64s\": names are 1 to %d letters, digits and _",
				walk->path, name, CAP_NAME - 1);
	cap_join(path, walk->path, name);
	if (info->type != H5L_TYPE_HARD)
		return cap_fail(
			file, "%s is %s link; mla-capture has hard links only (refused for safety)",
			path, info->type == H5L_TYPE_SOFT ? "a soft" : "an external");

	id = H5Oopen(group, name, H5P_DEFAULT);
	if (id < 0)
		return cap_fail_hdf5(file, path);
	status = walk_child(walk, id, path);
	H5Oclose(id);
	return (herr_t)status;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, KEY_BYTES);
}

/* A few bytes on disk could stand for any number of objects otherwise. */
static mla_status check_names(const struct parser *parser)
{
	qsort(parser->key, parser->num_keys, KEY_BYTES, compare_keys);
	for (size_t i = 1; i < parser->num_keys; i++)
		if (!compare_keys(parser->key[i - 1], parser->key[i]))
			return cap_fail(parser->path,
					"a group or dataset has two names; mla-capture has one "
					"link to each (refused for safety)");
	return MLA_OK;
}

static mla_status fail_to_open(const struct parser *parser)
{
	char reason[256];
	const char *stored;

	cap_hdf5_reason(reason);
	stored = strstr(reason, "stored_eof = ");
	if (!strncmp(reason, "truncated file", 14) && stored)
		return cap_fail(parser->path,
				"file is truncated: %" PRIu64 " bytes, header says %s",
				parser->file_bytes, stored + strlen("stored_eof = "));
	if (strstr(reason, "object header version number"))
		return cap_fail(parser->path, "not closed by its writer (%s); capture it again",
				reason);
	return cap_fail(parser->path, "cannot be opened: %s", reason);
}

static mla_status walk_file(struct parser *parser)
{
	struct walk walk = {.parser = parser, .path = "/"};
	const hid_t root = H5Gopen2(parser->file, "/", H5P_DEFAULT);
	mla_status status;

	if (root < 0)
		return fail_to_open(parser);
	status = walk_object(&walk, root, "/", true);
	H5Gclose(root);
	if (!status)
		status = check_names(parser);
	cap_listing_sort(&parser->listing);
	return status;
}

/* Is this file the one that was looked at? */
static bool is_opened(const struct parser *parser, int descriptor)
{
	struct stat known, opened;
	int *own;

	return H5Fget_vfd_handle(parser->file, H5P_DEFAULT, (void **)&own) >= 0 &&
	       !fstat(descriptor, &known) && !fstat(*own, &opened) &&
	       known.st_dev == opened.st_dev && known.st_ino == opened.st_ino;
}

/* The descriptor, not the name: what is parsed is what was looked at. The name where there is no
 * /proc to give the descriptor one. */
static mla_status open_file(struct parser *parser, int descriptor)
{
	char *name = text_format("/proc/self/fd/%d", descriptor);

	cap_hdf5_quiet();
	cap_types_make(parser->type);
	parser->file =
		H5Fopen(access(name, F_OK) ? parser->path : name, H5F_ACC_RDONLY, H5P_DEFAULT);
	free(name);
	if (parser->file < 0)
		return fail_to_open(parser);
	return is_opened(parser, descriptor)
		       ? walk_file(parser)
		       : cap_fail(parser->path, "was replaced while it was opened");
}

/* ---- requests ------------------------------------------------------------------------------- */

/* Chunks that boxes share are kept from one request to the next. */
static mla_status open_dataset(struct parser *parser, uint64_t index)
{
	const struct cap_object *object = &parser->listing.objects[index];
	hid_t access;

	if (parser->open > 0 && parser->open_index == index)
		return MLA_OK;
	if (parser->open > 0)
		H5Dclose(parser->open);
	access = H5Pcreate(H5P_DATASET_ACCESS);
	H5Pset_chunk_cache(access, 521, 2 * CAP_MAX_CHUNK_BYTES, 1.0);
	parser->open = H5Dopen2(parser->file, object->path, access);
	H5Pclose(access);
	parser->open_index = index;
	return parser->open < 0 ? cap_fail_hdf5(parser->path, object->path) : MLA_OK;
}

/* The verb has checked the box against the shape that it was told. */
static mla_status read_box(struct parser *parser, const struct cap_request *request)
{
	const struct cap_object *object = &parser->listing.objects[request->dataset];
	const struct cap_dataset *d = &object->dataset;
	mla_status status = open_dataset(parser, request->dataset);
	hsize_t start[CAP_MAX_RANK], count[CAP_MAX_RANK];
	hid_t space, memory;
	herr_t outcome;

	if (status)
		return status;
	for (int i = 0; i < CAP_MAX_RANK; i++) {
		start[i] = request->start[i];
		count[i] = request->count[i];
	}
	space = H5Dget_space(parser->open);
	memory = H5Screate_simple(d->rank, count, NULL);
	outcome = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
	if (outcome >= 0)
		outcome = H5Dread(parser->open, parser->type[d->element], memory, space,
				  H5P_DEFAULT, parser->window);
	if (outcome < 0)
		status = cap_fail_hdf5(parser->path, object->path);
	H5Sclose(space);
	H5Sclose(memory);
	return status;
}

static bool answer(int socket, mla_status status, uint64_t bytes)
{
	struct cap_reply reply = {.status = status, .bytes = bytes};

	if (status)
		snprintf(reply.sentence, sizeof(reply.sentence), "%s", mla_last_error());
	return send(socket, &reply, sizeof(reply), MSG_NOSIGNAL) == sizeof(reply);
}

void cap_parser_serve(const char *path, int descriptor, int socket, void *window,
		      void (*begin)(void))
{
	struct parser parser = {.path = path, .window = window, .begin = begin};
	const off_t end = lseek(descriptor, 0, SEEK_END);
	struct cap_request request;
	mla_status status;
	size_t bytes = 0;

	begin();
	parser.file_bytes = end < 0 ? 0 : (uint64_t)end;
	status = open_file(&parser, descriptor);
	if (!status) {
		bytes = cap_listing_write(&parser.listing, window, CAP_WINDOW_BYTES);
		if (!bytes)
			status = cap_fail(path, "more than %d bytes of names and attributes",
					  CAP_WINDOW_BYTES);
	}
	if (!answer(socket, status, bytes))
		return;
	while (!status && recv(socket, &request, sizeof(request), 0) == sizeof(request)) {
		begin();
		if (!answer(socket, read_box(&parser, &request), 0))
			return;
	}
}
