/* test_api.c - mla.h misused: NULL in each place of each function, structs of no release, scales
 * that f32 cannot hold, outputs that overlap something, states of infinite weight; and what only
 * looks wrong and is not. Every refusal is a sentence that names the thing.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/error.h"
#include "lib/internal.h"
#include "lib/validate.h"
#include "plan_fixture.h"
#include "reference/reference.h"

/* ---- one small problem ----------------------------------------------------------------------- */

enum {
	QUERIES = 3,
	HEADS = 2,
	CKV = 4,
	KPE = 2,
	KEYS = 5,
	PAGE = 2,
	PAGES = 3,
	ROWS = QUERIES * HEADS
};

struct given {
	mla_config config;
	mla_batch batch;
	mla_device device;
	mla_traits traits;
	mla_capacity capacity;
	mla_tensors tensors;
	mla_merge_args merge;
	mla_plan *plan; /* built */
	int32_t qo_indptr[2], kv_indptr[2], kv_len[1], pages[PAGES];
	float q_nope[ROWS * CKV], q_pe[ROWS * KPE], ckv[PAGES * PAGE * CKV],
		kpe[PAGES * PAGE * KPE];
	float out[ROWS * CKV], lse[ROWS];
	float states[2 * ROWS * CKV], states_lse[2 * ROWS];
};

/* [a, b, c], or [a, b] where c is 0, or [a] */
static mla_tensor packed(void *data, int64_t a, int64_t b, int64_t c)
{
	mla_tensor t = {.data = data, .dtype = MLA_F32, .extent = {a, b, c}};
	int64_t bytes = sizeof(float);

	t.ndim = c ? 3 : b ? 2 : 1;
	for (int i = t.ndim - 1; i >= 0; i--) {
		t.stride[i] = bytes;
		bytes *= t.extent[i];
	}
	return t;
}

static void fill(float *values, int n, uint64_t seed)
{
	for (int i = 0; i < n; i++)
		values[i] = (float)random_in(&seed, -100, 100) / 64;
}

static void tensors_make(struct given *g)
{
	const int32_t ids[PAGES] = {2, 0, 1};

	fill(g->q_nope, COUNT(g->q_nope), 1);
	fill(g->q_pe, COUNT(g->q_pe), 2);
	fill(g->ckv, COUNT(g->ckv), 3);
	fill(g->kpe, COUNT(g->kpe), 4);
	fill(g->states, COUNT(g->states), 5);
	fill(g->states_lse, COUNT(g->states_lse), 6);
	memcpy(g->pages, ids, sizeof(ids));
	g->tensors = (mla_tensors){
		.struct_size = sizeof(mla_tensors),
		.q_nope = packed(g->q_nope, QUERIES, HEADS, CKV),
		.q_pe = packed(g->q_pe, QUERIES, HEADS, KPE),
		.ckv = packed(g->ckv, PAGES, PAGE, CKV),
		.kpe = packed(g->kpe, PAGES, PAGE, KPE),
		.out = packed(g->out, QUERIES, HEADS, CKV),
		.lse = packed(g->lse, QUERIES, HEADS, 0),
		.kv_indices = g->pages,
		.num_kv_indices = PAGES,
	};
	g->merge = (mla_merge_args){
		.struct_size = sizeof(mla_merge_args),
		.states = packed(g->states, 2, ROWS, CKV),
		.states_lse = packed(g->states_lse, 2, ROWS, 0),
		.out = packed(g->out, ROWS, CKV, 0),
		.lse = packed(g->lse, ROWS, 0, 0),
	};
}

static struct given *given_new(void)
{
	struct given *g = calloc(1, sizeof(*g));

	cr_assert(g);
	g->qo_indptr[1] = QUERIES;
	g->kv_indptr[1] = PAGES;
	g->kv_len[0] = KEYS;
	g->config = (mla_config){.struct_size = sizeof(mla_config),
				 .num_heads = HEADS,
				 .head_dim_ckv = CKV,
				 .head_dim_kpe = KPE,
				 .page_size = PAGE,
				 .causal = 1,
				 .q_dtype = MLA_F32,
				 .ckv_dtype = MLA_F32,
				 .kpe_dtype = MLA_F32,
				 .out_dtype = MLA_F32,
				 .sm_scale = 0.5};
	g->batch = (mla_batch){.struct_size = sizeof(mla_batch),
			       .batch_size = 1,
			       .qo_indptr = g->qo_indptr,
			       .kv_indptr = g->kv_indptr,
			       .kv_len = g->kv_len};
	g->device = known_with_sms(4);
	g->traits = fixture_traits(2, 2);
	g->traits.align = 4;
	g->capacity = fixture_capacity(&g->config, &g->batch);
	tensors_make(g);
	cr_assert(!mla_plan_create_for_traits(&g->traits, &g->config, &g->device, &g->capacity,
					      &g->plan),
		  "%s", mla_last_error());
	cr_assert(!mla_plan_build(g->plan, &g->batch), "%s", mla_last_error());
	return g;
}

static void given_free(struct given *g)
{
	mla_plan_destroy(g->plan);
	free(g);
}

static mla_status attend(const struct given *g)
{
	return mla_reference(&g->config, &g->batch, &g->tensors);
}

static void expect_refused(const char *what, mla_status status, const char *words)
{
	cr_expect_eq(status, MLA_INVALID, "%s: status is %s", what, mla_status_name(status));
	cr_expect(strstr(mla_last_error(), words), "%s: \"%s\" does not say \"%s\"", what,
		  mla_last_error(), words);
}

/* ---- NULL ------------------------------------------------------------------------------------ */

enum { ALL = -1 };

/* p, unless this is the place that is NULL. */
static void *put(int null, int place, const void *p)
{
	return null == place || null == ALL ? NULL : (void *)p;
}

/* An answer that is no status: NULL is what is expected. */
static mla_status answer(const void *p)
{
	return p ? MLA_OK : mla_fail(MLA_INVALID, "NULL");
}

static mla_status call_device_query(struct given *g, int null)
{
	return mla_device_query(put(null, 0, &g->device));
}

static mla_status call_capacity_of(struct given *g, int null)
{
	return mla_capacity_of(put(null, 0, &g->config), put(null, 1, &g->batch),
			       put(null, 2, &g->capacity));
}

static mla_status call_kernel_get(struct given *g, int null)
{
	mla_kernel_info info = {.struct_size = sizeof(info)};

	(void)g;
	return mla_kernel_get(0, put(null, 0, &info));
}

static mla_status call_kernel_accepts(struct given *g, int null)
{
	return mla_kernel_accepts(put(null, 0, "01_naive"), put(null, 1, &g->config),
				  put(null, 2, &g->device));
}

static mla_status call_kernel_traits(struct given *g, int null)
{
	return mla_kernel_traits(put(null, 0, "01_naive"), put(null, 1, &g->config),
				 put(null, 2, &g->device), put(null, 3, &g->traits));
}

static mla_status call_plan_create(struct given *g, int null)
{
	mla_plan *plan = NULL;
	const mla_status status = mla_plan_create(
		put(null, 0, "01_naive"), put(null, 1, &g->config), put(null, 2, &g->device),
		put(null, 3, &g->capacity), put(null, 4, &plan));

	mla_plan_destroy(plan);
	return status;
}

static mla_status call_plan_create_for_traits(struct given *g, int null)
{
	mla_plan *plan = NULL;
	const mla_status status = mla_plan_create_for_traits(
		put(null, 0, &g->traits), put(null, 1, &g->config), put(null, 2, &g->device),
		put(null, 3, &g->capacity), put(null, 4, &plan));

	mla_plan_destroy(plan);
	return status;
}

static mla_status call_plan_build(struct given *g, int null)
{
	return mla_plan_build(put(null, 0, g->plan), put(null, 1, &g->batch));
}

static mla_status call_plan_get_info(struct given *g, int null)
{
	mla_plan_info info = {.struct_size = sizeof(info)};

	return mla_plan_get_info(put(null, 0, g->plan), put(null, 1, &info));
}

static mla_status call_plan_config(struct given *g, int null)
{
	return answer(mla_plan_config(put(null, 0, g->plan)));
}

static mla_status call_plan_batch(struct given *g, int null)
{
	return answer(mla_plan_batch(put(null, 0, g->plan)));
}

static mla_status call_plan_items(struct given *g, int null)
{
	return answer(mla_plan_items(put(null, 0, g->plan)));
}

static mla_status call_plan_workers(struct given *g, int null)
{
	return answer(mla_plan_workers(put(null, 0, g->plan)));
}

static mla_status call_plan_merges(struct given *g, int null)
{
	return answer(mla_plan_merges(put(null, 0, g->plan)));
}

static mla_status call_plan_format(struct given *g, int null)
{
	char text[64] = "?";
	const size_t length = mla_plan_format(put(null, 0, g->plan), 0, text, sizeof(text));

	cr_expect(length || !text[0], "nothing is terminated, too");
	return length ? MLA_OK : MLA_INVALID;
}

static mla_status call_plan_prepare(struct given *g, int null)
{
	return mla_plan_prepare(put(null, 0, g->plan));
}

static mla_status call_plan_upload(struct given *g, int null)
{
	return mla_plan_upload(put(null, 0, g->plan), NULL);
}

static mla_status call_run(struct given *g, int null)
{
	return mla_run(put(null, 0, g->plan), put(null, 1, &g->tensors), NULL);
}

static mla_status call_check_pages(struct given *g, int null)
{
	return mla_check_pages(put(null, 0, g->plan), put(null, 1, &g->tensors), NULL);
}

static mla_status call_check_pages_host(struct given *g, int null)
{
	return mla_check_pages_host(put(null, 0, &g->config), put(null, 1, &g->batch),
				    put(null, 2, &g->tensors));
}

static mla_status call_merge(struct given *g, int null)
{
	return mla_merge(put(null, 0, &g->merge), NULL);
}

static mla_status call_merge_host(struct given *g, int null)
{
	return mla_merge_host(put(null, 0, &g->merge));
}

static mla_status call_reference(struct given *g, int null)
{
	return mla_reference(put(null, 0, &g->config), put(null, 1, &g->batch),
			     put(null, 2, &g->tensors));
}

static mla_status call_reference_plan(struct given *g, int null)
{
	return mla_reference_plan(put(null, 0, g->plan), put(null, 1, &g->tensors));
}

/* Every function of mla.h; places that may not be NULL: a stream may, and so may a plan that is
 * destroyed. */
static const struct {
	const char *name;
	int places;
	mla_status (*call)(struct given *g, int null);
} functions[] = {
	{"mla_version", 0, NULL},
	{"mla_last_error", 0, NULL},
	{"mla_status_name", 0, NULL},
	{"mla_kernel_count", 0, NULL},
	{"mla_plan_destroy", 0, NULL},
	{"mla_device_query", 1, call_device_query},
	{"mla_capacity_of", 3, call_capacity_of},
	{"mla_kernel_get", 1, call_kernel_get},
	{"mla_kernel_accepts", 3, call_kernel_accepts},
	{"mla_kernel_traits", 4, call_kernel_traits},
	{"mla_plan_create", 5, call_plan_create},
	{"mla_plan_create_for_traits", 5, call_plan_create_for_traits},
	{"mla_plan_build", 2, call_plan_build},
	{"mla_plan_get_info", 2, call_plan_get_info},
	{"mla_plan_config", 1, call_plan_config},
	{"mla_plan_batch", 1, call_plan_batch},
	{"mla_plan_items", 1, call_plan_items},
	{"mla_plan_workers", 1, call_plan_workers},
	{"mla_plan_merges", 1, call_plan_merges},
	{"mla_plan_format", 1, call_plan_format},
	{"mla_plan_prepare", 1, call_plan_prepare},
	{"mla_plan_upload", 1, call_plan_upload},
	{"mla_run", 2, call_run},
	{"mla_check_pages", 2, call_check_pages},
	{"mla_check_pages_host", 3, call_check_pages_host},
	{"mla_merge", 1, call_merge},
	{"mla_merge_host", 1, call_merge_host},
	{"mla_reference", 3, call_reference},
	{"mla_reference_plan", 2, call_reference_plan},
};

Test(null, in_each_place_of_each_function)
{
	for (size_t f = 0; f < COUNT(functions); f++)
		for (int null = ALL; null < functions[f].places && functions[f].call; null++) {
			struct given *g = given_new();

			mla_kernel_get(-1, NULL); /* a sentence of its own */
			const mla_status status = functions[f].call(g, null);
			const char *said = mla_last_error();

			cr_expect(status, "%s takes NULL at place %d", functions[f].name, null);
			cr_expect(said[0] && !strstr(said, "kernel index is -1"),
				  "%s, NULL at place %d: no sentence", functions[f].name, null);
			if (status == MLA_INVALID && functions[f].places > 1 && null != ALL)
				cr_expect(strstr(said, "NULL"), "%s, NULL at place %d: %s",
					  functions[f].name, null, said);
			given_free(g);
		}
	mla_plan_destroy(NULL);
}

/* A function that mla.h gains has to be added above: names before a bracket, as make lint reads
 * them. */
Test(null, every_function_of_the_header_is_called)
{
	FILE *header = fopen("harness/mla.h", "r");
	char line[256];
	bool seen[COUNT(functions)] = {false};

	cr_assert(header, "tests run in the project's root");
	while (fgets(line, sizeof(line), header))
		for (char *at = strstr(line, "mla_"); at; at = strstr(at + 1, "mla_")) {
			const size_t n = strspn(at, "abcdefghijklmnopqrstuvwxyz_0123456789");
			bool known = false;

			if (at[n] != '(' || (at > line && (isalnum(at[-1]) || at[-1] == '_')))
				continue;
			for (size_t f = 0; f < COUNT(functions); f++)
				if (strlen(functions[f].name) == n &&
				    !strncmp(functions[f].name, at, n))
					known = seen[f] = true;
			cr_expect(known, "%.*s is not called with NULL", (int)n, at);
		}
	fclose(header);
	for (size_t f = 0; f < COUNT(functions); f++)
		cr_expect(seen[f], "%s is not in the header", functions[f].name);
}

Test(null, inside_structs)
{
	static const struct {
		size_t at;
		const char *words;
	} places[] = {
		{offsetof(struct given, batch.qo_indptr), "batch.qo_indptr is NULL"},
		{offsetof(struct given, batch.kv_indptr), "batch.kv_indptr is NULL"},
		{offsetof(struct given, batch.kv_len), "batch.kv_len is NULL"},
		{offsetof(struct given, tensors.q_nope.data), "q_nope: data is NULL"},
		{offsetof(struct given, tensors.q_pe.data), "q_pe: data is NULL"},
		{offsetof(struct given, tensors.ckv.data), "ckv: data is NULL"},
		{offsetof(struct given, tensors.kpe.data), "kpe: data is NULL"},
		{offsetof(struct given, tensors.out.data), "out: data is NULL"},
		{offsetof(struct given, tensors.kv_indices), "kv_indices is NULL"},
		{offsetof(struct given, merge.states.data), "states: data is NULL"},
		{offsetof(struct given, merge.states_lse.data), "states_lse: data is NULL"},
		{offsetof(struct given, merge.out.data), "out: data is NULL"},
	};

	for (size_t i = 0; i < COUNT(places); i++) {
		struct given *g = given_new();
		mla_status status;

		memset((char *)g + places[i].at, 0, sizeof(void *));
		status = places[i].at < offsetof(struct given, merge) ? attend(g)
								      : mla_merge_host(&g->merge);
		expect_refused(places[i].words, status, places[i].words);
		given_free(g);
	}
}

/* ---- numbers that are none ------------------------------------------------------------------- */

Test(numbers, struct_sizes_of_no_release)
{
	static const uint32_t wrong[] = {0, 1, 4, 1000, UINT32_MAX};
	static const struct {
		size_t at;
		const char *name;
	} structs[] = {
		{offsetof(struct given, config), "mla_config"},
		{offsetof(struct given, batch), "mla_batch"},
		{offsetof(struct given, device), "mla_device"},
		{offsetof(struct given, traits), "mla_traits"},
		{offsetof(struct given, capacity), "mla_capacity"},
		{offsetof(struct given, tensors), "mla_tensors"},
		{offsetof(struct given, merge), "mla_merge_args"},
	};

	for (size_t i = 0; i < COUNT(structs); i++)
		for (size_t k = 0; k < COUNT(wrong); k++) {
			struct given *g = given_new();
			mla_plan *plan;
			mla_status status;
			char words[80];

			memcpy((char *)g + structs[i].at, &wrong[k], sizeof(wrong[k]));
			snprintf(words, sizeof(words), "%s.struct_size is %u", structs[i].name,
				 wrong[k]);
			status = mla_plan_create_for_traits(&g->traits, &g->config, &g->device,
							    &g->capacity, &plan);
			mla_plan_destroy(plan);
			if (!status)
				status = attend(g);
			if (!status)
				status = mla_merge_host(&g->merge);
			expect_refused(words, status, words);
			given_free(g);
		}
}

Test(numbers, negative_and_endless_counts)
{
	static const struct {
		size_t at;
		int64_t value;
		const char *words;
	} places[] = {
		{offsetof(struct given, tensors.num_kv_indices), -1, "kv_indices has -1 entries"},
		{offsetof(struct given, tensors.q_nope.extent[0]), -1, "q_nope: extent[0] is -1"},
		{offsetof(struct given, tensors.out.extent[0]), INT64_MIN,
		 "out: extent[0] is -9223"},
		{offsetof(struct given, tensors.out.extent[0]), INT64_MAX,
		 "out: extents and strides"},
		{offsetof(struct given, tensors.ckv.extent[0]), INT64_MAX,
		 "ckv: extents and strides"},
		{offsetof(struct given, tensors.ckv.extent[2]), -4, "ckv: extent[2] is -4"},
		{offsetof(struct given, tensors.out.stride[0]), INT64_MIN,
		 "out: extents and strides"},
		{offsetof(struct given, tensors.q_nope.stride[1]), INT64_MAX / 4 * 4,
		 "q_nope: extents and strides"},
		{offsetof(struct given, merge.states.extent[0]), -1,
		 "states: expected 3 dimensions"},
		{offsetof(struct given, merge.states.extent[1]), -1,
		 "states: expected 3 dimensions"},
		{offsetof(struct given, merge.states.extent[2]), (1ll << 32) + CKV,
		 "states: expected 3 dimensions"},
		{offsetof(struct given, merge.states.stride[0]), INT64_MIN, "states: extents and"},
	};

	for (size_t i = 0; i < COUNT(places); i++) {
		struct given *g = given_new();
		mla_status status;

		memcpy((char *)g + places[i].at, &places[i].value, sizeof(places[i].value));
		status = places[i].at < offsetof(struct given, merge) ? attend(g)
								      : mla_merge_host(&g->merge);
		expect_refused(places[i].words, status, places[i].words);
		given_free(g);
	}
}

/* As a plan counts them: rows of a whole batch fit 31 bits. */
Test(numbers, more_rows_than_31_bits)
{
	struct given *g = given_new();

	g->config.num_heads = 1 << 20;
	g->qo_indptr[1] = 1 << 11;
	expect_refused("reference", attend(g),
		       "batch.qo_indptr[1] 2048 * config.num_heads 1048576");
	expect_refused("capacity", mla_capacity_of(&g->config, &g->batch, &g->capacity),
		       "packed rows exceed 2^31 - 1");
	g->qo_indptr[1] = (1 << 11) - 1;
	cr_expect(!mla_capacity_of(&g->config, &g->batch, &g->capacity), "%s", mla_last_error());
	given_free(g);
}

/* ---- scales ---------------------------------------------------------------------------------- */

Test(scale, what_f32_cannot_hold_is_refused_by_every_door)
{
	static const double wrong[] = {0,      -0.,   NAN,    -NAN,  INFINITY, -INFINITY,
				       1e39,   -1e39, 3e38,   -3e38, 1e-39,    -1e-39,
				       1e-320, 1e-46, 2.4e38, 1e308, 5e-324};

	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct given *g = given_new();
		mla_plan *plan;
		mla_traits traits;
		char what[40];

		snprintf(what, sizeof(what), "scale %g", wrong[i]);
		g->config.sm_scale = wrong[i];
		expect_refused(what, attend(g), "config.sm_scale is ");
		expect_refused(what, mla_capacity_of(&g->config, &g->batch, &g->capacity),
			       "config.sm_scale is ");
		expect_refused(what,
			       mla_plan_create_for_traits(&g->traits, &g->config, &g->device,
							  &g->capacity, &plan),
			       "config.sm_scale is ");
		expect_refused(what,
			       mla_plan_create("auto", &g->config, &g->device, &g->capacity, &plan),
			       "config.sm_scale is ");
		expect_refused(what, mla_kernel_accepts("01", &g->config, &g->device),
			       "config.sm_scale is ");
		expect_refused(what, mla_kernel_traits("01", &g->config, &g->device, &traits),
			       "config.sm_scale is ");
		expect_refused(what, mla_check_pages_host(&g->config, &g->batch, &g->tensors),
			       "config.sm_scale is ");
		expect_refused(what, validate_scale(wrong[i], "--scale"), "--scale is ");
		given_free(g);
	}
}

Test(scale, what_f32_holds_is_taken)
{
	static const double right[] = {0.07, -0.07, 2.3e38, -2.3e38, 1.2e-38, -1.2e-38, 1, -1};

	for (size_t i = 0; i < COUNT(right); i++) {
		struct given *g = given_new();

		g->config.sm_scale = right[i];
		cr_expect(!attend(g), "%g: %s", right[i], mla_last_error());
		given_free(g);
	}
}

static void attend_in_a_way(const struct given *g, int way)
{
	memset(g->tensors.out.data, 0xff, sizeof(g->out));
	if (way == 0)
		cr_assert_eq(attend(g), MLA_OK, "%s", mla_last_error());
	else if (way == 1)
		cr_assert_eq(mla_reference_plan(g->plan, &g->tensors), MLA_OK, "%s",
			     mla_last_error());
	else
		cr_assert_eq(ref_attention_online(&g->config, &g->batch, &g->tensors), 0);
}

/* s (q . k) with -s and -q is the same product: each bit of it. */
Test(scale, negative_is_a_negative_query)
{
	struct given *plus = given_new(), *minus = given_new();

	mla_plan_destroy(minus->plan);
	minus->config.sm_scale = -plus->config.sm_scale;
	cr_assert(!mla_plan_create_for_traits(&minus->traits, &minus->config, &minus->device,
					      &minus->capacity, &minus->plan));
	cr_assert(!mla_plan_build(minus->plan, &minus->batch));
	for (size_t i = 0; i < COUNT(minus->q_nope); i++)
		minus->q_nope[i] = -minus->q_nope[i];
	for (size_t i = 0; i < COUNT(minus->q_pe); i++)
		minus->q_pe[i] = -minus->q_pe[i];
	for (int way = 0; way < 3; way++) {
		const struct given *both[] = {plus, minus};

		for (int i = 0; i < 2; i++)
			attend_in_a_way(both[i], way);
		cr_expect_eq(memcmp(plus->out, minus->out, sizeof(plus->out)), 0, "way %d", way);
		cr_expect_eq(memcmp(plus->lse, minus->lse, sizeof(plus->lse)), 0, "way %d", way);
		cr_expect(isfinite(plus->lse[0]));
	}
	given_free(plus);
	given_free(minus);
}

/* ---- overlap --------------------------------------------------------------------------------- */

enum { ARENA = 4096 };

/* Marks the bytes of a region; false if one was marked. */
static bool mark(const struct mla_region *r, unsigned char *bytes)
{
	bool alone = true;

	for (int64_t i = 0; i < r->count[0]; i++)
		for (int64_t j = 0; j < r->count[1]; j++)
			for (int64_t k = 0; k < r->width; k++) {
				unsigned char *at = &bytes[ARENA / 2 + r->base + k +
							   i * r->stride[0] + j * r->stride[1]];

				alone = alone && !*at;
				*at = 1;
			}
	return alone;
}

static struct mla_region random_region(uint64_t *state)
{
	const int64_t reach = RANDOM_OF(state, 3, 8, 25, 60);

	return (struct mla_region){
		.base = random_in(state, -40, 40),
		.width = random_in(state, 0, 5),
		.count = {random_in(state, 0, 5), random_in(state, 1, 5)},
		.stride = {random_in(state, -reach, reach), random_in(state, -reach, reach)},
	};
}

Test(overlap, is_told_as_byte_by_byte)
{
	uint64_t state = 1;
	int met = 0, self = 0;

	for (int i = 0; i < 40000; i++) {
		const struct mla_region a = random_region(&state), b = random_region(&state);
		unsigned char bytes[ARENA] = {0}, other[ARENA] = {0};
		const bool a_alone = mark(&a, bytes), b_alone = mark(&b, other);
		bool meet = false;

		for (int k = 0; k < ARENA; k++)
			meet = meet || (bytes[k] && other[k]);
		met += meet;
		self += !a_alone + !b_alone;
		cr_assert_eq(mla_region_meets_itself(&a), !a_alone, "%d", i);
		cr_assert_eq(mla_region_meets_itself(&b), !b_alone, "%d", i);
		cr_assert_eq(mla_regions_meet(&a, &b), meet, "%d", i);
		cr_assert_eq(mla_regions_meet(&b, &a), meet, "%d", i);
	}
	cr_expect(met > 8000 && met < 32000 && self > 8000 && self < 70000,
		  "both answers are tried: %d, %d", met, self);
}

/* Millions of rows, interleaved in ways that no short cut sees. */
Test(overlap, is_told_quickly)
{
	const struct mla_region wide = {
		.width = 1024, .count = {1 << 20, 2047}, .stride = {2048, (int64_t)2048 << 20}};
	const struct mla_region knit = {
		.width = 8, .count = {46341, 46340}, .stride = {46341 * 8, 46340 * 8}};
	struct mla_region holes = wide, shifted = wide, coprime = wide;

	holes.base = 1024;
	shifted.base = 1025;
	coprime.stride[0] = 4099;
	coprime.stride[1] = 2053;
	coprime.width = 1;
	alarm(20);
	cr_expect(!mla_region_meets_itself(&wide));
	cr_expect(!mla_regions_meet(&wide, &holes));
	cr_expect(mla_regions_meet(&wide, &shifted));
	cr_expect(!mla_region_meets_itself(&knit));
	for (int i = 0; i < 100; i++) {
		coprime.base = i;
		cr_expect(mla_regions_meet(&wide, &coprime));
	}
}

/* Where out and lse lie, in floats of the arena; the expected words, or NULL if that is fine. */
static const struct {
	const char *what, *words;
	int64_t out, out_stride[2], lse, lse_stride;
} layouts[] = {
	{"packed", NULL, 100, {8, 4}, 200, 2},
	{"out and lse are columns of one buffer", NULL, 100, {10, 4}, 108, 10},
	{"lse lies between the heads of out", NULL, 100, {16, 8}, 104, 16},
	{"heads outermost", NULL, 100, {4, 12}, 200, 2},
	{"rows are interleaved", NULL, 100, {8, 12}, 200, 2},
	{"from the last row to the first", NULL, 140, {-8, -4}, 200, -2},
	{"lse in the gaps of out", NULL, 100, {9, 30}, 104, 9},
	{"all rows of out on one", "out: its rows of 16 bytes overlap", 100, {0, 0}, 200, 2},
	{"all queries on one", "out: its rows of 16 bytes overlap", 100, {0, 4}, 200, 2},
	{"all heads on one", "out: its rows of 16 bytes overlap", 100, {8, 0}, 200, 2},
	{"less than a row apart", "out: its rows of 16 bytes overlap", 100, {8, 3}, 200, 2},
	{"queries run into heads", "out: its rows of 16 bytes overlap", 100, {4, 8}, 200, 2},
	{"backwards into each other", "out: its rows of 16 bytes overlap", 140, {4, -4}, 200, 2},
	{"all of lse on one", "lse: its rows of 8 bytes overlap", 100, {8, 4}, 200, 0},
	{"lse less than a row apart", "lse: its rows of 8 bytes overlap", 100, {8, 4}, 200, 1},
	{"lse on out", "out overlaps lse", 100, {8, 4}, 100, 8},
	{"lse on the last float of out", "out overlaps lse", 100, {8, 4}, 123, 2},
	{"lse on a column of out", "out overlaps lse", 100, {10, 4}, 107, 10},
	{"lse and out swapped in a row", "out overlaps lse", 100, {10, 5}, 104, 10},
};

Test(overlap, layouts_that_are_taken_and_refused)
{
	struct given *g = given_new();
	float want[ROWS * CKV], want_lse[ROWS], arena[512];

	cr_assert(!attend(g), "%s", mla_last_error());
	memcpy(want, g->out, sizeof(want));
	memcpy(want_lse, g->lse, sizeof(want_lse));
	for (size_t i = 0; i < COUNT(layouts); i++) {
		mla_tensor *out = &g->tensors.out, *lse = &g->tensors.lse;
		mla_status status;

		memset(arena, 0xff, sizeof(arena));
		out->data = arena + layouts[i].out;
		lse->data = arena + layouts[i].lse;
		out->stride[0] = 4 * layouts[i].out_stride[0];
		out->stride[1] = 4 * layouts[i].out_stride[1];
		lse->stride[0] = 4 * layouts[i].lse_stride;
		status = attend(g);
		if (layouts[i].words) {
			expect_refused(layouts[i].what, status, layouts[i].words);
			expect_refused(layouts[i].what, mla_reference_plan(g->plan, &g->tensors),
				       layouts[i].words);
			continue;
		}
		cr_assert(!status, "%s: %s", layouts[i].what, mla_last_error());
		for (int row = 0; row < ROWS; row++) {
			const int64_t q = row / HEADS, h = row % HEADS;

			cr_expect_eq(memcmp(arena + layouts[i].out + q * layouts[i].out_stride[0] +
						    h * layouts[i].out_stride[1],
					    want + row * CKV, CKV * 4),
				     0, "%s: row %d", layouts[i].what, row);
			cr_expect_eq(arena[layouts[i].lse + q * layouts[i].lse_stride + h],
				     want_lse[row], "%s: lse %d", layouts[i].what, row);
		}
	}
	given_free(g);
}

Test(overlap, of_outputs_and_inputs)
{
	for (int output = 0; output < 2; output++)
		for (int input = 0; input < 8; input++)
			for (int shift = -1; shift <= 1; shift++) {
				struct given *g = given_new();
				mla_tensor *to = output ? &g->tensors.lse : &g->tensors.out;
				const char *name = output ? "lse" : "out";
				const struct {
					const char *name;
					void *data;
					size_t bytes;
				} inputs[] = {
					{"q_nope", g->q_nope, sizeof(g->q_nope)},
					{"q_pe", g->q_pe, sizeof(g->q_pe)},
					{"ckv", g->ckv, sizeof(g->ckv)},
					{"kpe", g->kpe, sizeof(g->kpe)},
					{"kv_indices", g->pages, sizeof(g->pages)},
					{"batch.qo_indptr", g->qo_indptr, sizeof(g->qo_indptr)},
					{"batch.kv_indptr", g->kv_indptr, sizeof(g->kv_indptr)},
					{"batch.kv_len", g->kv_len, sizeof(g->kv_len)},
				};
				const size_t bytes = output ? sizeof(g->lse) : sizeof(g->out);
				char words[80], *whole = malloc(4 * sizeof(*g));
				char *at = whole + sizeof(*g);

				/* the same range, or one that shares a float at its end */
				memcpy(at, inputs[input].data, inputs[input].bytes);
				to->data = shift < 0 ? at - bytes + 4
					   : shift   ? at + inputs[input].bytes - 4
						     : at;
				switch (input) {
				case 0:
					g->tensors.q_nope.data = at;
					break;
				case 1:
					g->tensors.q_pe.data = at;
					break;
				case 2:
					g->tensors.ckv.data = at;
					break;
				case 3:
					g->tensors.kpe.data = at;
					break;
				case 4:
					g->tensors.kv_indices = (int32_t *)at;
					break;
				case 5:
					g->batch.qo_indptr = (int32_t *)at;
					break;
				case 6:
					g->batch.kv_indptr = (int32_t *)at;
					break;
				default:
					g->batch.kv_len = (int32_t *)at;
					break;
				}
				snprintf(words, sizeof(words), "%s overlaps %s", name,
					 inputs[input].name);
				expect_refused(words, attend(g), words);
				to->data = shift < 0 ? at - bytes : at + inputs[input].bytes;
				cr_expect(!attend(g), "beside %s: %s", inputs[input].name,
					  mla_last_error());
				free(whole);
				given_free(g);
			}
}

/* Inputs may share memory: views of one fused tensor, and one row for all. */
Test(overlap, of_inputs_is_fine)
{
	struct given *g = given_new();
	float q[ROWS * (CKV + KPE)], cache[PAGES * PAGE * (CKV + KPE)];

	fill(q, COUNT(q), 7);
	fill(cache, COUNT(cache), 8);
	g->tensors.q_nope = packed(q, QUERIES, HEADS, CKV + KPE);
	g->tensors.q_pe = packed(q + CKV, QUERIES, HEADS, CKV + KPE);
	g->tensors.ckv = packed(cache, PAGES, PAGE, CKV + KPE);
	g->tensors.kpe = packed(cache + CKV, PAGES, PAGE, CKV + KPE);
	g->tensors.q_nope.extent[2] = g->tensors.ckv.extent[2] = CKV;
	g->tensors.q_pe.extent[2] = g->tensors.kpe.extent[2] = KPE;
	cr_expect(!attend(g), "%s", mla_last_error());
	g->tensors.q_nope.stride[0] = g->tensors.q_pe.stride[0] = 0;
	g->tensors.kpe.data = cache;
	cr_expect(!attend(g), "%s", mla_last_error());
	given_free(g);
}

/* Rows that nobody reads or writes count for nothing: q, out and lse may be longer than the batch.
 */
Test(overlap, beyond_the_batch_is_fine)
{
	struct given *g = given_new();
	float both[4 * ROWS * CKV];

	fill(both, COUNT(both), 9);
	g->tensors.q_nope = packed(both, 4 * QUERIES, HEADS, CKV);
	g->tensors.out = packed(both + ROWS * CKV, 3 * QUERIES, HEADS, CKV);
	cr_expect(!attend(g), "%s", mla_last_error());
	g->tensors.out.data = both + ROWS * CKV - 1;
	expect_refused("one float", attend(g), "out overlaps q_nope");
	given_free(g);
}

/* What mla_run asks for: scratch is written, too. */
Test(overlap, of_scratch)
{
	struct given *g = given_new();
	const mla_tensors tensors = g->tensors;
	struct mla_expect expect = {
		.config = &g->config,
		.queries = QUERIES,
		.pages = PAGES,
		.later = PAGES,
		.reads = true,
		.reason = "",
		.scratch_bytes = 4096,
	};
	_Alignas(256) char scratch[8192];

	g->tensors.scratch = scratch;
	g->tensors.scratch_bytes = 4095;
	expect_refused("short", mla_check_tensors(&expect, &g->tensors), "scratch is 4095 bytes");
	g->tensors.scratch_bytes = 4096;
	cr_expect(!mla_check_tensors(&expect, &g->tensors), "%s", mla_last_error());
	g->tensors.out.data = scratch + 4096;
	cr_expect(!mla_check_tensors(&expect, &g->tensors), "%s", mla_last_error());
	g->tensors.out.data = scratch + 4092;
	expect_refused("out", mla_check_tensors(&expect, &g->tensors), "out overlaps scratch");
	g->tensors = tensors;
	g->tensors.scratch = scratch;
	g->tensors.scratch_bytes = 4096;
	g->tensors.kpe.data = memcpy(scratch + 4092 - sizeof(g->kpe), g->kpe, sizeof(g->kpe));
	expect_refused("kpe", mla_check_tensors(&expect, &g->tensors), "scratch overlaps kpe");
	expect.scratch_bytes = 0;
	g->tensors.scratch_bytes = -1;
	expect_refused("-1", mla_check_tensors(&expect, &g->tensors), "scratch is -1 bytes");
	g->tensors.scratch_bytes = 4096;
	expect.scratch_bytes = 2048;
	cr_expect(!mla_check_tensors(&expect, &g->tensors), "%s", mla_last_error());
	given_free(g);
}

Test(overlap, in_a_merge)
{
	struct given *g = given_new();
	const mla_merge_args good = g->merge;
	mla_merge_args *m = &g->merge;

	cr_expect(!mla_merge_host(m), "%s", mla_last_error());
	m->out.data = g->states;
	expect_refused("in place", mla_merge_host(m), "out overlaps states");
	*m = good;
	m->lse.data = g->states_lse;
	expect_refused("lse in place", mla_merge_host(m), "lse overlaps states_lse");
	*m = good;
	m->out.stride[0] = 0;
	expect_refused("stride 0", mla_merge_host(m), "out: its rows of 16 bytes overlap");
	*m = good;
	m->out.stride[0] = 12;
	expect_refused("stride 12", mla_merge_host(m), "out: its rows of 16 bytes overlap");
	*m = good;
	m->lse.data = g->out + ROWS * CKV - 1;
	expect_refused("lse on out", mla_merge_host(m), "out overlaps lse");
	*m = good;
	m->states.stride[0] = 0; /* one state twice is no overlap of outputs */
	cr_expect(!mla_merge_host(m), "%s", mla_last_error());
	given_free(g);
}

/* ---- states ---------------------------------------------------------------------------------- */

Test(merge, a_state_of_infinite_weight_is_refused)
{
	for (int at = 0; at < 2 * ROWS; at += 5)
		for (int32_t base = MLA_LSE_NATURAL; base <= MLA_LSE_BASE2; base++) {
			struct given *g = given_new();
			char words[40];

			g->merge.lse_base = base;
			g->states_lse[at] = INFINITY;
			snprintf(words, sizeof(words), "states_lse[%d, %d] is inf", at / ROWS,
				 at % ROWS);
			expect_refused(words, mla_merge_host(&g->merge), words);
			given_free(g);
		}
}

/* Whatever the others are, and wherever it stands. */
Test(merge, a_state_of_lse_nan_makes_its_row_nan)
{
	static const float others[] = {-INFINITY, 0, 3e38f};

	for (size_t i = 0; i < COUNT(others); i++)
		for (int nan = 0; nan < 2; nan++) {
			struct given *g = given_new();

			g->states_lse[nan * ROWS + 1] = NAN;
			g->states_lse[!nan * ROWS + 1] = others[i];
			cr_assert(!mla_merge_host(&g->merge), "%s", mla_last_error());
			for (int c = 0; c < CKV; c++) {
				cr_expect(isnan(g->out[CKV + c]), "%g, %d", others[i], nan);
				cr_expect(isfinite(g->out[c]), "another row");
			}
			cr_expect(isnan(g->lse[1]) && isfinite(g->lse[0]));
			given_free(g);
		}
}

/* out and lse may be longer than the states have rows: no more is read or written. */
Test(merge, rows_are_those_of_the_states)
{
	struct given *g = given_new();

	g->merge.states = packed(g->states, 2, ROWS - 1, CKV);
	g->merge.states_lse = packed(g->states_lse, 2, ROWS - 1, 0);
	fill(g->out, COUNT(g->out), 1);
	g->out[(ROWS - 1) * CKV] = g->lse[ROWS - 1] = 77;
	cr_expect(!mla_merge_host(&g->merge), "%s", mla_last_error());
	cr_expect(g->out[(ROWS - 1) * CKV] == 77 && g->lse[ROWS - 1] == 77);
	given_free(g);
}

Test(merge, no_rows_need_no_data)
{
	struct given *g = given_new();

	g->merge.states.extent[1] = g->merge.states_lse.extent[1] = 0;
	g->merge.states.data = g->merge.states_lse.data = g->merge.out.data = NULL;
	cr_expect(!mla_merge_host(&g->merge), "%s", mla_last_error());
	given_free(g);
}

/* ---- nothing to read --------------------------------------------------------------------------
 */

Test(empty, keys_and_caches)
{
	struct given *g = given_new();
	mla_tensors *t = &g->tensors;
	struct mla_expect expect = {
		.config = &g->config, .queries = QUERIES, .later = PAGES, .reason = " (capture)"};

	g->kv_len[0] = 0; /* pages in the table, no key in them */
	cr_expect(!attend(g), "%s", mla_last_error());
	t->ckv.extent[0] = t->kpe.extent[0] = 0;
	t->ckv.data = t->kpe.data = NULL;
	fill(g->out, COUNT(g->out), 1);
	cr_expect(!attend(g), "%s", mla_last_error());
	for (size_t i = 0; i < COUNT(g->out); i++)
		cr_expect(g->out[i] == 0 && g->lse[i / CKV] == -INFINITY);
	cr_expect(!mla_plan_build(g->plan, &g->batch) && !mla_reference_plan(g->plan, t), "%s",
		  mla_last_error());

	/* as mla_run asks while a stream is captured */
	cr_expect(!mla_check_tensors(&expect, t), "%s", mla_last_error());
	t->kv_indices = NULL;
	t->num_kv_indices = 0;
	cr_expect(!mla_check_tensors(&expect, t), "%s", mla_last_error());
	t->ckv = packed(g->ckv, PAGES, PAGE, CKV);
	t->kpe = packed(g->kpe, PAGES, PAGE, KPE);
	expect_refused("a cache with pages", mla_check_tensors(&expect, t), "kv_indices is NULL");

	g->kv_len[0] = 1;
	t->kv_indices = g->pages;
	t->num_kv_indices = PAGES;
	t->ckv.extent[0] = t->kpe.extent[0] = 0;
	expect_refused("a key and no page", attend(g), "ckv: extent[0] is 0, expected at least 1");
	given_free(g);
}
