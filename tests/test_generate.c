/* test_generate.c - synthetic cases: the same bits everywhere, and what their names promise.
 */
#include <math.h>
#include <omp.h>
#include <stdbool.h>

#include "check/internal.h"
#include "check_fixture.h"
#include "lib/internal.h"

/* FNV-1a */
static uint64_t hash_bytes(uint64_t hash, const void *data, int64_t bytes)
{
	for (int64_t i = 0; i < bytes; i++)
		hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
	return hash;
}

static uint64_t hash_tensor(uint64_t hash, const mla_tensor *t)
{
	for (int64_t i = 0; t->data && i < t->extent[0]; i++)
		for (int64_t j = 0; j < t->extent[1]; j++)
			hash = hash_bytes(
				hash, (const char *)t->data + i * t->stride[0] + j * t->stride[1],
				t->extent[2] * t->stride[2]);
	return hash;
}

static uint64_t hash_case(const struct mla_case *c)
{
	const mla_tensors *t = &c->tensors;
	uint64_t hash = 0xcbf29ce484222325u;

	hash = hash_tensor(hash_tensor(hash, &t->q_nope), &t->q_pe);
	hash = hash_tensor(hash_tensor(hash, &t->ckv), &t->kpe);
	hash = hash_bytes(hash, t->kv_indices, t->num_kv_indices * 4);
	return hash_bytes(hash, c->batch.qo_indptr, (c->batch.batch_size + 1) * 4);
}

Test(generator, gives_these_bits_everywhere)
{
	static const uint64_t expected[COUNT(named_cases)] = {
		0x196ccc492b717b79u, 0xd60aabd5914da643u, 0xb1d1563a16fc461cu, 0x24802c6c2d6a7dc0u,
		0x58c9b93e66db6224u, 0xd8c6f9977e6b3dbbu, 0x4d2555ce647d0eb4u, 0x79d1ed749648dcb7u,
		0x93345435e41165ddu, 0xf3f1c2cc5962d26du, 0x59bb11de2a723369u, 0xadf562cd2c2a1528u,
		0x53de7d05b1a626aau, 0xee3c82f9fe1833f5u, 0x9d4d68d45c0c8098u, 0xa236446bd4206860u,
		0xd3f0a64535f6b165u, 0xdf3c0e6c147a6311u, 0x61da8b8ec6028fdau, 0x8ab76349b0003c8du,
		0xa8888110e97be039u, 0x797b820685cb5597u, 0x3b24853235bdb83fu, 0x30963af04cc2e6c9u,
		0xb2130aed594cb277u, 0x9eacb26e208f06c9u, 0xcc97ec1a1a2c4c11u, 0xd1f23fb4387c2e0fu,
		0xe796e41c6006e856u, 0xc0fb12afd16173e1u, 0x65f79f454ba51e06u, 0x4cac35b904ff5d06u,
		0xa3ca15cd966be656u, 0x8d0d86235c151c0au, 0x2c18ac212e1e4e36u, 0x79feda885586bf29u,
		0x5ee2659601b2f2adu, 0xa4b026d698d9e9bdu, 0xcc64f41451fbd11cu, 0x573eb9be24e0d546u,
		0xe1aa3499a3e034b3u,
	};
	struct mla_case c;

	for (size_t n = 0; n < COUNT(named_cases); n++) {
		omp_set_num_threads(1 + (int)n % 3); /* which must not matter */
		cr_assert_eq(generate_case(&named_cases[n].spec, &c), 0);
		cr_expect_eq(hash_case(&c), expected[n], "%s: 0x%016llxu,", named_cases[n].name,
			     (unsigned long long)hash_case(&c));
		case_free(&c);
	}
}

Test(generator, threads_do_not_change_bits)
{
	uint64_t hash[2];

	for (int k = 0; k < 2; k++) {
		struct mla_case c;

		omp_set_num_threads(k ? 3 : 1);
		cr_assert_eq(generate_case(&named_cases[0].spec, &c), 0);
		hash[k] = hash_case(&c);
		case_free(&c);
	}
	cr_expect_eq(hash[0], hash[1]);
}

/* Scores of one row, in key order. */
static void row_scores(const struct mla_case *c, int64_t request, int64_t row, double *scores)
{
	const mla_tensors *t = &c->tensors;
	const int64_t heads = c->config.num_heads, page_size = c->config.page_size;
	const mla_tensor *pairs[2][2] = {{&t->q_nope, &t->ckv}, {&t->q_pe, &t->kpe}};

	for (int64_t key = 0; key < c->batch.kv_len[request]; key++) {
		const int64_t page = t->kv_indices[c->batch.kv_indptr[request] + key / page_size];

		scores[key] = 0;
		for (int k = 0; k < 2; k++) {
			const mla_tensor *q = pairs[k][0], *cache = pairs[k][1];
			const char *a = (const char *)q->data + row / heads * q->stride[0] +
					row % heads * q->stride[1];
			const char *b = (const char *)cache->data + page * cache->stride[0] +
					key % page_size * cache->stride[1];

			for (int64_t i = 0; i < q->extent[2]; i++)
				scores[key] += ref_load(a + i * q->stride[2], q->dtype) *
					       ref_load(b + i * cache->stride[2], cache->dtype) *
					       c->config.sm_scale;
		}
	}
}

/* How often the running maximum grows by more than 1 after the first 64 keys. */
static int count_late_rises(const double *scores, int64_t n)
{
	double m = -INFINITY;
	int rises = 0;

	for (int64_t key = 0; key < n; key++) {
		rises += key >= 64 && scores[key] > m + 1;
		m = fmax(m, scores[key]);
	}
	return rises;
}

Test(generator, peaked_is_peaked)
{
	struct problem p;
	double top = 0, tokens = 0, scores[514];
	int64_t sharp = 0, rising_rows = 0;

	make_named("peaked", &p);
	for (int64_t row = 0; row < p.truth.n; row++) {
		top = fmax(top, p.truth.values.max_score[row]);
		tokens += p.truth.values.tokens[row] / (double)p.truth.n;
		sharp += p.truth.values.tokens[row] < 8;
	}
	cr_expect(top > 40 && top < 75, "scores reach %g", top);
	cr_expect(tokens > 2 && tokens < 30, "%g effective tokens on average", tokens);
	cr_expect_gt(sharp, p.truth.n / 3);
	for (int64_t row = 0; row < p.truth.n; row++) {
		row_scores(&p.c, row / 128, row, scores);
		rising_rows += count_late_rises(scores, p.c.batch.kv_len[row / 128]) > 0;
	}
	cr_expect_gt(rising_rows, p.truth.n / 4, "the maximum rises late in %lld of %lld rows",
		     (long long)rising_rows, (long long)p.truth.n);
	free_problem(&p);
}

Test(generator, other_values_are_what_they_are_called)
{
	struct problem p;

	make_named("flat", &p);
	for (int64_t row = 0; row < p.truth.n; row++)
		cr_expect_gt(p.truth.values.tokens[row], 999);
	free_problem(&p);
	make_named("normal", &p);
	for (int64_t row = 0; row < p.truth.n; row++) /* deviation 24 * 0.135 */
		cr_expect(p.truth.values.max_score[row] > 6 && p.truth.values.max_score[row] < 22);
	free_problem(&p);
	make_named("huge", &p);
	cr_expect_gt(p.truth.values.max_score[0], 100);
	free_problem(&p);
}

Test(generator, pages_are_laid_out_as_asked)
{
	const int32_t qo_len[] = {1, 1}, kv_len[] = {64, 40};
	struct generate_spec spec = {
		.seed = 1,
		.config = {.num_heads = 1, .head_dim_ckv = 4, .page_size = 4, .sm_scale = 1},
		.batch_size = 2,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.pages = GENERATE_PAGES_CONTIGUOUS};
	struct mla_case c;
	int misplaced = 0;

	cr_assert_eq(generate_case(&spec, &c), 0);
	for (int32_t i = 0; i < 26; i++)
		cr_expect_eq(c.tensors.kv_indices[i], i);
	case_free(&c);

	spec.pages = GENERATE_PAGES_SHUFFLED;
	cr_assert_eq(generate_case(&spec, &c), 0);
	for (int32_t i = 0; i < 26; i++) {
		misplaced += c.tensors.kv_indices[i] != i;
		for (int32_t k = 0; k < i; k++)
			cr_expect_neq(c.tensors.kv_indices[i], c.tensors.kv_indices[k]);
	}
	cr_expect_gt(misplaced, 20);
	cr_expect_gt(c.tensors.ckv.extent[0], 26, "pages that nobody uses lie between");
	case_free(&c);

	spec.pages = GENERATE_PAGES_SHARED;
	cr_assert_eq(generate_case(&spec, &c), 0);
	for (int32_t i = 0; i < 5; i++)
		cr_expect_eq(c.tensors.kv_indices[i], c.tensors.kv_indices[16 + i]);
	cr_expect_neq(c.tensors.kv_indices[5], c.tensors.kv_indices[21]);
	case_free(&c);
}

/* Bytes of a row of elements, and of a whole first index. */
static int64_t packed_stride(const mla_tensor *t, int32_t dim)
{
	int64_t bytes = t->stride[t->ndim - 1];

	for (int32_t i = t->ndim - 1; i > dim; i--)
		bytes *= t->extent[i];
	return bytes;
}

/* Each stride of each tensor is another than that of a contiguous one in some case, each address is
 * off its buffer's start, and outputs lie where rows do not meet. */
Test(generator, gaps_come_in_every_stride)
{
	int other[4][2] = {0}, offset[4] = {0}, lse = 0, out[2] = {0}, spare = 0;
	struct generate_spec spec = named_cases[0].spec;

	spec.gaps = 16;
	spec.fused = 0;
	for (spec.seed = 1; spec.seed <= 12; spec.seed++) {
		struct mla_case c;

		cr_assert_eq(generate_case(&spec, &c), 0);

		const mla_tensors *t = &c.tensors;
		const mla_tensor *of[] = {&t->q_nope, &t->q_pe, &t->ckv, &t->kpe};
		const int64_t row = 512 * 2, heads = c.config.num_heads;

		for (int k = 0; k < 4; k++) {
			for (int dim = 0; dim < 2; dim++) {
				other[k][dim] += of[k]->stride[dim] != packed_stride(of[k], dim);
				cr_expect_eq(of[k]->stride[dim] % 16, 0);
			}
			offset[k] += (uintptr_t)of[k]->data % 64 != 0;
			cr_expect_eq((uintptr_t)of[k]->data % 16, 0);
		}
		spare += t->q_nope.extent[0] > 3;
		out[0] += c.out_rows.query != heads * row;
		out[1] += c.out_rows.head != row;
		lse += c.lse_rows.query != heads * 4;
		cr_expect(c.out_rows.head >= row && c.out_rows.query >= row);
		case_free(&c);
	}
	for (int k = 0; k < 4; k++)
		cr_expect(other[k][0] && other[k][1] && offset[k], "tensor %d", k);
	cr_expect(out[0] && out[1] && lse && spare);
}

/* What a sequence of adversarial cases must have shown. */
struct variety {
	int empty_batch, no_queries, no_keys, more_queries, causal, positions, fused, dtype[3];
	int mixed, odd_heads, odd_pages, long_request, toy;
	int far_pages, far_keys, round_keys, many_requests, many_heads, many_queries, large_pages;
	int far_positions, limit_positions, negative, tiny_scale, huge_scale, gaps, repeated;
	int nan_keys, table_gaps, odd_dims, wide, no_rope, half_tiles, rows_16_bits, no_lse;
	int beyond_fp16, without_keys, only_last, pairs[4][4][3][3];
};

/* Pages: ids, and pages that a request has twice. */
static void look_at_table(const struct mla_case *c, struct variety *v)
{
	bool far = false, repeated = false;

	for (int32_t r = 0; r < c->batch.batch_size; r++) {
		const int32_t *pages = c->tensors.kv_indices + c->batch.kv_indptr[r];
		const int64_t n =
			(c->batch.kv_len[r] + c->config.page_size - 1) / c->config.page_size;

		for (int64_t i = 0; i < n; i++) {
			far |= pages[i] > 65536;
			for (int64_t k = i > 8 ? i - 8 : 0; k < i; k++)
				repeated |= pages[i] == pages[k];
		}
	}
	v->far_pages += far;
	v->repeated += repeated;
	v->table_gaps += c->batch.batch_size &&
			 c->tensors.num_kv_indices > c->batch.kv_indptr[c->batch.batch_size];
}

/* Does an input hold a NaN where a query sees it? */
static bool sees_nan(const struct mla_case *c)
{
	struct check_truth truth;
	bool any = false;

	cr_assert_eq(check_truth_make(c, 0, &truth), MLA_OK);
	for (int64_t row = 0; row < truth.n; row++)
		any |= truth.may_be_nan[row];
	check_truth_free(&truth);
	return any;
}

static void look_at_requests(const struct mla_case *c, struct variety *v)
{
	const int32_t n = c->batch.batch_size;
	double work = 0;

	v->without_keys += n > 1 && case_total_q(c) > 0 && !mla_batch_reads(&c->batch);
	v->only_last += n > 1 && c->batch.qo_indptr[n - 1] == 0 && case_total_q(c) > 0;
	for (int32_t r = 0; r < n; r++) {
		const int32_t qo = c->batch.qo_indptr[r + 1] - c->batch.qo_indptr[r];
		const int32_t kv = c->batch.kv_len[r];

		v->no_queries += qo == 0;
		v->no_keys += kv == 0;
		v->more_queries += qo > kv;
		v->long_request += kv > 1000;
		v->far_keys += kv > 32768;
		v->round_keys += kv >= 1024 && kv % 1024 == 0;
		v->many_queries += qo > 64;
		if (c->config.causal && c->batch.q_pos0) {
			const int32_t position = c->batch.q_pos0[r];

			v->far_positions += position > 32768 || position < -32768;
			v->limit_positions += position == 1 << 30 || position == -(1 << 30);
		}
		work += (double)qo * kv * c->config.num_heads *
			(2 * c->config.head_dim_ckv + c->config.head_dim_kpe);
	}
	cr_expect_leq(work, 1.1e8, "%s: %g multiply-adds", c->name, work);
}

/* Which dtypes meet, and are the keys beyond what fp16 holds? */
static void look_at_dtypes(const struct mla_case *c, struct variety *v)
{
	const mla_config *config = &c->config;
	const int32_t dtype[] = {config->q_dtype, config->ckv_dtype, config->kpe_dtype,
				 config->out_dtype};

	for (int a = 0; a < 4; a++)
		for (int b = 0; b < 4; b++)
			v->pairs[a][b][dtype[a]][dtype[b]]++;
	if (c->batch.batch_size > 0 && c->batch.kv_len[0] > 0 && c->batch.qo_indptr[1] > 0)
		v->beyond_fp16 += check_keys_of(c, 0).longest > 65504;
}

static void look_at(const struct mla_case *c, struct variety *v)
{
	const mla_config *config = &c->config;

	v->empty_batch += c->batch.batch_size == 0;
	v->causal += config->causal;
	v->positions += c->batch.q_pos0 != NULL;
	v->fused += (char *)c->tensors.kpe.data ==
		    (char *)c->tensors.ckv.data +
			    config->head_dim_ckv * ref_dtype_size(config->ckv_dtype);
	v->dtype[config->ckv_dtype]++;
	v->mixed += config->ckv_dtype != config->kpe_dtype;
	v->odd_heads += config->num_heads % 16 != 0;
	v->odd_pages += config->page_size == 3;
	v->toy += config->head_dim_ckv != 512;
	v->many_requests += c->batch.batch_size > 1024;
	v->many_heads += config->num_heads > 256;
	v->large_pages += config->page_size > 512;
	v->negative += config->sm_scale < 0;
	v->tiny_scale += fabs(config->sm_scale) < 1e-6;
	v->huge_scale += fabs(config->sm_scale) > 1e6;
	v->gaps += c->out_rows.query > 0;
	v->odd_dims += config->head_dim_ckv % 8 != 0;
	v->wide += config->head_dim_ckv > 512 && config->head_dim_kpe > 64;
	v->no_rope += config->head_dim_ckv > 8 && config->head_dim_kpe == 0;
	v->half_tiles +=
		config->head_dim_ckv == 512 && config->num_heads > 64 && config->num_heads < 128;
	v->rows_16_bits += config->num_heads > 65536;
	v->no_lse += c->no_lse;
	look_at_dtypes(c, v);
	look_at_requests(c, v);
	look_at_table(c, v);
}

Test(generator, adversarial_cases_are_valid_and_varied)
{
	struct variety v = {0};

	for (int n = 0; n < 200; n++) {
		mla_capacity capacity = {.struct_size = sizeof(capacity)};
		char name[64];
		struct mla_case c;

		cr_assert_eq(generate_adversarial(9, n, &c), 0);
		cr_expect_eq(mla_capacity_of(&c.config, &c.batch, &capacity), MLA_OK, "%s: %s",
			     c.name, mla_last_error());
		cr_expect_eq(mla_check_pages_host(&c.config, &c.batch, &c.tensors), MLA_OK,
			     "%s: %s", c.name, mla_last_error());
		snprintf(name, sizeof(name), "random:9.%d", n);
		cr_expect_str_eq(c.name, name);
		look_at(&c, &v);
		if (n < 64)
			v.nan_keys += sees_nan(&c);
		case_free(&c);
	}
	cr_expect(v.empty_batch && v.no_queries && v.no_keys && v.more_queries);
	cr_expect(v.causal > 50 && v.causal < 150 && v.positions > 20);
	cr_expect(v.fused > 20 && v.dtype[MLA_BF16] > 50 && v.dtype[MLA_F16] > 20 &&
		  v.dtype[MLA_F32] > 20 && v.mixed > 10);
	cr_expect(v.odd_heads > 50 && v.odd_pages > 5 && v.long_request > 10 && v.toy > 20);
	cr_expect(v.far_pages > 5 && v.repeated > 10 && v.table_gaps > 50 && v.large_pages > 5);
	cr_expect(v.far_keys > 5 && v.round_keys > 20 && v.many_requests > 5 && v.many_heads > 5 &&
		  v.many_queries > 5 && v.odd_dims > 30);
	cr_expect(v.far_positions > 20 && v.limit_positions > 5);
	cr_expect(v.negative > 40 && v.tiny_scale > 2 && v.huge_scale > 2);
	cr_expect(v.gaps > 60 && v.gaps < 140 && v.nan_keys > 3, "%d with gaps, %d with NaN keys",
		  v.gaps, v.nan_keys);
	cr_expect(v.wide > 5 && v.no_rope > 5 && v.half_tiles > 10 && v.rows_16_bits > 3);
	cr_expect(v.no_lse > 10 && v.beyond_fp16 > 10 && v.without_keys > 3 && v.only_last > 3);
	for (int i = 0; i < 4 * 4 * 3 * 3; i++)
		cr_expect(i / 9 % 5 == 0 || ((const int *)v.pairs)[i] > 3, "pair %d", i);
}

Test(generator, the_same_number_gives_the_same_case)
{
	struct mla_case a, b, other;

	cr_assert_eq(generate_adversarial(5, 3, &a), 0);
	cr_assert_eq(generate_adversarial(5, 3, &b), 0);
	cr_assert_eq(generate_adversarial(5, 4, &other), 0);
	cr_expect_eq(hash_case(&a), hash_case(&b));
	cr_expect_neq(hash_case(&a), hash_case(&other));
	case_free(&a);
	case_free(&b);
	case_free(&other);
}
