/* plan.c - lays the work of a ragged batch out over the workers of a GPU.
 *
 * A request's packed rows are cut into tiles of at most tile_rows. Tiles stand in a line, each as
 * long as its visible keys plus a fixed cost, and the line is cut into one contiguous stretch per
 * worker. The shortest stretch length with which num_workers stretches suffice is found by
 * bisection. Where a cut falls inside a tile, the tile's parts become partial states, merged later.
 * Hence at most num_workers - 1 cuts, and at most 2 * (num_workers - 1) partial states, whatever
 * the batch: scratch is bounded by the kernel and the device.
 *
 * In fixed-split mode tiles are cut at multiples of config.fixed_split instead, and the line is cut
 * between parts only.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "lib/geometry.h"
#include "lib/internal.h"

static int64_t ceil_div(int64_t a, int64_t b)
{
	return (a + b - 1) / b;
}

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* ---- sizes by capacity --------------------------------------------------------------------- */

static mla_status check_capacity(const mla_config *config, mla_capacity *c)
{
	const struct mla_range ranges[] = {
		{"capacity.max_requests", c->max_requests, 1, MLA_MAX_QUERIES},
		{"capacity.max_queries", c->max_queries, 1, MLA_MAX_QUERIES},
		{"capacity.max_qo_len", c->max_qo_len, 0, MLA_MAX_QUERIES},
		{"capacity.max_kv_len", c->max_kv_len, 0, MLA_MAX_KV_LEN},
		{"capacity.reserved", c->reserved, 0, 0},
		{"capacity.max_kv_tokens", c->max_kv_tokens, 1, (int64_t)1 << 40},
		{"capacity.max_pages", c->max_pages, 0, INT32_MAX},
	};
	const mla_status status = mla_check_ranges(ranges, sizeof(ranges) / sizeof(ranges[0]));

	if (status)
		return status;
	if ((int64_t)c->max_queries * config->num_heads > INT32_MAX)
		return mla_fail(
			MLA_INVALID,
			"capacity.max_queries %d * config.num_heads %d packed rows exceed 2^31 - 1",
			c->max_queries, config->num_heads);
	if (c->max_qo_len == 0)
		c->max_qo_len = c->max_queries;
	if (c->max_kv_len == 0)
		c->max_kv_len = (int32_t)smaller(c->max_kv_tokens, MLA_MAX_KV_LEN);
	if (c->max_pages == 0)
		c->max_pages = c->max_kv_tokens / config->page_size + c->max_requests;
	return MLA_OK;
}

/* The product of two bounds, or INT64_MAX: too much for any limit that follows. */
static int64_t times(int64_t a, int64_t b)
{
	int64_t product;

	return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/* The most items, merges and partial rows that any batch within the capacity can need. */
static mla_status bound_sizes(mla_plan *plan)
{
	const mla_capacity *c = &plan->capacity;
	const int64_t heads = plan->config.num_heads, tile = plan->traits.tile_rows;
	const int64_t rows = c->max_queries * heads,
		      longest = smaller(c->max_qo_len, c->max_queries);
	const int64_t requests = smaller(c->max_requests, c->max_queries);
	const int64_t tiles = rows / tile + requests; /* one unfilled tile per request */
	int64_t items = tiles, merges = 0, partial_rows = 0;

	if (plan->traits.merge == MLA_MERGE_NONE) {
		/* one item per tile, nothing to merge */
	} else if (plan->config.fixed_split) {
		const int64_t split = plan->config.fixed_split;
		const int64_t parts = ceil_div(c->max_kv_len, split); /* of the longest request */
		const int64_t all_parts = c->max_kv_tokens / split + requests; /* of all requests */
		const int64_t tiles_each = ceil_div(longest * heads, tile);

		items = smaller(times(tiles, parts), times(tiles_each, all_parts));
		items = items > tiles ? items : tiles;
		merges = parts > 1 ? tiles : 0;
		partial_rows =
			parts > 1 ? smaller(times(rows, parts), times(longest * heads, all_parts))
				  : 0;
	} else {
		const int64_t cuts = plan->num_workers - 1;

		items = tiles + cuts;
		merges = cuts;
		partial_rows = 2 * cuts * smaller(tile, longest * heads);
	}
	if (items > INT32_MAX / 2 || partial_rows > INT32_MAX)
		return mla_fail(
			MLA_CAPACITY,
			"this capacity may need %" PRId64 " work items and %" PRId64
			" partial rows, limits are 2^30 and 2^31: lower max_queries, max_qo_len "
			"or max_kv_len, or raise config.fixed_split",
			items, partial_rows);
	plan->max_items = (int32_t)items;
	plan->max_merges = (int32_t)merges;
	plan->max_partial_rows = partial_rows;
	/* partial_out [rows, head_dim_ckv], then partial_lse [rows], f32 */
	plan->scratch_bytes =
		partial_rows * (plan->config.head_dim_ckv + 1) * (int64_t)sizeof(float);
	return MLA_OK;
}

static size_t place(size_t *offset, int64_t count, size_t size)
{
	const size_t at = *offset;

	*offset = (at + (size_t)count * size + 255) & ~(size_t)255;
	return at;
}

static void lay_out_blob(mla_plan *plan)
{
	struct plan_layout *l = &plan->layout;
	const int64_t requests = plan->capacity.max_requests;
	size_t offset = 0;

	l->header = place(&offset, 1, sizeof(struct plan_header));
	l->qo_indptr = place(&offset, requests + 1, sizeof(int32_t));
	l->kv_indptr = place(&offset, requests + 1, sizeof(int32_t));
	l->kv_len = place(&offset, requests, sizeof(int32_t));
	l->q_pos0 = place(&offset, requests, sizeof(int32_t));
	l->worker_begin = place(&offset, plan->num_workers + 1, sizeof(int32_t));
	l->counters = place(&offset, plan->max_merges, sizeof(int32_t));
	l->merges = place(&offset, plan->max_merges, sizeof(mla_merge_item));
	l->items = place(&offset, plan->max_items, sizeof(mla_work));
	l->bytes = offset;
}

static mla_status allocate_image(mla_plan *plan)
{
	const struct plan_layout *l = &plan->layout;
	char *image = calloc(1, l->bytes);

	if (!image)
		return mla_fail(MLA_NO_MEMORY, "no memory for a plan of %zu bytes", l->bytes);
	plan->image = image;
	plan->header = (struct plan_header *)(image + l->header);
	plan->qo_indptr = (int32_t *)(image + l->qo_indptr);
	plan->kv_indptr = (int32_t *)(image + l->kv_indptr);
	plan->kv_len = (int32_t *)(image + l->kv_len);
	plan->q_pos0 = (int32_t *)(image + l->q_pos0);
	plan->worker_begin = (int32_t *)(image + l->worker_begin);
	plan->merges = (mla_merge_item *)(image + l->merges);
	plan->items = (mla_work *)(image + l->items);
	return MLA_OK;
}

/* ---- create and destroy -------------------------------------------------------------------- */

static mla_status set_up(mla_plan *plan)
{
	const mla_traits *t = &plan->traits;
	const int32_t split = plan->config.fixed_split;
	mla_status status = check_capacity(&plan->config, &plan->capacity);

	if (status)
		return status;
	if (split % t->kv_granule && t->merge != MLA_MERGE_NONE)
		return mla_fail(
			MLA_INVALID,
			"config.fixed_split is %d, expected a multiple of the kernel's granule of "
			"%d keys",
			split, t->kv_granule);
	plan->num_workers = plan->device.sm_count * t->ctas_per_sm / t->ctas_per_worker;
	if (plan->num_workers < 1)
		return mla_fail(MLA_REFUSED, "%d SMs hold no worker of %d CTAs, %d per SM",
				plan->device.sm_count, t->ctas_per_worker, t->ctas_per_sm);
	status = bound_sizes(plan);
	if (status)
		return status;
	lay_out_blob(plan);
	return allocate_image(plan);
}

mla_status mla_plan_create_for_traits(const mla_traits *traits, const mla_config *config,
				      const mla_device *device, const mla_capacity *capacity,
				      mla_plan **plan_out)
{
	mla_traits whole;
	mla_status status;

	if (!plan_out)
		return mla_fail(MLA_INVALID, "plan is NULL: nowhere to put the new plan");
	*plan_out = NULL;
	status = mla_struct_check(MLA_STRUCT_CAPACITY, capacity);
	if (!status)
		status = mla_check_config(config);
	if (!status)
		status = mla_check_device(device);
	if (!status)
		status = mla_struct_take(MLA_STRUCT_TRAITS, traits, &whole);
	if (!status)
		status = mla_check_traits(&whole);
	if (status)
		return status;

	mla_plan *plan = calloc(1, sizeof(*plan));

	if (!plan)
		return mla_fail(MLA_NO_MEMORY, "no memory for a plan");
	plan->config = *config;
	plan->device = *device;
	plan->capacity = *capacity;
	plan->traits = whole;
	plan->kernel_name = "";
	status = set_up(plan);
	if (status) {
		mla_plan_destroy(plan);
		return status;
	}
	*plan_out = plan;
	return MLA_OK;
}

void mla_plan_destroy(mla_plan *plan)
{
	if (!plan)
		return;
	if (plan->gpu)
		plan->release_gpu(plan->gpu);
	free(plan->image);
	free(plan);
}

/* ---- build --------------------------------------------------------------------------------- */

static mla_status check_fits(const mla_plan *plan, const mla_batch *batch)
{
	const mla_capacity *c = &plan->capacity;
	mla_capacity need;
	const mla_status status = mla_capacity_of(&plan->config, batch, &need);

	if (status)
		return status;

	const struct {
		const char *what;
		int64_t need, have;
	} limits[] = {
		{"requests (max_requests)", need.max_requests, c->max_requests},
		{"queries (max_queries)", need.max_queries, c->max_queries},
		{"queries in one request (max_qo_len)", need.max_qo_len, c->max_qo_len},
		{"keys in one request (max_kv_len)", need.max_kv_len, c->max_kv_len},
		{"keys (max_kv_tokens)", need.max_kv_tokens, c->max_kv_tokens},
		{"page table entries (max_pages)", need.max_pages, c->max_pages},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (limits[i].need > limits[i].have)
			return mla_fail(MLA_CAPACITY,
					"the batch has %" PRId64
					" %s, the plan's capacity is %" PRId64,
					limits[i].need, limits[i].what, limits[i].have);
	return MLA_OK;
}

static void copy_batch(mla_plan *plan, const mla_batch *batch)
{
	const int32_t n = batch->batch_size;

	for (int32_t i = 0; i < n; i++) {
		plan->qo_indptr[i] = batch->qo_indptr[i];
		plan->kv_indptr[i] = batch->kv_indptr[i];
		plan->kv_len[i] = batch->kv_len[i];
		plan->q_pos0[i] =
			plan->config.causal ? (int32_t)geometry_position(batch, i) : MLA_MAX_KV_LEN;
	}
	plan->qo_indptr[n] = n ? batch->qo_indptr[n] : 0;
	plan->kv_indptr[n] = n ? batch->kv_indptr[n] : 0;
	plan->batch = (mla_batch){
		.struct_size = sizeof(plan->batch),
		.batch_size = n,
		.qo_indptr = plan->qo_indptr,
		.kv_indptr = plan->kv_indptr,
		.kv_len = plan->kv_len,
		.q_pos0 = plan->q_pos0,
	};
}

/* A tile and the keys that its last row sees: [0, keys). */
struct tile {
	int32_t request, row_begin, row_end, keys;
};

static struct tile tile_at(const mla_plan *plan, int32_t request, int32_t row_begin, int32_t rows)
{
	const int32_t row_end = (int32_t)smaller(rows, (int64_t)row_begin + plan->traits.tile_rows);
	const int32_t last_query = (row_end - 1) / plan->config.num_heads;
	const int32_t keys =
		(int32_t)geometry_seen(&plan->config, &plan->batch, request, last_query);

	return (struct tile){request, row_begin, row_end, keys};
}

/* The cut of the line into stretches, while it is laid. */
struct cursor {
	int64_t stretch; /* cost a worker may take */
	int64_t room;    /* what the current worker has left */
	int32_t worker;  /* current worker */
	bool cut;        /* a tile may be cut at any granule */
	bool write;      /* false: only count the workers */
	int32_t num_items, num_merges;
	int64_t partial_rows, busiest, total;
};

static int64_t granules(const mla_plan *plan, int64_t keys)
{
	return ceil_div(keys, plan->traits.kv_granule) * plan->traits.kv_granule;
}

static void next_worker(mla_plan *plan, struct cursor *c)
{
	c->worker++;
	c->room = c->stretch;
	if (c->write && c->worker <= plan->num_workers)
		plan->worker_begin[c->worker] = c->num_items;
}

/* Keys of the tile from key begin on that the next item takes: all, up to the next fixed split, or
 * what the current worker has room for. Moves on to the next worker where nothing fits. */
static int32_t take(mla_plan *plan, struct cursor *c, const struct tile *tile, int32_t begin)
{
	const int32_t left = tile->keys - begin, granule = plan->traits.kv_granule;
	int64_t keys = left;

	if (plan->traits.merge != MLA_MERGE_NONE && plan->config.fixed_split)
		keys = smaller(left, plan->config.fixed_split);

	int64_t cost = plan->traits.item_cost + granules(plan, keys);

	if (cost > c->room && c->cut && c->room >= plan->traits.item_cost + granule) {
		keys = (c->room - plan->traits.item_cost) / granule * granule;
		cost = plan->traits.item_cost + keys;
	} else if (cost > c->room && c->room < c->stretch) {
		next_worker(plan, c);
		return take(plan, c, tile, begin);
	}
	c->room -= cost;
	c->total += cost;
	if (c->stretch - c->room > c->busiest)
		c->busiest = c->stretch - c->room;
	return (int32_t)keys;
}

static void write_item(mla_plan *plan, struct cursor *c, const struct tile *tile, int32_t begin,
		       int32_t end, int32_t partial)
{
	plan->items[c->num_items] = (mla_work){
		.request = tile->request,
		.row_begin = tile->row_begin,
		.row_end = tile->row_end,
		.kv_begin = begin,
		.kv_end = end,
		.partial = partial,
		.q_begin = plan->qo_indptr[tile->request],
		.page_begin = plan->kv_indptr[tile->request],
		.q_pos0 = plan->q_pos0[tile->request],
	};
}

static void lay_tile(mla_plan *plan, struct cursor *c, const struct tile *tile)
{
	const int32_t rows = tile->row_end - tile->row_begin;
	const int64_t partial = c->partial_rows;
	int32_t parts = 0, begin = 0;

	do {
		const int32_t keys = take(plan, c, tile, begin);
		const bool whole = begin == 0 && keys == tile->keys;

		if (c->write)
			write_item(plan, c, tile, begin, begin + keys,
				   whole ? -1 : (int32_t)(partial + (int64_t)parts * rows));
		c->num_items++;
		parts++;
		begin += keys;
	} while (begin < tile->keys);

	if (parts == 1)
		return;
	c->partial_rows += (int64_t)parts * rows;
	if (c->write)
		plan->merges[c->num_merges] = (mla_merge_item){
			.row_begin = plan->qo_indptr[tile->request] * plan->config.num_heads +
				     tile->row_begin,
			.rows = rows,
			.partial = (int32_t)partial,
			.num_splits = parts,
		};
	c->num_merges++;
}

/* Lays the whole line with a given stretch. The number of workers it takes is cursor.worker + 1. */
static struct cursor lay_line(mla_plan *plan, int64_t stretch, bool cut, bool write)
{
	struct cursor c = {.stretch = stretch, .room = stretch, .cut = cut, .write = write};

	for (int32_t r = 0; r < plan->batch.batch_size; r++) {
		const int32_t queries = plan->qo_indptr[r + 1] - plan->qo_indptr[r];
		const int32_t rows = queries * plan->config.num_heads;

		for (int32_t row = 0; row < rows;) {
			const struct tile tile = tile_at(plan, r, row, rows);

			lay_tile(plan, &c, &tile);
			row = tile.row_end;
			if (!write && c.worker >= plan->num_workers)
				return c; /* too short already */
		}
	}
	return c;
}

/* The shortest stretch with which the line fits. Each worker wastes less than the piece that it
 * cannot take, and each cut adds one item_cost, so mean + that suffices: bisect below. */
static int64_t find_stretch(mla_plan *plan, bool cut)
{
	const mla_traits *t = &plan->traits;
	const int32_t uncut =
		t->merge == MLA_MERGE_NONE ? plan->capacity.max_kv_len : plan->config.fixed_split;
	const int64_t piece = cut ? (int64_t)2 * t->item_cost + t->kv_granule
				  : t->item_cost + granules(plan, uncut);
	const int64_t total = lay_line(plan, INT64_MAX / 2, false, false).total;
	int64_t low = ceil_div(total, plan->num_workers);

	if (low < t->item_cost + t->kv_granule)
		low = t->item_cost + t->kv_granule; /* an item must fit */

	int64_t high = low + piece;

	while (low < high) {
		const int64_t middle = low + (high - low) / 2;

		if (lay_line(plan, middle, cut, false).worker < plan->num_workers)
			high = middle;
		else
			low = middle + 1;
	}
	return high;
}

/* Lays the batch out. Where whole tiles make the busiest worker no more than a merge_cost busier
 * than cut tiles do, they stay whole. */
static struct cursor lay_batch(mla_plan *plan)
{
	const bool cut = plan->traits.merge != MLA_MERGE_NONE && !plan->config.fixed_split;
	const int64_t stretch = find_stretch(plan, cut),
		      patience = stretch + plan->traits.merge_cost;

	if (cut) {
		const struct cursor whole = lay_line(plan, patience, false, false);

		if (whole.worker < plan->num_workers && whole.busiest <= patience)
			return lay_line(plan, patience, false, true);
	}
	return lay_line(plan, stretch, cut, true);
}

mla_status mla_plan_build(mla_plan *plan, const mla_batch *batch)
{
	if (!plan)
		return mla_fail(MLA_INVALID, "plan is NULL");
	plan->built = false;
	plan->uploaded = false;

	const mla_status status = check_fits(plan, batch);

	if (status)
		return status;
	copy_batch(plan, batch);

	const struct cursor c = lay_batch(plan);

	for (int32_t w = c.worker + 1; w <= plan->num_workers; w++)
		plan->worker_begin[w] = c.num_items;
	*plan->header = (struct plan_header){
		.batch_size = batch->batch_size,
		.total_q = plan->qo_indptr[batch->batch_size],
		.num_items = c.num_items,
		.num_merges = c.num_merges,
	};
	plan->partial_rows = c.partial_rows;
	plan->max_worker_cost = c.busiest;
	plan->total_cost = c.total;
	plan->built = true;
	return MLA_OK;
}

/* ---- views --------------------------------------------------------------------------------- */

mla_status mla_plan_get_info(const mla_plan *plan, mla_plan_info *info)
{
	const mla_status status = plan ? mla_struct_check(MLA_STRUCT_PLAN_INFO, info)
				       : mla_fail(MLA_INVALID, "plan is NULL");

	if (status)
		return status;

	mla_plan_info whole = {
		.struct_size = sizeof(whole),
		.batch_size = plan->built ? plan->header->batch_size : -1,
		.total_q = plan->built ? plan->header->total_q : 0,
		.num_workers = plan->num_workers,
		.num_items = plan->built ? plan->header->num_items : 0,
		.num_merges = plan->built ? plan->header->num_merges : 0,
		.max_items = plan->max_items,
		.max_merges = plan->max_merges,
		.partial_rows = plan->built ? plan->partial_rows : 0,
		.max_partial_rows = plan->max_partial_rows,
		.blob_bytes = (int64_t)plan->layout.bytes,
		.scratch_bytes = plan->scratch_bytes,
		.max_worker_cost = plan->built ? plan->max_worker_cost : 0,
		.mean_worker_cost = plan->built ? plan->total_cost / plan->num_workers : 0,
		.kernel = plan->kernel_name,
	};

	/* Its owner is not known: as far as 0.1.0 knew it, whose callers copy it into 36 bytes. */
	mla_struct_give(MLA_STRUCT_TRAITS, &plan->traits, &whole.traits);
	mla_struct_give(MLA_STRUCT_PLAN_INFO, &whole, info);
	return MLA_OK;
}

const mla_config *mla_plan_config(const mla_plan *plan)
{
	return plan ? &plan->config : NULL;
}

const mla_batch *mla_plan_batch(const mla_plan *plan)
{
	return plan && plan->built ? &plan->batch : NULL;
}

const mla_work *mla_plan_items(const mla_plan *plan)
{
	return plan ? plan->items : NULL;
}

const int32_t *mla_plan_workers(const mla_plan *plan)
{
	return plan ? plan->worker_begin : NULL;
}

const mla_merge_item *mla_plan_merges(const mla_plan *plan)
{
	return plan ? plan->merges : NULL;
}
