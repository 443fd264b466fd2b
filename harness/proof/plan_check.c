/* plan_check.c - proves a built plan right, see plan_check.h.
 *
 * Items are sorted by (request, rows, keys) and swept once. The splits of a tile stand next to each
 * other then, so coverage is proved by comparing each begin with the end before it: a gap or an
 * overlap shows as a difference. Merges are sorted by their row of the batch, which is the order
 * that the sweep meets the split tiles in. Sums are 64-bit: the plan is not trusted.
 */
#include "proof/plan_check.h"

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_CAUSAL_POS (1 << 30)

struct proof {
	mla_plan_info info;
	const mla_config *config;
	const mla_batch *batch;
	const mla_work *items;
	const int32_t *workers;
	const mla_merge_item *merges;
	const mla_work **by_row;        /* items by (request, rows, keys) */
	const mla_merge_item **by_tile; /* merges by row of the batch, later by scratch row */
	int32_t next_merge;             /* first of by_tile that the sweep has not met */
	char *why;
	size_t size;
};

/* The items [first, first + splits) of by_row: one tile of rows, its keys in one or more splits. */
struct tile {
	const mla_work **item;
	int32_t splits;
	int64_t rows;
	int64_t batch_row; /* first row, counted over the whole batch */
	int64_t seen;      /* keys [0, seen) are visible to at least one row */
};

__attribute__((format(printf, 2, 3))) static mla_status fail(struct proof *p, const char *format,
							     ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->why, p->size, format, args);
	va_end(args);
	return MLA_INVALID;
}

/* Says an item's place and range, then what is wrong with it. */
__attribute__((format(printf, 3, 4))) static mla_status
fail_item(struct proof *p, const mla_work *w, const char *format, ...)
{
	char what[256];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	return fail(p, "item %td (request %d, rows [%d, %d), keys [%d, %d), partial %d): %s",
		    w - p->items, w->request, w->row_begin, w->row_end, w->kv_begin, w->kv_end,
		    w->partial, what);
}

static int64_t qo_len(const struct proof *p, int32_t request)
{
	return (int64_t)p->batch->qo_indptr[request + 1] - p->batch->qo_indptr[request];
}

static mla_status check_request(struct proof *p, int32_t r)
{
	const mla_batch *b = p->batch;
	int64_t pages = (int64_t)b->kv_indptr[r + 1] - b->kv_indptr[r];

	if (qo_len(p, r) < 0)
		return fail(p, "batch: qo_indptr falls at request %d, from %d to %d", r,
			    b->qo_indptr[r], b->qo_indptr[r + 1]);
	if (b->kv_len[r] < 0)
		return fail(p, "batch: kv_len[%d] is %d, expected >= 0", r, b->kv_len[r]);
	if (b->kv_indptr[r] < 0 || pages * p->config->page_size < b->kv_len[r])
		return fail(p, "batch: request %d has page entries [%d, %d) of %d keys for %d keys",
			    r, b->kv_indptr[r], b->kv_indptr[r + 1], p->config->page_size,
			    b->kv_len[r]);
	if (p->config->causal && b->q_pos0[r] + qo_len(p, r) > INT32_MAX)
		return fail(p, "batch: q_pos0[%d] = %d plus %lld queries is beyond 32 bits", r,
			    b->q_pos0[r], (long long)qo_len(p, r));
	return MLA_OK;
}

static mla_status check_batch(struct proof *p)
{
	const mla_batch *b = p->batch;
	mla_status status = MLA_OK;

	if (b->batch_size < 0 || b->batch_size != p->info.batch_size)
		return fail(p, "batch: batch_size is %d, the plan's info says %d", b->batch_size,
			    p->info.batch_size);
	if (b->batch_size == 0 && p->info.total_q == 0)
		return MLA_OK;
	if (!b->qo_indptr || !b->kv_indptr || !b->kv_len)
		return fail(p, "batch: qo_indptr, kv_indptr or kv_len is NULL");
	if (p->config->causal && !b->q_pos0)
		return fail(p, "batch: q_pos0 is NULL in a causal plan, expected it filled in");
	if (b->qo_indptr[0] || b->qo_indptr[b->batch_size] != p->info.total_q)
		return fail(p, "batch: queries [%d, %d), the plan's info says [0, %d)",
			    b->qo_indptr[0], b->qo_indptr[b->batch_size], p->info.total_q);
	for (int32_t r = 0; r < b->batch_size && !status; r++)
		status = check_request(p, r);
	return status;
}

static mla_status check_counts(struct proof *p)
{
	const mla_plan_info *i = &p->info;
	int64_t scratch_row = (p->config->head_dim_ckv + 1LL) * (int64_t)sizeof(float);

	if (p->config->num_heads < 1 || i->traits.tile_rows < 1 || i->traits.kv_granule < 1)
		return fail(p, "num_heads %d, tile_rows %d, kv_granule %d: expected all >= 1",
			    p->config->num_heads, i->traits.tile_rows, i->traits.kv_granule);
	if (i->num_items < 0 || i->num_items > i->max_items)
		return fail(p, "%d items, expected 0 to max_items = %d", i->num_items,
			    i->max_items);
	if (i->num_merges < 0 || i->num_merges > i->max_merges)
		return fail(p, "%d merges, expected 0 to max_merges = %d", i->num_merges,
			    i->max_merges);
	if (i->partial_rows < 0 || i->partial_rows > i->max_partial_rows)
		return fail(p, "%lld partial rows, expected 0 to max_partial_rows = %lld",
			    (long long)i->partial_rows, (long long)i->max_partial_rows);
	if (i->max_partial_rows > i->scratch_bytes / scratch_row)
		return fail(p,
			    "scratch of %lld bytes does not hold max_partial_rows = %lld of "
			    "%lld bytes",
			    (long long)i->scratch_bytes, (long long)i->max_partial_rows,
			    (long long)scratch_row);
	if (i->traits.merge == MLA_MERGE_NONE && (i->num_merges || i->partial_rows))
		return fail(p, "%d merges and %lld partial rows for a kernel that never splits",
			    i->num_merges, (long long)i->partial_rows);
	if ((i->num_items > 0 && !p->items) || (i->num_merges > 0 && !p->merges))
		return fail(p, "items or merges are NULL");
	return MLA_OK;
}

static mla_status check_workers(struct proof *p)
{
	int32_t n = p->info.num_workers;

	if (n < 1 || !p->workers)
		return fail(p, "%d workers, expected at least 1", n);
	if (p->workers[0])
		return fail(p, "worker 0 begins at item %d, expected 0", p->workers[0]);
	for (int32_t w = 0; w < n; w++)
		if (p->workers[w + 1] < p->workers[w])
			return fail(p, "worker %d has items [%d, %d): offsets fall", w,
				    p->workers[w], p->workers[w + 1]);
	if (p->workers[n] != p->info.num_items)
		return fail(p, "the workers' lists end at item %d, expected %d", p->workers[n],
			    p->info.num_items);
	return MLA_OK;
}

static mla_status check_copies(struct proof *p, const mla_work *w)
{
	const mla_batch *b = p->batch;
	int32_t pos = p->config->causal ? b->q_pos0[w->request] : NOT_CAUSAL_POS;

	if (w->q_begin != b->qo_indptr[w->request])
		return fail_item(p, w, "q_begin is %d, expected %d", w->q_begin,
				 b->qo_indptr[w->request]);
	if (w->page_begin != b->kv_indptr[w->request])
		return fail_item(p, w, "page_begin is %d, expected %d", w->page_begin,
				 b->kv_indptr[w->request]);
	if (w->q_pos0 != pos)
		return fail_item(p, w, "q_pos0 is %d, expected %d", w->q_pos0, pos);
	if (w->reserved[0] || w->reserved[1] || w->reserved[2])
		return fail_item(p, w, "reserved is not 0");
	return MLA_OK;
}

/* An item by itself: inside its request, no larger than a tile, copies true. */
static mla_status check_item(struct proof *p, const mla_work *w)
{
	int64_t rows;

	if (w->request < 0 || w->request >= p->batch->batch_size)
		return fail_item(p, w, "the batch has %d requests", p->batch->batch_size);
	rows = qo_len(p, w->request) * p->config->num_heads;
	if (w->row_begin < 0 || w->row_end <= w->row_begin || w->row_end > rows)
		return fail_item(p, w, "the request has rows [0, %lld)", (long long)rows);
	if ((int64_t)w->row_end - w->row_begin > p->info.traits.tile_rows)
		return fail_item(p, w, "a tile is at most %d rows", p->info.traits.tile_rows);
	if (w->kv_begin < 0 || w->kv_end < w->kv_begin || w->kv_end > p->batch->kv_len[w->request])
		return fail_item(p, w, "the request has keys [0, %d)",
				 p->batch->kv_len[w->request]);
	if (w->partial < -1)
		return fail_item(p, w, "partial is neither -1 nor a scratch row");
	if (w->partial >= 0 && p->info.traits.merge == MLA_MERGE_NONE)
		return fail_item(p, w, "a partial state for a kernel that never splits");
	return check_copies(p, w);
}

static int compare(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static int order_items(const void *left, const void *right)
{
	const mla_work *a = *(const mla_work *const *)left;
	const mla_work *b = *(const mla_work *const *)right;
	int by = compare(a->request, b->request);

	if (!by)
		by = compare(a->row_begin, b->row_begin);
	if (!by)
		by = compare(a->kv_begin, b->kv_begin);
	if (!by)
		by = compare(a->kv_end, b->kv_end);
	return by ? by : compare(a->partial, b->partial);
}

static int order_merges_by_row(const void *left, const void *right)
{
	return compare((*(const mla_merge_item *const *)left)->row_begin,
		       (*(const mla_merge_item *const *)right)->row_begin);
}

static int order_merges_by_partial(const void *left, const void *right)
{
	return compare((*(const mla_merge_item *const *)left)->partial,
		       (*(const mla_merge_item *const *)right)->partial);
}

static struct tile tile_at(const struct proof *p, int32_t first)
{
	const mla_work **item = p->by_row + first;
	const mla_work *w = item[0];
	struct tile tile = {.item = item, .splits = 1, .rows = w->row_end - w->row_begin};
	int64_t last_query = (w->row_end - 1) / p->config->num_heads;
	int64_t keys = p->batch->kv_len[w->request];

	while (first + tile.splits < p->info.num_items &&
	       item[tile.splits]->request == w->request &&
	       item[tile.splits]->row_begin == w->row_begin)
		tile.splits++;
	tile.batch_row =
		(int64_t)p->batch->qo_indptr[w->request] * p->config->num_heads + w->row_begin;
	/* Later queries see more: the last one's view is the tile's. */
	if (p->config->causal && p->batch->q_pos0[w->request] + last_query + 1 < keys)
		keys = p->batch->q_pos0[w->request] + last_query + 1;
	tile.seen = keys > 0 ? keys : 0;
	return tile;
}

/* Keys of a tile: from 0 on without gap or overlap, at least to the last one that is seen. */
static mla_status check_keys(struct proof *p, const struct tile *tile)
{
	int64_t end = 0;

	for (int32_t s = 0; s < tile->splits; s++) {
		const mla_work *w = tile->item[s];

		/* An empty range covers nothing: it may stand anywhere if it stands alone. */
		if (tile->splits == 1 && w->kv_begin == w->kv_end)
			break;
		if (w->kv_begin < end)
			return fail_item(p, w, "keys from %d on are covered twice", w->kv_begin);
		if (w->kv_begin > end)
			return fail_item(p, w, "keys [%lld, %d) before it are covered by no item",
					 (long long)end, w->kv_begin);
		end = w->kv_end;
	}
	if (end < tile->seen)
		return fail_item(p, tile->item[tile->splits - 1],
				 "keys [%lld, %lld) are seen by these rows and covered by no item",
				 (long long)end, (long long)tile->seen);
	return MLA_OK;
}

/* Where a tile may be cut. A kernel that never splits depends on no cut, fixed or not. */
static mla_status check_cuts(struct proof *p, const struct tile *tile)
{
	int64_t fixed = p->info.traits.merge == MLA_MERGE_NONE ? 0 : p->config->fixed_split;
	int32_t granule = p->info.traits.kv_granule;

	for (int32_t s = 0; s < tile->splits; s++) {
		const mla_work *w = tile->item[s];

		if (fixed > 0 && w->kv_begin < w->kv_end && w->kv_begin != s * fixed)
			return fail_item(p, w, "split %d must begin at key %lld, fixed_split %lld",
					 s, (long long)(s * fixed), (long long)fixed);
		if (fixed > 0 && (int64_t)w->kv_end - w->kv_begin > fixed)
			return fail_item(p, w, "holds more keys than fixed_split %lld",
					 (long long)fixed);
		if (fixed == 0 && s > 0 && w->kv_begin % granule)
			return fail_item(p, w, "begins off the multiples of kv_granule %d",
					 granule);
	}
	return MLA_OK;
}

/* Who writes a tile's rows: itself, or the next merge, which must take these very splits. */
static mla_status check_writer(struct proof *p, const struct tile *tile)
{
	const mla_work *first = tile->item[0];
	const mla_merge_item *m =
		p->next_merge < p->info.num_merges ? p->by_tile[p->next_merge] : NULL;

	if (m && m->row_begin < tile->batch_row)
		return fail(p,
			    "merge %td (batch row %d, %d rows): no split tile begins at this row",
			    m - p->merges, m->row_begin, m->rows);
	if (first->partial < 0 && tile->splits == 1)
		return MLA_OK; /* a merge of these rows is met as "no split tile" by the next */
	if (tile->splits == 1)
		return fail_item(p, first, "a partial state that has no second split");
	if (!m || m->row_begin != tile->batch_row)
		return fail_item(p, first, "split into %d, but no merge writes batch row %lld",
				 tile->splits, (long long)tile->batch_row);
	if (m->rows != tile->rows || m->num_splits != tile->splits)
		return fail_item(p, first, "%d splits of %lld rows, merge %td takes %d of %d",
				 tile->splits, (long long)tile->rows, m - p->merges, m->num_splits,
				 m->rows);
	for (int32_t s = 0; s < tile->splits; s++)
		if (m->partial < 0 || tile->item[s]->partial != m->partial + s * tile->rows)
			return fail_item(p, tile->item[s],
					 "split %d must write scratch row %lld, merge %td reads it",
					 s, (long long)(m->partial + s * tile->rows),
					 m - p->merges);
	p->next_merge++;
	return MLA_OK;
}

static mla_status check_tile(struct proof *p, const struct tile *tile)
{
	const mla_work *first = tile->item[0];
	mla_status status;

	for (int32_t s = 1; s < tile->splits; s++) {
		const mla_work *w = tile->item[s];

		if (w->row_end != first->row_end)
			return fail_item(p, w, "shares rows with item %td, whose rows are [%d, %d)",
					 first - p->items, first->row_begin, first->row_end);
		if (w->partial < 0 || first->partial < 0)
			return fail_item(p, w,
					 "rows are written directly, but item %td has them "
					 "too: keys [%d, %d)",
					 first - p->items, first->kv_begin, first->kv_end);
	}
	status = check_keys(p, tile);
	if (!status)
		status = check_cuts(p, tile);
	if (!status)
		status = check_writer(p, tile);
	return status;
}

/* The tiles of a request must follow each other from row 0 to its last row. */
static mla_status sweep_request(struct proof *p, int32_t request, int32_t *next)
{
	int64_t rows = qo_len(p, request) * p->config->num_heads;
	int64_t row = 0;

	while (*next < p->info.num_items && p->by_row[*next]->request == request) {
		struct tile tile = tile_at(p, *next);
		const mla_work *w = tile.item[0];
		mla_status status;

		if (w->row_begin < row)
			return fail_item(p, w, "rows before %lld belong to another tile already",
					 (long long)row);
		if (w->row_begin > row)
			break;
		status = check_tile(p, &tile);
		if (status)
			return status;
		row = w->row_end;
		*next += tile.splits;
	}
	if (row < rows)
		return fail(p, "request %d: row %lld of %lld is in no item, so it is never written",
			    request, (long long)row, (long long)rows);
	return MLA_OK;
}

static mla_status sweep(struct proof *p)
{
	mla_status status = MLA_OK;
	int32_t next = 0;

	for (int32_t r = 0; r < p->batch->batch_size && !status; r++)
		status = sweep_request(p, r, &next);
	if (!status && p->next_merge < p->info.num_merges) {
		const mla_merge_item *m = p->by_tile[p->next_merge];

		return fail(p,
			    "merge %td (batch row %d, %d rows): no split tile begins at this row",
			    m - p->merges, m->row_begin, m->rows);
	}
	return status;
}

/* Every merge is known to match its tile by now, so merges stand for all that is written. */
static mla_status check_scratch(struct proof *p)
{
	int64_t end = 0;

	qsort(p->by_tile, (size_t)p->info.num_merges, sizeof *p->by_tile, order_merges_by_partial);
	for (int32_t i = 0; i < p->info.num_merges; i++) {
		const mla_merge_item *m = p->by_tile[i];

		if (m->partial < end)
			return fail(p,
				    "merge %td: scratch rows from %d on belong to another merge, "
				    "which ends at %lld",
				    m - p->merges, m->partial, (long long)end);
		end = m->partial + (int64_t)m->num_splits * m->rows;
		if (end > p->info.partial_rows)
			return fail(p,
				    "merge %td: scratch rows [%d, %lld), the plan has %lld partial "
				    "rows",
				    m - p->merges, m->partial, (long long)end,
				    (long long)p->info.partial_rows);
	}
	return MLA_OK;
}

static mla_status check_sorted(struct proof *p)
{
	mla_status status = MLA_OK;

	for (int32_t i = 0; i < p->info.num_items && !status; i++) {
		p->by_row[i] = &p->items[i];
		status = check_item(p, &p->items[i]);
	}
	if (status)
		return status;
	for (int32_t i = 0; i < p->info.num_merges; i++)
		p->by_tile[i] = &p->merges[i];
	qsort(p->by_row, (size_t)p->info.num_items, sizeof *p->by_row, order_items);
	qsort(p->by_tile, (size_t)p->info.num_merges, sizeof *p->by_tile, order_merges_by_row);
	status = sweep(p);
	return status ? status : check_scratch(p);
}

static mla_status check_all(struct proof *p)
{
	mla_status status = check_batch(p);

	if (!status)
		status = check_counts(p);
	if (!status)
		status = check_workers(p);
	if (status)
		return status;
	p->by_row = malloc(((size_t)p->info.num_items + 1) * sizeof *p->by_row);
	p->by_tile = malloc(((size_t)p->info.num_merges + 1) * sizeof *p->by_tile);
	if (p->by_row && p->by_tile)
		status = check_sorted(p);
	else
		status = MLA_NO_MEMORY;
	free(p->by_row);
	free(p->by_tile);
	return status;
}

mla_status plan_check(const mla_plan *plan, char *why, size_t size)
{
	struct proof p = {.info.struct_size = sizeof p.info, .why = why, .size = size};
	mla_status status;

	if (size > 0)
		why[0] = '\0';
	if (!plan)
		return fail(&p, "the plan is NULL");
	status = mla_plan_get_info(plan, &p.info);
	if (status)
		return fail(&p, "the plan has no info: %s", mla_last_error());
	if (p.info.batch_size < 0)
		return fail(&p, "the plan has no batch");
	p.config = mla_plan_config(plan);
	p.batch = mla_plan_batch(plan);
	p.items = mla_plan_items(plan);
	p.workers = mla_plan_workers(plan);
	p.merges = mla_plan_merges(plan);
	if (!p.config || !p.batch)
		return fail(&p, "the plan shows no config or no batch");
	status = check_all(&p);
	if (status == MLA_NO_MEMORY)
		fail(&p, "no memory to sort %d items and %d merges", p.info.num_items,
		     p.info.num_merges);
	return status;
}
