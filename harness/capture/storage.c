/* storage.c - what is known of a dataset before an element of it is read: type, shape, how it is
 * stored. No external or virtual storage, no filters but three, no sizes that the file cannot hold.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* What stands here is a fact about the dataset, said when it is used; only the first counts. */
static bool find_fault(struct cap_dataset *d, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static bool find_fault(struct cap_dataset *d, const char *format, ...)
{
	char text[ERROR_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	d->fault = strdup(text);
	return true;
}

static bool hdf5_fault(struct cap_dataset *d)
{
	char reason[256];

	cap_hdf5_reason(reason);
	return find_fault(d, "%s", reason);
}

static bool describe_type(hid_t id, const hid_t known[CAP_NUM_ELEMENTS], struct cap_dataset *d)
{
	const hid_t type = H5Dget_type(id);
	char found[96];

	if (type < 0)
		return hdf5_fault(d);
	d->element = cap_type_element(known, type);
	if (d->element == CAP_ANY_ELEMENT) {
		cap_describe_type(known, type, found, sizeof(found));
		d->type = strdup(found);
	}
	H5Tclose(type);
	return false;
}

/* Rank and extents. */
static bool describe_shape(hid_t id, struct cap_dataset *d)
{
	const hid_t space = H5Dget_space(id);
	const int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
	hsize_t extent[CAP_MAX_RANK] = {0};

	if (space < 0)
		return hdf5_fault(d);
	if (rank < 1 || rank > CAP_MAX_RANK) {
		H5Sclose(space);
		return find_fault(d, "rank is %d, expected 1 to %d", rank, CAP_MAX_RANK);
	}
	H5Sget_simple_extent_dims(space, extent, NULL);
	H5Sclose(space);
	d->rank = rank;
	for (int i = 0; i < rank; i++)
		d->extent[i] = extent[i];
	if (cap_dataset_measure(d))
		return false;
	return find_fault(d, "larger than %" PRId64 " bytes", CAP_MAX_BYTES);
}

/* Only filters of the library itself; fletcher32 among them. */
static bool describe_filters(hid_t plist, struct cap_dataset *d)
{
	const int count = H5Pget_nfilters(plist);
	bool checksum = false;

	for (int i = 0; i < count; i++) {
		size_t num_values = 0;
		unsigned flags, config;
		const H5Z_filter_t filter = H5Pget_filter2(plist, (unsigned)i, &flags, &num_values,
							   NULL, 0, NULL, &config);

		if (filter != H5Z_FILTER_FLETCHER32 && filter != H5Z_FILTER_SHUFFLE &&
		    filter != H5Z_FILTER_DEFLATE)
			return find_fault(d,
					  "filter %d is refused, only fletcher32, shuffle and "
					  "deflate are read",
					  (int)filter);
		checksum |= filter == H5Z_FILTER_FLETCHER32;
		d->deflated |= filter == H5Z_FILTER_DEFLATE;
	}
	return !checksum && d->bytes &&
	       find_fault(d, "stored without checksum, expected chunks with fletcher32");
}

/* In bytes and in number: chunks are what is held in memory at a time, and looked up one by one. */
static bool describe_chunks(const hsize_t *chunk, struct cap_dataset *d, uint64_t *bytes,
			    uint64_t *needed)
{
	const uint64_t most = 1024 + d->bytes / 4096;

	*bytes = cap_element_size(d->element);
	*needed = 1;
	for (int i = 0; i < d->rank; i++) {
		if (!chunk[i] || __builtin_mul_overflow(*bytes, chunk[i], bytes))
			return find_fault(d, "chunks of no size");
		d->chunk[i] = chunk[i];
		*needed *= (d->extent[i] + chunk[i] - 1) / chunk[i];
	}
	if (*bytes > CAP_MAX_CHUNK_BYTES)
		return find_fault(d,
				  "chunks of %" PRIu64 " bytes, expected about %d and at most %d",
				  *bytes, CAP_CHUNK_BYTES, CAP_MAX_CHUNK_BYTES);
	if (*needed > most)
		return find_fault(
			d, "%" PRIu64 " chunks of %" PRIu64 " bytes, expected about %d bytes each",
			*needed, *bytes, CAP_CHUNK_BYTES);
	return false;
}

/* Boxes of neighbouring rows are read one after the other. Chunks that hold parts of many rows
 * would each be unpacked for each box: the rows of a chunk, whole, must fit into one. */
static bool describe_rows(const hsize_t *chunk, struct cap_dataset *d)
{
	uint64_t bytes = d->bytes;
	int dim = 0;

	for (; dim < d->rank && chunk[dim] == 1; dim++)
		bytes /= d->extent[dim];
	if (dim == d->rank)
		return false;
	bytes /= d->extent[dim];
	if (chunk[dim] <= CAP_WINDOW_BYTES / bytes)
		return false;
	return find_fault(d,
			  "chunks of %" PRIu64 " rows of %" PRIu64
			  " bytes that hold parts of each, expected whole rows",
			  (uint64_t)chunk[dim], bytes);
}

/* What is stored is what was written: every chunk, and no more than the file has. */
static bool describe_storage(hid_t id, const hsize_t *chunk, uint64_t file_bytes,
			     struct cap_dataset *d)
{
	enum { DEFLATE_RATIO = 1032 }; /* deflate cannot do better */
	const uint64_t ratio = d->deflated ? DEFLATE_RATIO : 1;
	const hid_t space = H5Dget_space(id);
	uint64_t chunk_bytes, needed;
	hsize_t written = 0;
	herr_t outcome;

	if (space < 0)
		return hdf5_fault(d);
	outcome = H5Dget_num_chunks(id, space, &written);
	H5Sclose(space);
	if (outcome < 0)
		return hdf5_fault(d);
	if (!written)
		return find_fault(d, "never written (storage not allocated)");
	if (describe_chunks(chunk, d, &chunk_bytes, &needed) || describe_rows(chunk, d))
		return true;
	if (written != needed)
		return find_fault(d, "only partly written (%" PRIu64 " of %" PRIu64 " chunks)",
				  (uint64_t)written, needed);
	d->stored = H5Dget_storage_size(id);
	if (d->stored <= file_bytes && d->bytes / ratio <= d->stored &&
	    chunk_bytes / ratio <= d->stored)
		return false;
	return find_fault(d,
			  "claims %" PRIu64 " bytes in chunks of %" PRIu64 ", but %" PRIu64
			  " are stored in a file of %" PRIu64,
			  d->bytes, chunk_bytes, d->stored, file_bytes);
}

static bool describe_layout(hid_t id, uint64_t file_bytes, struct cap_dataset *d)
{
	const hid_t plist = H5Dget_create_plist(id);
	hsize_t chunk[CAP_MAX_RANK] = {0};
	bool fault;

	if (plist < 0)
		return hdf5_fault(d);
	if (H5Pget_external_count(plist))
		fault = find_fault(d, "stored in another file (refused for safety)");
	else if (H5Pget_layout(plist) == H5D_VIRTUAL)
		fault = find_fault(d, "a virtual dataset (refused for safety)");
	else
		fault = describe_filters(plist, d);
	if (!fault && d->bytes && H5Pget_chunk(plist, CAP_MAX_RANK, chunk) != d->rank)
		fault = find_fault(d, "chunks of another rank");
	H5Pclose(plist);
	return fault || (d->bytes && describe_storage(id, chunk, file_bytes, d));
}

mla_status cap_storage_describe(hid_t id, const hid_t type[CAP_NUM_ELEMENTS], uint64_t file_bytes,
				const char *file, struct cap_dataset *d)
{
	bool fault = describe_type(id, type, d);

	if (!fault && d->element != CAP_ANY_ELEMENT)
		fault = describe_shape(id, d) || describe_layout(id, file_bytes, d);
	if ((fault && !d->fault) || (d->element == CAP_ANY_ELEMENT && !fault && !d->type))
		return cap_fail_memory(file);
	return MLA_OK;
}
