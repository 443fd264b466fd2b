/* cell.c - cells by name, the suites, and a cell's batch, page table and values.
 */
#define _DEFAULT_SOURCE /* strtok_r */
#include "case/cell.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/poison.h"
#include "base/random.h"
#include "case/size.h"
#include "lib/error.h"
#include "lib/geometry.h"
#include "reference/reference.h"

enum { CKV = 512, KPE = 64, ROW = CKV + KPE, UNUSED_PAGES = 1 };

/* ---- suites ---------------------------------------------------------------------------------- */

static const char *const smoke[] = {"b1_100_h16", "b3_300v_h128_q2", "b5_700v_h16_q1_p16"};

/* What other kernels were measured on. */
static const char *const peers[] = {
	"b128_4Kv_h128_q1", "b128_8K_h128_q1",  "b128_8Kv_h128_q1", "b128_16K_h128_q1",
	"b128_4Kv_h128_q2", "b128_8Kv_h128_q2", "b256_2Kv_h128_q1", "b128_8K_h64_q1",
	"b128_8K_h32_q1",   "b128_8K_h16_q1",   "b128_16K_h16_q1",  "b1_128K_h128_q1",
	"b1_128K_h16_q1",   "b1_8K_h128_q1",    "b1_1K_h128_q1",    "b4_4K_h128_q1",
	"b4_4K_h16_q1",     "b16_2K_h16_q1",    "b32_1K_h128_q1",   "b64_1K_h16_q1",
};

/* Along the length of the cache. */
static const char *const sweep[] = {
	"b1_256_h16",   "b1_512_h16",   "b1_1K_h16",    "b1_2K_h16",    "b1_4K_h16",
	"b1_8K_h16",    "b1_16K_h16",   "b1_32K_h16",   "b1_64K_h16",   "b1_128K_h16",
	"b1_256_h128",  "b1_512_h128",  "b1_1K_h128",   "b1_2K_h128",   "b1_4K_h128",
	"b1_8K_h128",   "b1_16K_h128",  "b1_32K_h128",  "b1_64K_h128",  "b1_128K_h128",
	"b64_256_h16",  "b64_512_h16",  "b64_1K_h16",   "b64_2K_h16",   "b64_4K_h16",
	"b64_8K_h16",   "b64_16K_h16",  "b64_32K_h16",  "b64_64K_h16",  "b64_128K_h16",
	"b64_256_h128", "b64_512_h128", "b64_1K_h128",  "b64_2K_h128",  "b64_4K_h128",
	"b64_8K_h128",  "b64_16K_h128", "b64_32K_h128", "b64_64K_h128", "b64_128K_h128",
};

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))

const struct cell_suite cell_suites[] = {
	{"smoke", "three tiny cells: does everything work?", smoke, COUNT(smoke)},
	{"peers", "20 cells on which FlashMLA and FlashInfer are known", peers, COUNT(peers)},
	{"sweep", "256 to 128K keys, batch 1 and 64, 16 and 128 heads", sweep, COUNT(sweep)},
};
const int cell_num_suites = COUNT(cell_suites);

/* ---- names ----------------------------------------------------------------------------------- */

/* A part of the name: a letter and a number. */
struct part {
	const char *what;
	int32_t *place;
	long most;
};

static mla_status refuse(const char *text, const char *found, const char *expected)
{
	return mla_fail(MLA_INVALID, "cell \"%s\": found \"%s\", expected %s", text, found,
			expected);
}

/* "8K", "8Kv", "1000": the keys of a request. */
static const char *parse_keys(const char *word, struct cell *cell)
{
	char *end;
	long keys = strtol(word, &end, 10);

	if (*end == 'K') {
		keys = keys > 0 && keys <= 1 << 20 ? keys * 1024 : 0;
		end++;
	}
	cell->varied = *end == 'v';
	cell->kv_len = keys >= 1 && keys <= 1 << 29 ? (int32_t)keys : 0;
	return end + cell->varied;
}

static mla_status parse_word(const char *text, const char *word, struct cell *cell)
{
	const struct part parts[] = {
		{"b1 to b65536 requests", &cell->batch_size, 1 << 16},
		{"h1 to h65536 heads", &cell->num_heads, 1 << 16},
		{"q1 to q65536 queries per request", &cell->qo_len, 1 << 16},
		{"p1 to p65536 keys per page", &cell->page_size, 1 << 16},
	};
	char *end;

	if (*word >= '0' && *word <= '9') {
		if (*parse_keys(word, cell) || cell->kv_len < 1)
			return refuse(text, word, "keys such as 1000, 8K or 8Kv");
		return MLA_OK;
	}
	for (int i = 0; i < COUNT(parts); i++) {
		if (*word != parts[i].what[0])
			continue;

		const long value = strtol(word + 1, &end, 10);

		if (word[1] < '0' || word[1] > '9' || *end || value < 1 || value > parts[i].most)
			return refuse(text, word, parts[i].what);
		*parts[i].place = (int32_t)value;
		return MLA_OK;
	}
	return refuse(text, word, "parts such as b128, 8K, h128, q2, p64");
}

mla_status cell_parse(const char *text, struct cell *cell)
{
	char copy[sizeof(cell->name)], *save = NULL;
	mla_status status = MLA_OK;

	*cell = (struct cell){.qo_len = 1, .page_size = 64};
	snprintf(copy, sizeof(copy), "%s", text);
	if (strlen(text) >= sizeof(copy))
		return refuse(copy, "more", "less than 48 characters");
	for (char *word = strtok_r(copy, "_ ", &save); word && !status;
	     word = strtok_r(NULL, "_ ", &save))
		status = parse_word(text, word, cell);
	if (status)
		return status;
	if (!cell->batch_size || !cell->kv_len || !cell->num_heads)
		return refuse(text, "too little", "requests, keys and heads, as in b4_4K_h128");

	char *end = cell->name;

	for (const char *p = text; *p; p++)
		*end++ = *p == ' ' ? '_' : *p;
	return MLA_OK;
}

/* ---- batch and page table -------------------------------------------------------------------- */

enum use { USE_Q_NOPE, USE_Q_PE, USE_POOL, USE_LENGTHS, USE_PAGES };

uint64_t cell_seed_q_nope(uint64_t seed)
{
	return random_stream(seed, USE_Q_NOPE);
}

uint64_t cell_seed_q_pe(uint64_t seed)
{
	return random_stream(seed, USE_Q_PE);
}

uint64_t cell_seed_pool(uint64_t seed)
{
	return random_stream(seed, USE_POOL);
}

/* Uniform in [low, low + span). */
static int64_t draw(uint64_t seed, uint64_t index, int64_t low, int64_t span)
{
	return low + (int64_t)(random_number(seed, index) % (uint64_t)span);
}

static mla_status no_memory(const struct mla_case *c)
{
	return mla_fail(MLA_NO_MEMORY, "not enough memory for cell \"%s\"", c->name);
}

static mla_status make_batch(const struct cell *cell, uint64_t seed, struct mla_case *c)
{
	const int32_t n = cell->batch_size, low = (cell->kv_len + 1) / 2;
	const int32_t high = cell->kv_len + cell->kv_len / 2;
	int32_t *qo_len = case_alloc(c, (size_t)n * sizeof(int32_t));
	int32_t *qo_indptr = case_alloc(c, ((size_t)n + 1) * sizeof(int32_t));
	int32_t *kv_indptr = case_alloc(c, ((size_t)n + 1) * sizeof(int32_t));
	int32_t *kv_len = case_alloc(c, (size_t)n * sizeof(int32_t));
	struct case_size size;

	if (!qo_len || !qo_indptr || !kv_indptr || !kv_len)
		return no_memory(c);
	for (int32_t r = 0; r < n; r++) {
		qo_len[r] = cell->qo_len;
		kv_len[r] = cell->varied ? (int32_t)draw(random_stream(seed, USE_LENGTHS),
							 (uint64_t)r, low, high - low + 1)
					 : cell->kv_len;
	}
	if (case_size_of(&c->config, n, qo_len, kv_len, &size))
		return mla_fail(MLA_INVALID, "cell \"%s\": %s", c->name, mla_last_error());
	for (int32_t r = 0; r < n; r++) {
		qo_indptr[r + 1] = qo_indptr[r] + qo_len[r];
		kv_indptr[r + 1] = kv_indptr[r] + (int32_t)geometry_pages(&c->config, kv_len[r]);
	}
	c->batch = (mla_batch){.struct_size = sizeof(mla_batch),
			       .batch_size = n,
			       .qo_indptr = qo_indptr,
			       .kv_indptr = kv_indptr,
			       .kv_len = kv_len};
	if (mla_capacity_of(&c->config, &c->batch,
			    &(mla_capacity){.struct_size = sizeof(mla_capacity)}))
		return mla_fail(MLA_INVALID, "cell \"%s\": %s", c->name, mla_last_error());
	return MLA_OK;
}

/* The first entries of a random permutation of all pages. */
static mla_status make_page_table(uint64_t seed, struct mla_case *c)
{
	const int64_t entries = c->batch.kv_indptr[c->batch.batch_size];
	const int64_t pages = entries + UNUSED_PAGES;
	/* Counting which are used takes as much again. */
	const mla_status status =
		memory_ask(2 * pages * (int64_t)sizeof(int32_t), "the cell's page table");

	if (status)
		return status;

	int32_t *indices = case_alloc(c, (size_t)pages * sizeof(*indices));

	if (!indices)
		return no_memory(c);
	for (int64_t i = 0; i < pages; i++)
		indices[i] = (int32_t)i;
	for (int64_t i = 0; i < entries; i++) {
		const int64_t j = draw(random_stream(seed, USE_PAGES), (uint64_t)i, i, pages - i);
		const int32_t swap = indices[i];

		indices[i] = indices[j];
		indices[j] = swap;
	}
	c->tensors.kv_indices = indices;
	c->tensors.num_kv_indices = entries;
	return MLA_OK;
}

/* bf16 rows of `dims` elements, `stride` elements apart. */
static mla_tensor shape(int64_t outer, int64_t inner, int64_t dims, int64_t stride)
{
	return (mla_tensor){.dtype = MLA_BF16,
			    .ndim = 3,
			    .extent = {outer, inner, dims},
			    .stride = {2 * inner * stride, 2 * stride, 2}};
}

mla_status cell_case(const struct cell *cell, uint64_t seed, struct mla_case *c)
{
	const int64_t queries = (int64_t)cell->batch_size * cell->qo_len;
	mla_status status;

	memset(c, 0, sizeof(*c));
	snprintf(c->name, sizeof(c->name), "%s", cell->name);
	c->config = (mla_config){.struct_size = sizeof(mla_config),
				 .num_heads = cell->num_heads,
				 .head_dim_ckv = CKV,
				 .head_dim_kpe = KPE,
				 .page_size = cell->page_size,
				 .causal = cell->qo_len > 1,
				 .sm_scale = 1 / sqrt(192)};
	status = make_batch(cell, seed, c);
	if (!status)
		status = make_page_table(seed, c);
	if (status) {
		case_free(c);
		return status;
	}

	const int64_t pages = c->tensors.num_kv_indices + UNUSED_PAGES;

	c->tensors.struct_size = sizeof(mla_tensors);
	c->tensors.q_nope = shape(queries, cell->num_heads, CKV, CKV);
	c->tensors.q_pe = shape(queries, cell->num_heads, KPE, KPE);
	c->tensors.ckv = shape(pages, cell->page_size, CKV, ROW);
	c->tensors.kpe = shape(pages, cell->page_size, KPE, ROW);
	return MLA_OK;
}

int64_t cell_pool_bytes(const struct mla_case *c)
{
	return c->tensors.ckv.extent[0] * c->tensors.ckv.stride[0];
}

int32_t *cell_keys(const struct mla_case *c)
{
	const int32_t page_size = c->config.page_size;
	int32_t *keys = calloc((size_t)c->tensors.num_kv_indices + 1, sizeof(*keys));

	for (int32_t r = 0; keys && r < c->batch.batch_size; r++) {
		int32_t left = c->batch.kv_len[r];

		for (int32_t i = c->batch.kv_indptr[r]; i < c->batch.kv_indptr[r + 1]; i++) {
			keys[i] = left < page_size ? left : page_size;
			left -= keys[i];
		}
	}
	return keys;
}

/* ---- values on the host ---------------------------------------------------------------------- */

static void *fill_flat(struct mla_case *c, const mla_tensor *t, uint64_t seed)
{
	const int64_t elements = t->extent[0] * t->extent[1] * t->extent[2];
	uint16_t *data = case_alloc(c, (size_t)elements * sizeof(*data));

#pragma omp parallel for schedule(static) num_threads(ref_threads((double)elements))
	for (int64_t i = 0; i < (data ? elements : 0); i++)
		data[i] = random_value(seed, (uint64_t)i);
	return data;
}

static uint16_t *fill_pool(struct mla_case *c, uint64_t seed)
{
	const int64_t page_elements = (int64_t)c->config.page_size * ROW;
	const int64_t entries = c->tensors.num_kv_indices;
	const size_t bytes = (size_t)cell_pool_bytes(c);
	uint16_t *pool = case_alloc(c, bytes);
	int32_t *keys = cell_keys(c);

	if (pool && keys) {
		memset(pool, POISON_BYTE, bytes);
#pragma omp parallel for schedule(static) num_threads(ref_threads((double)bytes))
		for (int64_t i = 0; i < entries; i++) {
			const int64_t first = c->tensors.kv_indices[i] * page_elements;

			for (int64_t e = 0; e < (int64_t)keys[i] * ROW; e++)
				pool[first + e] = random_value(seed, (uint64_t)(first + e));
		}
	}
	free(keys);
	return keys ? pool : NULL;
}

mla_status cell_fill(struct mla_case *c, uint64_t seed)
{
	mla_tensors *t = &c->tensors;
	uint16_t *pool = fill_pool(c, cell_seed_pool(seed));

	t->q_nope.data = fill_flat(c, &t->q_nope, cell_seed_q_nope(seed));
	t->q_pe.data = fill_flat(c, &t->q_pe, cell_seed_q_pe(seed));
	t->ckv.data = pool;
	t->kpe.data = pool ? pool + CKV : NULL;
	return pool && t->q_nope.data && t->q_pe.data ? MLA_OK : no_memory(c);
}
