/* test_plan.c - plans of random and of named batches, all proved by plan_check; what a plan refuses
 * and in which words; that launch shapes follow the capacity alone; printing.
 */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "plan_fixture.h"

/* ---- making plans -------------------------------------------------------------------------- */

/* What a plan is made of, so that tests can change one thing. */
struct setup {
	mla_traits traits;
	mla_config config;
	mla_device device;
	mla_capacity capacity;
	struct ragged batch;
};

static struct setup setup_of(int32_t num_heads, int32_t causal, struct ragged batch)
{
	struct setup s = {
		.traits = fixture_traits(64, 64),
		.config = fixture_config(num_heads, causal),
		.device = known_gpus[0].device,
		.batch = batch,
	};

	s.capacity = fixture_capacity(&s.config, &batch.view);
	return s;
}

static mla_plan *create(const struct setup *s)
{
	mla_plan *plan = NULL;
	mla_status status =
		mla_plan_create_for_traits(&s->traits, &s->config, &s->device, &s->capacity, &plan);

	cr_assert(status == MLA_OK, "create: %s", mla_last_error());
	cr_assert(plan != NULL);
	return plan;
}

static mla_plan_info info_of(const mla_plan *plan)
{
	mla_plan_info info = {.struct_size = sizeof info};

	cr_assert(mla_plan_get_info(plan, &info) == MLA_OK, "info: %s", mla_last_error());
	return info;
}

static void build_and_prove(mla_plan *plan, const mla_batch *batch, const char *name)
{
	char why[512];

	cr_assert(mla_plan_build(plan, batch) == MLA_OK, "%s: build: %s", name, mla_last_error());
	cr_assert(plan_check(plan, why, sizeof why) == MLA_OK, "%s: %s", name, why);
}

static mla_plan *prove(const struct setup *s, const char *name)
{
	mla_plan *plan = create(s);

	build_and_prove(plan, &s->batch.view, name);
	return plan;
}

static void assert_same_shape(const mla_plan_info *a, const mla_plan_info *b, const char *name)
{
	cr_assert(a->num_workers == b->num_workers && a->max_items == b->max_items &&
			  a->max_merges == b->max_merges &&
			  a->max_partial_rows == b->max_partial_rows &&
			  a->blob_bytes == b->blob_bytes && a->scratch_bytes == b->scratch_bytes,
		  "%s: the launch shape changed with the batch: workers %d %d, items %d %d, merges "
		  "%d %d, partial rows %lld %lld, blob %lld %lld, scratch %lld %lld",
		  name, a->num_workers, b->num_workers, a->max_items, b->max_items, a->max_merges,
		  b->max_merges, (long long)a->max_partial_rows, (long long)b->max_partial_rows,
		  (long long)a->blob_bytes, (long long)b->blob_bytes, (long long)a->scratch_bytes,
		  (long long)b->scratch_bytes);
}

static void assert_same_plan(const mla_plan *a, const mla_plan *b, const char *name)
{
	mla_plan_info ia = info_of(a), ib = info_of(b);

	assert_same_shape(&ia, &ib, name);
	cr_assert(ia.num_items == ib.num_items && ia.num_merges == ib.num_merges &&
			  ia.partial_rows == ib.partial_rows,
		  "%s: items %d %d, merges %d %d", name, ia.num_items, ib.num_items, ia.num_merges,
		  ib.num_merges);
	cr_assert(memcmp(mla_plan_items(a), mla_plan_items(b),
			 (size_t)ia.num_items * sizeof(mla_work)) == 0,
		  "%s: items differ", name);
	cr_assert(memcmp(mla_plan_workers(a), mla_plan_workers(b),
			 ((size_t)ia.num_workers + 1) * sizeof(int32_t)) == 0,
		  "%s: workers differ", name);
	cr_assert(ia.num_merges == 0 || memcmp(mla_plan_merges(a), mla_plan_merges(b),
					       (size_t)ia.num_merges * sizeof(mla_merge_item)) == 0,
		  "%s: merges differ", name);
}

/* ---- random plans -------------------------------------------------------------------------- */

static int64_t random_qo_len(uint64_t *rng, int32_t kind, int64_t most)
{
	int64_t len = 1;

	if (kind == 1)
		len = random_in(rng, 0, 3);
	if (kind == 2)
		len = random_in(rng, 0, 8) * random_in(rng, 0, 40);
	if (kind == 3)
		len = RANDOM_OF(rng, 0, 1, 2, 5, 64, 65, 200);
	return len < most ? len : most;
}

static int64_t random_kv_len(uint64_t *rng, int32_t kind, int64_t qo_len, int32_t granule)
{
	if (kind == 0)
		return random_in(rng, 0, 3);
	if (kind == 1) /* around the multiples of the granule */
		return (int64_t)granule * random_in(rng, 1, 9) + random_in(rng, -1, 1);
	if (kind == 2) /* about as likely short as long */
		return random_in(rng, 0, 1LL << random_in(rng, 0, 15));
	if (kind == 3) /* prefill, sometimes with fewer keys than queries */
		return random_in(rng, 0, 3) ? qo_len + random_in(rng, 0, 300) : qo_len / 2;
	if (kind == 4)
		return random_in(rng, 0, 9) ? random_in(rng, 1, 40) : random_in(rng, 1, 1 << 20);
	return RANDOM_OF(rng, 0, 0, 1, 63, 64, 65, 1000);
}

static struct ragged random_batch(uint64_t *rng, const mla_config *config, const mla_traits *traits)
{
	int32_t n = (int32_t)random_in(rng, 0, RANDOM_OF(rng, 1, 4, 4, 12, 64));
	int32_t q_kind = (int32_t)random_in(rng, 0, 3), kv_kind = (int32_t)random_in(rng, 0, 5);
	int32_t gap = random_in(rng, 0, 3) == 0 ? 5 : 0;
	/* At most some 1500 tiles, so that ten thousand plans take seconds. */
	int64_t queries = 1 + 1500LL * traits->tile_rows / config->num_heads;
	struct ragged r = ragged_new(n);

	for (int32_t i = 0; i < n; i++) {
		int64_t q = random_qo_len(rng, q_kind, queries);
		int64_t kv = random_kv_len(rng, kv_kind, q, traits->kv_granule);

		queries -= q;
		ragged_set(&r, i, q, kv, config->page_size);
		r.kv_indptr[i + 1] += (int32_t)random_in(rng, 0, gap);
		r.q_pos0[i] = (int32_t)random_in(rng, -300, kv + 300);
	}
	if (random_in(rng, 0, 2) == 0)
		r.view.q_pos0 = r.q_pos0;
	return r;
}

/* Exact, or larger by anything, or left to the defaults. */
static mla_capacity random_capacity(uint64_t *rng, const mla_config *config, const mla_batch *batch)
{
	mla_capacity c = fixture_capacity(config, batch);
	int64_t pages = c.max_kv_tokens / config->page_size + c.max_requests;

	if (random_in(rng, 0, 1) == 0)
		return c;
	c.max_requests += (int32_t)random_in(rng, 0, 20);
	c.max_queries += (int32_t)random_in(rng, 0, 50);
	c.max_kv_tokens += random_in(rng, 0, 1 << 17);
	c.max_qo_len = random_in(rng, 0, 1) ? 0 : c.max_qo_len;
	c.max_kv_len = random_in(rng, 0, 1) ? 0 : c.max_kv_len;
	c.max_pages = random_in(rng, 0, 1) && c.max_pages <= pages ? 0 : c.max_pages;
	return c;
}

/* A fixed split, a multiple of the granule, that cuts the longest request into some n pieces. */
static int32_t split_for(const struct setup *s, int32_t n)
{
	int64_t longest =
		s->capacity.max_kv_len ? s->capacity.max_kv_len : s->capacity.max_kv_tokens;

	return (int32_t)(longest / n / s->traits.kv_granule + 1) * s->traits.kv_granule;
}

static struct setup random_setup(uint64_t seed)
{
	uint64_t rng = seed;
	struct setup s = {
		.config = fixture_config(RANDOM_OF(&rng, 1, 3, 9, 16, 63, 64, 96, 126, 128, 200),
					 (int32_t)random_in(&rng, 0, 1))};

	s.traits = fixture_traits(RANDOM_OF(&rng, 1, 8, 16, 64, 128),
				  RANDOM_OF(&rng, 1, 16, 32, 64, 128));
	s.traits.ctas_per_sm = (int32_t)random_in(&rng, 1, 4);
	s.traits.ctas_per_worker = (int32_t)random_in(&rng, 1, 2);
	s.traits.item_cost = RANDOM_OF(&rng, 0, 1, 64, 1000);
	s.traits.merge = (int32_t)random_in(&rng, MLA_MERGE_NONE, MLA_MERGE_FUSED);
	s.device = known_with_sms((int32_t)random_in(&rng, 1, random_in(&rng, 1, 200)));
	if (s.device.sm_count == 1 && s.traits.ctas_per_sm == 1)
		s.traits.ctas_per_worker = 1;
	s.config.page_size = RANDOM_OF(&rng, 1, 3, 16, 64, 64, 100);
	s.batch = random_batch(&rng, &s.config, &s.traits);
	s.capacity = random_capacity(&rng, &s.config, &s.batch.view);
	if (random_in(&rng, 0, 3) == 0)
		s.config.fixed_split = split_for(&s, RANDOM_OF(&rng, 8, 20, 40));
	return s;
}

/* The plan's own copy of the batch says what the caller's said, with q_pos0 filled in. */
static void assert_same_batch(const struct setup *s, const mla_plan *plan, const char *name)
{
	const mla_batch *given = &s->batch.view, *kept = mla_plan_batch(plan);
	size_t n = (size_t)given->batch_size;

	cr_assert(kept != NULL && kept->batch_size == given->batch_size, "%s: batch_size", name);
	for (size_t i = 0; i < n; i++) {
		int32_t qo_len = given->qo_indptr[i + 1] - given->qo_indptr[i];
		int32_t pos = given->q_pos0 ? given->q_pos0[i] : given->kv_len[i] - qo_len;

		cr_assert(kept->qo_indptr[i + 1] == given->qo_indptr[i + 1], "%s: qo_indptr", name);
		cr_assert(kept->kv_indptr[i + 1] == given->kv_indptr[i + 1], "%s: kv_indptr", name);
		cr_assert(kept->kv_len[i] == given->kv_len[i], "%s: kv_len", name);
		cr_assert(!s->config.causal || kept->q_pos0[i] == pos, "%s: q_pos0", name);
	}
}

/* Cost of a worker: the keys of its items in whole granules, and item_cost for each. */
static void assert_costs(const struct setup *s, const mla_plan *plan, const char *name)
{
	mla_plan_info info = info_of(plan);
	const int32_t *workers = mla_plan_workers(plan);
	const mla_work *items = mla_plan_items(plan);
	int64_t most = 0, sum = 0, granule = s->traits.kv_granule;

	for (int32_t w = 0; w < info.num_workers; w++) {
		int64_t cost = 0;

		for (int32_t i = workers[w]; i < workers[w + 1]; i++) {
			int64_t keys = items[i].kv_end - items[i].kv_begin;

			cost += (keys + granule - 1) / granule * granule + s->traits.item_cost;
		}
		most = cost > most ? cost : most;
		sum += cost;
	}
	cr_assert(info.max_worker_cost == most && info.mean_worker_cost == sum / info.num_workers,
		  "%s: costs are max %lld, mean %lld, info says %lld, %lld", name, (long long)most,
		  (long long)(sum / info.num_workers), (long long)info.max_worker_cost,
		  (long long)info.mean_worker_cost);
}

/* Keys that no row of an item sees are not loaded either. */
static void assert_no_waste(const struct setup *s, const mla_plan *plan, const char *name)
{
	const mla_work *items = mla_plan_items(plan);

	for (int32_t i = 0; i < info_of(plan).num_items; i++) {
		int64_t last_query = (items[i].row_end - 1) / s->config.num_heads;

		cr_assert(items[i].kv_begin == items[i].kv_end ||
				  items[i].kv_end <= items[i].q_pos0 + last_query + 1,
			  "%s: item %d has keys to %d, its last query sees none from %lld on", name,
			  i, items[i].kv_end, (long long)(items[i].q_pos0 + last_query + 1));
	}
}

static void prove_random(uint64_t seed)
{
	struct setup s = random_setup(seed);
	mla_plan *plan = create(&s);
	mla_plan_info before = info_of(plan), after;
	char name[32];

	snprintf(name, sizeof name, "seed %llu", (unsigned long long)seed);
	build_and_prove(plan, &s.batch.view, name);
	after = info_of(plan);
	assert_same_shape(&before, &after, name);
	cr_assert(after.num_workers ==
			  s.device.sm_count * s.traits.ctas_per_sm / s.traits.ctas_per_worker,
		  "%s: %d workers", name, after.num_workers);
	assert_same_batch(&s, plan, name);
	assert_costs(&s, plan, name);
	assert_no_waste(&s, plan, name);
	/* A worker's list leaves at most two tiles unfinished, one at each end. */
	cr_assert(s.config.fixed_split > 0 ||
			  after.max_partial_rows <= 2LL * after.num_workers * s.traits.tile_rows,
		  "%s: scratch for %lld partial rows", name, (long long)after.max_partial_rows);
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

/* Four tests, so that they run side by side. */
Test(plan_random, first)
{
	for (uint64_t seed = 0; seed < 2500; seed++)
		prove_random(seed);
}

Test(plan_random, second)
{
	for (uint64_t seed = 2500; seed < 5000; seed++)
		prove_random(seed);
}

Test(plan_random, third)
{
	for (uint64_t seed = 5000; seed < 7500; seed++)
		prove_random(seed);
}

Test(plan_random, fourth)
{
	for (uint64_t seed = 7500; seed < 10000; seed++)
		prove_random(seed);
}

/* The random batches must reach what they are there for. */
Test(plan_random, reaches_splits_fixed_splits_and_empty_requests)
{
	int split = 0, fixed = 0, direct = 0, empty = 0, shifted = 0;

	for (uint64_t seed = 0; seed < 500; seed++) {
		struct setup s = random_setup(seed);
		mla_plan *plan = prove(&s, "reach");
		mla_plan_info info = info_of(plan);

		split += info.num_merges > 0 && s.config.fixed_split == 0;
		fixed += info.num_merges > 0 && s.config.fixed_split > 0;
		direct += info.num_merges == 0 && info.num_items > 0;
		empty += info.num_items == 0;
		shifted += s.config.causal && s.batch.view.q_pos0 != NULL;
		mla_plan_destroy(plan);
		ragged_free(&s.batch);
	}
	cr_assert(split >= 50 && fixed >= 20 && direct >= 50 && empty >= 5 && shifted >= 50,
		  "split %d, fixed %d, direct %d, empty %d, shifted %d", split, fixed, direct,
		  empty, shifted);
}

/* ---- the same bytes ------------------------------------------------------------------------ */

Test(plan_same, twice_the_same_batch_gives_the_same_bytes)
{
	for (uint64_t seed = 20000; seed < 20200; seed++) {
		struct setup s = random_setup(seed);
		mla_plan *first = prove(&s, "first"), *second = prove(&s, "second");

		assert_same_plan(first, second, "two plans");
		build_and_prove(second, &s.batch.view, "again");
		assert_same_plan(first, second, "built again");
		mla_plan_destroy(first);
		mla_plan_destroy(second);
		ragged_free(&s.batch);
	}
}

static int32_t at_least(int32_t a, int32_t b)
{
	return a > b ? a : b;
}

/* a grows to what b needs too. */
static void join_capacity(mla_capacity *a, const mla_capacity *b)
{
	a->max_requests = at_least(a->max_requests, b->max_requests);
	a->max_queries = at_least(a->max_queries, b->max_queries);
	a->max_qo_len = at_least(a->max_qo_len, b->max_qo_len);
	a->max_kv_len = at_least(a->max_kv_len, b->max_kv_len);
	a->max_kv_tokens += b->max_kv_tokens;
	a->max_pages += b->max_pages;
}

Test(plan_same, rebuilt_equals_fresh_and_keeps_the_launch_shape)
{
	for (uint64_t seed = 30000; seed < 30200; seed++) {
		struct setup s = random_setup(seed);
		uint64_t rng = seed;
		struct ragged other = random_batch(&rng, &s.config, &s.traits);
		mla_capacity needed = fixture_capacity(&s.config, &other.view);
		mla_plan *rebuilt, *fresh;
		mla_plan_info before, after;

		s.capacity = fixture_capacity(&s.config, &s.batch.view);
		join_capacity(&s.capacity, &needed);
		if (s.config.fixed_split > 0)
			s.config.fixed_split = split_for(&s, 20);
		rebuilt = prove(&s, "before");
		before = info_of(rebuilt);
		fresh = create(&s);
		build_and_prove(rebuilt, &other.view, "rebuilt");
		build_and_prove(fresh, &other.view, "fresh");
		assert_same_plan(rebuilt, fresh, "rebuilt and fresh");
		after = info_of(rebuilt);
		assert_same_shape(&before, &after, "rebuilt");
		mla_plan_destroy(rebuilt);
		mla_plan_destroy(fresh);
		ragged_free(&other);
		ragged_free(&s.batch);
	}
}

/* Request i of a batch as a batch of its own. */
static struct ragged alone(const struct ragged *all, int32_t i, int32_t page_size)
{
	struct ragged one = ragged_new(1);

	ragged_set(&one, 0, all->qo_indptr[i + 1] - all->qo_indptr[i], all->kv_len[i], page_size);
	one.q_pos0[0] = all->q_pos0[i];
	one.view.q_pos0 = all->view.q_pos0 ? one.q_pos0 : NULL;
	return one;
}

static int order_ranges(const void *left, const void *right)
{
	const mla_work *a = left, *b = right;

	if (a->row_begin != b->row_begin)
		return a->row_begin < b->row_begin ? -1 : 1;
	return (a->kv_begin > b->kv_begin) - (a->kv_begin < b->kv_begin);
}

/* The items of one request, sorted; the caller frees. */
static mla_work *items_of(const mla_plan *plan, int32_t request, int32_t *count)
{
	mla_plan_info info = info_of(plan);
	const mla_work *items = mla_plan_items(plan);
	mla_work *found = malloc(((size_t)info.num_items + 1) * sizeof *found);

	cr_assert(found != NULL);
	*count = 0;
	for (int32_t i = 0; i < info.num_items; i++)
		if (items[i].request == request)
			found[(*count)++] = items[i];
	qsort(found, (size_t)*count, sizeof *found, order_ranges);
	return found;
}

static void assert_same_ranges(const mla_plan *all, int32_t request, const mla_plan *one,
			       const char *name)
{
	int32_t na, nb;
	mla_work *a = items_of(all, request, &na), *b = items_of(one, 0, &nb);

	cr_assert(na == nb, "%s: request %d has %d items in the batch, %d alone", name, request, na,
		  nb);
	for (int32_t i = 0; i < na; i++)
		cr_assert(a[i].row_begin == b[i].row_begin && a[i].row_end == b[i].row_end &&
				  a[i].kv_begin == b[i].kv_begin && a[i].kv_end == b[i].kv_end &&
				  (a[i].partial < 0) == (b[i].partial < 0),
			  "%s: request %d, item %d: rows [%d, %d) keys [%d, %d) in the batch, rows "
			  "[%d, %d) keys [%d, %d) alone",
			  name, request, i, a[i].row_begin, a[i].row_end, a[i].kv_begin,
			  a[i].kv_end, b[i].row_begin, b[i].row_end, b[i].kv_begin, b[i].kv_end);
	free(a);
	free(b);
}

/* On another device too: what a row's bits depend on is the request and the kernel. */
Test(plan_same, fixed_split_items_do_not_depend_on_the_batch)
{
	int checked = 0;

	for (uint64_t seed = 40000; seed < 40600; seed++) {
		struct setup s = random_setup(seed);
		mla_plan *all;

		if (s.config.fixed_split == 0) {
			ragged_free(&s.batch);
			continue;
		}
		all = prove(&s, "all");
		for (int32_t i = 0; i < s.batch.view.batch_size && i < 8; i++, checked++) {
			struct setup lone = s;
			mla_plan *one;

			lone.batch = alone(&s.batch, i, s.config.page_size);
			lone.capacity = fixture_capacity(&s.config, &lone.batch.view);
			lone.device.sm_count = 1 + s.device.sm_count / 2;
			lone.traits.ctas_per_worker = 1;
			one = prove(&lone, "alone");
			assert_same_ranges(all, i, one, "fixed split");
			mla_plan_destroy(one);
			ragged_free(&lone.batch);
		}
		mla_plan_destroy(all);
		ragged_free(&s.batch);
	}
	cr_assert(checked > 200, "only %d requests checked", checked);
}

/* ---- named batches ------------------------------------------------------------------------- */

/* A planner whose causal bound rounds down loses the newest key where a tile cuts a query. */
Test(plan_named, tiles_that_cut_a_query_keep_its_newest_key)
{
	static const int32_t heads[] = {96, 40, 9, 63, 126, 200, 128};
	static const int32_t tiles[] = {1, 8, 16, 64, 128};

	for (size_t h = 0; h < COUNT(heads); h++)
		for (size_t t = 0; t < COUNT(tiles); t++)
			for (int32_t kv = 63; kv <= 66; kv++) {
				struct setup s =
					setup_of(heads[h], 1, ragged_uniform(1, 2, kv, 64));

				s.traits.tile_rows = tiles[t];
				mla_plan_destroy(prove(&s, "cut query"));
				ragged_free(&s.batch);
			}
}

Test(plan_named, decode_beside_empty_requests)
{
	struct setup s = setup_of(128, 1, ragged_new(3));

	ragged_set(&s.batch, 0, 1, 65, 64);
	ragged_set(&s.batch, 1, 0, 0, 64);
	ragged_set(&s.batch, 2, 0, 0, 64);
	s.capacity = fixture_capacity(&s.config, &s.batch.view);
	mla_plan_destroy(prove(&s, "qo_len 1, 0, 0"));
	ragged_free(&s.batch);
}

Test(plan_named, seventeen_thousand_items)
{
	struct setup many = setup_of(128, 0, ragged_uniform(17000, 1, 70, 64));
	struct setup one = setup_of(128, 1, ragged_uniform(1, 17000, 17000, 64));
	mla_plan *plan;

	many.traits = one.traits = fixture_traits(128, 64);
	plan = prove(&many, "17000 requests");
	cr_assert(info_of(plan).num_items >= 17000);
	mla_plan_destroy(plan);
	plan = prove(&one, "17000 queries");
	cr_assert(info_of(plan).num_items >= 17000);
	mla_plan_destroy(plan);
	ragged_free(&many.batch);
	ragged_free(&one.batch);
}

/* The busiest worker has little more than the average one: 10 % and two cuts' worth. */
static void assert_balanced(const struct setup *s, const char *name)
{
	mla_plan *plan = prove(s, name);
	mla_plan_info info = info_of(plan);
	int64_t bound = info.mean_worker_cost + info.mean_worker_cost / 10 +
			2 * (s->traits.kv_granule + s->traits.item_cost);

	cr_assert(info.max_worker_cost <= bound,
		  "%s: the busiest worker costs %lld, the average one %lld", name,
		  (long long)info.max_worker_cost, (long long)info.mean_worker_cost);
	mla_plan_destroy(plan);
}

Test(plan_balance, one_huge_request_among_tiny_ones)
{
	struct setup s = setup_of(128, 0, ragged_new(256));

	s.traits.tile_rows = 128;
	for (int32_t huge = 0; huge < 256; huge += 85) {
		for (int32_t i = 0; i < 256; i++)
			ragged_set(&s.batch, i, 1, i == huge ? 1 << 20 : 1 + i % 50, 64);
		s.capacity = fixture_capacity(&s.config, &s.batch.view);
		assert_balanced(&s, "1M keys among 255 tiny requests");
	}
	ragged_free(&s.batch);
}

Test(plan_balance, decode_batches)
{
	static const int32_t shapes[][3] = {/* requests, keys, heads */
					    {1, 131072, 128}, {1, 8192, 128},  {4, 4096, 16},
					    {16, 2048, 16},   {64, 1024, 16},  {128, 4096, 128},
					    {133, 8192, 128}, {128, 16384, 64}};

	for (size_t i = 0; i < COUNT(shapes); i++) {
		struct setup s = setup_of(shapes[i][2], 1,
					  ragged_uniform(shapes[i][0], 1, shapes[i][1], 64));
		char name[64];

		s.traits.tile_rows = 128;
		snprintf(name, sizeof name, "b%d kv%d h%d", shapes[i][0], shapes[i][1],
			 shapes[i][2]);
		assert_balanced(&s, name);
		ragged_free(&s.batch);
	}
}

Test(plan_balance, random_lengths_and_causal_prefill)
{
	struct setup decode = setup_of(128, 1, ragged_new(128));
	struct setup prefill = setup_of(16, 1, ragged_new(5));
	uint64_t rng = 7;

	for (int32_t i = 0; i < 128; i++)
		ragged_set(&decode.batch, i, 2, random_in(&rng, 4096, 12288), 64);
	for (int32_t i = 0; i < 5; i++)
		ragged_set(&prefill.batch, i, 500 * i + 1, 600 * i + 1, 64);
	decode.capacity = fixture_capacity(&decode.config, &decode.batch.view);
	prefill.capacity = fixture_capacity(&prefill.config, &prefill.batch.view);
	assert_balanced(&decode, "b128 4K..12K q2");
	assert_balanced(&prefill, "causal prefill");
	ragged_free(&decode.batch);
	ragged_free(&prefill.batch);
}

Test(plan_named, batches_with_nothing_in_them)
{
	struct setup none = setup_of(16, 1, ragged_new(0));
	struct setup no_queries = setup_of(16, 1, ragged_uniform(3, 0, 100, 64));
	struct setup no_keys = setup_of(16, 1, ragged_uniform(3, 2, 0, 64));
	mla_plan *plan = prove(&none, "no requests");

	cr_assert(info_of(plan).num_items == 0 && info_of(plan).batch_size == 0);
	/* The arrays of an empty batch may be NULL. */
	build_and_prove(plan, &(mla_batch){.struct_size = sizeof(mla_batch)}, "NULL arrays");
	mla_plan_destroy(plan);
	plan = prove(&no_queries, "qo_len 0");
	cr_assert(info_of(plan).num_items == 0);
	mla_plan_destroy(plan);
	plan = prove(&no_keys, "kv_len 0");
	cr_assert(info_of(plan).num_items == 3, "a request without keys still writes its rows");
	mla_plan_destroy(plan);
	ragged_free(&none.batch);
	ragged_free(&no_queries.batch);
	ragged_free(&no_keys.batch);
}

Test(plan_named, more_queries_than_keys)
{
	for (int32_t causal = 0; causal <= 1; causal++) {
		struct setup s = setup_of(9, causal, ragged_uniform(2, 100, 3, 64));

		mla_plan_destroy(prove(&s, "qo_len 100, kv_len 3"));
		ragged_free(&s.batch);
	}
}

Test(plan_named, positions_far_outside)
{
	static const int32_t positions[] = {-(1 << 30), -65, -1, 0, 99, 1 << 30};
	struct setup s = setup_of(16, 1, ragged_uniform((int32_t)COUNT(positions), 3, 100, 64));
	mla_plan *plan;

	memcpy(s.batch.q_pos0, positions, sizeof positions);
	s.batch.view.q_pos0 = s.batch.q_pos0;
	plan = prove(&s, "positions");
	for (int32_t i = 0; i < info_of(plan).num_items; i++)
		cr_assert(mla_plan_items(plan)[i].q_pos0 ==
			  positions[mla_plan_items(plan)[i].request]);
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

Test(plan_named, the_longest_request)
{
	struct setup s = setup_of(16, 1, ragged_uniform(1, 1, 1 << 30, 64));

	mla_plan_destroy(prove(&s, "2^30 keys"));
	ragged_free(&s.batch);
}

Test(plan_named, one_worker)
{
	struct setup s = setup_of(128, 1, ragged_uniform(5, 3, 1000, 64));

	s.device.sm_count = 1;
	s.traits.ctas_per_worker = 1;
	mla_plan_destroy(prove(&s, "one worker"));
	ragged_free(&s.batch);
}

/* ---- refusals ------------------------------------------------------------------------------ */

/* The status, and a sentence that names what is wrong. */
static void assert_refused(mla_status status, mla_status want, const char *word, const char *name)
{
	cr_assert(status == want, "%s: status %s, expected %s", name, mla_status_name(status),
		  mla_status_name(want));
	cr_assert(strstr(mla_last_error(), word) != NULL, "%s: \"%s\" does not name %s", name,
		  mla_last_error(), word);
}

/* A plan without a batch says so, shows nothing, and can be built again. */
static void assert_no_batch(mla_plan *plan, const mla_batch *good, const char *name)
{
	mla_plan_info info = info_of(plan);
	char why[128];

	cr_assert(info.batch_size == -1 && info.num_items == 0 && info.num_merges == 0,
		  "%s: batch_size %d, %d items, %d merges", name, info.batch_size, info.num_items,
		  info.num_merges);
	cr_assert(plan_check(plan, why, sizeof why) == MLA_INVALID, "%s: proved", name);
	cr_assert(strstr(why, "no batch") != NULL, "%s: %s", name, why);
	build_and_prove(plan, good, name);
}

/* Five requests of 2 queries and 100 keys; the plan holds exactly one such batch. */
static struct setup full_setup(void)
{
	struct setup s = setup_of(16, 1, ragged_uniform(5, 2, 100, 16));

	s.config.page_size = 16;
	s.capacity = fixture_capacity(&s.config, &s.batch.view);
	return s;
}

/* Lengths that exceed the full capacity by one in one dimension only. */
struct excess {
	const char *field;
	int32_t requests, qo_len[6], kv_len[6], extra_pages;
};

static const struct excess excesses[] = {
	{"max_requests", 6, {2, 2, 2, 2, 1, 1}, {100, 100, 100, 100, 50, 50}, 0},
	{"max_queries", 5, {2, 2, 2, 2, 3}, {100, 100, 100, 100, 100}, 0},
	{"max_qo_len", 5, {3, 1, 2, 2, 2}, {100, 100, 100, 100, 100}, 0},
	{"max_kv_len", 5, {2, 2, 2, 2, 2}, {101, 99, 100, 100, 100}, 0},
	{"max_kv_tokens", 5, {2, 2, 2, 2, 2}, {101, 100, 100, 100, 100}, 0},
	{"max_pages", 5, {2, 2, 2, 2, 2}, {100, 100, 100, 100, 100}, 1},
};

static struct ragged excess_batch(const struct excess *e, int32_t page_size)
{
	struct ragged r = ragged_new(e->requests);

	for (int32_t i = 0; i < e->requests; i++)
		ragged_set(&r, i, e->qo_len[i], e->kv_len[i], page_size);
	r.kv_indptr[e->requests] += e->extra_pages;
	return r;
}

Test(plan_refuses, one_more_than_the_capacity_in_each_dimension)
{
	struct setup s = full_setup();

	for (size_t i = 0; i < COUNT(excesses); i++) {
		struct ragged more = excess_batch(&excesses[i], 16);
		mla_plan *plan;

		/* Room in the dimensions that cannot but grow along. */
		if (strcmp(excesses[i].field, "max_queries") == 0)
			s.capacity.max_qo_len = 3;
		if (strcmp(excesses[i].field, "max_kv_tokens") == 0)
			s.capacity.max_kv_len = 101;
		if (strcmp(excesses[i].field, "max_requests") == 0)
			s.capacity.max_pages += 1;
		plan = prove(&s, "exactly full");
		assert_refused(mla_plan_build(plan, &more.view), MLA_CAPACITY, excesses[i].field,
			       excesses[i].field);
		assert_no_batch(plan, &s.batch.view, excesses[i].field);
		mla_plan_destroy(plan);
		ragged_free(&more);
		s.capacity = fixture_capacity(&s.config, &s.batch.view);
	}
	ragged_free(&s.batch);
}

/* One value of a good batch changed to a bad one. */
enum array { QO_INDPTR, KV_INDPTR, KV_LEN, Q_POS0 };

struct bad_value {
	const char *word; /* must be named */
	enum array array;
	int32_t index, value;
};

static const struct bad_value bad_values[] = {
	{"qo_indptr[0]", QO_INDPTR, 0, 1},
	{"qo_indptr[0]", QO_INDPTR, 0, -1},
	{"qo_indptr", QO_INDPTR, 2, 1},
	{"qo_indptr", QO_INDPTR, 2, -4},
	{"qo_indptr", QO_INDPTR, 2, INT32_MIN},
	{"qo_indptr", QO_INDPTR, 3, INT32_MAX},
	{"qo_indptr", QO_INDPTR, 5, INT32_MAX},
	{"kv_indptr", KV_INDPTR, 0, -1},
	{"kv_indptr", KV_INDPTR, 3, 1},
	{"kv_indptr", KV_INDPTR, 3, INT32_MIN},
	{"kv_indptr", KV_INDPTR, 3, INT32_MAX},
	{"kv_len[4]", KV_INDPTR, 5, 34}, /* too few pages */
	{"kv_len[1]", KV_LEN, 1, -1},
	{"kv_len[1]", KV_LEN, 1, 113}, /* too few pages */
	{"kv_len[1]", KV_LEN, 1, INT32_MAX},
	{"kv_len[1]", KV_LEN, 1, INT32_MIN},
	{"q_pos0[2]", Q_POS0, 2, INT32_MAX},
	{"q_pos0[2]", Q_POS0, 2, INT32_MIN},
	{"q_pos0[2]", Q_POS0, 2, (1 << 30) + 1},
};

Test(plan_refuses, a_bad_value_in_the_batch)
{
	struct setup s = full_setup();
	int32_t *arrays[] = {s.batch.qo_indptr, s.batch.kv_indptr, s.batch.kv_len, s.batch.q_pos0};
	mla_plan *plan;

	s.batch.view.q_pos0 = s.batch.q_pos0;
	plan = prove(&s, "good");
	for (size_t i = 0; i < COUNT(bad_values); i++) {
		const struct bad_value *bad = &bad_values[i];
		int32_t *value = &arrays[bad->array][bad->index], good = *value;
		char name[64];

		snprintf(name, sizeof name, "%s case %zu, value %d", bad->word, i, bad->value);
		*value = bad->value;
		assert_refused(mla_plan_build(plan, &s.batch.view), MLA_INVALID, bad->word, name);
		*value = good;
		assert_no_batch(plan, &s.batch.view, name);
	}
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

Test(plan_refuses, a_batch_that_is_malformed)
{
	struct setup s = full_setup();
	mla_plan *plan = prove(&s, "good");
	mla_batch bad[6];
	static const char *const words[] = {"struct_size", "batch_size", "qo_indptr",
					    "kv_indptr",   "kv_len",     "batch_size"};

	for (size_t i = 0; i < COUNT(bad); i++)
		bad[i] = s.batch.view;
	bad[0].struct_size--;
	bad[1].batch_size = -1;
	bad[2].qo_indptr = NULL;
	bad[3].kv_indptr = NULL;
	bad[4].kv_len = NULL;
	bad[5].batch_size = INT32_MAX;
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_refused(mla_plan_build(plan, &bad[i]), MLA_INVALID, words[i], words[i]);
		assert_no_batch(plan, &s.batch.view, words[i]);
	}
	assert_refused(mla_plan_build(plan, NULL), MLA_INVALID, "batch", "NULL batch");
	assert_no_batch(plan, &s.batch.view, "NULL batch");
	assert_refused(mla_plan_build(NULL, &s.batch.view), MLA_INVALID, "plan", "NULL plan");
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

/* One field of what a plan is created from, and a value that is refused. */
enum part { TRAITS, CONFIG, DEVICE, CAPACITY };

struct bad_field {
	const char *word;
	enum part part;
	size_t offset;
	int32_t value;
};

#define FIELD(part, type, name) #name, part, offsetof(type, name)

static const struct bad_field bad_fields[] = {
	{FIELD(TRAITS, mla_traits, struct_size), 8},
	{FIELD(TRAITS, mla_traits, tile_rows), 0},
	{FIELD(TRAITS, mla_traits, tile_rows), INT32_MAX},
	{FIELD(TRAITS, mla_traits, kv_granule), 0},
	{FIELD(TRAITS, mla_traits, kv_granule), INT32_MAX},
	{FIELD(TRAITS, mla_traits, ctas_per_sm), 0},
	{FIELD(TRAITS, mla_traits, ctas_per_sm), INT32_MAX},
	{FIELD(TRAITS, mla_traits, ctas_per_worker), 0},
	{FIELD(TRAITS, mla_traits, ctas_per_worker), INT32_MAX},
	{FIELD(TRAITS, mla_traits, item_cost), -1},
	{FIELD(TRAITS, mla_traits, item_cost), INT32_MAX},
	{FIELD(TRAITS, mla_traits, merge), -1},
	{FIELD(TRAITS, mla_traits, merge), 3},
	{FIELD(CONFIG, mla_config, struct_size), 0},
	{FIELD(CONFIG, mla_config, num_heads), 0},
	{FIELD(CONFIG, mla_config, num_heads), -1},
	{FIELD(CONFIG, mla_config, num_heads), INT32_MAX},
	{FIELD(CONFIG, mla_config, head_dim_ckv), 0},
	{FIELD(CONFIG, mla_config, head_dim_ckv), INT32_MAX},
	{FIELD(CONFIG, mla_config, head_dim_kpe), -1},
	{FIELD(CONFIG, mla_config, page_size), 0},
	{FIELD(CONFIG, mla_config, page_size), INT32_MAX},
	{FIELD(CONFIG, mla_config, causal), 2},
	{FIELD(CONFIG, mla_config, lse_base), 2},
	{FIELD(CONFIG, mla_config, fixed_split), -1},
	{FIELD(CONFIG, mla_config, fixed_split), INT32_MAX},
	{FIELD(CONFIG, mla_config, fixed_split), 65}, /* not a multiple of kv_granule 64 */
	{FIELD(DEVICE, mla_device, struct_size), 1},
	{FIELD(DEVICE, mla_device, sm_count), 0},
	{FIELD(DEVICE, mla_device, sm_count), -1},
	{FIELD(DEVICE, mla_device, sm_count), INT32_MAX},
	{FIELD(CAPACITY, mla_capacity, struct_size), 4},
	{FIELD(CAPACITY, mla_capacity, max_requests), -1},
	{FIELD(CAPACITY, mla_capacity, max_requests), INT32_MAX},
	{FIELD(CAPACITY, mla_capacity, max_queries), -1},
	{FIELD(CAPACITY, mla_capacity, max_queries), INT32_MAX},
	{FIELD(CAPACITY, mla_capacity, max_qo_len), -1},
	{FIELD(CAPACITY, mla_capacity, max_kv_len), -1},
	{FIELD(CAPACITY, mla_capacity, max_kv_len), (1 << 30) + 1},
	{FIELD(CAPACITY, mla_capacity, reserved), 1},
};

Test(plan_refuses, a_bad_field_at_creation)
{
	struct setup good = full_setup();

	for (size_t i = 0; i < COUNT(bad_fields); i++) {
		const struct bad_field *bad = &bad_fields[i];
		struct setup s = good;
		char *parts[] = {(char *)&s.traits, (char *)&s.config, (char *)&s.device,
				 (char *)&s.capacity};
		mla_plan *plan = (mla_plan *)&s; /* must be overwritten */
		mla_status status;

		memcpy(parts[bad->part] + bad->offset, &bad->value, sizeof bad->value);
		status = mla_plan_create_for_traits(&s.traits, &s.config, &s.device, &s.capacity,
						    &plan);
		cr_assert(status == MLA_INVALID || status == MLA_REFUSED, "%s = %d: %s", bad->word,
			  bad->value, mla_status_name(status));
		cr_assert(strstr(mla_last_error(), bad->word) != NULL, "%s = %d: \"%s\"", bad->word,
			  bad->value, mla_last_error());
		cr_assert(plan == NULL, "%s = %d: a plan nevertheless", bad->word, bad->value);
	}
	ragged_free(&good.batch);
}

Test(plan_refuses, null_pointers)
{
	struct setup s = full_setup();
	mla_plan *plan = NULL;

	cr_assert(mla_plan_create_for_traits(NULL, &s.config, &s.device, &s.capacity, &plan) ==
		  MLA_INVALID);
	cr_assert(mla_plan_create_for_traits(&s.traits, NULL, &s.device, &s.capacity, &plan) ==
		  MLA_INVALID);
	cr_assert(mla_plan_create_for_traits(&s.traits, &s.config, NULL, &s.capacity, &plan) ==
		  MLA_INVALID);
	cr_assert(mla_plan_create_for_traits(&s.traits, &s.config, &s.device, NULL, &plan) ==
		  MLA_INVALID);
	cr_assert(mla_plan_create_for_traits(&s.traits, &s.config, &s.device, &s.capacity, NULL) ==
		  MLA_INVALID);
	cr_assert(plan == NULL);
	mla_plan_destroy(NULL);
	plan = create(&s);
	cr_assert(mla_plan_get_info(plan, NULL) == MLA_INVALID);
	cr_assert(mla_plan_get_info(NULL, &(mla_plan_info){.struct_size = sizeof(mla_plan_info)}) ==
		  MLA_INVALID);
	assert_refused(mla_plan_get_info(plan, &(mla_plan_info){.struct_size = 3}), MLA_INVALID,
		       "struct_size", "info");
	assert_no_batch(plan, &s.batch.view, "never built");
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

/* Capacities whose counts make no sense or do not fit 32 bits: refused in words, not truncated. */
Test(plan_refuses, senseless_capacities)
{
	static const struct {
		int32_t max_requests, max_queries, max_kv_len, num_heads, tile_rows, fixed_split;
		int64_t max_kv_tokens;
	} cases[] = {
		{1, 1 << 29, 1 << 20, 128, 128, 0, 1 << 20},          /* packed rows */
		{1, 1 << 29, 1 << 20, 1 << 20, 1 << 30, 0, 1 << 20},  /* packed rows, few tiles */
		{1 << 20, 1 << 20, 1 << 30, 128, 128, 64, 1LL << 40}, /* partial rows and items */
		{1 << 29, 1 << 29, 1 << 30, 1, 1, 64, 1LL << 59},     /* everything */
		{1, 1, 1 << 30, 1, 1, 64, INT64_MAX},                 /* keys */
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct setup s = full_setup();
		mla_plan *plan = NULL;
		mla_status status;

		s.capacity = (mla_capacity){.struct_size = sizeof(mla_capacity),
					    .max_requests = cases[i].max_requests,
					    .max_queries = cases[i].max_queries,
					    .max_kv_len = cases[i].max_kv_len,
					    .max_kv_tokens = cases[i].max_kv_tokens};
		s.config.num_heads = cases[i].num_heads;
		s.config.fixed_split = cases[i].fixed_split;
		s.traits.tile_rows = cases[i].tile_rows;
		status = mla_plan_create_for_traits(&s.traits, &s.config, &s.device, &s.capacity,
						    &plan);
		cr_assert(status == MLA_INVALID || status == MLA_REFUSED ||
				  status == MLA_CAPACITY || status == MLA_NO_MEMORY,
			  "case %zu: %s", i, mla_status_name(status));
		cr_assert(strlen(mla_last_error()) > 20 && plan == NULL, "case %zu: \"%s\"", i,
			  mla_last_error());
		ragged_free(&s.batch);
	}
}

/* Bounds whose product does not fit 64 bits: too much, and never a small number that a build then
 * writes beyond. */
Test(plan_refuses, bounds_that_overflow_64_bits)
{
	static const struct {
		int32_t max_queries, tile_rows, kv_granule, fixed_split;
	} cases[] = {
		{1 << 22, 64, 32, 64}, /* partial rows */
		{1 << 17, 1, 1, 1},    /* items */
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct setup s = full_setup();
		mla_plan *plan = NULL;

		s.capacity = (mla_capacity){.struct_size = sizeof(mla_capacity),
					    .max_requests = 1 << 10,
					    .max_queries = cases[i].max_queries,
					    .max_kv_tokens = 1LL << 40};
		s.config.num_heads = 128;
		s.config.fixed_split = cases[i].fixed_split;
		s.traits.tile_rows = cases[i].tile_rows;
		s.traits.kv_granule = cases[i].kv_granule;
		assert_refused(mla_plan_create_for_traits(&s.traits, &s.config, &s.device,
							  &s.capacity, &plan),
			       MLA_CAPACITY, "partial rows", "too large to count");
		cr_assert(plan == NULL);
		ragged_free(&s.batch);
	}
}

/* Packed rows of a batch are counted in 32 bits: one query less than too many is fine. */
Test(plan_refuses, more_packed_rows_than_32_bits)
{
	struct setup s = full_setup();
	mla_plan *plan = NULL;

	s.config.num_heads = 1 << 20;
	s.traits.tile_rows = 1 << 30;
	s.traits.merge = MLA_MERGE_NONE;
	s.capacity.max_queries = 1 << 11;
	assert_refused(
		mla_plan_create_for_traits(&s.traits, &s.config, &s.device, &s.capacity, &plan),
		MLA_INVALID, "max_queries", "2^31 packed rows");
	s.capacity.max_queries--;
	mla_plan_destroy(prove(&s, "2^31 - 2^20 packed rows"));
	ragged_free(&s.batch);
}

/* One multiprocessor with one CTA has no worker of two. */
Test(plan_refuses, a_device_smaller_than_a_worker)
{
	struct setup s = full_setup();
	mla_plan *plan = NULL;

	s.device.sm_count = 1;
	s.traits.ctas_per_worker = 2;
	assert_refused(
		mla_plan_create_for_traits(&s.traits, &s.config, &s.device, &s.capacity, &plan),
		MLA_REFUSED, "worker", "one SM");
	cr_assert(plan == NULL);
	s.traits.ctas_per_sm = 2;
	plan = prove(&s, "two CTAs");
	cr_assert(info_of(plan).num_workers == 1);
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

/* ---- printing ------------------------------------------------------------------------------ */

/* The plan as text, in memory that the caller frees. */
static char *formatted(const mla_plan *plan, int json)
{
	size_t length = mla_plan_format(plan, json, NULL, 0);
	char *text = malloc(length + 1);

	cr_assert(text != NULL);
	cr_assert(mla_plan_format(plan, json, text, length + 1) == length);
	cr_assert(strlen(text) == length, "%zu characters, said %zu", strlen(text), length);
	return text;
}

/* Any size gives the beginning that fits, terminated, and touches nothing behind. */
static void assert_truncates(const mla_plan *plan, int json)
{
	char *whole = formatted(plan, json);
	size_t length = strlen(whole);

	for (size_t size = 1; size <= length + 2; size += size < 200 ? 1 : 97) {
		char *part = malloc(size + 1);
		size_t kept = size - 1 < length ? size - 1 : length;

		cr_assert(part != NULL);
		memset(part, 0x55, size + 1);
		cr_assert(mla_plan_format(plan, json, part, size) == length, "size %zu", size);
		cr_assert(strlen(part) == kept && memcmp(part, whole, kept) == 0, "size %zu", size);
		cr_assert(part[size] == 0x55, "size %zu: written behind the buffer", size);
		free(part);
	}
	free(whole);
}

static struct setup split_setup(void)
{
	struct setup s = setup_of(16, 1, ragged_new(3));

	ragged_set(&s.batch, 0, 3, 5000, 64);
	ragged_set(&s.batch, 1, 0, 10, 64);
	ragged_set(&s.batch, 2, 1, 64, 64);
	s.device.sm_count = 4;
	s.capacity = fixture_capacity(&s.config, &s.batch.view);
	return s;
}

static int64_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	cr_assert(json_is_integer(value), "no integer \"%s\"", key);
	return json_integer_value(value);
}

static int64_t element(const json_t *object, const char *key, size_t index)
{
	const json_t *value = json_array_get(json_object_get(object, key), index);

	cr_assert(json_is_integer(value), "no integer \"%s\"[%zu]", key, index);
	return json_integer_value(value);
}

static void assert_json_items(const json_t *items, const mla_plan *plan)
{
	mla_plan_info info = info_of(plan);
	const mla_work *w = mla_plan_items(plan);
	const int32_t *workers = mla_plan_workers(plan);

	cr_assert(json_array_size(items) == (size_t)info.num_items);
	for (int32_t i = 0; i < info.num_items; i++) {
		const json_t *object = json_array_get(items, (size_t)i);
		int64_t worker = number(object, "worker");

		cr_assert(worker >= 0 && worker < info.num_workers && i >= workers[worker] &&
			  i < workers[worker + 1]);
		cr_assert(number(object, "request") == w[i].request);
		cr_assert(element(object, "rows", 0) == w[i].row_begin);
		cr_assert(element(object, "rows", 1) == w[i].row_end);
		cr_assert(element(object, "keys", 0) == w[i].kv_begin);
		cr_assert(element(object, "keys", 1) == w[i].kv_end);
		cr_assert(number(object, "partial") == w[i].partial);
	}
}

static void assert_json_merges(const json_t *merges, const mla_plan *plan)
{
	mla_plan_info info = info_of(plan);
	const mla_merge_item *m = mla_plan_merges(plan);

	cr_assert(info.num_merges > 0, "this plan was to be split");
	cr_assert(json_array_size(merges) == (size_t)info.num_merges);
	for (int32_t i = 0; i < info.num_merges; i++) {
		const json_t *object = json_array_get(merges, (size_t)i);

		cr_assert(number(object, "row_begin") == m[i].row_begin);
		cr_assert(number(object, "rows") == m[i].rows);
		cr_assert(number(object, "partial") == m[i].partial);
		cr_assert(number(object, "num_splits") == m[i].num_splits);
	}
}

Test(plan_format, json_holds_the_whole_plan)
{
	struct setup s = split_setup();
	mla_plan *plan = prove(&s, "json");
	mla_plan_info info = info_of(plan);
	char *text = formatted(plan, 1);
	json_error_t error;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	cr_assert(root != NULL, "line %d: %s", error.line, error.text);
	cr_assert(number(root, "batch_size") == 3);
	cr_assert(number(root, "partial_rows") == info.partial_rows);
	cr_assert(number(root, "num_workers") == info.num_workers);
	assert_json_items(json_object_get(root, "items"), plan);
	assert_json_merges(json_object_get(root, "merges"), plan);
	json_decref(root);
	free(text);
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

Test(plan_format, truncated_buffers)
{
	struct setup s = split_setup();
	mla_plan *plan = prove(&s, "format");

	assert_truncates(plan, 0);
	assert_truncates(plan, 1);
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}

Test(plan_format, text_follows_the_batch_and_no_batch_prints_too)
{
	struct setup s = split_setup();
	mla_plan *plan = create(&s);
	char *none = formatted(plan, 0), *none_json = formatted(plan, 1), *some;
	json_t *root = json_loads(none_json, JSON_REJECT_DUPLICATES, NULL);

	cr_assert(root != NULL, "%s", none_json);
	build_and_prove(plan, &s.batch.view, "text");
	some = formatted(plan, 0);
	cr_assert(strcmp(none, some) != 0);
	cr_assert(strstr(some, "5000") != NULL, "the keys of request 0 are not shown: %s", some);
	json_decref(root);
	free(none);
	free(none_json);
	free(some);
	mla_plan_destroy(plan);
	ragged_free(&s.batch);
}
