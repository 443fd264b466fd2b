/* reference_fixture.h - what the tests of the reference share: small problems with odd strides, in
 * buffers without a byte to spare, whose unused cache slots are NaN; and attention written a second
 * time, as plainly as possible, in long double with number formats of its own.
 */
#ifndef MLA_REFERENCE_FIXTURE_H
#define MLA_REFERENCE_FIXTURE_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "reference/reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { MAX_REQUESTS = 4, SPARE_PAGES = 3 };

struct shape {
	const char *name;
	int32_t requests, qo[MAX_REQUESTS], kv[MAX_REQUESTS];
	int32_t heads, ckv, kpe, page, causal;
	int32_t q_dtype, ckv_dtype, kpe_dtype;
	bool fused, has_pos0;
	int32_t pos0[MAX_REQUESTS];
	double scale;
};

struct problem {
	mla_config config;
	mla_batch batch;
	mla_tensors tensors;
	int32_t qo_indptr[MAX_REQUESTS + 1], kv_indptr[MAX_REQUESTS + 1];
	int32_t kv_len[MAX_REQUESTS], q_pos0[MAX_REQUESTS];
	int64_t rows;
};

static inline void *allocate(int64_t count, size_t size)
{
	void *memory = malloc((size_t)(count > 0 ? count : 1) * size);

	if (!memory)
		abort();
	return memory;
}

static inline double *doubles(int64_t count)
{
	return allocate(count, sizeof(double));
}

/* splitmix64; uniform in -2 .. 2 */
static inline double random_value(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)(int64_t)(z ^ z >> 31) * 0x1p-62;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static inline void *element(const mla_tensor *t, int64_t i, int64_t j, int64_t k)
{
	return (char *)t->data + i * t->stride[0] + j * t->stride[1] + k * t->stride[2];
}

/* Rows of c elements, `skip` elements apart at least, and `slack` more after each block of b. */
static inline mla_tensor layout(int32_t dtype, int64_t a, int64_t b, int64_t c, int64_t skip,
				int64_t slack)
{
	const int64_t size = ref_dtype_size(dtype);

	return (mla_tensor){
		.dtype = dtype,
		.ndim = 3,
		.extent = {a, b, c},
		.stride = {(b * skip + slack) * size, skip * size, size},
	};
}

/* Exactly the bytes from the first element to the last, as a sanitizer likes it. */
static inline int64_t extent_bytes(const mla_tensor *t)
{
	return t->extent[0] == 0
		       ? 0
		       : (t->extent[0] - 1) * t->stride[0] + (t->extent[1] - 1) * t->stride[1] +
				 t->extent[2] * t->stride[2];
}

static inline mla_tensor tensor_new(int32_t dtype, int64_t a, int64_t b, int64_t c, int64_t pad)
{
	mla_tensor t = layout(dtype, a, b, c, c + pad, 5 * pad);

	t.data = allocate(extent_bytes(&t), 1);
	for (int64_t i = 0; i < a; i++)
		for (int64_t j = 0; j < b; j++)
			for (int64_t k = 0; k < c; k++)
				ref_store(element(&t, i, j, k), dtype, NAN);
	return t;
}

static inline void tensor_fill(const mla_tensor *t, uint64_t *seed)
{
	for (int64_t i = 0; i < t->extent[0]; i++)
		for (int64_t j = 0; j < t->extent[1]; j++)
			for (int64_t k = 0; k < t->extent[2]; k++)
				ref_store(element(t, i, j, k), t->dtype, random_value(seed));
}

/* ---- problems ------------------------------------------------------------------------------ */

static inline void make_caches(struct problem *p, const struct shape *s, int64_t pages)
{
	mla_tensor *ckv = &p->tensors.ckv, *kpe = &p->tensors.kpe;

	if (!s->fused) {
		*ckv = tensor_new(s->ckv_dtype, pages, s->page, s->ckv, 2);
		if (s->kpe > 0)
			*kpe = tensor_new(s->kpe_dtype, pages, s->page, s->kpe, 1);
		return;
	}
	const mla_tensor both =
		tensor_new(s->ckv_dtype, pages, s->page, (int64_t)s->ckv + s->kpe, 1);

	*ckv = *kpe = both;
	ckv->extent[2] = s->ckv;
	kpe->extent[2] = s->kpe;
	kpe->data = element(&both, 0, 0, s->ckv);
}

/* The slot of key j of a request. */
static inline void *key_element(const struct problem *p, const mla_tensor *cache, int32_t request,
				int32_t j, int64_t column)
{
	const int32_t page = p->config.page_size;
	const int32_t id = p->tensors.kv_indices[p->kv_indptr[request] + j / page];

	return element(cache, id, j % page, column);
}

static inline void fill_keys(struct problem *p, uint64_t *seed)
{
	for (int32_t b = 0; b < p->batch.batch_size; b++)
		for (int32_t j = 0; j < p->kv_len[b]; j++) {
			for (int32_t c = 0; c < p->config.head_dim_ckv; c++)
				ref_store(key_element(p, &p->tensors.ckv, b, j, c),
					  p->config.ckv_dtype, random_value(seed));
			for (int32_t c = 0; c < p->config.head_dim_kpe; c++)
				ref_store(key_element(p, &p->tensors.kpe, b, j, c),
					  p->config.kpe_dtype, random_value(seed));
		}
}

/* Page ids in a scattered order, then entries that nobody may use. */
static inline void make_pages(struct problem *p, int32_t used)
{
	int32_t *ids = allocate(used + SPARE_PAGES, sizeof(*ids));
	uint64_t seed = 7;

	for (int32_t i = 0; i < used; i++) {
		const int32_t other = (int32_t)((random_value(&seed) + 2) / 4 * (i + 1)) % (i + 1);

		ids[i] = i + SPARE_PAGES;
		if (other != i) {
			ids[i] = ids[other];
			ids[other] = i + SPARE_PAGES;
		}
	}
	for (int32_t i = used; i < used + SPARE_PAGES; i++)
		ids[i] = POISON_PAGE;
	p->tensors.kv_indices = ids;
	p->tensors.num_kv_indices = used + SPARE_PAGES;
}

static inline void make_batch(struct problem *p, const struct shape *s)
{
	for (int32_t b = 0; b < s->requests; b++) {
		const int32_t pages = (s->kv[b] + s->page - 1) / s->page;

		p->qo_indptr[b + 1] = p->qo_indptr[b] + s->qo[b];
		p->kv_indptr[b + 1] = p->kv_indptr[b] + pages;
		p->kv_len[b] = s->kv[b];
		p->q_pos0[b] = s->pos0[b];
	}
	p->batch = (mla_batch){
		.struct_size = sizeof(p->batch),
		.batch_size = s->requests,
		.qo_indptr = p->qo_indptr,
		.kv_indptr = p->kv_indptr,
		.kv_len = p->kv_len,
		.q_pos0 = s->has_pos0 ? p->q_pos0 : NULL,
	};
}

static inline struct problem *problem_new(const struct shape *s)
{
	struct problem *p = allocate(1, sizeof(*p));
	uint64_t seed = 1;

	memset(p, 0, sizeof(*p));
	p->config = (mla_config){
		.struct_size = sizeof(p->config),
		.num_heads = s->heads,
		.head_dim_ckv = s->ckv,
		.head_dim_kpe = s->kpe,
		.page_size = s->page,
		.causal = s->causal,
		.q_dtype = s->q_dtype,
		.ckv_dtype = s->ckv_dtype,
		.kpe_dtype = s->kpe_dtype,
		.out_dtype = MLA_F32,
		.sm_scale = s->scale,
	};
	make_batch(p, s);
	make_pages(p, p->kv_indptr[s->requests]);
	make_caches(p, s, p->kv_indptr[s->requests] + 2 * SPARE_PAGES);
	fill_keys(p, &seed);

	const int64_t total_q = p->qo_indptr[s->requests];

	p->rows = total_q * s->heads;
	p->tensors.struct_size = sizeof(p->tensors);
	p->tensors.q_nope = tensor_new(s->q_dtype, total_q, s->heads, s->ckv, 3);
	tensor_fill(&p->tensors.q_nope, &seed);
	if (s->kpe > 0) {
		p->tensors.q_pe = tensor_new(s->q_dtype, total_q, s->heads, s->kpe, 1);
		tensor_fill(&p->tensors.q_pe, &seed);
	}
	p->tensors.out = tensor_new(MLA_F32, total_q, s->heads, s->ckv, 1);
	p->tensors.lse = tensor_new(MLA_F32, total_q, s->heads, 1, 0);
	p->tensors.lse.ndim = 2;
	return p;
}

static inline void problem_free(struct problem *p)
{
	const bool fused = p->tensors.kpe.stride[1] == p->tensors.ckv.stride[1];

	free(p->tensors.q_nope.data);
	free(p->tensors.q_pe.data);
	free(p->tensors.ckv.data);
	if (!fused)
		free(p->tensors.kpe.data);
	free(p->tensors.out.data);
	free(p->tensors.lse.data);
	free((void *)p->tensors.kv_indices);
	free(p);
}

/* ---- results ------------------------------------------------------------------------------- */

static inline struct ref_truth truth_new(int64_t rows, int32_t d)
{
	return (struct ref_truth){
		.out = doubles(rows * d),
		.lse = doubles(rows),
		.sum_abs = doubles(rows * d),
		.tokens = doubles(rows),
		.max_score = doubles(rows),
	};
}

static inline void truth_free(struct ref_truth *t)
{
	free(t->out);
	free(t->lse);
	free(t->sum_abs);
	free(t->tokens);
	free(t->max_score);
}

/* The truth of all rows. */
static inline struct ref_truth truth_of(const struct problem *p)
{
	const struct ref_truth t = truth_new(p->rows, p->config.head_dim_ckv);

	cr_assert_eq(ref_attention(&p->config, &p->batch, &p->tensors, NULL, p->rows, &t), 0);
	return t;
}

/* NaN fails, equal infinities pass. */
static inline void expect_near(const char *name, const char *what, int64_t i, double got,
			       double want, double bound)
{
	cr_assert(got == want || fabs(got - want) <= bound,
		  "%s: %s[%lld] is %.17g, expected %.17g within %.3g", name, what, (long long)i,
		  got, want, bound);
}

static inline void expect_all_near(const char *name, const char *what, const double *got,
				   const double *want, int64_t n, double bound)
{
	for (int64_t i = 0; i < n; i++)
		expect_near(name, what, i, got[i], want[i], bound * fmax(1, fabs(want[i])));
}

static inline void expect_same_bits(const char *name, const struct ref_truth *a,
				    const struct ref_truth *b, int64_t rows, int32_t d)
{
	const size_t row = sizeof(double) * (size_t)rows;

	cr_assert_eq(memcmp(a->out, b->out, row * (size_t)d), 0, "%s: out differs", name);
	cr_assert_eq(memcmp(a->sum_abs, b->sum_abs, row * (size_t)d), 0, "%s: sum_abs differs",
		     name);
	cr_assert_eq(memcmp(a->lse, b->lse, row), 0, "%s: lse differs", name);
	cr_assert_eq(memcmp(a->tokens, b->tokens, row), 0, "%s: tokens differs", name);
	cr_assert_eq(memcmp(a->max_score, b->max_score, row), 0, "%s: max_score differs", name);
}

/* ---- attention once more ------------------------------------------------------------------- */

/* A 16-bit float of `mantissa` bits, from the definition. */
static inline double plain_decode(uint16_t bits, int mantissa)
{
	const int exponents = 15 - mantissa, bias = (1 << (exponents - 1)) - 1;
	const int exponent = (bits & 0x7fff) >> mantissa, fraction = bits & ((1 << mantissa) - 1);
	const double sign = bits & 0x8000 ? -1 : 1;

	if (exponent == (1 << exponents) - 1)
		return fraction ? NAN : sign * INFINITY;
	if (exponent == 0)
		return sign * ldexp(fraction, 1 - bias - mantissa);
	return sign * ldexp((1 << mantissa) + fraction, exponent - bias - mantissa);
}

static inline double plain_load(const void *data, int32_t dtype)
{
	uint16_t bits;

	if (dtype == MLA_F32)
		return *(const float *)data;
	memcpy(&bits, data, sizeof(bits));
	return plain_decode(bits, dtype == MLA_BF16 ? 7 : 10);
}

static inline long double plain_score(const struct problem *p, int32_t request, int64_t query,
				      int32_t head, int32_t j)
{
	const mla_config *c = &p->config;
	const mla_tensors *t = &p->tensors;
	long double sum = 0;

	for (int32_t k = 0; k < c->head_dim_ckv; k++)
		sum += (long double)plain_load(element(&t->q_nope, query, head, k), c->q_dtype) *
		       plain_load(key_element(p, &t->ckv, request, j, k), c->ckv_dtype);
	for (int32_t k = 0; k < c->head_dim_kpe; k++)
		sum += (long double)plain_load(element(&t->q_pe, query, head, k), c->q_dtype) *
		       plain_load(key_element(p, &t->kpe, request, j, k), c->kpe_dtype);
	return sum * (long double)c->sm_scale;
}

/* Keys that query i of a request sees. */
static inline int32_t plain_seen(const struct problem *p, int32_t request, int32_t i)
{
	const int32_t kv = p->kv_len[request];
	const int32_t qo = p->qo_indptr[request + 1] - p->qo_indptr[request];
	const int32_t pos0 = p->batch.q_pos0 ? p->q_pos0[request] : kv - qo;
	int32_t seen = 0;

	for (int32_t j = 0; j < kv; j++)
		seen += !p->config.causal || j <= pos0 + i;
	return seen;
}

static inline void plain_row(const struct problem *p, int32_t request, int32_t i, int32_t head,
			     const struct ref_truth *t)
{
	const int32_t d = p->config.head_dim_ckv, seen = plain_seen(p, request, i);
	const int64_t query = p->qo_indptr[request] + i, row = query * p->config.num_heads + head;
	long double *weight = allocate(seen, sizeof(*weight));
	long double l = 0, entropy = 0, most = 0;

	for (int32_t j = 0; j < seen; j++) {
		const long double score = plain_score(p, request, query, head, j);

		weight[j] = expl(score);
		l += weight[j];
		most = fmaxl(most, fabsl(score));
	}
	for (int32_t j = 0; j < seen; j++) {
		weight[j] /= l;
		entropy -= weight[j] * logl(weight[j]);
	}
	t->lse[row] = l > 0 ? (double)logl(l) : -INFINITY;
	t->tokens[row] = seen ? (double)expl(entropy) : 0;
	t->max_score[row] = (double)most;
	for (int32_t c = 0; c < d; c++) {
		long double sum = 0, sum_abs = 0;

		for (int32_t j = 0; j < seen; j++) {
			const long double v =
				plain_load(key_element(p, &p->tensors.ckv, request, j, c),
					   p->config.ckv_dtype);

			sum += weight[j] * v;
			sum_abs += weight[j] * fabsl(v);
		}
		t->out[row * d + c] = (double)sum;
		t->sum_abs[row * d + c] = (double)sum_abs;
	}
	free(weight);
}

/* Right for scores whose exponentials stay in range. */
static inline struct ref_truth plain_attention(const struct problem *p)
{
	const struct ref_truth t = truth_new(p->rows, p->config.head_dim_ckv);

	for (int32_t b = 0; b < p->batch.batch_size; b++)
		for (int32_t i = 0; i < p->qo_indptr[b + 1] - p->qo_indptr[b]; i++)
			for (int32_t h = 0; h < p->config.num_heads; h++)
				plain_row(p, b, i, h, &t);
	return t;
}

#endif
