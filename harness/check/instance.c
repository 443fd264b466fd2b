/* instance.c - a poisoned copy of a case: all memory starts as NaN, and only what a correct
 * implementation may read is then copied in.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "check/internal.h"
#include "lib/error.h"
#include "lib/geometry.h"

enum { ALIGNMENT = 64, TABLE_TAIL = 64 /* poisoned entries behind kv_indices */ };

const struct check_view check_views[CHECK_NUM_VIEWS] = {
	{"q_nope", offsetof(mla_tensors, q_nope)},
	{"q_pe", offsetof(mla_tensors, q_pe)},
	{"ckv", offsetof(mla_tensors, ckv)},
	{"kpe", offsetof(mla_tensors, kpe)},
	{"ckv_scale", offsetof(mla_tensors, ckv_scale)},
	{"kpe_scale", offsetof(mla_tensors, kpe_scale)},
	{"out", offsetof(mla_tensors, out)},
	{"lse", offsetof(mla_tensors, lse)},
};

mla_tensor *check_view_of(mla_tensors *tensors, int view)
{
	return (mla_tensor *)((char *)tensors + check_views[view].offset);
}

static const mla_tensor *const_view_of(const mla_tensors *tensors, int view)
{
	return (const mla_tensor *)((const char *)tensors + check_views[view].offset);
}

const struct check_blocks *check_blocks_of(const struct check_instance *instance)
{
	return instance->state;
}

/* Everything that making an instance needs to know. */
struct maker {
	const struct mla_case *c;
	struct check_instance *instance;
	struct check_blocks *blocks;
	struct mla_case memory; /* lends its list of blocks to case_alloc */
	int32_t *slots;         /* [num_pages] that may be read, from the page's start */
};

/* ---- what may be read ------------------------------------------------------------------------ */

/* Pages may be shared. */
static bool find_slots(struct maker *m)
{
	m->slots = calloc((size_t)m->c->tensors.ckv.extent[0] + 1, sizeof(*m->slots));
	if (m->slots)
		geometry_mark(&m->c->config, &m->c->batch, m->c->tensors.kv_indices,
			      GEOMETRY_QUERIED, m->slots);
	return m->slots;
}

/* May row [i, j] of an input be read? */
static bool is_readable(const struct maker *m, const mla_tensor *t, int64_t i, int64_t j)
{
	const mla_tensors *tensors = &m->c->tensors;

	if (t == &tensors->q_nope || t == &tensors->q_pe)
		return i < case_total_q(m->c);
	if (t == &tensors->ckv || t == &tensors->kpe)
		return j < m->slots[i];
	return true;
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Where an input lies in the case's memory. */
struct span {
	uintptr_t begin, end;
	int view;
};

static struct span span_of(const mla_tensor *t, int view)
{
	struct span span = {.begin = (uintptr_t)t->data, .view = view};
	int64_t bytes = ref_dtype_size(t->dtype);

	for (int32_t i = 0; i < t->ndim; i++) {
		if (t->extent[i] == 0)
			bytes = INT64_MIN;
		else if (bytes > 0)
			bytes += (t->extent[i] - 1) * t->stride[i];
	}
	span.end = span.begin + (bytes > 0 ? (size_t)bytes : 0);
	return span;
}

static int by_address(const void *a, const void *b)
{
	const struct span *left = a, *right = b;

	return (left->begin > right->begin) - (left->begin < right->begin);
}

/* A new block: `lead` keeps the address modulo 64, so that a misaligned input stays one. */
static struct check_block *add_block(struct maker *m, size_t bytes, size_t lead, bool input)
{
	struct check_block *block = &m->blocks->block[m->blocks->count];
	unsigned char *image = case_alloc(&m->memory, bytes + lead);
	unsigned char *pristine = case_alloc(&m->memory, bytes);
	unsigned char *rows = input ? NULL : case_alloc(&m->memory, bytes);

	if (!image || !pristine || (!input && !rows))
		return NULL;
	*block = (struct check_block){.image = image + lead,
				      .pristine = pristine,
				      .rows = rows,
				      .bytes = bytes,
				      .lead = lead};
	m->blocks->count++;
	memset(block->image, POISON_BYTE, bytes);
	return block;
}

static void copy_readable(const struct maker *m, int view)
{
	const mla_tensor *from = const_view_of(&m->c->tensors, view);
	const mla_tensor *to = const_view_of(&m->instance->host, view);
	const int64_t columns = from->ndim > 1 ? from->extent[1] : 1;
	const int64_t dims = from->ndim > 2 ? from->extent[2] : 1;
	const size_t bytes = (size_t)(dims * ref_dtype_size(from->dtype));

	for (int64_t i = 0; i < from->extent[0]; i++)
		for (int64_t j = 0; j < columns; j++) {
			const int64_t at = i * from->stride[0] + j * from->stride[1];

			if (is_readable(m, from, i, j))
				memcpy((char *)to->data + at, (const char *)from->data + at, bytes);
		}
}

/* Inputs that overlap in the case (a fused cache) are views of one block here, too. */
static bool copy_overlapping(struct maker *m, const struct span *spans, int count)
{
	uintptr_t end = 0;

	for (int i = 0; i < count; i++)
		end = spans[i].end > end ? spans[i].end : end;

	struct check_block *block =
		add_block(m, end - spans[0].begin, spans[0].begin % ALIGNMENT, true);

	if (!block)
		return false;
	for (int i = 0; i < count; i++) {
		check_view_of(&m->instance->host, spans[i].view)->data =
			block->image + (spans[i].begin - spans[0].begin);
		copy_readable(m, spans[i].view);
	}
	memcpy(block->pristine, block->image, block->bytes);
	return true;
}

static bool copy_inputs(struct maker *m)
{
	struct span spans[CHECK_NUM_INPUT_VIEWS] = {0};
	int count = 0;

	for (int view = 0; view < CHECK_NUM_INPUT_VIEWS; view++) {
		const mla_tensor *t = const_view_of(&m->c->tensors, view);

		if (t->data)
			spans[count++] = span_of(t, view);
	}
	qsort(spans, (size_t)count, sizeof(spans[0]), by_address);
	for (int first = 0, last; first < count; first = last) {
		uintptr_t end = spans[first].end;

		for (last = first + 1; last < count && spans[last].begin < end; last++)
			end = spans[last].end > end ? spans[last].end : end;
		if (!copy_overlapping(m, spans + first, last - first))
			return false;
	}
	return true;
}

static bool copy_page_table(struct maker *m)
{
	const mla_batch *batch = &m->c->batch;
	const size_t entries = (size_t)m->c->tensors.num_kv_indices + TABLE_TAIL;
	struct check_block *block = add_block(m, entries * sizeof(int32_t), 0, true);

	if (!block)
		return false;

	int32_t *table = (int32_t *)block->image;

	for (size_t i = 0; i < entries; i++)
		table[i] = POISON_PAGE;
	for (int32_t r = 0; r < batch->batch_size; r++) {
		const int32_t first = batch->kv_indptr[r];

		for (int64_t i = first;
		     i < first + geometry_pages(&m->c->config, m->c->batch.kv_len[r]); i++)
			table[i] = m->c->tensors.kv_indices[i];
	}
	memcpy(block->pristine, block->image, block->bytes);
	m->instance->host.kv_indices = table;
	if (m->c->tensors.num_kv_indices == 0)
		m->instance->host.num_kv_indices = 1;
	return true;
}

/* ---- outputs --------------------------------------------------------------------------------- */

static void poison_output(const struct check_block *block)
{
	memcpy(block->image, block->pristine, block->bytes);
}

/* Where rows lie: as the case says, or one behind the other. Returns the bytes of all of it. */
static size_t place_rows(const struct case_rows *rows, mla_tensor *tensor)
{
	const int32_t last = tensor->ndim - 1;
	int64_t bytes = ref_dtype_size(tensor->dtype), end;

	for (int32_t i = last; i >= 0; i--) {
		tensor->stride[i] = bytes;
		bytes *= tensor->extent[i];
	}
	if (rows->query == 0)
		return (size_t)bytes;
	tensor->stride[0] = rows->query;
	tensor->stride[1] = rows->head;
	end = ref_dtype_size(tensor->dtype);
	for (int32_t i = 0; i <= last; i++)
		end += (tensor->extent[i] - 1) * tensor->stride[i];
	return (size_t)(rows->lead + end);
}

static void mark_rows(const struct maker *m, struct check_block *block, const mla_tensor *tensor)
{
	const int64_t heads = tensor->extent[1], rows = case_total_q(m->c) * heads;
	const int64_t elements = tensor->ndim > 2 ? tensor->extent[2] : 1;
	const size_t bytes = (size_t)(elements * ref_dtype_size(tensor->dtype));
	const size_t origin = (size_t)((unsigned char *)tensor->data - block->image);

	block->first = rows > 0 ? block->bytes : origin;
	block->end = origin;
	for (int64_t row = 0; row < rows; row++) {
		const size_t at = origin + (size_t)(row / heads * tensor->stride[0] +
						    row % heads * tensor->stride[1]);

		memset(block->rows + at, 1, bytes);
		block->first = at < block->first ? at : block->first;
		block->end = at + bytes > block->end ? at + bytes : block->end;
	}
}

/* An output of the given shape; returns its block's index, or -1. */
static int add_output(struct maker *m, const char *name, const struct case_rows *rows,
		      mla_tensor *tensor)
{
	const size_t bytes = place_rows(rows, tensor);
	struct check_block *block = add_block(m, bytes + 2 * GUARD_BYTES, 0, false);

	if (!block)
		return -1;
	block->name = name;
	tensor->data = block->image + GUARD_BYTES + rows->lead;
	mark_rows(m, block, tensor);
	memset(block->pristine, GUARD_BYTE, block->bytes);
	memset(block->pristine + GUARD_BYTES, POISON_BYTE, bytes);
	poison_output(block);
	return m->blocks->count - 1;
}

static bool add_outputs(struct maker *m)
{
	const mla_config *config = &m->c->config;
	const int64_t queries = case_total_q(m->c);
	/* Captured graphs are sized for one query and one page at least. */
	const int64_t least = queries > 0 ? queries : 1;
	mla_tensors *host = &m->instance->host;

	host->out = (mla_tensor){
		.dtype = config->out_dtype,
		.ndim = 3,
		.extent = {least + m->c->out_rows.spare, config->num_heads, config->head_dim_ckv}};
	host->lse = (mla_tensor){.dtype = MLA_F32,
				 .ndim = 2,
				 .extent = {least + m->c->lse_rows.spare, config->num_heads}};
	m->blocks->out = add_output(m, "out", &m->c->out_rows, &host->out);
	m->blocks->lse = add_output(m, "lse", &m->c->lse_rows, &host->lse);
	if (m->blocks->out < 0 || m->blocks->lse < 0)
		return false;
	if (m->c->no_lse) { /* there is memory all the same, which nobody may write */
		struct check_block *block = &m->blocks->block[m->blocks->lse];

		memset(block->rows, 0, block->bytes);
		block->end = block->first;
		host->lse.data = NULL;
	}
	return true;
}

void check_instance_repoison(struct check_instance *instance)
{
	const struct check_blocks *blocks = instance->state;

	poison_output(&blocks->block[blocks->out]);
	poison_output(&blocks->block[blocks->lse]);
}

/* ---- the whole ------------------------------------------------------------------------------- */

mla_status check_instance_make(const struct mla_case *c, struct check_instance *instance)
{
	struct maker m = {.c = c, .instance = instance};
	mla_status status = mla_check_pages_host(&c->config, &c->batch, &c->tensors);

	*instance = (struct check_instance){.host = c->tensors};
	instance->host.scratch = NULL;
	instance->host.scratch_bytes = 0;
	m.blocks = instance->state = case_alloc(&m.memory, sizeof(*m.blocks));
	if (!status && !(m.blocks && find_slots(&m) && copy_inputs(&m) && copy_page_table(&m) &&
			 add_outputs(&m)))
		status = mla_fail(MLA_NO_MEMORY, "no memory for a poisoned copy of the case");
	free(m.slots);
	instance->owned = m.memory.owned;
	if (status)
		check_instance_free(instance);
	return status;
}

double check_instance_bytes(const struct check_instance *instance)
{
	const struct check_blocks *blocks = check_blocks_of(instance);
	double bytes = 1 << 16;

	for (int i = 0; i < blocks->count; i++)
		bytes += (double)blocks->block[i].bytes;
	return bytes;
}

void check_instance_free(struct check_instance *instance)
{
	struct mla_case memory = {.owned = instance->owned};

	case_free(&memory);
	*instance = (struct check_instance){0};
}

/* ---- was anything touched that must not be? -------------------------------------------------- */

/* Which element of an input is the byte at `address`? "ckv[3, 5, 7]", or nothing for padding. */
static bool name_element(const struct check_instance *instance, const unsigned char *address,
			 char *text, size_t size)
{
	for (int view = 0; view < CHECK_NUM_INPUT_VIEWS; view++) {
		const mla_tensor *t = const_view_of(&instance->host, view);
		int64_t rest = address - (const unsigned char *)t->data, index[3] = {0};
		const bool transposed = t->stride[1] > t->stride[0];
		const int32_t by_stride[] = {transposed, !transposed, 2}; /* the largest first */
		bool inside = t->data && rest >= 0;

		for (int32_t k = 0; k < t->ndim && inside; k++) {
			const int32_t i = by_stride[k];

			index[i] = t->stride[i] > 0 ? rest / t->stride[i] : 0;
			rest -= index[i] * t->stride[i];
			inside = index[i] < t->extent[i];
		}
		if (!inside)
			continue;
		snprintf(text, size, "%s[%" PRId64 ", %" PRId64 ", %" PRId64 "]",
			 check_views[view].name, index[0], index[1], index[2]);
		return true;
	}
	return false;
}

static void say_input_changed(const struct check_instance *instance,
			      const struct check_block *block, size_t at, char *why, size_t size)
{
	char element[96];

	if (block->image == (const unsigned char *)instance->host.kv_indices)
		snprintf(why, size, "changed its input kv_indices[%zu]", at / sizeof(int32_t));
	else if (name_element(instance, block->image + at, element, sizeof(element)))
		snprintf(why, size, "changed its input %s", element);
	else
		snprintf(why, size, "changed memory between the rows of its inputs");
}

/* An output was written at `at`, where no row of a query lies. */
static void say_written(const struct check_block *block, size_t at, char *why, size_t size)
{
	if (at < block->first)
		snprintf(why, size, "wrote in front of %s, %zu bytes before its first element",
			 block->name, block->first - at);
	else if (at >= block->end)
		snprintf(why, size, "wrote behind %s, %zu bytes after its last element",
			 block->name, at - block->end);
	else
		snprintf(why, size,
			 "wrote between the rows of %s, %zu bytes after its first element",
			 block->name, at - block->first);
}

bool check_bytes_intact(const struct check_instance *instance, int index, size_t offset,
			const unsigned char *bytes, size_t n, char *why, size_t size)
{
	const struct check_block *block = &check_blocks_of(instance)->block[index];
	const unsigned char *pristine = block->pristine + offset;

	if (!block->rows && !memcmp(bytes, pristine, n))
		return true;
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == pristine[i] || (block->rows && block->rows[offset + i]))
			continue;
		if (block->rows)
			say_written(block, offset + i, why, size);
		else
			say_input_changed(instance, block, offset + i, why, size);
		return false;
	}
	return true;
}

bool check_instance_intact(const struct check_instance *instance, char *why, size_t size)
{
	const struct check_blocks *blocks = instance->state;

	for (int i = 0; i < blocks->count; i++)
		if (!check_bytes_intact(instance, i, 0, blocks->block[i].image,
					blocks->block[i].bytes, why, size))
			return false;
	return true;
}
