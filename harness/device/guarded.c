/* guarded.c - guard bands around an output in device memory.
 */
#include "device/guarded.h"

#include "base/poison.h"
#include "device/gpu.h"

size_t guarded_size(size_t bytes)
{
	return bytes + 2 * GUARD_BYTES;
}

mla_status guarded_make(struct guarded *guarded, size_t bytes)
{
	void *block = NULL;
	const mla_status status = gpu_alloc(&block, guarded_size(bytes));

	*guarded = (struct guarded){0};
	if (!status)
		*guarded = (struct guarded){
			.block = block, .data = (char *)block + GUARD_BYTES, .bytes = bytes};
	return status;
}

void guarded_free(struct guarded *guarded)
{
	gpu_free(guarded->block);
	*guarded = (struct guarded){0};
}

mla_status guarded_poison(const struct guarded *guarded)
{
	const mla_status status =
		gpu_fill(guarded->block, GUARD_BYTE, guarded_size(guarded->bytes));

	return status ? status : gpu_fill(guarded->data, POISON_BYTE, guarded->bytes);
}

static mla_status look_at(const char *guard, bool *intact)
{
	unsigned char bytes[GUARD_BYTES];
	const mla_status status = gpu_download(bytes, guard, sizeof(bytes));

	for (size_t i = 0; i < sizeof(bytes) && !status; i++)
		*intact &= bytes[i] == GUARD_BYTE;
	return status;
}

mla_status guarded_look(const struct guarded *guarded, bool *intact)
{
	mla_status status;

	*intact = true;
	status = look_at(guarded->block, intact);
	return status ? status : look_at(guarded->data + guarded->bytes, intact);
}
