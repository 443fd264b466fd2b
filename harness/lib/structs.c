/* structs.c - struct_size: callers of all releases, one library. Structs of mla.h grow at their end
 * only. A struct that has grown is read through a whole copy and filled in up to its owner's size.
 */
#include <string.h>

#include "lib/error.h"
#include "lib/internal.h"

enum { MAX_SIZES = 4 };

/* Sizes that releases had, rising; the first is that of 0.1.0, the last today's. */
static const struct history {
	const char *name;
	uint32_t sizes[MAX_SIZES];
} histories[] = {
	[MLA_STRUCT_CONFIG] = {"mla_config", {56}},
	[MLA_STRUCT_BATCH] = {"mla_batch", {40}},
	[MLA_STRUCT_DEVICE] = {"mla_device", {16}},
	[MLA_STRUCT_CAPACITY] = {"mla_capacity", {40}},
	[MLA_STRUCT_TRAITS] = {"mla_traits", {36, 40}},           /* threads */
	[MLA_STRUCT_KERNEL_INFO] = {"mla_kernel_info", {40, 48}}, /* ideas */
	[MLA_STRUCT_PLAN_INFO] = {"mla_plan_info", {128}},
	[MLA_STRUCT_TENSORS] = {"mla_tensors", {552}},
	[MLA_STRUCT_MERGE_ARGS] = {"mla_merge_args", {264}},
};

_Static_assert(sizeof(mla_config) == 56 && sizeof(mla_batch) == 40 && sizeof(mla_device) == 16 &&
		       sizeof(mla_capacity) == 40 && sizeof(mla_traits) == 40 &&
		       sizeof(mla_kernel_info) == 48 && sizeof(mla_plan_info) == 128 &&
		       sizeof(mla_tensors) == 552 && sizeof(mla_merge_args) == 264,
	       "the last size of each line is today's");

static uint32_t size_today(const struct history *history)
{
	int last = 0;

	while (last + 1 < MAX_SIZES && history->sizes[last + 1])
		last++;
	return history->sizes[last];
}

static uint32_t size_of(const void *object)
{
	uint32_t size;

	memcpy(&size, object, sizeof(size));
	return size;
}

static bool known(const struct history *history, uint32_t size)
{
	for (int i = 0; i < MAX_SIZES && size; i++)
		if (history->sizes[i] == size)
			return true;
	return false;
}

mla_status mla_struct_check(enum mla_struct kind, const void *object)
{
	const struct history *history = &histories[kind];

	if (!object)
		return mla_fail(MLA_INVALID, "%s is NULL", history->name);
	if (!known(history, size_of(object)))
		return mla_fail(MLA_INVALID, "%s.struct_size is %u, this library expects %u",
				history->name, size_of(object), size_today(history));
	return MLA_OK;
}

mla_status mla_struct_take(enum mla_struct kind, const void *object, void *whole)
{
	const mla_status status = mla_struct_check(kind, object);
	const uint32_t today = size_today(&histories[kind]);

	if (status)
		return status;
	memset(whole, 0, today);
	memcpy(whole, object, size_of(object));
	memcpy(whole, &today, sizeof(today));
	return MLA_OK;
}

void mla_struct_give(enum mla_struct kind, const void *whole, void *object)
{
	const struct history *history = &histories[kind];
	const uint32_t said = size_of(object);
	const uint32_t size = known(history, said) ? said : history->sizes[0];

	memcpy(object, whole, size);
	memcpy(object, &size, sizeof(size));
}
