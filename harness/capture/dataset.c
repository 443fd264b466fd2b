/* dataset.c - types, and datasets that are read once they were found to be harmless: no external or
 * virtual storage, no filters but three, no sizes that the file cannot hold.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <string.h>

/* ---- types ---------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	size_t size;
} element_facts[CAP_NUM_ELEMENTS] = {
	[CAP_BF16] = {"bfloat16", 2}, [CAP_F16] = {"IEEE float16", 2}, [CAP_F32] = {"float32", 4},
	[CAP_F64] = {"float64", 8},   [CAP_I32] = {"int32", 4},        [CAP_U8] = {"uint8", 1},
};

size_t cap_element_size(enum cap_element element)
{
	return element_facts[element].size;
}

const char *cap_element_name(enum cap_element element)
{
	return element_facts[element].name;
}

/* A 16-bit float with the sign on top and the exponent above the mantissa. */
static hid_t float16_type(size_t exponent_bits, size_t bias)
{
	const size_t mantissa_bits = 15 - exponent_bits;
	hid_t type = H5Tcopy(H5T_IEEE_F32LE);

	H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits); /* before size */
	H5Tset_size(type, 2);
	H5Tset_ebias(type, bias);
	return type;
}

void cap_types_make(hid_t type[CAP_NUM_ELEMENTS])
{
	type[CAP_BF16] = float16_type(8, 127);
	type[CAP_F16] = float16_type(5, 15);
	type[CAP_F32] = H5Tcopy(H5T_IEEE_F32LE);
	type[CAP_F64] = H5Tcopy(H5T_IEEE_F64LE);
	type[CAP_I32] = H5Tcopy(H5T_STD_I32LE);
	type[CAP_U8] = H5Tcopy(H5T_STD_U8LE);
}

void cap_types_close(hid_t type[CAP_NUM_ELEMENTS])
{
	for (int i = 0; i < CAP_NUM_ELEMENTS; i++)
		if (type[i] > 0)
			H5Tclose(type[i]);
}

static int element_of(const hid_t known[CAP_NUM_ELEMENTS], hid_t type)
{
	for (int i = 0; i < CAP_NUM_ELEMENTS; i++)
		if (H5Tequal(known[i], type) > 0)
			return i;
	return -1;
}

void cap_describe_type(const hid_t known[CAP_NUM_ELEMENTS], hid_t type, char *text, size_t size)
{
	static const char *const class_names[H5T_NCLASSES] = {
		[H5T_INTEGER] = "integer",    [H5T_FLOAT] = "float",
		[H5T_TIME] = "time",          [H5T_STRING] = "string",
		[H5T_BITFIELD] = "bit field", [H5T_OPAQUE] = "opaque",
		[H5T_COMPOUND] = "compound",  [H5T_REFERENCE] = "reference",
		[H5T_ENUM] = "enumeration",   [H5T_VLEN] = "variable-length sequence",
		[H5T_ARRAY] = "array",
	};
	const int element = element_of(known, type);
	const H5T_class_t class = H5Tget_class(type);
	const size_t bytes = H5Tget_size(type);

	if (element >= 0)
		snprintf(text, size, "%s", cap_element_name(element));
	else if (class == H5T_OPAQUE && bytes <= 2)
		snprintf(text, size, "opaque %zu-byte (h5py + ml_dtypes writes this)", bytes);
	else if (class < 0 || class >= H5T_NCLASSES)
		snprintf(text, size, "unknown");
	else
		snprintf(text, size, "%s%zu-byte %s%s",
			 H5Tget_order(type) == H5T_ORDER_BE ? "big-endian " : "", bytes,
			 class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE ? "unsigned "
										   : "",
			 class_names[class]);
}

/* ---- datasets ------------------------------------------------------------------------------- */

static mla_status check_type(const struct capture *capture, struct cap_dataset *d, int expected)
{
	const hid_t type = H5Dget_type(d->id);
	char found[96];
	int element;

	if (type < 0)
		return cap_fail_hdf5(capture->path, d->path);
	element = element_of(capture->type, type);
	if (element < 0 || (expected != CAP_ANY_ELEMENT && element != expected)) {
		cap_describe_type(capture->type, type, found, sizeof(found));
		H5Tclose(type);
		return cap_fail(capture->path, "%s: type is %s, expected %s%s", d->path, found,
				expected == CAP_ANY_ELEMENT ? "one that data/FORMAT.md names"
							    : cap_element_name(expected),
				expected == CAP_BF16 && element < 0
					? "; data/FORMAT.md shows how to write it"
					: "");
	}
	H5Tclose(type);
	d->element = (enum cap_element)element;
	return MLA_OK;
}

/* Rank, and a size that can be multiplied and allocated. */
static mla_status check_extent(const struct capture *capture, struct cap_dataset *d)
{
	const hid_t space = H5Dget_space(d->id);
	const int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
	bool fits = true;

	if (space < 0)
		return cap_fail_hdf5(capture->path, d->path);
	if (rank < 1 || rank > CAP_MAX_RANK) {
		H5Sclose(space);
		return cap_fail(capture->path, "%s: rank is %d, expected 1 to %d", d->path, rank,
				CAP_MAX_RANK);
	}
	H5Sget_simple_extent_dims(space, d->extent, NULL);
	H5Sclose(space);

	d->rank = rank;
	d->bytes = cap_element_size(d->element);
	for (int i = rank - 1; i >= 0; i--) {
		d->row_bytes = d->bytes;
		fits = fits && d->extent[i] <= INT32_MAX &&
		       !__builtin_mul_overflow(d->bytes, d->extent[i], &d->bytes) &&
		       d->bytes <= CAP_MAX_BYTES;
	}
	if (!fits)
		return cap_fail(capture->path, "%s: larger than %" PRId64 " bytes", d->path,
				CAP_MAX_BYTES);
	return MLA_OK;
}

/* Only filters of the library itself; fletcher32 among them. */
static mla_status check_filters(const struct capture *capture, struct cap_dataset *d, hid_t plist)
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
			return cap_fail(capture->path,
					"%s: filter %d is refused, only fletcher32, shuffle and "
					"deflate are read",
					d->path, (int)filter);
		checksum |= filter == H5Z_FILTER_FLETCHER32;
		d->deflated |= filter == H5Z_FILTER_DEFLATE;
	}
	if (!checksum && d->bytes)
		return cap_fail(capture->path,
				"%s: stored without checksum, expected chunks with fletcher32",
				d->path);
	return MLA_OK;
}

static uint64_t chunks_needed(const struct cap_dataset *d, const hsize_t *chunk)
{
	uint64_t needed = 1;

	for (int i = 0; i < d->rank; i++)
		needed *= (d->extent[i] + chunk[i] - 1) / chunk[i];
	return needed;
}

/* What is stored is what was written: every chunk, and no more than the file has. */
static mla_status check_storage(const struct capture *capture, const struct cap_dataset *d,
				const hsize_t *chunk)
{
	enum { DEFLATE_RATIO = 1032 }; /* deflate cannot do better */
	const uint64_t ratio = d->deflated ? DEFLATE_RATIO : 1;
	const uint64_t needed = chunks_needed(d, chunk);
	const hid_t space = H5Dget_space(d->id);
	hsize_t written = 0;
	uint64_t stored;

	if (space < 0 || H5Dget_num_chunks(d->id, space, &written) < 0)
		return cap_fail_hdf5(capture->path, d->path);
	H5Sclose(space);
	if (!written)
		return cap_fail(capture->path, "%s: never written (storage not allocated)",
				d->path);
	if (written != needed)
		return cap_fail(capture->path,
				"%s: only partly written (%" PRIu64 " of %" PRIu64 " chunks)",
				d->path, (uint64_t)written, needed);
	stored = H5Dget_storage_size(d->id);
	if (stored > capture->file_bytes || d->bytes / ratio > stored ||
	    d->chunk_bytes / ratio > stored)
		return cap_fail(capture->path,
				"%s: claims %" PRIu64 " bytes in chunks of %" PRIu64
				", but %" PRIu64 " are stored in a file of %" PRIu64,
				d->path, d->bytes, d->chunk_bytes, stored, capture->file_bytes);
	return MLA_OK;
}

static mla_status check_layout(const struct capture *capture, struct cap_dataset *d)
{
	const hid_t plist = H5Dget_create_plist(d->id);
	hsize_t chunk[CAP_MAX_RANK];
	mla_status status;

	if (plist < 0)
		return cap_fail_hdf5(capture->path, d->path);
	if (H5Pget_external_count(plist))
		status = cap_fail(capture->path, "%s: stored in another file (refused for safety)",
				  d->path);
	else if (H5Pget_layout(plist) == H5D_VIRTUAL)
		status = cap_fail(capture->path, "%s: a virtual dataset (refused for safety)",
				  d->path);
	else
		status = check_filters(capture, d, plist);
	if (!status && d->bytes && H5Pget_chunk(plist, CAP_MAX_RANK, chunk) != d->rank)
		status = cap_fail(capture->path, "%s: chunks of another rank", d->path);
	H5Pclose(plist);
	if (status || !d->bytes)
		return status;
	d->chunk_rows = chunk[0];
	d->chunk_bytes = cap_element_size(d->element);
	for (int i = 0; i < d->rank; i++) /* HDF5 keeps chunks below 4 GiB: no overflow */
		d->chunk_bytes *= chunk[i];
	return check_storage(capture, d, chunk);
}

mla_status cap_dataset_open(const struct capture *capture, const char *path, int expected,
			    struct cap_dataset *dataset)
{
	mla_status status;

	memset(dataset, 0, sizeof(*dataset));
	dataset->chunk_rows = 1;
	dataset->path = path;
	dataset->id = H5Dopen2(capture->file, path, H5P_DEFAULT);
	if (dataset->id < 0)
		return cap_fail_hdf5(capture->path, path);
	status = check_type(capture, dataset, expected);
	if (!status)
		status = check_extent(capture, dataset);
	if (!status)
		status = check_layout(capture, dataset);
	if (status)
		cap_dataset_close(dataset);
	return status;
}

void cap_dataset_close(struct cap_dataset *dataset)
{
	if (dataset->id > 0)
		H5Dclose(dataset->id);
	dataset->id = 0;
}

mla_status cap_dataset_read(const struct capture *capture, const struct cap_dataset *dataset,
			    const hsize_t *start, const hsize_t *count, void *to)
{
	const hid_t type = capture->type[dataset->element];
	hid_t space = H5S_ALL, memory = H5S_ALL;
	mla_status status = MLA_OK;
	herr_t outcome = 0;

	if (!dataset->bytes)
		return MLA_OK;
	if (start) {
		space = H5Dget_space(dataset->id);
		memory = H5Screate_simple(dataset->rank, count, NULL);
		outcome = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
	}
	if (outcome >= 0)
		outcome = H5Dread(dataset->id, type, memory, space, H5P_DEFAULT, to);
	if (outcome < 0)
		status = cap_fail_hdf5(capture->path, dataset->path);
	if (start) {
		H5Sclose(space);
		H5Sclose(memory);
	}
	return status;
}

/* ---- values --------------------------------------------------------------------------------- */

/* Exponent bits of every lane of a 64-bit word, and the lowest of them: masked + lowest carries
 * into the sign bit exactly where all exponent bits are set, and never out of a lane. */
static const struct {
	uint64_t exponent, lowest, sign;
} lanes[] = {
	[CAP_BF16] = {0x7f807f807f807f80, 0x0080008000800080, 0x8000800080008000},
	[CAP_F16] = {0x7c007c007c007c00, 0x0400040004000400, 0x8000800080008000},
	[CAP_F32] = {0x7f8000007f800000, 0x0080000000800000, 0x8000000080000000},
	[CAP_F64] = {0x7ff0000000000000, 0x0010000000000000, 0x8000000000000000},
};

uint64_t cap_count_non_finite(enum cap_element element, const void *data, uint64_t count,
			      uint64_t *first)
{
	const uint64_t size = cap_element_size(element), bytes = count * size;
	uint64_t exponent, lowest, found = 0;

	if (element > CAP_F64)
		return 0;
	exponent = lanes[element].exponent;
	lowest = lanes[element].lowest;
	for (uint64_t at = 0; at < bytes; at += 8) {
		uint64_t word = 0, bad;

		if (bytes - at >= 8)
			memcpy(&word, (const char *)data + at, 8);
		else
			memcpy(&word, (const char *)data + at, bytes - at);
		bad = ((word & exponent) + lowest) & lanes[element].sign;
		if (!bad)
			continue;
		if (!found)
			*first = (at + (uint64_t)__builtin_ctzll(bad) / 8) / size;
		found += (uint64_t)__builtin_popcountll(bad);
	}
	return found;
}
