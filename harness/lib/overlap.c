/* overlap.c - do outputs share bytes with anything? Exact for strided layouts: out and lse may be
 * columns of one buffer, rows may be interleaved, as long as no byte is in two of them.
 *
 * A tensor is rows of bytes at base + i * stride0 + j * stride1. Rows of two of them meet where the
 * distance of their first bytes lies in a window; it is a sum of strides, each taken a number of
 * times from 0 to a bound. Strides are tried from the largest on. What the smaller ones can still
 * add, and the common divisor of all, leave few counts to try, one or two in nested layouts.
 */
#include <inttypes.h>
#include <stdbool.h>

#include "lib/error.h"
#include "lib/internal.h"
#include "reference/reference.h"

/* No layout of use comes near. One that is not decided by then counts as overlapping. */
enum { MOST_STEPS = 1 << 17 };

struct term {
	int64_t stride, most; /* > 0; taken 0 to most times */
};

struct sum {
	struct term terms[4]; /* by stride, falling, no two alike */
	int count, steps;
};

static void add_term(struct sum *sum, int64_t stride, int64_t most)
{
	int at = 0;

	if (most == 0)
		return;
	while (at < sum->count && sum->terms[at].stride > stride)
		at++;
	if (at < sum->count && sum->terms[at].stride == stride) {
		sum->terms[at].most += most;
		return;
	}
	for (int i = sum->count++; i > at; i--)
		sum->terms[i] = sum->terms[i - 1];
	sum->terms[at] = (struct term){stride, most};
}

static int64_t divisor(int64_t a, int64_t b)
{
	while (b) {
		const int64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* Can terms from this one on add up to something in [low, high]? */
static bool reaches(struct sum *sum, int from, int64_t low, int64_t high)
{
	int64_t rest = 0, common = 0;

	for (int i = from; i < sum->count; i++) {
		rest += sum->terms[i].stride * sum->terms[i].most;
		common = divisor(sum->terms[i].stride, common);
	}
	if (high < 0 || low > rest)
		return false;
	if (low <= 0 || high >= rest)
		return true; /* none of them, or all */
	if (high / common * common < low)
		return false;

	const struct term *term = &sum->terms[from];
	const int64_t less = low - (rest - term->stride * term->most);
	int64_t n = less > 0 ? (less + term->stride - 1) / term->stride : 0;

	for (; n <= term->most && n * term->stride <= high; n++)
		if (++sum->steps > MOST_STEPS ||
		    reaches(sum, from + 1, low - n * term->stride, high - n * term->stride))
			return true;
	return false;
}

static bool is_empty(const struct mla_region *r)
{
	return r->count[0] == 0 || r->count[1] == 0 || r->width <= 0;
}

/* The same rows with strides that are not negative, from the lowest byte on. */
static struct mla_region upwards(struct mla_region r)
{
	for (int i = 0; i < 2; i++)
		if (r.stride[i] < 0) {
			r.base += (r.count[i] - 1) * r.stride[i];
			r.stride[i] = -r.stride[i];
		}
	return r;
}

static int64_t reach(const struct mla_region *r)
{
	return (r->count[0] - 1) * r->stride[0] + (r->count[1] - 1) * r->stride[1];
}

bool mla_regions_meet(const struct mla_region *one, const struct mla_region *other)
{
	if (is_empty(one) || is_empty(other))
		return false;

	const struct mla_region a = upwards(*one), b = upwards(*other);
	const int64_t apart = b.base - a.base;
	struct sum sum = {0};

	/* b's row minus a's; rows of a are counted from the last one, so that all terms add */
	for (int i = 0; i < 2; i++) {
		if (a.stride[i])
			add_term(&sum, a.stride[i], a.count[i] - 1);
		if (b.stride[i])
			add_term(&sum, b.stride[i], b.count[i] - 1);
	}
	return reaches(&sum, 0, reach(&a) - apart - b.width + 1, reach(&a) - apart + a.width - 1);
}

bool mla_region_meets_itself(const struct mla_region *region)
{
	if (is_empty(region))
		return false;

	const struct mla_region r = upwards(*region);
	const bool first_is_larger = r.stride[0] >= r.stride[1];
	const int64_t near = r.stride[first_is_larger], many = r.count[first_is_larger];
	const int64_t far = r.stride[!first_is_larger], few = r.count[!first_is_larger];
	struct sum sum = {0};

	if ((many > 1 && near < r.width) || (few > 1 && far < r.width))
		return true;
	if (many == 1 || few == 1 || far >= (many - 1) * near + r.width)
		return false;
	/* One step or more along far, any number back or forth along near, within a row's width. */
	add_term(&sum, far, few - 2);
	add_term(&sum, near, 2 * (many - 1));

	const int64_t middle = (many - 1) * near - far;

	return reaches(&sum, 0, middle - r.width + 1, middle + r.width - 1);
}

/* Bits above do not place a byte: no address space has them, and some machines tag pointers there.
 */
static int64_t place_of(const void *data)
{
	return (int64_t)((uintptr_t)data & (((uintptr_t)1 << 60) - 1));
}

struct mla_region mla_region_of(const char *name, const mla_tensor *t, int64_t first_extent)
{
	struct mla_region r = {.name = name, .count = {1, 1}};

	if (!t->data) /* and the rest is ignored */
		return r;
	r.base = place_of(t->data);
	for (int i = 0; i < t->ndim; i++) {
		const int64_t extent = i ? t->extent[i] : first_extent;

		if (i == t->ndim - 1)
			r.width = extent * ref_dtype_size(t->dtype);
		else
			r.count[i] = extent;
		if (i < t->ndim - 1 && extent > 1)
			r.stride[i] = t->stride[i];
	}
	return r;
}

struct mla_region mla_region_flat(const char *name, const void *data, int64_t bytes)
{
	return (struct mla_region){
		.name = name,
		.base = place_of(data),
		.width = data ? bytes : 0,
		.count = {1, 1},
	};
}

/* From the first byte to behind the last; nothing has 0 to 0. */
struct span {
	int64_t begin, end;
};

static struct span span_of(const struct mla_region *r)
{
	struct span span = {r->base, r->base + r->width};

	if (is_empty(r))
		return (struct span){0, 0};
	for (int i = 0; i < 2; i++)
		*(r->stride[i] < 0 ? &span.begin : &span.end) += (r->count[i] - 1) * r->stride[i];
	return span;
}

mla_status mla_check_overlap(const struct mla_region *regions, int outputs, int count)
{
	struct span spans[MLA_MOST_REGIONS];

	for (int i = 0; i < count; i++)
		spans[i] = span_of(&regions[i]);
	for (int i = 0; i < outputs; i++) {
		const struct mla_region *r = &regions[i];

		if (mla_region_meets_itself(r))
			return mla_fail(MLA_INVALID,
					"%s: its rows of %" PRId64
					" bytes overlap each other: strides are %" PRId64
					" and %" PRId64
					" bytes, expected a place of its own for each row",
					r->name, r->width, r->stride[0], r->stride[1]);
		for (int j = i + 1; j < count; j++) {
			if (spans[i].end <= spans[j].begin || spans[j].end <= spans[i].begin)
				continue; /* nearly always */
			if (mla_regions_meet(r, &regions[j]))
				return mla_fail(MLA_INVALID,
						"%s overlaps %s: what is written may share no byte "
						"with what is read or written besides",
						r->name, regions[j].name);
		}
	}
	return MLA_OK;
}
