/* case.c - memory of a case: every block is on one list and goes at once. */
#include "case/case.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "reference/reference.h"

enum { ALIGNMENT = 64 };

struct case_block {
	struct case_block *next;
	size_t whole; /* bytes, with this head */
	char padding[ALIGNMENT - sizeof(struct case_block *) -
		     sizeof(size_t)]; /* aligns the rest */
};

/* Bytes of all cases, and how large a block is that is worth a look at what there is. */
static _Atomic size_t taken;
enum { LARGE = 16 << 20 };

void *case_alloc(struct mla_case *c, size_t bytes)
{
	if (bytes > INT64_MAX - 2 * ALIGNMENT)
		return NULL;

	const size_t whole =
		(sizeof(struct case_block) + bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct case_block *block;

	if (whole >= LARGE && memory_sum((int64_t)taken, (int64_t)whole) > memory_most())
		return NULL;
	block = aligned_alloc(ALIGNMENT, whole);
	if (!block)
		return NULL;
	memset(block, 0, whole);
	taken += whole;
	block->whole = whole;
	block->next = c->owned;
	c->owned = block;
	return block + 1;
}

mla_tensor case_tensor(struct mla_case *c, int32_t dtype, int32_t ndim, const int64_t *extent)
{
	mla_tensor tensor = {.dtype = dtype, .ndim = ndim};
	int64_t bytes = ref_dtype_size(dtype);

	for (int32_t i = ndim - 1; i >= 0; i--) {
		tensor.extent[i] = extent[i];
		tensor.stride[i] = bytes;
		if (extent[i] < 0)
			return tensor;
		bytes = memory_product(bytes, extent[i]);
	}
	tensor.data = case_alloc(c, (size_t)bytes);
	return tensor;
}

void case_free(struct mla_case *c)
{
	for (struct case_block *block = c->owned, *next; block; block = next) {
		next = block->next;
		taken -= block->whole;
		free(block);
	}
	memset(c, 0, sizeof(*c));
}

int64_t case_total_q(const struct mla_case *c)
{
	return c->batch.batch_size > 0 ? c->batch.qo_indptr[c->batch.batch_size] : 0;
}

/* ---- one line about it ----------------------------------------------------------------------- */

struct range {
	int32_t low, high;
};

static void extend(struct range *range, int32_t value, bool first)
{
	if (first || value < range->low)
		range->low = value;
	if (first || value > range->high)
		range->high = value;
}

static void print_range(const struct range *range, char *text, size_t size)
{
	if (range->low == range->high)
		snprintf(text, size, "%d", range->low);
	else
		snprintf(text, size, "%d..%d", range->low, range->high);
}

void case_describe(const struct mla_case *c, char *text, size_t size)
{
	const mla_config *config = &c->config;
	struct range q = {0}, kv = {0};
	char q_text[32], kv_text[32];

	for (int32_t b = 0; b < c->batch.batch_size; b++) {
		extend(&q, c->batch.qo_indptr[b + 1] - c->batch.qo_indptr[b], b == 0);
		extend(&kv, c->batch.kv_len[b], b == 0);
	}
	print_range(&q, q_text, sizeof(q_text));
	print_range(&kv, kv_text, sizeof(kv_text));
	snprintf(text, size, "B=%d H=%d q %s kv %s page %d %s%s scale %.4g", c->batch.batch_size,
		 config->num_heads, q_text, kv_text, config->page_size,
		 ref_dtype_name(config->q_dtype), config->causal ? " causal" : "",
		 config->sm_scale);
}
