/* generate.c - synthetic cases, with the same bits on every machine: integers, + and * in double
 * and no libm, and a seed for each row, so that the number of threads does not matter either.
 *
 * Peaked attention is made of topics. A topic is a random direction of +1 and -1 over all
 * dimensions, rope included. A key is amplitude * one topic + noise, a query leans to one topic
 * with a weight of its own, so the score is about top * weight * amplitude. Amplitudes follow an
 * envelope along the keys, a different one for each request, and that makes the running maximum
 * rise, fall and rise again.
 */
#include "case/generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
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

enum { NUM_TOPICS = 16, VALUE_WORK = 24 /* multiply-adds that a drawn value takes as long as */ };

/* Deviation of the scores of N(0, 1) values, at most; DeepSeek-V3's is 3.2. */
static const double MOST_NORMAL = 30;

/* ---- random numbers -------------------------------------------------------------------------- */

static double uniform(uint64_t *state) /* [0, 1) */
{
	return (double)(random_next(state) >> 11) * 0x1p-53;
}

/* Sum of four uniforms: mean 0, deviation 1, at most 3.46. A Gaussian's far tails would need log
 * and cos, whose last bits differ between libraries. */
static double normal(uint64_t *state)
{
	const uint64_t x = random_next(state);
	const int64_t sum =
		(int64_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));

	return (double)(sum - 131070) * (1 / 37837.227404);
}

/* ---- values ---------------------------------------------------------------------------------- */

struct recipe {
	const char *name;
	double key_topic, key_noise; /* key = amplitude * key_topic * topic + key_noise * N */
	double query_topic, query_noise;
	double score; /* scores reach this; 0: queries stay as they are */
	double base;  /* of the first topic in each key, and in each query with either sign */
};
static const struct recipe recipes[] = {
	[GENERATE_PEAKED] = {"peaked", 1, 0.5, 1, 0.3, 60, 0},
	[GENERATE_NORMAL] = {"normal", 0, 1, 0, 1, 0, 0},
	[GENERATE_FLAT] = {"flat", 0, 1, 0, 1, 0.001, 0},
	[GENERATE_HUGE] = {"huge", 1, 0.5, 1, 0.3, 600, 0},
	[GENERATE_FAR] = {"far", 0.3, 0.1, 0.05, 0.02, 1600, 1},
	[GENERATE_FARTHEST] = {"farthest", 0.3, 0.1, 0.05, 0.02, 300000, 1},
};

/* Where the keys of a page stand; request -1: nobody uses it. */
struct page_owner {
	int32_t request;
	int32_t first_key;
};

struct generator {
	const struct generate_spec *spec;
	const struct recipe *recipe;
	struct mla_case *c;
	int32_t dims;              /* ckv + kpe */
	double query_gain;         /* makes scores reach recipe->score */
	signed char *topics;       /* [NUM_TOPICS, dims] +1 or -1 */
	struct page_owner *owners; /* [num_pages] */
	int64_t num_pages;
	struct case_size size;
};

/* Numbers 4 and from 259 on, in steps of 256, are taken too: by adversarial.c, and by keys. */
enum stream {
	STREAM_TOPICS,
	STREAM_PAGES,
	STREAM_QUERIES,
	STREAM_KEYS,
	STREAM_LAYOUT = 5,
	STREAM_REPEATS,
};

/* A row to be: lean * topic + second_lean * second_topic + noise * N, times gain. */
struct row {
	uint64_t state;
	const signed char *topic, *second_topic;
	double lean, second_lean, noise, gain;
};

static void store(char *element, int32_t dtype, double value)
{
	const float f = (float)value;
	uint32_t bits;

	if (dtype != MLA_BF16) {
		ref_store(element, dtype, value);
		return;
	}
	/* By hand for speed: a cache of 32 x 8K keys has 151 million elements. */
	memcpy(&bits, &f, sizeof(bits));
	bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
	memcpy(element, &(uint16_t){(uint16_t)bits}, sizeof(uint16_t));
}

/* Fills row [i, j] of a pair of tensors, dimensions of the first in front of the second's. */
static void fill_row(struct row *row, const mla_tensor *pair[2], int64_t i, int64_t j)
{
	int32_t dim = 0;

	for (int k = 0; k < 2 && pair[k]->data; k++) {
		const mla_tensor *t = pair[k];
		const int32_t size = ref_dtype_size(t->dtype);
		char *element = (char *)t->data + i * t->stride[0] + j * t->stride[1];

		for (int64_t d = 0; d < t->extent[2]; d++, dim++, element += size) {
			const double topics = row->lean * row->topic[dim] +
					      row->second_lean * row->second_topic[dim];

			store(element, t->dtype,
			      (topics + row->noise * normal(&row->state)) * row->gain);
		}
	}
}

static void fill_queries(const struct generator *g)
{
	const int64_t heads = g->spec->config.num_heads, rows = case_total_q(g->c) * heads;
	const mla_tensor *pair[2] = {&g->c->tensors.q_nope, &g->c->tensors.q_pe};
	const int threads = ref_threads((double)rows * g->dims * VALUE_WORK);

#pragma omp parallel for schedule(static) num_threads(threads)
	for (int64_t r = 0; r < rows; r++) {
		struct row row = {.state =
					  random_state(g->spec->seed, STREAM_QUERIES, (uint64_t)r)};
		const double sign = random_next(&row.state) & 1 ? 1 : -1;

		row.topic = g->topics + random_below(&row.state, NUM_TOPICS) * g->dims;
		row.second_topic = g->topics + random_below(&row.state, NUM_TOPICS) * g->dims;
		row.lean = g->recipe->query_topic * sign * (0.15 + 0.85 * uniform(&row.state));
		row.second_lean = g->recipe->query_topic * 0.3 * (uniform(&row.state) - 0.5);
		if (g->recipe->base > 0) {
			row.second_topic = g->topics;
			row.second_lean =
				random_next(&row.state) & 1 ? g->recipe->base : -g->recipe->base;
		}
		row.noise = g->recipe->query_noise;
		row.gain = g->query_gain * ldexp(1, -g->spec->key_exponent);
		fill_row(&row, pair, r / heads, r % heads);
	}
}

/* A NaN in one element of a row of a pair of tensors, in each of them in turn. */
static void spoil_row(const mla_tensor *pair[2], int64_t turn, int64_t i, int64_t j, int64_t dim)
{
	const mla_tensor *t = pair[turn % 2 && pair[1]->data];

	ref_store((char *)t->data + i * t->stride[0] + j * t->stride[1] +
			  dim % t->extent[2] * t->stride[2],
		  t->dtype, NAN);
}

/* One NaN is enough for a row of NaN, and may touch no other row. */
static void spoil_queries(const struct generator *g)
{
	const int64_t heads = g->spec->config.num_heads, rows = case_total_q(g->c) * heads;
	const int64_t step = g->spec->nan_rows;
	const mla_tensor *pair[2] = {&g->c->tensors.q_nope, &g->c->tensors.q_pe};

	for (int64_t r = step - 1; step > 0 && r < rows; r += step)
		spoil_row(pair, r / step, r / heads, r % heads, r);
}

/* A NaN in one element of a key that the last query of its request sees and the first does not, of
 * every nan_keys-th request that has such a key. */
static void spoil_keys(const struct generator *g)
{
	const mla_config *config = &g->spec->config;
	const mla_batch *batch = &g->c->batch;
	const mla_tensor *pair[2] = {&g->c->tensors.ckv, &g->c->tensors.kpe};
	int32_t found = 0;

	for (int32_t r = 0; r < batch->batch_size && g->spec->nan_keys > 0; r++) {
		const int64_t queries = batch->qo_indptr[r + 1] - batch->qo_indptr[r];
		const int64_t first = geometry_seen(config, batch, r, 0);
		const int64_t key = geometry_seen(config, batch, r, queries - 1) - 1;

		if (queries == 0 || key < first || ++found % g->spec->nan_keys)
			continue;

		const int32_t page =
			g->c->tensors.kv_indices[batch->kv_indptr[r] + key / config->page_size];

		spoil_row(pair, found / g->spec->nan_keys, page, key % config->page_size, key);
	}
}

/* Rising, falling, a mountain, waves: requests take turns. In (0, 1]. */
static double envelope(int32_t request, int64_t key, int64_t kv_len)
{
	const double x = fmin((double)(key + 1) / (double)kv_len, 1);
	const int64_t period = 96 + 37 * (request % 7);
	const double wave = (double)(key % period + 1) / (double)period;
	const double shapes[] = {x, 1 - x + 1 / (double)kv_len, 1 - fabs(2 * x - 1),
				 1 - fabs(2 * wave - 1)};

	return shapes[request % 4];
}

static void fill_page(const struct generator *g, int64_t page)
{
	const mla_tensor *pair[2] = {&g->c->tensors.ckv, &g->c->tensors.kpe};
	const struct page_owner owner = g->owners[page];

	for (int64_t slot = 0; slot < g->spec->config.page_size && owner.request >= 0; slot++) {
		const int64_t key = owner.first_key + slot;
		struct row row = {.state = random_state(g->spec->seed,
							STREAM_KEYS + ((uint64_t)page << 8),
							(uint64_t)slot)};
		const double sign = random_next(&row.state) & 1 ? 1 : -1;
		const double height = envelope(owner.request, key, g->spec->kv_len[owner.request]);

		row.topic = g->topics + random_below(&row.state, NUM_TOPICS) * g->dims;
		row.second_topic = g->topics;
		row.second_lean = g->recipe->base;
		row.lean = g->recipe->key_topic * sign * (0.1 + 0.9 * height) *
			   (0.5 + 0.5 * uniform(&row.state));
		row.noise = g->recipe->key_noise;
		row.gain = ldexp(1, g->spec->key_exponent);
		fill_row(&row, pair, page, slot);
	}
}

static void fill_cache(const struct generator *g)
{
	const double values = (double)g->num_pages * g->spec->config.page_size * g->dims;
	const int threads = ref_threads(values * VALUE_WORK);

#pragma omp parallel for schedule(static) num_threads(threads)
	for (int64_t page = 0; page < g->num_pages; page++)
		fill_page(g, page);
}

static double query_gain(const struct generator *g)
{
	const double scale = fabs(g->spec->config.sm_scale);
	/* |topic|^2 = dims; noise against noise adds up like a walk. */
	const double dot = g->recipe->query_topic > 0 ? g->dims : sqrt((double)g->dims);

	if (!(scale > 0))
		return 1;
	if (!(g->recipe->score > 0)) /* as they are, unless the scale is no model's */
		return fmin(1, MOST_NORMAL / (scale * dot));
	return fmin(g->recipe->score / (scale * dot), 4096); /* far inside fp16 */
}

/* ---- shapes and pages ------------------------------------------------------------------------ */

static int64_t pages_of(const struct generate_spec *spec, int32_t request)
{
	return geometry_pages(&spec->config, spec->kv_len[request]);
}

/* Half of a request's full pages come from the common prefix. */
static int64_t shared_pages(const struct generate_spec *spec, int32_t request)
{
	return spec->pages == GENERATE_PAGES_SHARED
		       ? spec->kv_len[request] / spec->config.page_size / 2
		       : 0;
}

static int32_t gap_behind(const struct generator *g, int32_t request)
{
	const int32_t most = g->spec->table_gap;

	return most ? (request * 5 + 1) % (most + 1) : 0;
}

static mla_status no_memory(void)
{
	return mla_fail(MLA_NO_MEMORY, "not enough memory to generate the case");
}

static mla_status make_batch(struct generator *g)
{
	const struct generate_spec *spec = g->spec;
	const size_t n = (size_t)spec->batch_size;
	int32_t *qo_indptr = case_alloc(g->c, (n + 1) * sizeof(int32_t));
	int32_t *kv_indptr = case_alloc(g->c, (n + 1) * sizeof(int32_t));
	int32_t *kv_len = case_alloc(g->c, (n + 1) * sizeof(int32_t));
	int32_t *q_pos0 = spec->q_pos0 ? case_alloc(g->c, (n + 1) * sizeof(int32_t)) : NULL;

	if (!qo_indptr || !kv_indptr || !kv_len || (spec->q_pos0 && !q_pos0))
		return no_memory();
	if (case_size_of(&spec->config, spec->batch_size, spec->qo_len, spec->kv_len, &g->size))
		return MLA_INVALID;
	for (size_t i = 0; i < n; i++) {
		qo_indptr[i + 1] = qo_indptr[i] + spec->qo_len[i];
		kv_indptr[i + 1] = kv_indptr[i] + (int32_t)pages_of(spec, (int32_t)i) +
				   gap_behind(g, (int32_t)i);
		kv_len[i] = spec->kv_len[i];
		if (q_pos0)
			q_pos0[i] = spec->q_pos0[i];
	}
	g->c->batch = (mla_batch){.struct_size = sizeof(mla_batch),
				  .batch_size = spec->batch_size,
				  .qo_indptr = qo_indptr,
				  .kv_indptr = kv_indptr,
				  .kv_len = kv_len,
				  .q_pos0 = q_pos0};
	/* What mla.h says of a batch, so that no case is made that nothing can run. */
	return mla_capacity_of(&g->c->config, &g->c->batch,
			       &(mla_capacity){.struct_size = sizeof(mla_capacity)});
}

/* The pool's pages in the order in which they are handed out. */
static int32_t *page_order(const struct generator *g)
{
	int32_t *order = malloc((size_t)g->num_pages * sizeof(*order));
	uint64_t state = random_state(g->spec->seed, STREAM_PAGES, 0);

	for (int64_t i = 0; order && i < g->num_pages; i++)
		order[i] = (int32_t)i;
	if (!order || g->spec->pages == GENERATE_PAGES_CONTIGUOUS)
		return order;
	for (int64_t i = g->num_pages - 1; i > 0; i--) {
		const int64_t j = random_below(&state, i + 1);
		const int32_t swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
	return order;
}

/* Returns how many pages are used; they are then known to be enough. */
static int64_t count_pages(struct generator *g)
{
	int64_t prefix = 0, own = 0;

	for (int32_t r = 0; r < g->spec->batch_size; r++) {
		const int64_t shared = shared_pages(g->spec, r);

		prefix = shared > prefix ? shared : prefix;
		own += pages_of(g->spec, r) - shared;
	}

	const int64_t between =
		g->spec->pages == GENERATE_PAGES_CONTIGUOUS ? 0 : (prefix + own) / 8;

	g->num_pages = prefix + own + between + g->spec->extra_pages;
	if (g->num_pages == 0)
		g->num_pages = 1;
	return prefix;
}

static void assign_pages(struct generator *g, const int32_t *order, int64_t prefix,
			 int32_t *indices)
{
	const struct generate_spec *spec = g->spec;
	uint64_t state = random_state(spec->seed, STREAM_REPEATS, 0);
	int64_t fresh = prefix;

	for (int64_t page = 0; page < g->num_pages; page++)
		g->owners[page] = (struct page_owner){.request = -1};
	for (int32_t r = 0; r < spec->batch_size; r++) {
		const int64_t shared = shared_pages(spec, r);
		int32_t *entry = indices + g->c->batch.kv_indptr[r];

		for (int64_t i = 0; i < pages_of(spec, r); i++) {
			const bool again = spec->pages == GENERATE_PAGES_REPEATED && fresh > 0 &&
					   random_below(&state, 4) == 0;
			const int32_t page = order[again        ? random_below(&state, fresh)
						   : i < shared ? i
								: fresh++];

			entry[i] = page;
			if (g->owners[page].request < 0)
				g->owners[page] = (struct page_owner){
					r, (int32_t)(i * spec->config.page_size)};
		}
	}
}

/* For the inputs, and what makes them. */
static mla_status ask_memory(const struct generator *g)
{
	const int64_t inputs = case_input_bytes(&g->spec->config, &g->size, g->num_pages);
	const int64_t order = (int64_t)(sizeof(int32_t) + sizeof(*g->owners)) * g->num_pages;

	if (g->num_pages > INT32_MAX)
		return mla_fail(MLA_INVALID, "the cache has %" PRId64 " pages, expected at most %d",
				g->num_pages, INT32_MAX);
	return memory_ask(memory_sum(inputs, order), "the case");
}

static mla_status make_page_table(struct generator *g)
{
	const int64_t prefix = count_pages(g);
	const int64_t entries = g->c->batch.kv_indptr[g->spec->batch_size] + g->spec->table_gap;
	const mla_status status = ask_memory(g);

	if (status)
		return status;

	int32_t *indices = case_alloc(g->c, (size_t)entries * sizeof(*indices));
	int32_t *order = page_order(g);

	g->owners = malloc((size_t)g->num_pages * sizeof(*g->owners));
	if (!indices || !order || !g->owners) {
		free(order);
		return no_memory();
	}
	for (int64_t i = 0; i < entries; i++)
		indices[i] = POISON_PAGE; /* what stays so lies in a gap, or behind all requests */
	assign_pages(g, order, prefix, indices);
	free(order);
	g->c->tensors.kv_indices = indices;
	g->c->tensors.num_kv_indices = entries;
	return MLA_OK;
}

/* ---- where rows lie -------------------------------------------------------------------------- */

enum loose { LOOSE_Q_NOPE, LOOSE_Q_PE, LOOSE_CKV, LOOSE_KPE, LOOSE_OUT, LOOSE_LSE };

/* Of a tensor with gaps: from the start of its memory to its first element, from element to
 * element, and altogether, in bytes. */
struct layout {
	int64_t lead, stride[3], bytes;
};

/* Gaps behind rows, behind whole rows of rows and in front of everything; of three dimensions the
 * first two change places in memory in every other case. */
static struct layout lay_loosely(const struct generator *g, enum loose which, int32_t dtype,
				 int32_t ndim, const int64_t *extent)
{
	const int64_t size = ref_dtype_size(dtype);
	const int64_t unit = g->spec->gaps > size ? g->spec->gaps : size;
	uint64_t state = random_state(g->spec->seed, STREAM_LAYOUT, which);
	const bool transposed = random_below(&state, 2) == 0 && ndim == 3;
	struct layout layout = {0};
	int64_t bytes = (extent[ndim - 1] * size + unit - 1) / unit * unit;

	layout.stride[ndim - 1] = size;
	for (int32_t i = ndim - 2; i >= 0; i--) {
		const int32_t dim = transposed ? ndim - 2 - i : i;
		const int64_t more = i == 0 && random_below(&state, 2) ? bytes : 0;

		layout.stride[dim] = bytes + more + random_below(&state, 4) * unit;
		bytes = layout.stride[dim] * extent[dim];
	}
	layout.lead = random_below(&state, 9) * unit;
	layout.bytes = layout.lead + bytes;
	return layout;
}

/* data is NULL if memory ran out. */
static mla_tensor make_tensor(const struct generator *g, enum loose which, int32_t dtype,
			      const int64_t extent[3])
{
	mla_tensor tensor = {.dtype = dtype, .ndim = 3};
	struct layout layout;
	char *memory;

	if (!g->spec->gaps)
		return case_tensor(g->c, dtype, 3, extent);
	layout = lay_loosely(g, which, dtype, 3, extent);
	memory = case_alloc(g->c, (size_t)layout.bytes);
	if (!memory)
		return tensor;
	memset(memory, POISON_BYTE, (size_t)layout.bytes);
	tensor.data = memory + layout.lead;
	memcpy(tensor.extent, extent, sizeof(tensor.extent));
	memcpy(tensor.stride, layout.stride, sizeof(tensor.stride));
	return tensor;
}

/* Captured graphs are sized for one query at least. */
static int64_t least_queries(const struct generator *g)
{
	return case_total_q(g->c) > 0 ? case_total_q(g->c) : 1;
}

/* Rows of q or of an output behind the last query. */
static int64_t spare_queries(const struct generator *g, enum loose which)
{
	uint64_t state = random_state(g->spec->seed, STREAM_LAYOUT, 16 + which);

	return g->spec->gaps ? random_below(&state, 3) : 0;
}

static struct case_rows loose_rows(const struct generator *g, enum loose which, int32_t dtype,
				   int32_t ndim, const int64_t *extent)
{
	const struct layout layout = lay_loosely(g, which, dtype, ndim, extent);

	return (struct case_rows){.lead = layout.lead,
				  .query = layout.stride[0],
				  .head = layout.stride[1],
				  .spare = extent[0] - least_queries(g)};
}

static void place_outputs(struct generator *g)
{
	const mla_config *config = &g->spec->config;
	int64_t extent[3] = {0, config->num_heads, config->head_dim_ckv};

	if (!g->spec->gaps)
		return;
	extent[0] = least_queries(g) + spare_queries(g, LOOSE_OUT);
	g->c->out_rows = loose_rows(g, LOOSE_OUT, config->out_dtype, 3, extent);
	extent[0] = least_queries(g) + spare_queries(g, LOOSE_LSE);
	g->c->lse_rows = loose_rows(g, LOOSE_LSE, MLA_F32, 2, extent);
}

/* The first `dim` elements of each row of a wider tensor, from element `from` on. */
static mla_tensor columns(mla_tensor whole, int64_t from, int64_t dim)
{
	whole.data = (char *)whole.data + from * whole.stride[2];
	whole.extent[2] = dim;
	return whole;
}

/* Unused elements between the ckv and the kpe of a fused key. */
static int64_t between_columns(const struct generator *g)
{
	uint64_t state = random_state(g->spec->seed, STREAM_LAYOUT, 32);
	const int64_t size = ref_dtype_size(g->spec->config.ckv_dtype);

	return g->spec->gaps ? random_below(&state, 3) * ((g->spec->gaps + size - 1) / size) : 0;
}

static mla_status make_cache(struct generator *g)
{
	const mla_config *config = &g->spec->config;
	const int64_t ckv = config->head_dim_ckv, kpe = config->head_dim_kpe;
	mla_tensors *t = &g->c->tensors;
	int64_t extent[3] = {g->num_pages, config->page_size, ckv};

	if (g->spec->fused && kpe > 0 && config->ckv_dtype == config->kpe_dtype) {
		const int64_t from = ckv + between_columns(g);

		extent[2] = from + kpe;

		const mla_tensor whole = make_tensor(g, LOOSE_CKV, config->ckv_dtype, extent);

		if (!whole.data)
			return no_memory();
		t->ckv = columns(whole, 0, ckv);
		t->kpe = columns(whole, from, kpe);
		return MLA_OK;
	}
	t->ckv = make_tensor(g, LOOSE_CKV, config->ckv_dtype, extent);
	extent[2] = kpe;
	if (kpe > 0)
		t->kpe = make_tensor(g, LOOSE_KPE, config->kpe_dtype, extent);
	return t->ckv.data && (t->kpe.data || kpe == 0) ? MLA_OK : no_memory();
}

static mla_status make_queries(struct generator *g)
{
	const mla_config *config = &g->spec->config;
	const int64_t queries = least_queries(g);
	mla_tensors *t = &g->c->tensors;
	int64_t extent[3] = {queries + spare_queries(g, LOOSE_Q_NOPE), config->num_heads,
			     config->head_dim_ckv};

	t->q_nope = make_tensor(g, LOOSE_Q_NOPE, config->q_dtype, extent);
	extent[0] = queries + spare_queries(g, LOOSE_Q_PE);
	extent[2] = config->head_dim_kpe;
	if (config->head_dim_kpe > 0)
		t->q_pe = make_tensor(g, LOOSE_Q_PE, config->q_dtype, extent);
	return t->q_nope.data && (t->q_pe.data || config->head_dim_kpe == 0) ? MLA_OK : no_memory();
}

static mla_status make_topics(struct generator *g)
{
	const size_t size = (size_t)NUM_TOPICS * (size_t)g->dims;
	uint64_t state = random_state(g->spec->seed, STREAM_TOPICS, 0);

	g->topics = malloc(size);
	for (size_t i = 0; g->topics && i < size; i++)
		g->topics[i] = random_next(&state) & 1 ? 1 : -1;
	return g->topics ? MLA_OK : no_memory();
}

mla_status generate_case(const struct generate_spec *spec, struct mla_case *c)
{
	struct generator g = {.spec = spec,
			      .recipe = &recipes[spec->values],
			      .c = c,
			      .dims = spec->config.head_dim_ckv + spec->config.head_dim_kpe};
	mla_status status;

	memset(c, 0, sizeof(*c));
	c->config = spec->config;
	c->config.struct_size = sizeof(mla_config);
	c->config.fixed_split = 0;
	c->no_lse = spec->no_lse;
	c->tensors.struct_size = sizeof(mla_tensors);
	snprintf(c->name, sizeof(c->name), "%s:%llu", g.recipe->name,
		 (unsigned long long)spec->seed);
	g.query_gain = query_gain(&g);
	status = make_topics(&g);
	if (!status)
		status = make_batch(&g);
	if (!status)
		status = make_page_table(&g);
	if (!status)
		status = make_queries(&g);
	if (!status)
		status = make_cache(&g);
	if (!status) {
		place_outputs(&g);
		fill_queries(&g);
		spoil_queries(&g);
		fill_cache(&g);
		spoil_keys(&g);
	}
	free(g.topics);
	free(g.owners);
	if (status)
		case_free(c);
	return status;
}
