/* file.c - opens a capture, walks its objects and reads their attributes, and says what is wrong
 * with them. It refuses before it reads: what is no HDF5 file, variable-length strings, links that
 * are not hard.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- errors --------------------------------------------------------------------------------- */

/* A name that leaves no room for a sentence is left out. */
static mla_status fail(mla_status status, const char *file, const char *sentence)
{
	char text[ERROR_SIZE];
	int used = snprintf(text, sizeof(text), "%s: ", file);

	if (used < 0 || (size_t)used >= sizeof(text))
		used = 0;
	snprintf(text + used, sizeof(text) - (size_t)used, "%s", sentence);
	for (char *c = text; *c; c++) /* names in a hostile file may hold terminal codes */
		if (iscntrl((unsigned char)*c))
			*c = '?';
	return mla_fail(status, "%s", text);
}

mla_status cap_fail(const char *file, const char *format, ...)
{
	char text[ERROR_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return fail(MLA_INVALID, file, text);
}

mla_status cap_fail_memory(const char *file)
{
	return fail(MLA_NO_MEMORY, file, "out of memory");
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *entry, void *data)
{
	if (n == 0 && entry->desc)
		snprintf(data, 256, "%s", entry->desc);
	return 0;
}

static void innermost_reason(char reason[256])
{
	snprintf(reason, 256, "HDF5 gives no reason");
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
}

mla_status cap_fail_hdf5(const char *file, const char *object)
{
	char reason[256];

	innermost_reason(reason);
	if (strstr(reason, "Fletcher32"))
		snprintf(reason, sizeof(reason), "checksum error in chunk (fletcher32)");
	return cap_fail(file, "%s: %s", object, reason);
}

void cap_hdf5_quiet(void)
{
	H5open();
	H5PLset_loading_state(0); /* a file may name a filter; nothing may load code for it */
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* ---- attributes ----------------------------------------------------------------------------- */

/* What HDF5 calls back returns a status: HDF5 stops at one that is not MLA_OK and gives it back.
 * Below 0 are its own failures. */
struct walk {
	struct capture *capture;
	const char *path; /* of the group or object at hand */
	int num_attributes;
};

void cap_join(char path[CAP_PATH], const char *group, const char *name)
{
	const char *base = strcmp(group, "/") ? group : "";

	if (snprintf(path, CAP_PATH, "%s/%s", base, name) >= CAP_PATH)
		path[0] = 0; /* names no object */
}

static bool plain_name(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++)
		if (!isalnum((unsigned char)name[n]) && name[n] != '_')
			return false;
	return n > 0 && n < CAP_NAME;
}

/* The value of a fixed-length string as text: printable, and nothing after its end. */
static mla_status check_string(const struct walk *walk, const char *name, const char *text,
			       size_t size)
{
	const size_t length = strnlen(text, size);

	if (!length)
		return cap_fail(walk->capture->path,
				"attribute %s@%s is an empty string, expected a value or \"none\"",
				walk->path, name);
	for (size_t i = 0; i < size; i++)
		if (i < length ? iscntrl((unsigned char)text[i]) : text[i])
			return cap_fail(walk->capture->path,
					"attribute %s@%s has byte 0x%02x at %zu, expected text "
					"padded with zeros",
					walk->path, name, (unsigned char)text[i], i);
	return MLA_OK;
}

static mla_status read_string(struct walk *walk, hid_t id, hid_t type, struct cap_attribute *one)
{
	const char *file = walk->capture->path;
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
		status = cap_attributes_add(&walk->capture->attributes, one, file);
	free(one->text);
	return status;
}

static mla_status read_number(struct walk *walk, hid_t id, hid_t type, struct cap_attribute *one)
{
	const char *file = walk->capture->path;
	char found[96];
	void *to;

	if (H5Tequal(type, H5T_STD_U32LE) > 0) {
		one->type = CAP_U32;
		to = &one->number;
	} else if (H5Tequal(type, H5T_IEEE_F64LE) > 0) {
		one->type = CAP_DOUBLE;
		to = &one->real;
	} else {
		cap_describe_type(walk->capture->type, type, found, sizeof(found));
		return cap_fail(file,
				"attribute %s@%s: type is %s, expected fixed-length string, uint32 "
				"or float64",
				walk->path, one->name, found);
	}
	if (H5Aread(id, type, to) < 0)
		return cap_fail_hdf5(file, one->name);
	return cap_attributes_add(&walk->capture->attributes, one, file);
}

static mla_status read_attribute(struct walk *walk, hid_t id, const char *name)
{
	struct cap_attribute one = {.object = (char *)walk->path, .name = (char *)name};
	const hid_t space = H5Aget_space(id), type = H5Aget_type(id);
	mla_status status;

	if (space < 0 || type < 0)
		status = cap_fail_hdf5(walk->capture->path, name);
	else if (H5Sget_simple_extent_type(space) != H5S_SCALAR)
		status = cap_fail(walk->capture->path,
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
		return cap_fail(walk->capture->path,
				"attribute %s@%s: names are 1 to %d letters, digits and _",
				walk->path, name, CAP_NAME - 1);
	if (++walk->num_attributes > CAP_MAX_ATTRIBUTES)
		return cap_fail(walk->capture->path, "%s has more than %d attributes", walk->path,
				CAP_MAX_ATTRIBUTES);

	id = H5Aopen(object, name, H5P_DEFAULT);
	if (id < 0)
		return cap_fail_hdf5(walk->capture->path, walk->path);
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

static mla_status add_object(struct capture *capture, const char *path, bool group)
{
	struct cap_object *one;

	if (capture->num_objects == capture->objects_capacity) {
		const size_t capacity = 2 * capture->objects_capacity + 64;
		struct cap_object *list = realloc(capture->objects, capacity * sizeof(*list));

		if (!list)
			return cap_fail_memory(capture->path);
		capture->objects = list;
		capture->objects_capacity = capacity;
	}
	one = &capture->objects[capture->num_objects];
	one->group = group;
	one->path = strdup(path);
	if (!one->path)
		return cap_fail_memory(capture->path);
	capture->num_objects++;
	return MLA_OK;
}

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *data);

/* Attributes and links of an open object. The patterns bound the depth, cycles included. */
static mla_status walk_object(struct walk *walk, hid_t id, const char *path, bool group)
{
	struct walk here = {.capture = walk->capture, .path = path};
	mla_status status;
	herr_t outcome;

	if (walk->capture->num_objects >= CAP_MAX_OBJECTS)
		return cap_fail(walk->capture->path, "more than %d groups and datasets",
				CAP_MAX_OBJECTS);
	status = add_object(walk->capture, path, group);
	if (status)
		return status;
	outcome = H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, &here);
	if (!outcome && group)
		outcome = H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_link, &here);
	return outcome < 0 ? cap_fail_hdf5(walk->capture->path, path) : (mla_status)outcome;
}

static mla_status walk_child(struct walk *walk, hid_t id, const char *path)
{
	const char *file = walk->capture->path;

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
	const char *file = walk->capture->path;
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

static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

enum { HEAD_BYTES = 24 }; /* of a file, as a string */

/* How many bytes there were, or -1 with errno. */
static int read_head(const char *path, char head[HEAD_BYTES])
{
	FILE *stream = fopen(path, "rb");
	int n;

	memset(head, 0, HEAD_BYTES);
	if (!stream)
		return -1;
	n = (int)fread(head, 1, HEAD_BYTES - 1, stream);
	fclose(stream);
	return n;
}

static bool is_signature(const char head[HEAD_BYTES], int n)
{
	return n >= (int)sizeof(signature) && !memcmp(head, signature, sizeof(signature));
}

bool capture_is_hdf5(const char *path)
{
	char head[HEAD_BYTES] = "";
	struct stat facts;

	return !stat(path, &facts) && S_ISREG(facts.st_mode) &&
	       is_signature(head, read_head(path, head));
}

/* Says what a file that is not HDF5 seems to be. */
static mla_status check_signature(const struct capture *capture)
{
	char head[HEAD_BYTES];
	const int n = read_head(capture->path, head);

	if (n < 0)
		return cap_fail(capture->path, "%s", strerror(errno));
	if (is_signature(head, n))
		return MLA_OK;
	if (!n)
		return cap_fail(capture->path, "file is empty");
	for (int i = 0; i < n; i++)
		if (!isprint((unsigned char)head[i]))
			head[i] = '.';
	if (!strncmp(head, "version https://git-lfs", 23))
		return cap_fail(
			capture->path,
			"not an HDF5 file (first bytes: \"%s\"): this is a Git LFS pointer, "
			"fetch the real file",
			head);
	return cap_fail(capture->path, "not an HDF5 file (first bytes: \"%s\")", head);
}

static mla_status fail_to_open(const struct capture *capture)
{
	char reason[256];
	const char *stored;

	innermost_reason(reason);
	stored = strstr(reason, "stored_eof = ");
	if (!strncmp(reason, "truncated file", 14) && stored)
		return cap_fail(capture->path,
				"file is truncated: %" PRIu64 " bytes, header says %s",
				capture->file_bytes, stored + strlen("stored_eof = "));
	if (strstr(reason, "object header version number"))
		return cap_fail(capture->path, "not closed by its writer (%s); capture it again",
				reason);
	return cap_fail(capture->path, "cannot be opened: %s", reason);
}

static int compare_objects(const void *a, const void *b)
{
	return strcmp(((const struct cap_object *)a)->path, ((const struct cap_object *)b)->path);
}

const struct cap_object *cap_find(const struct capture *capture, const char *path)
{
	const struct cap_object key = {.path = (char *)path};

	return bsearch(&key, capture->objects, capture->num_objects, sizeof(key), compare_objects);
}

static mla_status walk_file(struct capture *capture)
{
	struct walk walk = {.capture = capture, .path = "/"};
	const hid_t root = H5Gopen2(capture->file, "/", H5P_DEFAULT);
	mla_status status;

	if (root < 0)
		return fail_to_open(capture);
	status = walk_object(&walk, root, "/", true);
	H5Gclose(root);
	if (status)
		return status;
	qsort(capture->objects, capture->num_objects, sizeof(*capture->objects), compare_objects);
	cap_attributes_sort(&capture->attributes);
	return MLA_OK;
}

mla_status cap_file_open(struct capture *capture)
{
	struct stat facts;
	mla_status status;

	cap_hdf5_quiet();
	cap_types_make(capture->type);
	if (stat(capture->path, &facts))
		return cap_fail(capture->path, "%s", strerror(errno));
	if (!S_ISREG(facts.st_mode))
		return cap_fail(capture->path, "not a regular file");
	capture->file_bytes = (uint64_t)facts.st_size;
	status = check_signature(capture);
	if (status)
		return status;
	capture->file = H5Fopen(capture->path, H5F_ACC_RDONLY, H5P_DEFAULT);
	if (capture->file < 0)
		return fail_to_open(capture);
	return walk_file(capture);
}
