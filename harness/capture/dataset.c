/* dataset.c - datasets as a verb sees them: found by their path, read box by box from the process
 * that parses the file, and looked through for what is not finite.
 */
#define _GNU_SOURCE
#include "capture/internal.h"

#include <inttypes.h>
#include <string.h>

static const struct {
	const char *name;
	size_t size;
} element_facts[CAP_NUM_ELEMENTS] = {
	[CAP_BF16] = {"bfloat16", 2}, [CAP_F16] = {"IEEE float16", 2}, [CAP_F32] = {"float32", 4},
	[CAP_F64] = {"float64", 8},   [CAP_I32] = {"int32", 4},        [CAP_U8] = {"uint8", 1},
};

size_t cap_element_size(int element)
{
	return element_facts[element].size;
}

const char *cap_element_name(int element)
{
	return element_facts[element].name;
}

bool cap_dataset_measure(struct cap_dataset *d)
{
	d->bytes = cap_element_size(d->element);
	for (int i = d->rank - 1; i >= 0; i--) {
		d->row_bytes = d->bytes;
		if (d->extent[i] > INT32_MAX ||
		    __builtin_mul_overflow(d->bytes, d->extent[i], &d->bytes) ||
		    d->bytes > CAP_MAX_BYTES)
			return false;
	}
	return true;
}

mla_status cap_dataset_find(const struct capture *capture, const char *path, int expected,
			    const struct cap_dataset **dataset)
{
	const struct cap_object *object = cap_find(capture, path);
	const struct cap_dataset *d = object ? &object->dataset : NULL;

	if (!object || object->group)
		return cap_fail(capture->path, "missing dataset %s", path);
	if (d->element == CAP_ANY_ELEMENT ||
	    (expected != CAP_ANY_ELEMENT && d->element != expected))
		return cap_fail(capture->path, "%s: type is %s, expected %s%s", path,
				d->type ? d->type : cap_element_name(d->element),
				expected == CAP_ANY_ELEMENT ? "one that data/FORMAT.md names"
							    : cap_element_name(expected),
				expected == CAP_BF16 && d->type
					? "; data/FORMAT.md shows how to write it"
					: "");
	if (d->fault)
		return cap_fail(capture->path, "%s: %s", path, d->fault);
	*dataset = d;
	return MLA_OK;
}

/* ---- elements ------------------------------------------------------------------------------- */

static mla_status ask(const struct capture *capture, const struct cap_dataset *d,
		      const uint64_t *start, const uint64_t *count, size_t bytes, void *to)
{
	const struct cap_object *object = cap_find(capture, d->path);
	struct cap_request request = {
		.dataset = (uint64_t)(object - capture->listing.objects),
	};
	mla_status status;

	memcpy(request.start, start, (size_t)d->rank * sizeof(*start));
	memcpy(request.count, count, (size_t)d->rank * sizeof(*count));
	status = cap_reader_ask(capture->reader, &request);
	if (!status)
		memcpy(to, cap_reader_window(), bytes);
	return status;
}

/* Indices of a dimension that fit the window, inner being the bytes of one: whole chunks if one
 * fits. */
static uint64_t fitting(const struct cap_dataset *d, int dim, uint64_t inner)
{
	const uint64_t fit = CAP_WINDOW_BYTES / inner;

	return fit > d->chunk[dim] ? fit / d->chunk[dim] * d->chunk[dim] : fit;
}

/* Outside of dimension dim the box is one index wide, so what is read next lies behind what was. */
static mla_status read_part(const struct capture *capture, const struct cap_dataset *d, int dim,
			    const uint64_t *start, const uint64_t *count, char *to)
{
	uint64_t inner = cap_element_size(d->element), from[CAP_MAX_RANK], many[CAP_MAX_RANK], step;
	mla_status status = MLA_OK;

	memcpy(from, start, (size_t)d->rank * sizeof(*from));
	memcpy(many, count, (size_t)d->rank * sizeof(*many));
	for (int i = dim + 1; i < d->rank; i++)
		inner *= count[i];
	step = inner > CAP_WINDOW_BYTES ? 1 : fitting(d, dim, inner);
	for (uint64_t at = 0; !status && at < count[dim]; at += step, to += step * inner) {
		from[dim] = start[dim] + at;
		many[dim] = count[dim] - at < step ? count[dim] - at : step;
		status = inner > CAP_WINDOW_BYTES
				 ? read_part(capture, d, dim + 1, from, many, to)
				 : ask(capture, d, from, many, many[dim] * inner, to);
	}
	return status;
}

mla_status cap_dataset_read(const struct capture *capture, const struct cap_dataset *dataset,
			    const uint64_t *start, const uint64_t *count, void *to)
{
	static const uint64_t origin[CAP_MAX_RANK];
	const uint64_t *box = count ? count : dataset->extent;

	for (int i = 0; i < dataset->rank; i++)
		if (!box[i])
			return MLA_OK;
	return read_part(capture, dataset, 0, start ? start : origin, box, to);
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

uint64_t cap_count_non_finite(int element, const void *data, uint64_t count, uint64_t *first)
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
