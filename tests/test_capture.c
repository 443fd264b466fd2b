/* test_capture.c - captures: what is written is what is read, bit for bit, a part is a part, and no
 * mutation of a file crashes or hangs its reader. Damage is the matter of test_capture_damage.c.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>

#include "capture_fixture.h"
#include "case/generate.h"
#include "fuzz/mutate.h"

/* cppcheck-suppress unknownMacro */
TestSuite(capture, .init = make_folder, .fini = remove_folder);

/* ---- round trips ---------------------------------------------------------------------------- */

static const struct capture_writing plain = {.notes = "a test", .tool = "test"};
static const struct capture_writing packed = {.notes = "a test", .tool = "test", .compress = true};

/* Rows [0, rows) bit for bit, whatever the strides. */
static bool same_tensor(const mla_tensor *a, const mla_tensor *b, int64_t rows)
{
	const size_t size = (size_t)ref_dtype_size(a->dtype);

	if (!a->data || !b->data)
		return !a->data && !b->data;
	if (a->dtype != b->dtype || a->ndim != b->ndim || b->extent[0] != rows)
		return false;
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < a->extent[1]; j++) {
			const char *x = (char *)a->data + i * a->stride[0] + j * a->stride[1];
			const char *y = (char *)b->data + i * b->stride[0] + j * b->stride[1];
			const int64_t last = a->ndim == 3 ? a->extent[2] : 1;

			if (a->extent[1] != b->extent[1] ||
			    (a->ndim == 3 && last != b->extent[2]) ||
			    memcmp(x, y, (size_t)last * size))
				return false;
		}
	return true;
}

static bool same_index(const int32_t *a, const int32_t *b, int64_t count)
{
	if (!a || !b)
		return !a && !b;
	return !count || !memcmp(a, b, (size_t)count * sizeof(*a));
}

/* One page of each, slots that nothing needs included. */
static bool same_page(const mla_tensor *a, int32_t page_a, const mla_tensor *b, int32_t page_b)
{
	mla_tensor x = *a, y = *b;

	if (!a->data || !b->data)
		return !a->data && !b->data;
	x.data = (char *)a->data + page_a * a->stride[0];
	y.data = (char *)b->data + page_b * b->stride[0];
	x.extent[0] = y.extent[0] = 1;
	return same_tensor(&x, &y, 1);
}

/* What b's table names is what a's names, and nothing but that was loaded. */
static void expect_same_pages(const struct mla_case *a, const struct mla_case *b)
{
	const int64_t size = a->config.page_size;
	int32_t most = 0;

	for (int32_t r = 0; r < a->batch.batch_size; r++)
		for (int64_t e = 0; e < (a->batch.kv_len[r] + size - 1) / size; e++) {
			const int32_t x = a->tensors.kv_indices[a->batch.kv_indptr[r] + e];
			const int32_t y = b->tensors.kv_indices[b->batch.kv_indptr[r] + e];

			cr_assert(y >= 0 && y < b->tensors.ckv.extent[0], "%s: page %d", a->name,
				  y);
			cr_expect(same_page(&a->tensors.ckv, x, &b->tensors.ckv, y) &&
					  same_page(&a->tensors.kpe, x, &b->tensors.kpe, y),
				  "%s: request %d entry %d", a->name, (int)r, (int)e);
			most = y > most ? y : most;
		}
	if (a->tensors.ckv.extent[0])
		cr_expect_eq(b->tensors.ckv.extent[0], most + 1, "%s: pages", a->name);
}

static void expect_same(const struct mla_case *a, const struct mla_case *b)
{
	const int64_t requests = a->batch.batch_size, queries = case_total_q(a);
	mla_config config = b->config;

	config.fixed_split = a->config.fixed_split;
	cr_expect(!memcmp(&a->config, &config, sizeof(config)), "%s: config", a->name);
	cr_assert_eq(requests, b->batch.batch_size, "%s: requests", a->name);
	cr_expect(!requests || (same_index(a->batch.qo_indptr, b->batch.qo_indptr, requests + 1) &&
				same_index(a->batch.kv_indptr, b->batch.kv_indptr, requests + 1)),
		  "%s: offsets", a->name);
	cr_expect(same_index(a->batch.kv_len, b->batch.kv_len, requests), "%s: kv_len", a->name);
	cr_expect(same_index(a->batch.q_pos0, b->batch.q_pos0, requests), "%s: q_pos0", a->name);
	cr_expect_eq(a->tensors.num_kv_indices, b->tensors.num_kv_indices, "%s", a->name);
	expect_same_pages(a, b);
	cr_expect(same_tensor(&a->tensors.q_nope, &b->tensors.q_nope, queries), "%s: q_nope",
		  a->name);
	cr_expect(same_tensor(&a->tensors.q_pe, &b->tensors.q_pe, queries), "%s: q_pe", a->name);
	cr_expect(same_tensor(&a->out_ref, &b->out_ref, queries), "%s: out_ref", a->name);
	cr_expect(same_tensor(&a->lse_ref, &b->lse_ref, queries), "%s: lse_ref", a->name);
}

static void load_only_case(const char *path, struct mla_case *c)
{
	struct capture *capture = open_good(path);

	cr_assert_eq(capture_num_steps(capture), 1);
	cr_assert_eq(capture_num_layers(capture), 1);
	cr_assert_eq(capture_kind(capture), CAPTURE_SYNTHETIC);
	cr_assert(!capture_load(capture, 0, 0, c), "%s", mla_last_error());
	capture_close(capture);
}

/* After trip.h5 was written. */
static void expect_reads_back(const struct mla_case *c)
{
	struct mla_case read;

	cr_expect_eq(count_files(), 1, "what was written aside is still there");
	load_only_case(in_folder("trip.h5"), &read);
	expect_same(c, &read);
	case_free(&read);
}

static void expect_round_trip(const struct mla_case *c, const struct capture_writing *how)
{

	cr_assert(!put_capture(in_folder("trip.h5"), c, how), "%s: %s", c->name, mla_last_error());
	expect_reads_back(c);
}

/* A case with a NaN in a query or in a key, or with a page twice in a request, is a test of
 * kernels, nothing that a model captured: it is refused. */
Test(capture, adversarial_cases_round_trip)
{
	int refused = 0;

	for (int i = 0; i < 60; i++) {
		struct mla_case c;

		cr_assert(!generate_adversarial(11, i, &c));
		if (put_capture(in_folder("trip.h5"), &c, i % 4 ? &plain : &packed)) {
			cr_expect(strstr(mla_last_error(), "non-finite values") ||
					  strstr(mla_last_error(), " twice "),
				  "%s", mla_last_error());
			refused++;
		} else {
			expect_reads_back(&c);
		}
		case_free(&c);
	}
	cr_expect(refused > 0 && refused < 45, "%d of 60 refused", refused);
}

/* A case of one dtype, fused or not, with references. */
static void make_case(int32_t dtype, int32_t fused, int32_t lse_base, struct mla_case *c)
{
	static const int32_t qo_len[] = {1, 0, 7}, kv_len[] = {130, 5, 64}, q_pos0[] = {129, 3, -2};
	const struct generate_spec spec = {
		.seed = 5,
		.config = {.struct_size = sizeof(mla_config),
			   .num_heads = 5,
			   .head_dim_ckv = 48,
			   .head_dim_kpe = 16,
			   .page_size = 16,
			   .causal = 1,
			   .lse_base = lse_base,
			   .q_dtype = dtype,
			   .ckv_dtype = dtype,
			   .kpe_dtype = dtype,
			   .out_dtype = dtype == MLA_F16 ? MLA_F32 : dtype,
			   .sm_scale = 0.1352337788},
		.batch_size = 3,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.q_pos0 = fused ? q_pos0 : NULL,
		.fused = fused,
		.extra_pages = 3,
	};
	const int64_t out[3] = {8, 5, 48}, lse[2] = {8, 5};

	cr_assert(!generate_case(&spec, c));
	c->out_ref = case_tensor(c, MLA_F32, 3, out);
	c->lse_ref = case_tensor(c, MLA_F32, 2, lse);
	for (int i = 0; i < 8 * 5 * 48; i++)
		((float *)c->out_ref.data)[i] = 0.37f * (float)(i % 101) - 11;
	for (int i = 0; i < 8 * 5; i++)
		((float *)c->lse_ref.data)[i] = i == 3 ? -INFINITY : 1.7f * (float)i - 20;
}

Test(capture, every_dtype_round_trips_fused_or_not)
{
	for (int32_t dtype = MLA_BF16; dtype <= MLA_F32; dtype++)
		for (int32_t fused = 0; fused < 2; fused++) {
			struct mla_case c;

			make_case(dtype, fused, MLA_LSE_NATURAL, &c);
			cr_assert(!fused ||
				  c.tensors.ckv.stride[1] > 48 * (int64_t)ref_dtype_size(dtype));
			expect_round_trip(&c, &plain);
			expect_round_trip(&c, &packed);
			case_free(&c);
		}
}

/* The file's base is 2, a case's is e: two roundings of 2^-24 each. */
Test(capture, base_2_references_are_converted)
{
	const char *path = in_folder("base2.h5");
	struct mla_case c, read;

	make_case(MLA_BF16, 0, MLA_LSE_BASE2, &c);
	cr_assert(!put_capture(path, &c, &plain), "%s", mla_last_error());
	load_only_case(path, &read);
	cr_expect_eq(read.config.lse_base, MLA_LSE_BASE2);
	for (int i = 0; i < 8 * 5; i++) {
		const double a = ((float *)c.lse_ref.data)[i], b = ((float *)read.lse_ref.data)[i];

		cr_expect(a == b || fabs(a - b) <= ldexp(fabs(a), -22), "%d: %g and %g", i, a, b);
	}
	case_free(&c);
	case_free(&read);
}

Test(capture, an_empty_batch_round_trips)
{
	struct mla_case c = {.name = "empty"};
	const int64_t q[3] = {0, 2, 8}, cache[3] = {0, 4, 8};

	c.config = (mla_config){.struct_size = sizeof(mla_config),
				.num_heads = 2,
				.head_dim_ckv = 8,
				.page_size = 4,
				.sm_scale = 0.25};
	c.batch.struct_size = sizeof(c.batch);
	c.tensors.q_nope = case_tensor(&c, MLA_BF16, 3, q);
	c.tensors.ckv = case_tensor(&c, MLA_BF16, 3, cache);
	c.tensors.kv_indices = case_alloc(&c, 4);
	c.batch.kv_len = case_alloc(&c, 4);
	expect_round_trip(&c, &plain);
	case_free(&c);
}

Test(capture, the_same_case_gives_the_same_bytes)
{
	size_t size[2];
	unsigned char *bytes[2];

	for (int i = 0; i < 2; i++) {
		const char *path = in_folder(i ? "b.h5" : "a.h5");
		struct mla_case c;

		make_case(MLA_BF16, 0, MLA_LSE_NATURAL, &c);
		cr_assert(!put_capture(path, &c, &plain), "%s", mla_last_error());
		case_free(&c);
		bytes[i] = read_bytes(path, &size[i]);
		if (!i)
			sleep(1); /* a time stamp would differ */
	}
	cr_expect(size[0] == size[1] && !memcmp(bytes[0], bytes[1], size[0]));
	free(bytes[0]);
	free(bytes[1]);
}

static void expect_write_error(const struct mla_case *c, const char *path, const char *expected)
{

	cr_expect(put_capture(path, c, &plain));
	cr_expect(strstr(mla_last_error(), expected), "found \"%s\", expected \"%s\"",
		  mla_last_error(), expected);
	cr_expect_eq(count_files(), 0, "%s was written", path);
}

Test(capture, what_cannot_be_written_is_refused)
{
	struct mla_case c;
	const int64_t extent[3] = {5, 6, 48};
	char expected[256];

	make_case(MLA_BF16, 0, MLA_LSE_NATURAL, &c);
	expect_write_error(&c, "/nowhere/a.h5",
			   "/nowhere/a.h5: cannot be written: No such file or directory");
	expect_write_error(&c, "/dev/null",
			   "/dev/null: cannot be written: it is a device, expected a regular file");
	c.config.ckv_dtype = MLA_E4M3;
	expect_write_error(&c, in_folder("a.h5"),
			   "has dtype 3; a capture holds bf16, fp16 and f32");
	c.config.ckv_dtype = MLA_BF16;
	memset((char *)c.tensors.q_pe.data + 2, 0xff, 2);
	snprintf(expected, sizeof(expected),
		 "%s: /steps/000/layers/000/q_pe: 1 non-finite values, first at [0,0,1]",
		 in_folder("a.h5"));
	expect_write_error(&c, in_folder("a.h5"), expected);
	c.w_uk = case_tensor(&c, MLA_BF16, 3, extent);
	expect_write_error(&c, in_folder("a.h5"), "carries a model's tensors");
	case_free(&c);
}

/* ---- loading -------------------------------------------------------------------------------- */

static double at(const mla_tensor *tensor, int64_t i, int64_t j, int64_t k)
{
	return ref_load((char *)tensor->data + i * tensor->stride[0] + j * tensor->stride[1] +
				k * tensor->stride[2],
			tensor->dtype);
}

Test(capture, steps_and_layers_are_named)
{
	const char *path = in_folder("good.h5");
	struct capture *capture;
	struct mla_case c;

	fixture_write(path, CAPTURE_MODEL_FORWARD, MLA_BF16, false);
	capture = open_good(path);
	cr_expect_eq(capture_kind(capture), CAPTURE_MODEL_FORWARD);
	cr_expect_eq(capture_num_steps(capture), 3);
	cr_expect_eq(capture_num_layers(capture), 2);
	cr_expect_eq(capture_step_number(capture, 2), 2);
	cr_expect_eq(capture_layer_number(capture, 1), 5);
	cr_expect_str_eq(capture_step_name(capture, 0), "prefill");
	cr_expect_str_eq(capture_step_name(capture, 1), "decode");
	load_good(capture, 1, 1, &c);
	cr_expect_str_eq(c.name, "good.h5:001/005");
	cr_expect(c.batch.q_pos0 && c.batch.q_pos0[0] == 5 && c.batch.q_pos0[1] == 3);
	cr_expect_eq(c.config.causal, 1);
	cr_expect_eq(c.config.page_size, PAGE_SIZE);
	cr_expect_eq(c.tensors.num_kv_indices, 7);
	case_free(&c);
	cr_expect_eq(capture_load(capture, 3, 0, &c), MLA_INVALID);
	cr_expect(strstr(mla_last_error(), "no step index 3 with layer index 0: 3 steps, 2 layers"),
		  "%s", mla_last_error());
	capture_close(capture);
}

/* q_nope of a model-forward capture is q_raw times W_UK, rounded once: 2^-9 relative in bf16. */
Test(capture, model_forward_is_absorbed)
{
	const char *path = in_folder("model.h5");
	struct capture *capture;
	struct mla_case c;

	fixture_write(path, CAPTURE_MODEL_FORWARD, MLA_BF16, false);
	capture = open_good(path);
	load_good(capture, 0, 1, &c);
	cr_assert(c.q_raw.data && c.w_uk.data && c.w_uv.data && c.out_model.data);
	cr_assert_eq(c.out_ref.extent[2], V);
	cr_assert_eq(c.tensors.q_nope.extent[2], CKV);
	for (int64_t t = 0; t < fixture_queries(0); t++)
		for (int64_t h = 0; h < HEADS; h++)
			for (int64_t k = 0; k < CKV; k++) {
				double sum = 0, found = at(&c.tensors.q_nope, t, h, k);

				for (int64_t d = 0; d < NOPE; d++)
					sum += at(&c.q_raw, t, h, d) * at(&c.w_uk, h, d, k);
				cr_expect(fabs(found - sum) <= ldexp(fabs(sum), -8) && sum != 0,
					  "[%d,%d,%d]: %g, expected %g", (int)t, (int)h, (int)k,
					  found, sum);
			}
	case_free(&c);
	capture_close(capture);
}

Test(capture, kernel_call_is_loaded_as_it_is)
{
	const char *path = in_folder("call.h5");
	struct capture *capture;
	struct mla_case c;
	float stored[2 * HEADS];
	hid_t file, id;

	fixture_write(path, CAPTURE_KERNEL_CALL, MLA_F16, true);
	capture = open_good(path);
	load_good(capture, 1, 0, &c);
	cr_expect(!c.q_raw.data && !c.w_uk.data && !c.w_uv.data);
	cr_expect_eq(c.tensors.q_nope.dtype, MLA_F16);
	cr_expect_eq(c.tensors.q_nope.extent[2], CKV);
	cr_expect_eq(c.out_ref.extent[2], CKV);
	cr_expect_eq(c.config.lse_base, MLA_LSE_BASE2);
	file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	id = H5Dopen2(file, "/steps/001/layers/002/lse_ref", H5P_DEFAULT);
	cr_assert(H5Dread(id, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, stored) >= 0);
	H5Dclose(id);
	H5Fclose(file);
	for (int i = 0; i < 2 * HEADS; i++)
		cr_expect_float_eq(((float *)c.lse_ref.data)[i], stored[i] * (float)M_LN2, 1e-6,
				   "lse_ref is stored in base 2, a case has base e");
	case_free(&c);
	capture_close(capture);
}

/* ---- cutting -------------------------------------------------------------------------------- */

/* Key j of a request, as a case's page table finds it. */
static const char *key(const struct mla_case *c, const mla_tensor *cache, int32_t request,
		       int64_t j)
{
	const int64_t size = c->config.page_size;
	const int32_t page = c->tensors.kv_indices[c->batch.kv_indptr[request] + j / size];

	return (char *)cache->data + page * cache->stride[0] + j % size * cache->stride[1];
}

static bool same_heads(const mla_tensor *whole, int64_t row, const mla_tensor *part,
		       int64_t part_row, int64_t head_begin)
{
	const int64_t bytes = part->extent[1] * part->stride[1];

	return !memcmp((char *)whole->data + row * whole->stride[0] + head_begin * whole->stride[1],
		       (char *)part->data + part_row * part->stride[0], (size_t)bytes);
}

/* Request r of the whole is request k of the part. */
static void expect_request(const struct mla_case *whole, int32_t r, const struct mla_case *part,
			   int32_t k, int64_t head_begin)
{
	const mla_tensor *const pairs[][2] = {
		{&whole->tensors.q_nope, &part->tensors.q_nope},
		{&whole->tensors.q_pe, &part->tensors.q_pe},
		{&whole->q_raw, &part->q_raw},
		{&whole->out_model, &part->out_model},
		{&whole->out_ref, &part->out_ref},
		{&whole->lse_ref, &part->lse_ref},
	};
	const int32_t begin = whole->batch.qo_indptr[r], part_begin = part->batch.qo_indptr[k];
	const int32_t count = whole->batch.qo_indptr[r + 1] - begin;

	cr_assert_eq(part->batch.qo_indptr[k + 1] - part_begin, count);
	cr_assert_eq(part->batch.kv_len[k], whole->batch.kv_len[r]);
	cr_expect(!whole->batch.q_pos0 || part->batch.q_pos0[k] == whole->batch.q_pos0[r]);
	for (size_t p = 0; p < COUNT(pairs); p++)
		for (int32_t i = 0; i < count; i++)
			cr_expect(same_heads(pairs[p][0], begin + i, pairs[p][1], part_begin + i,
					     head_begin),
				  "tensor %zu, query %d of request %d", p, i, r);
	for (int64_t j = 0; j < whole->batch.kv_len[r]; j++)
		cr_expect(!memcmp(key(whole, &whole->tensors.ckv, r, j),
				  key(part, &part->tensors.ckv, k, j), CKV * 2) &&
				  !memcmp(key(whole, &whole->tensors.kpe, r, j),
					  key(part, &part->tensors.kpe, k, j), KPE * 2),
			  "key %d of request %d", (int)j, r);
}

static void cut_good(const struct capture_part *part)
{

	cr_assert(!put_part(in_folder("whole.h5"), in_folder("part.h5"), part), "%s",
		  mla_last_error());
	cr_assert(!capture_verify(in_folder("part.h5"), true, NULL), "%s", mla_last_error());
}

Test(capture, a_part_is_a_part)
{
	static const int steps[] = {2, 1}, layers[] = {1}, requests[] = {1};
	const struct capture_part chosen = {.steps = steps,
					    .num_steps = 2,
					    .layers = layers,
					    .num_layers = 1,
					    .requests = requests,
					    .num_requests = 1,
					    .head_begin = 1,
					    .head_end = 3};
	struct capture *whole, *part;

	fixture_write(in_folder("whole.h5"), CAPTURE_MODEL_FORWARD, MLA_BF16, true);
	cut_good(&chosen);
	whole = open_good(in_folder("whole.h5"));
	part = open_good(in_folder("part.h5"));
	cr_assert_eq(capture_num_steps(part), 2);
	cr_assert_eq(capture_num_layers(part), 1);
	cr_expect_eq(capture_layer_number(part, 0), 5);
	cr_expect_eq(part->config.head_start, 8);
	for (int s = 0; s < 2; s++) {
		struct mla_case a, b;

		cr_expect_eq(capture_step_number(part, s), s + 1);
		load_good(whole, s + 1, 1, &a);
		load_good(part, s, 0, &b);
		cr_assert_eq(b.config.num_heads, 2);
		cr_assert_eq(b.batch.batch_size, 1);
		cr_expect_eq(part->extent[DIM_PAGES], 3, "pages 0, 5 and 6 are kept");
		expect_request(&a, 1, &b, 0, 1);
		cr_expect(same_heads(&a.w_uk, 1, &b.w_uk, 0, 0) &&
			  same_heads(&a.w_uv, 2, &b.w_uv, 1, 0));
		case_free(&a);
		case_free(&b);
	}
	capture_close(part);
	capture_close(whole);
}

Test(capture, a_cut_of_everything_drops_unused_pages_only)
{
	const struct capture_part everything = {0};
	struct capture *whole, *part;

	fixture_write(in_folder("whole.h5"), CAPTURE_KERNEL_CALL, MLA_F16, false);
	cut_good(&everything);
	whole = open_good(in_folder("whole.h5"));
	part = open_good(in_folder("part.h5"));
	cr_assert_eq(capture_num_steps(part), STEPS);
	cr_assert_eq(capture_num_layers(part), LAYERS);
	cr_expect_eq(part->extent[DIM_PAGES], PAGES - 2);
	for (int s = 0; s < STEPS; s++)
		for (int l = 0; l < LAYERS; l++) {
			struct mla_case a, b;

			load_good(whole, s, l, &a);
			load_good(part, s, l, &b);
			for (int32_t r = 0; r < REQUESTS; r++) {
				mla_tensor none = {0};

				a.q_raw = b.q_raw = none;
				cr_expect_eq(a.batch.kv_len[r], b.batch.kv_len[r]);
				for (int64_t j = 0; j < a.batch.kv_len[r]; j++)
					cr_expect(!memcmp(key(&a, &a.tensors.ckv, r, j),
							  key(&b, &b.tensors.ckv, r, j), CKV * 2));
			}
			cr_expect(same_tensor(&a.tensors.q_nope, &b.tensors.q_nope,
					      fixture_queries(s)) &&
				  same_tensor(&a.out_ref, &b.out_ref, fixture_queries(s)));
			case_free(&a);
			case_free(&b);
		}
	capture_close(part);
	capture_close(whole);
}

Test(capture, a_part_says_where_it_comes_from)
{
	static const int requests[] = {0};
	const struct capture_part part = {.requests = requests, .num_requests = 1};
	struct capture *whole, *cut;
	const struct cap_attribute *origin, *sha;

	fixture_write(in_folder("whole.h5"), CAPTURE_SYNTHETIC, MLA_BF16, false);
	cut_good(&part);
	whole = open_good(in_folder("whole.h5"));
	cut = open_good(in_folder("part.h5"));
	sha = cap_attributes_find(&whole->listing.attributes, "/", "content_sha256");
	origin = cap_attributes_find(&cut->listing.attributes, "/", "derived_from");
	cr_assert(sha && origin);
	cr_expect(strstr(origin->text, sha->text) && strstr(origin->text, "whole.h5") &&
			  strstr(origin->text, "requests 0"),
		  "%s", origin->text);
	cr_expect(cap_find(cut, "/steps/000/token_ids") && cap_find(cut, "/steps/001/q_pos0"));
	capture_close(cut);
	capture_close(whole);
}

Test(capture, parts_that_are_not_there_are_named)
{
	static const int three[] = {3}, two[] = {2}, twice[] = {1, 1};
	static const struct {
		struct capture_part part;
		const char *expected;
	} wrong[] = {
		{{.steps = three, .num_steps = 1}, "no step with index 3, there are 3"},
		{{.layers = two, .num_layers = 1}, "no layer with index 2, there are 2"},
		{{.requests = two, .num_requests = 1}, "no request with index 2, there are 2"},
		{{.steps = twice, .num_steps = 2}, "step with index 1 is chosen twice"},
		{{.head_begin = 2, .head_end = 4},
		 "heads 2 to 3 are not a part of the 3 heads here"},
		{{.head_begin = 2, .head_end = 2},
		 "heads 2 to 1 are not a part of the 3 heads here"},
	};

	fixture_write(in_folder("whole.h5"), CAPTURE_KERNEL_CALL, MLA_BF16, false);
	for (size_t i = 0; i < COUNT(wrong); i++) {

		cr_expect_eq(put_part(in_folder("whole.h5"), in_folder("part.h5"), &wrong[i].part),
			     MLA_INVALID);
		cr_expect(strstr(mla_last_error(), wrong[i].expected), "%s", mla_last_error());
		cr_expect(access(in_folder("part.h5"), F_OK), "a part was written");
	}
}

/* ---- description, fuzzing ------------------------------------------------------------------- */

Test(capture, info_tells_what_is_inside)
{
	static const char *const words[] = {
		"mla-capture 1, model-forward, ",
		"heads        3 (from head 7 of the model), ckv 8, kpe 4, nope 6, v 5",
		"causal, scale 0.316227766, page size 2, lse base e",
		"rope         interleaved, theta 10000, scaling none",
		"layer 005    8 pages, with W_UK and W_UV",
		"step 000     prefill: 2 requests, 8 queries, 8 keys (3 to 5 each)",
		"model_id         a test",
	};
	struct capture *capture;
	char text[4096];
	FILE *out = tmpfile();

	fixture_write(in_folder("good.h5"), CAPTURE_MODEL_FORWARD, MLA_BF16, false);
	capture = open_good(in_folder("good.h5"));
	capture_print_info(capture, out);
	capture_close(capture);
	rewind(out);
	text[fread(text, 1, sizeof(text) - 1, out)] = 0;
	fclose(out);
	for (size_t i = 0; i < COUNT(words); i++)
		cr_expect(strstr(text, words[i]), "no \"%s\" in\n%s", words[i], text);
}

/* The long runs are make fuzz. */
static void expect_no_bad_end(bool repaired)
{
	long ends[NUM_ENDS] = {0};

	fuzz_all(150, 7, repaired, false, ends);
	cr_expect(ends[END_REFUSED] > 50, "only %ld of 150 were refused", ends[END_REFUSED]);
	cr_expect_eq(ends[END_CRASHED], 0);
	cr_expect_eq(ends[END_HUNG], 0);
	cr_expect_eq(ends[END_SILENT], 0);
}

Test(capture, no_mutation_crashes_or_hangs)
{
	expect_no_bad_end(false);
}

Test(capture, no_mutation_with_repaired_checksums_crashes_or_hangs)
{
	expect_no_bad_end(true);
}
