/* test_plan_check.c - has plan_check power? Good plans are damaged through the arrays that mla.h
 * shows, in named ways, in every field by a little and by a lot, and at random; a third mind that
 * executes a small plan pair by pair says which damage matters, and all of that must be found.
 */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "plan_fixture.h"

/* ---- plans to damage ----------------------------------------------------------------------- */

/* The views of mla.h, writable: the plan's own memory, damaged and repaired in place. */
struct victim {
	mla_plan *plan;
	mla_plan_info info;
	mla_work *items;
	int32_t *workers;
	mla_merge_item *merges;
};

static struct victim victim_of(const mla_traits *traits, const mla_config *config,
			       const mla_device *device, const mla_batch *batch)
{
	mla_capacity capacity = fixture_capacity(config, batch);
	struct victim v = {.info.struct_size = sizeof v.info};
	char why[256];

	cr_assert(mla_plan_create_for_traits(traits, config, device, &capacity, &v.plan) == MLA_OK,
		  "%s", mla_last_error());
	cr_assert(mla_plan_build(v.plan, batch) == MLA_OK, "%s", mla_last_error());
	cr_assert(mla_plan_get_info(v.plan, &v.info) == MLA_OK, "%s", mla_last_error());
	cr_assert(plan_check(v.plan, why, sizeof why) == MLA_OK, "%s", why);
	cr_assert(why[0] == '\0', "a good plan is explained: %s", why);
	v.items = (mla_work *)(uintptr_t)mla_plan_items(v.plan);
	v.workers = (int32_t *)(uintptr_t)mla_plan_workers(v.plan);
	v.merges = (mla_merge_item *)(uintptr_t)mla_plan_merges(v.plan);
	return v;
}

/* Three requests on four workers: split tiles, direct tiles, an empty request, one without keys. */
static struct victim small_victim(int32_t causal, int32_t fixed_split)
{
	mla_traits traits = fixture_traits(16, 8);
	mla_config config = fixture_config(12, causal);
	mla_device device = known_with_sms(4);
	struct ragged batch = ragged_new(5);
	struct victim v;

	traits.item_cost = 2;
	config.page_size = 4;
	config.fixed_split = fixed_split;
	ragged_set(&batch, 0, 3, 203, 4);
	ragged_set(&batch, 1, 0, 10, 4);
	ragged_set(&batch, 2, 1, 0, 4);
	ragged_set(&batch, 3, 2, 100, 4);
	ragged_set(&batch, 4, 1, 5, 4);
	v = victim_of(&traits, &config, &device, &batch.view);
	cr_assert(v.info.num_merges >= 2, "%d merges: nothing to damage", v.info.num_merges);
	ragged_free(&batch);
	return v;
}

static void assert_rejected(const struct victim *v, const char *name)
{
	char why[256];

	cr_assert(plan_check(v->plan, why, sizeof why) == MLA_INVALID, "%s: not noticed", name);
	cr_assert(strlen(why) > 20, "%s: \"%s\" is no sentence", name, why);
}

static void assert_accepted(const struct victim *v, const char *name)
{
	char why[256];

	cr_assert(plan_check(v->plan, why, sizeof why) == MLA_OK, "%s: %s", name, why);
}

/* Some item that is one of several splits, and not the first. */
static mla_work *later_split(const struct victim *v)
{
	for (int32_t i = 0; i < v->info.num_items; i++)
		if (v->items[i].partial >= 0 && v->items[i].kv_begin > 0)
			return &v->items[i];
	cr_assert_fail("no split item");
	return NULL;
}

static mla_work *direct_item(const struct victim *v)
{
	for (int32_t i = 0; i < v->info.num_items; i++)
		if (v->items[i].partial < 0 && v->items[i].kv_begin < v->items[i].kv_end)
			return &v->items[i];
	cr_assert_fail("no direct item");
	return NULL;
}

/* The split of the same tile that ends where w begins. */
static mla_work *split_before(const struct victim *v, const mla_work *w)
{
	for (int32_t i = 0; i < v->info.num_items; i++)
		if (v->items[i].request == w->request && v->items[i].row_begin == w->row_begin &&
		    v->items[i].kv_end == w->kv_begin)
			return &v->items[i];
	cr_assert_fail("no split before");
	return NULL;
}

/* ---- named damage -------------------------------------------------------------------------- */

Test(plan_check, names_what_is_wrong_with_an_item)
{
	struct victim v = small_victim(0, 0);
	mla_work *w = later_split(&v), *before = split_before(&v, w), kept = *w;
	char why[256];

	w->kv_begin += 8;
	assert_rejected(&v, "a gap of one granule");
	plan_check(v.plan, why, sizeof why);
	cr_assert(strstr(why, "covered by no item") != NULL, "%s", why);
	*w = kept;
	w->kv_begin -= 8;
	assert_rejected(&v, "an overlap of one granule");
	plan_check(v.plan, why, sizeof why);
	cr_assert(strstr(why, "covered twice") != NULL, "%s", why);
	*w = kept;
	w->kv_begin += 1;
	before->kv_end += 1;
	assert_rejected(&v, "a cut beside the granule");
	plan_check(v.plan, why, sizeof why);
	cr_assert(strstr(why, "kv_granule") != NULL, "%s", why);
	before->kv_end -= 1;
	*w = kept;
	assert_accepted(&v, "repaired");
	mla_plan_destroy(v.plan);
}

Test(plan_check, finds_dropped_and_doubled_items)
{
	struct victim v = small_victim(1, 0);
	int32_t last = v.info.num_workers;

	v.workers[last]--;
	assert_rejected(&v, "the last item is in no list");
	v.workers[last] += 2;
	assert_rejected(&v, "a list beyond the items");
	v.workers[last]--;
	v.workers[0]++;
	assert_rejected(&v, "the first item is in no list");
	v.workers[0]--;
	for (int32_t i = 0; i < v.info.num_items; i++)
		for (int32_t j = 0; j < v.info.num_items; j++) {
			mla_work kept = v.items[j];

			if (i == j)
				continue;
			v.items[j] = v.items[i]; /* drops j and doubles i */
			assert_rejected(&v, "one item in another's place");
			v.items[j] = kept;
		}
	assert_accepted(&v, "repaired");
	mla_plan_destroy(v.plan);
}

Test(plan_check, finds_wrong_writers)
{
	struct victim v = small_victim(0, 0);
	mla_work *w = later_split(&v), *before = split_before(&v, w), *d = direct_item(&v);
	int32_t partial = w->partial;
	mla_merge_item merge = v.merges[0];

	w->partial = before->partial;
	assert_rejected(&v, "two splits write the same scratch rows");
	w->partial = -1;
	assert_rejected(&v, "a split that writes straight to out");
	w->partial = before->partial;
	before->partial = partial;
	assert_rejected(&v, "partials out of key order");
	before->partial = w->partial;
	w->partial = partial;
	d->partial = 0;
	assert_rejected(&v, "a direct item that writes scratch");
	d->partial = -1;
	v.merges[0] = v.merges[1];
	assert_rejected(&v, "a merge dropped and another doubled");
	v.merges[0] = merge;
	v.merges[0].partial = v.merges[1].partial;
	assert_rejected(&v, "a merge of another tile's states");
	v.merges[0] = merge;
	assert_accepted(&v, "repaired");
	mla_plan_destroy(v.plan);
}

/* Both halves of a lie agree: only the disjointness of scratch can tell. */
Test(plan_check, finds_tiles_that_share_scratch)
{
	struct victim v = small_victim(0, 0);
	int32_t low = v.merges[0].partial < v.merges[1].partial ? 0 : 1;
	int32_t from = v.merges[1 - low].partial, to = v.merges[low].partial + 1;
	int32_t end = from + v.merges[1 - low].rows * v.merges[1 - low].num_splits;

	for (int32_t i = 0; i < v.info.num_items; i++)
		if (v.items[i].partial >= from && v.items[i].partial < end)
			v.items[i].partial += to - from;
	v.merges[1 - low].partial = to;
	assert_rejected(&v, "two merges share scratch rows");
	mla_plan_destroy(v.plan);
}

Test(plan_check, finds_scratch_beyond_the_end)
{
	struct victim v = small_victim(0, 0);
	int32_t shift = (int32_t)v.info.partial_rows;

	for (int32_t i = 0; i < v.info.num_items; i++)
		v.items[i].partial += v.items[i].partial >= 0 ? shift : 0;
	for (int32_t i = 0; i < v.info.num_merges; i++)
		v.merges[i].partial += shift;
	assert_rejected(&v, "all scratch rows beyond partial_rows");
	mla_plan_destroy(v.plan);
}

Test(plan_check, finds_cuts_beside_the_fixed_split)
{
	struct victim v = small_victim(0, 48);
	mla_work *w = later_split(&v), *before = split_before(&v, w);

	w->kv_begin -= 8;
	before->kv_end -= 8;
	assert_rejected(&v, "a cut on the granule but not on fixed_split");
	w->kv_begin += 8;
	before->kv_end += 8;
	assert_accepted(&v, "repaired");
	mla_plan_destroy(v.plan);
}

/* A tile larger than the kernel's: two neighbours of one request become one. */
Test(plan_check, finds_tiles_that_are_too_large)
{
	mla_traits traits = fixture_traits(16, 8);
	mla_config config = fixture_config(32, 0);
	mla_device device = known_with_sms(1);
	struct ragged batch = ragged_uniform(1, 1, 20, 64);
	struct victim v;

	traits.merge = MLA_MERGE_NONE;
	v = victim_of(&traits, &config, &device, &batch.view);
	cr_assert(v.info.num_items == 2);
	for (int32_t i = 0; i < 2; i++) {
		int32_t begin = v.items[i].row_begin, end = v.items[i].row_end;

		v.items[i].row_begin = begin == 0 ? 0 : begin + 1;
		v.items[i].row_end = begin == 0 ? end + 1 : end;
	}
	assert_rejected(&v, "tiles of 17 and 15 rows");
	mla_plan_destroy(v.plan);
	ragged_free(&batch);
}

Test(plan_check, says_when_there_is_no_plan)
{
	char why[64];

	cr_assert(plan_check(NULL, why, sizeof why) == MLA_INVALID);
	cr_assert(strstr(why, "NULL") != NULL);
	cr_assert(plan_check(NULL, NULL, 0) == MLA_INVALID);
	cr_assert(plan_check(NULL, why, 4) == MLA_INVALID && strlen(why) == 3);
}

/* ---- every field --------------------------------------------------------------------------- */

/* Adds each of some values to one number of a plan; all of them must be noticed. */
static void damage_everywhere(const struct victim *v, int32_t *number, const char *array,
			      size_t index)
{
	static const int64_t deltas[] = {1, -1, 8, -8, 16, 12, -12, 48, 1000, INT32_MAX, INT32_MIN};
	int32_t good = *number;

	for (size_t i = 0; i < COUNT(deltas); i++) {
		char name[96];

		*number = (int32_t)((uint32_t)good + (uint32_t)deltas[i]);
		snprintf(name, sizeof name, "%s, number %zu: %d instead of %d", array, index,
			 *number, good);
		assert_rejected(v, name);
		*number = good;
	}
}

/* Not causal: every key counts, so no field of any item or merge may change at all. */
Test(plan_check, finds_every_wrong_field)
{
	for (int32_t fixed = 0; fixed <= 48; fixed += 24) {
		struct victim v = small_victim(0, fixed);
		int32_t *items = (int32_t *)v.items, *merges = (int32_t *)v.merges;
		size_t n = (size_t)v.info.num_items * sizeof(mla_work) / sizeof(int32_t);
		size_t m = (size_t)v.info.num_merges * sizeof(mla_merge_item) / sizeof(int32_t);

		for (size_t i = 0; i < n; i++)
			damage_everywhere(&v, &items[i], "items", i);
		for (size_t i = 0; i < m; i++)
			damage_everywhere(&v, &merges[i], "merges", i);
		damage_everywhere(&v, &v.workers[0], "workers", 0);
		damage_everywhere(&v, &v.workers[v.info.num_workers], "workers", 1);
		assert_accepted(&v, "repaired");
		mla_plan_destroy(v.plan);
	}
}

/* ---- the third mind ------------------------------------------------------------------------ */

/* Executes a plan on sets: the state of a row is the set of keys it has summed, a bit each. */
enum { MOST_ROWS = 256, MOST_KEYS = 64, MOST_PARTIALS = 4096 };

struct machine {
	uint64_t out[MOST_ROWS], scratch[MOST_PARTIALS];
	int32_t written[MOST_ROWS], scratch_written[MOST_PARTIALS];
	int32_t scratch_row[MOST_PARTIALS]; /* row of the batch that it belongs to */
};

static uint64_t visible(const struct victim *v, int32_t request, int32_t row)
{
	const mla_batch *b = mla_plan_batch(v->plan);
	const mla_config *c = mla_plan_config(v->plan);
	uint64_t keys = 0;

	for (int32_t j = 0; j < b->kv_len[request]; j++)
		if (!c->causal || j <= (int64_t)b->q_pos0[request] + row / c->num_heads)
			keys |= 1ull << j;
	return keys;
}

static bool item_sound(const struct victim *v, const mla_work *w)
{
	const mla_batch *b = mla_plan_batch(v->plan);
	const mla_config *c = mla_plan_config(v->plan);

	if (w->request < 0 || w->request >= b->batch_size)
		return false;
	return w->row_begin >= 0 && w->row_begin < w->row_end &&
	       w->row_end <= (b->qo_indptr[w->request + 1] - b->qo_indptr[w->request]) *
				     (int64_t)c->num_heads &&
	       w->kv_begin >= 0 && w->kv_begin <= w->kv_end && w->kv_end <= b->kv_len[w->request] &&
	       w->q_begin == b->qo_indptr[w->request] &&
	       w->page_begin == b->kv_indptr[w->request] &&
	       w->q_pos0 == (c->causal ? b->q_pos0[w->request] : 1 << 30);
}

static bool execute_item(const struct victim *v, const mla_work *w, struct machine *m)
{
	int32_t heads = mla_plan_config(v->plan)->num_heads;

	if (!item_sound(v, w))
		return false;
	for (int32_t r = w->row_begin; r < w->row_end; r++) {
		int64_t at = (int64_t)w->partial + r - w->row_begin;
		int32_t row = w->q_begin * heads + r;
		uint64_t keys = 0;

		for (int32_t j = w->kv_begin; j < w->kv_end; j++)
			keys |= (1ull << j) & visible(v, w->request, r);
		if (w->partial == -1) {
			m->out[row] = keys;
			m->written[row]++;
		} else if (at < 0 || at >= v->info.partial_rows || m->scratch_written[at]++ > 0) {
			return false;
		} else {
			m->scratch[at] = keys;
			m->scratch_row[at] = row;
		}
	}
	return true;
}

static bool execute_merge(const struct victim *v, const mla_merge_item *item, struct machine *m)
{
	int64_t rows = (int64_t)v->info.total_q * mla_plan_config(v->plan)->num_heads;

	if (item->rows < 1 || item->num_splits < 2 || item->row_begin < 0 ||
	    (int64_t)item->row_begin + item->rows > rows)
		return false;
	for (int32_t r = 0; r < item->rows; r++) {
		uint64_t keys = 0;

		for (int64_t s = 0; s < item->num_splits; s++) {
			int64_t at = item->partial + s * item->rows + r;

			if (at < 0 || at >= v->info.partial_rows || m->scratch_written[at] != 1 ||
			    m->scratch_row[at] != item->row_begin + r ||
			    (keys & m->scratch[at]) != 0)
				return false;
			keys |= m->scratch[at];
		}
		m->out[item->row_begin + r] = keys;
		m->written[item->row_begin + r]++;
	}
	return true;
}

static bool execute_all(const struct victim *v, struct machine *m)
{
	if (v->workers[0] != 0 || v->workers[v->info.num_workers] != v->info.num_items)
		return false;
	for (int32_t w = 0; w < v->info.num_workers; w++)
		if (v->workers[w] > v->workers[w + 1])
			return false;
	for (int32_t i = 0; i < v->info.num_items; i++)
		if (!execute_item(v, &v->items[i], m))
			return false;
	for (int32_t i = 0; i < v->info.num_merges; i++)
		if (!execute_merge(v, &v->merges[i], m))
			return false;
	return true;
}

/* Every row written once, with the keys it sees, each once? */
static bool executes_well(const struct victim *v, struct machine *m)
{
	const mla_batch *b = mla_plan_batch(v->plan);
	int32_t heads = mla_plan_config(v->plan)->num_heads;

	memset(m, 0, sizeof *m);
	if (!execute_all(v, m))
		return false;
	for (int32_t i = 0; i < b->batch_size; i++)
		for (int32_t r = 0; r < (b->qo_indptr[i + 1] - b->qo_indptr[i]) * heads; r++) {
			int32_t row = b->qo_indptr[i] * heads + r;

			if (m->written[row] != 1 || m->out[row] != visible(v, i, r))
				return false;
		}
	return true;
}

static struct victim tiny_victim(uint64_t *rng)
{
	mla_traits traits = fixture_traits(RANDOM_OF(rng, 1, 3, 8), RANDOM_OF(rng, 1, 4, 8));
	mla_config config = fixture_config(RANDOM_OF(rng, 1, 3, 5), (int32_t)random_in(rng, 0, 1));
	mla_device device = known_with_sms((int32_t)random_in(rng, 1, 30));
	struct ragged batch = ragged_new((int32_t)random_in(rng, 1, 4));
	struct victim v;

	traits.item_cost = (int32_t)random_in(rng, 0, 3);
	traits.merge = (int32_t)random_in(rng, MLA_MERGE_NONE, MLA_MERGE_FUSED);
	config.page_size = 4;
	config.fixed_split = random_in(rng, 0, 2) == 0 ? 2 * traits.kv_granule : 0;
	for (int32_t i = 0; i < batch.view.batch_size; i++) {
		ragged_set(&batch, i, random_in(rng, 0, 6), random_in(rng, 0, MOST_KEYS), 4);
		batch.q_pos0[i] = (int32_t)random_in(rng, -5, MOST_KEYS + 5);
	}
	if (random_in(rng, 0, 1))
		batch.view.q_pos0 = batch.q_pos0;
	v = victim_of(&traits, &config, &device, &batch.view);
	ragged_free(&batch);
	return v;
}

/* One number of the items, the merges or the workers; NULL if there is none of that. */
static int32_t *random_number(const struct victim *v, uint64_t *rng)
{
	int32_t *arrays[] = {(int32_t *)v->items, (int32_t *)v->items, (int32_t *)v->items,
			     (int32_t *)v->merges, v->workers};
	int64_t counts[] = {12LL * v->info.num_items, 12LL * v->info.num_items,
			    12LL * v->info.num_items, 4LL * v->info.num_merges,
			    v->info.num_workers + 1LL};
	size_t which = (size_t)random_in(rng, 0, (int64_t)COUNT(arrays) - 1);

	return counts[which] ? &arrays[which][random_in(rng, 0, counts[which] - 1)] : NULL;
}

static void damage_randomly(const struct victim *v, uint64_t *rng)
{
	for (int64_t times = random_in(rng, 1, 3); times > 0; times--) {
		int32_t *number = random_number(v, rng), *other = random_number(v, rng);
		int64_t kind = random_in(rng, 0, 3);

		if (number == NULL || other == NULL)
			continue;
		if (kind == 0)
			*number = *other;
		else
			*number += (int32_t)random_in(rng, -8, 8);
	}
}

struct tally {
	int64_t harmful, found, harmless, accepted;
};

/* A plan, damaged many times; the checker must find whatever the machine stumbles over. */
static void compare_minds(uint64_t seed, struct machine *m, struct tally *tally)
{
	uint64_t rng = seed;
	struct victim v = tiny_victim(&rng);
	size_t size[] = {(size_t)v.info.num_items * sizeof *v.items,
			 (size_t)v.info.num_merges * sizeof *v.merges,
			 ((size_t)v.info.num_workers + 1) * sizeof *v.workers};
	char *kept = malloc(size[0] + size[1] + size[2]), why[256];

	cr_assert(kept != NULL && v.info.partial_rows <= MOST_PARTIALS);
	memcpy(kept, v.items, size[0]);
	memcpy(kept + size[0], v.merges, size[1]);
	memcpy(kept + size[0] + size[1], v.workers, size[2]);
	cr_assert(executes_well(&v, m), "seed %llu: a plan that is proved executes badly",
		  (unsigned long long)seed);
	for (int32_t i = 0; i < 100; i++) {
		bool good, proved;

		damage_randomly(&v, &rng);
		good = executes_well(&v, m);
		proved = plan_check(v.plan, why, sizeof why) == MLA_OK;
		cr_assert(good || !proved, "seed %llu, damage %d: not noticed",
			  (unsigned long long)seed, i);
		tally->harmful += !good;
		tally->found += !good && !proved;
		tally->harmless += good;
		tally->accepted += good && proved;
		memcpy(v.items, kept, size[0]);
		memcpy(v.merges, kept + size[0], size[1]);
		memcpy(v.workers, kept + size[0] + size[1], size[2]);
	}
	free(kept);
	mla_plan_destroy(v.plan);
}

Test(plan_check, finds_all_random_damage_that_an_execution_stumbles_over)
{
	struct machine *m = malloc(sizeof *m);
	struct tally tally = {0};

	cr_assert(m != NULL);
	for (uint64_t seed = 0; seed < 1000; seed++)
		compare_minds(seed, m, &tally);
	free(m);
	cr_log_info("%lld harmful damages, %lld found; %lld harmless, %lld accepted",
		    (long long)tally.harmful, (long long)tally.found, (long long)tally.harmless,
		    (long long)tally.accepted);
	cr_assert(tally.harmful > 50000 && tally.found == tally.harmful);
	/* It is no rejecter of everything either: a worker's list may be cut elsewhere. */
	cr_assert(tally.accepted > 1000, "only %lld accepted", (long long)tally.accepted);
}
