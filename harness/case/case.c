/* case.c - memory of a case: every block is on one list and goes at once. */
#include "case/case.h"

#include <stdlib.h>
#include <string.h>

#include "reference/reference.h"

enum { ALIGNMENT = 64 };

struct case_block {
	struct case_block *next;
	char padding[ALIGNMENT - sizeof(struct case_block *)]; /* what follows is aligned */
};

void *case_alloc(struct mla_case *c, size_t bytes)
{
	if (bytes > SIZE_MAX - 2 * ALIGNMENT)
		return NULL;

	const size_t whole =
		(sizeof(struct case_block) + bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct case_block *block = aligned_alloc(ALIGNMENT, whole);

	if (!block)
		return NULL;
	memset(block, 0, whole);
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
		if (extent[i] < 0 || __builtin_mul_overflow(bytes, extent[i], &bytes))
			return tensor;
	}
	tensor.data = case_alloc(c, (size_t)bytes);
	return tensor;
}

void case_free(struct mla_case *c)
{
	for (struct case_block *block = c->owned, *next; block; block = next) {
		next = block->next;
		free(block);
	}
	memset(c, 0, sizeof(*c));
}

int64_t case_total_q(const struct mla_case *c)
{
	return c->batch.batch_size > 0 ? c->batch.qo_indptr[c->batch.batch_size] : 0;
}
