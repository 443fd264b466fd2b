/* image.c - a poisoned instance in device memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "check/internal.h"
#include "device/gpu.h"
#include "device/guarded.h"
#include "lib/error.h"

enum { CHUNK = 16 << 20 }; /* bytes brought back at a time */

struct device_state {
	/* of an input, as allocated; the block begins `lead` bytes later */
	void *memory[CHECK_MAX_BLOCKS];
	struct guarded outputs[CHECK_MAX_BLOCKS]; /* at the indices of out and lse */
};

static bool is_output(const struct check_device *device, int index)
{
	const struct check_blocks *blocks = check_blocks_of(device->instance);

	return index == blocks->out || index == blocks->lse;
}

static unsigned char *device_image(const struct check_device *device, int index)
{
	const struct device_state *state = device->state;

	if (is_output(device, index))
		return (unsigned char *)state->outputs[index].block;
	return (unsigned char *)state->memory[index] +
	       check_blocks_of(device->instance)->block[index].lead;
}

/* The device address that mirrors a host address; NULL for NULL. */
static void *mirror(const struct check_device *device, const void *host)
{
	const struct check_blocks *blocks = check_blocks_of(device->instance);

	for (int i = 0; i < blocks->count && host; i++) {
		const ptrdiff_t at = (const unsigned char *)host - blocks->block[i].image;

		if (at == 0 || (at > 0 && (size_t)at < blocks->block[i].bytes))
			return device_image(device, i) + at;
	}
	return NULL;
}

static mla_status make_block(struct check_device *device, int index)
{
	const struct check_block *block = &check_blocks_of(device->instance)->block[index];
	struct device_state *state = device->state;
	mla_status status;

	if (is_output(device, index))
		return guarded_make(&state->outputs[index], block->bytes - 2 * GUARD_BYTES);
	status = gpu_alloc(&state->memory[index], block->lead + block->bytes + 1 /* never 0 */);
	if (status || block->bytes == 0)
		return status;
	return gpu_upload(device_image(device, index), block->pristine, block->bytes);
}

mla_status check_device_make(const struct check_instance *instance, struct check_device *device)
{
	mla_status status = MLA_OK;

	*device = (struct check_device){.device = instance->host, .instance = instance};
	device->state = calloc(1, sizeof(struct device_state));
	if (!device->state)
		return mla_fail(MLA_NO_MEMORY, "no memory for the checker's list of blocks");
	for (int i = 0; i < check_blocks_of(instance)->count && !status; i++)
		status = make_block(device, i);
	if (!status) {
		for (int view = 0; view < CHECK_NUM_VIEWS; view++) {
			mla_tensor *t = check_view_of(&device->device, view);

			t->data = mirror(device, t->data);
		}
		device->device.kv_indices = mirror(device, instance->host.kv_indices);
		status = check_device_repoison(device);
	}
	if (status)
		check_device_free(device);
	return status;
}

void check_device_free(struct check_device *device)
{
	struct device_state *state = device->state;

	for (int i = 0; i < CHECK_MAX_BLOCKS && state; i++) {
		gpu_free(state->memory[i]);
		guarded_free(&state->outputs[i]);
	}
	free(state);
	*device = (struct check_device){0};
}

mla_status check_device_repoison(struct check_device *device)
{
	const struct check_blocks *blocks = check_blocks_of(device->instance);
	const struct device_state *state = device->state;
	mla_status status = guarded_poison(&state->outputs[blocks->out]);

	if (!status)
		status = guarded_poison(&state->outputs[blocks->lse]);
	return status ? status : gpu_sync(NULL);
}

/* Brings a block back, a chunk at a time, and looks at it; keeps what lies between byte `first` and
 * the second guard if `keep` is given. */
static bool collect_block(struct check_device *device, int index, unsigned char *chunk, char *keep,
			  size_t first, char *why, size_t size)
{
	const size_t bytes = check_blocks_of(device->instance)->block[index].bytes;

	for (size_t at = 0, n; at < bytes; at += n) {
		n = bytes - at < CHUNK ? bytes - at : CHUNK;
		if (gpu_download(chunk, device_image(device, index) + at, n)) {
			snprintf(why, size, "%s", mla_last_error());
			return false;
		}
		if (!check_bytes_intact(device->instance, index, at, chunk, n, why, size))
			return false;

		const size_t from = at < first ? first : at;
		const size_t to = at + n < bytes - GUARD_BYTES ? at + n : bytes - GUARD_BYTES;

		if (keep && from < to)
			memcpy(keep + (from - first), chunk + (from - at), to - from);
	}
	return true;
}

/* Where an output's first element is in its block; 0 for a lse that is not wanted. */
static size_t first_byte(const struct check_device *device, int index, const mla_tensor *host)
{
	const struct check_block *block = &check_blocks_of(device->instance)->block[index];

	return host->data ? (size_t)((unsigned char *)host->data - block->image) : 0;
}

bool check_device_collect(struct check_device *device, void *out, float *lse, char *why,
			  size_t size)
{
	const struct check_blocks *blocks = check_blocks_of(device->instance);
	const mla_tensors *host = &device->instance->host;
	unsigned char *chunk = malloc(CHUNK);
	bool intact = chunk;

	if (!chunk)
		snprintf(why, size, "no memory to bring the outputs back");
	/* Outputs first: they are wanted even where an input was changed. */
	if (intact)
		intact = collect_block(device, blocks->out, chunk, out,
				       first_byte(device, blocks->out, &host->out), why, size) &&
			 collect_block(device, blocks->lse, chunk, (char *)lse,
				       first_byte(device, blocks->lse, &host->lse), why, size);
	for (int i = 0; i < blocks->count && intact; i++)
		if (!is_output(device, i))
			intact = collect_block(device, i, chunk, NULL, 0, why, size);
	free(chunk);
	return intact;
}
