/* validate.c - checks of configs, batches and tensors, and capacities derived from a batch. */

#include "lib/validate.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "lib/error.h"
#include "lib/geometry.h"
#include "lib/internal.h"
#include "reference/reference.h"

mla_status mla_check_ranges(const struct mla_range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct mla_range *r = &ranges[i];

		if (r->value < r->least || r->value > r->most)
			return mla_fail(MLA_INVALID,
					"%s is %" PRId64 ", expected %" PRId64 " to %" PRId64,
					r->name, r->value, r->least, r->most);
	}
	return MLA_OK;
}

mla_status validate_scale(double scale, const char *what)
{
	/* What kernels compute with: exp(x) is exp2(x * log2 e). */
	const float held = fabsf((float)scale), base2 = held * 1.44269504088896340736f;

	if (held >= FLT_MIN && base2 <= FLT_MAX)
		return MLA_OK;
	return mla_fail(MLA_INVALID,
			"%s is %.9g, expected a number of either sign from 1.18e-38 to 2.35e+38 in "
			"size: kernels hold it, and it times log2 e, in f32",
			what, scale);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

mla_status mla_check_config(const mla_config *config)
{
	mla_status status = mla_struct_check(MLA_STRUCT_CONFIG, config);

	if (status)
		return status;

	const struct mla_range ranges[] = {
		{"config.num_heads", config->num_heads, 1, 1 << 20},
		{"config.head_dim_ckv", config->head_dim_ckv, 1, 1 << 16},
		{"config.head_dim_kpe", config->head_dim_kpe, 0, 1 << 16},
		{"config.page_size", config->page_size, 1, MLA_MAX_KV_LEN},
		{"config.causal", config->causal, 0, 1},
		{"config.lse_base", config->lse_base, MLA_LSE_NATURAL, MLA_LSE_BASE2},
		{"config.q_dtype", config->q_dtype, MLA_BF16, MLA_F32},
		{"config.ckv_dtype", config->ckv_dtype, MLA_BF16, MLA_E4M3},
		{"config.kpe_dtype", config->kpe_dtype, MLA_BF16, MLA_E4M3},
		{"config.out_dtype", config->out_dtype, MLA_BF16, MLA_F32},
		{"config.fixed_split", config->fixed_split, 0, MLA_MAX_KV_LEN},
	};

	status = mla_check_ranges(ranges, COUNT(ranges));
	if (status)
		return status;
	if (config->ckv_dtype == MLA_E4M3 || config->kpe_dtype == MLA_E4M3)
		return mla_fail(MLA_REFUSED,
				"fp8 (e4m3) caches are not supported yet: config.ckv_dtype "
				"and kpe_dtype must be bf16, fp16 or f32");
	return validate_scale(config->sm_scale, "config.sm_scale");
}

mla_status mla_check_device(const mla_device *device)
{
	const mla_status status = mla_struct_check(MLA_STRUCT_DEVICE, device);

	if (status)
		return status;

	const struct mla_range ranges[] = {
		{"device.arch", device->arch, 10, 10000},
		{"device.sm_count", device->sm_count, 1, 4096},
		{"device.smem_per_block", device->smem_per_block, 0, INT32_MAX},
	};

	return mla_check_ranges(ranges, COUNT(ranges));
}

mla_status mla_check_traits(const mla_traits *traits)
{
	const struct mla_range ranges[] = {
		{"traits.tile_rows", traits->tile_rows, 1, 1 << 30},
		{"traits.kv_granule", traits->kv_granule, 1, 1 << 20},
		{"traits.ctas_per_sm", traits->ctas_per_sm, 1, 32},
		{"traits.ctas_per_worker", traits->ctas_per_worker, 1, 16},
		{"traits.item_cost", traits->item_cost, 0, 1 << 20},
		{"traits.merge_cost", traits->merge_cost, 0, 1 << 20},
		{"traits.merge", traits->merge, MLA_MERGE_NONE, MLA_MERGE_FUSED},
		{"traits.align", traits->align, 1, 256},
		{"traits.threads", traits->threads, 0, 1024},
	};

	return mla_check_ranges(ranges, COUNT(ranges));
}

/* indptr[B+1] starts at 0 and never falls. */
static mla_status check_indptr(const char *name, const int32_t *indptr, int32_t batch_size)
{
	if (!indptr)
		return mla_fail(MLA_INVALID, "batch.%s is NULL", name);
	if (indptr[0])
		return mla_fail(MLA_INVALID, "batch.%s[0] is %d, expected 0", name, indptr[0]);
	for (int32_t i = 0; i < batch_size; i++)
		if (indptr[i + 1] < indptr[i])
			return mla_fail(MLA_INVALID,
					"batch.%s is not non-decreasing at %d (%d -> %d)", name,
					i + 1, indptr[i], indptr[i + 1]);
	return MLA_OK;
}

static mla_status check_request(const mla_config *config, const mla_batch *batch, int32_t i)
{
	const int32_t kv_len = batch->kv_len[i];
	const int32_t pages = batch->kv_indptr[i + 1] - batch->kv_indptr[i];

	if (kv_len < 0 || kv_len > MLA_MAX_KV_LEN)
		return mla_fail(MLA_INVALID, "batch.kv_len[%d] is %d, expected 0 to %d", i, kv_len,
				MLA_MAX_KV_LEN);

	const int32_t needed = (int32_t)geometry_pages(config, kv_len);

	if (needed > pages)
		return mla_fail(MLA_INVALID,
				"batch.kv_len[%d] = %d needs %d pages of %d, kv_indptr gives %d", i,
				kv_len, needed, config->page_size, pages);
	if (batch->q_pos0 &&
	    (batch->q_pos0[i] < -MLA_MAX_KV_LEN || batch->q_pos0[i] > MLA_MAX_KV_LEN))
		return mla_fail(MLA_INVALID, "batch.q_pos0[%d] is %d, expected -2^30 to 2^30", i,
				batch->q_pos0[i]);
	return MLA_OK;
}

static mla_status check_batch(const mla_config *config, const mla_batch *batch)
{
	mla_status status = mla_struct_check(MLA_STRUCT_BATCH, batch);

	if (status)
		return status;
	if (batch->batch_size < 0 || batch->batch_size > MLA_MAX_QUERIES)
		return mla_fail(MLA_INVALID, "batch.batch_size is %d, expected 0 to %d",
				batch->batch_size, MLA_MAX_QUERIES);
	if (batch->batch_size == 0)
		return MLA_OK; /* the arrays may be NULL */
	status = check_indptr("qo_indptr", batch->qo_indptr, batch->batch_size);
	if (!status)
		status = check_indptr("kv_indptr", batch->kv_indptr, batch->batch_size);
	if (!status && !batch->kv_len)
		status = mla_fail(MLA_INVALID, "batch.kv_len is NULL");
	if (!status && batch->qo_indptr[batch->batch_size] > MLA_MAX_QUERIES)
		status = mla_fail(MLA_INVALID, "batch.qo_indptr[%d] is %d, expected at most %d",
				  batch->batch_size, batch->qo_indptr[batch->batch_size],
				  MLA_MAX_QUERIES);
	if (!status && (int64_t)batch->qo_indptr[batch->batch_size] * config->num_heads > INT32_MAX)
		status = mla_fail(MLA_INVALID,
				  "batch.qo_indptr[%d] %d * config.num_heads %d packed rows exceed "
				  "2^31 - 1",
				  batch->batch_size, batch->qo_indptr[batch->batch_size],
				  config->num_heads);
	for (int32_t i = 0; i < batch->batch_size && !status; i++)
		status = check_request(config, batch, i);
	return status;
}

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

mla_status mla_check_problem(const mla_config *config, const mla_batch *batch)
{
	const mla_status status = mla_check_config(config);

	return status ? status : check_batch(config, batch);
}

mla_status validate_problem(const mla_config *config, const mla_batch *batch)
{
	return mla_check_problem(config, batch);
}

bool mla_batch_reads(const mla_batch *batch)
{
	for (int32_t i = 0; i < batch->batch_size; i++)
		if (batch->kv_len[i] > 0)
			return true;
	return false;
}

mla_status mla_capacity_of(const mla_config *config, const mla_batch *batch, mla_capacity *capacity)
{
	mla_status status = mla_check_problem(config, batch);

	if (!status && !capacity)
		status = mla_fail(MLA_INVALID, "capacity is NULL");
	if (status)
		return status;

	const int32_t n = batch->batch_size;
	int64_t longest_q = 1, longest_kv = 1, tokens = 0;

	for (int32_t i = 0; i < n; i++) {
		longest_q = larger(longest_q, batch->qo_indptr[i + 1] - batch->qo_indptr[i]);
		longest_kv = larger(longest_kv, batch->kv_len[i]);
		tokens += batch->kv_len[i];
	}
	*capacity = (mla_capacity){
		.struct_size = sizeof(*capacity),
		.max_requests = (int32_t)larger(n, 1),
		.max_queries = (int32_t)larger(n ? batch->qo_indptr[n] : 0, 1),
		.max_qo_len = (int32_t)longest_q,
		.max_kv_len = (int32_t)longest_kv,
		.max_kv_tokens = larger(tokens, 1),
		.max_pages = larger(n ? batch->kv_indptr[n] : 0, 1),
	};
	return MLA_OK;
}

/* One tensor: what is expected of it. least_extent[0] is a lower bound, the others are exact. */
struct tensor_rule {
	const char *name;
	const mla_tensor *tensor;
	int32_t dtype, ndim;
	int64_t extent[3];
};

/* From the first element to the last it is less than an address space, so that sums of strides
 * overflow nowhere. */
static mla_status check_span(const char *name, const mla_tensor *t)
{
	const double most = 0x1p56;
	double span = 0;

	for (int32_t i = 0; i < t->ndim; i++)
		if (t->extent[i] > 1)
			span += fabs((double)t->stride[i]) * (double)t->extent[i];
	if (span > most)
		return mla_fail(MLA_INVALID,
				"%s: extents and strides span %.3g bytes, expected at most 2^56",
				name, span);
	return MLA_OK;
}

static mla_status check_layout(const struct tensor_rule *rule, int32_t align)
{
	const mla_tensor *t = rule->tensor;
	const int64_t size = ref_dtype_size(t->dtype);
	const int64_t unit = align > size ? align : size;
	mla_status status = check_span(rule->name, t);

	if (status)
		return status;
	if (t->stride[t->ndim - 1] != size)
		return mla_fail(MLA_INVALID,
				"%s: the last stride is %" PRId64 " bytes, expected %" PRId64
				" (contiguous)",
				rule->name, t->stride[t->ndim - 1], size);
	if ((uintptr_t)t->data % (uintptr_t)unit)
		return mla_fail(MLA_INVALID,
				"%s: address %p is not a multiple of %" PRId64 " bytes", rule->name,
				t->data, unit);
	for (int32_t i = 0; i < t->ndim - 1; i++)
		if (t->stride[i] % unit && t->extent[i] > 1)
			return mla_fail(MLA_INVALID,
					"%s: stride[%d] = %" PRId64 " is not a multiple of %" PRId64
					" bytes",
					rule->name, i, t->stride[i], unit);
	return MLA_OK;
}

static bool has_elements(const struct tensor_rule *rule)
{
	for (int32_t i = 0; i < rule->ndim; i++)
		if (rule->extent[i] == 0)
			return false;
	return true;
}

static mla_status check_tensor(const struct tensor_rule *rule, int32_t align, const char *reason)
{
	const mla_tensor *t = rule->tensor;

	if (!t->data && has_elements(rule))
		return mla_fail(MLA_INVALID, "%s: data is NULL", rule->name);
	if (t->dtype != rule->dtype)
		return mla_fail(MLA_INVALID, "%s: dtype is %s, the plan's is %s", rule->name,
				ref_dtype_name(t->dtype), ref_dtype_name(rule->dtype));
	if (t->ndim != rule->ndim)
		return mla_fail(MLA_INVALID, "%s: %d dimensions, expected %d", rule->name, t->ndim,
				rule->ndim);
	if (t->extent[0] < rule->extent[0])
		return mla_fail(MLA_INVALID,
				"%s: extent[0] is %" PRId64 ", expected at least %" PRId64 "%s",
				rule->name, t->extent[0], rule->extent[0], reason);
	for (int32_t i = 1; i < t->ndim; i++)
		if (t->extent[i] != rule->extent[i])
			return mla_fail(MLA_INVALID,
					"%s: extent[%d] is %" PRId64 ", expected %" PRId64,
					rule->name, i, t->extent[i], rule->extent[i]);
	return check_layout(rule, align);
}

/* What kv_indices must hold. Without a page in the cache no entry of a later batch can be one. */
static int64_t entries_of(const struct mla_expect *expect, const mla_tensors *t)
{
	return t->ckv.extent[0] > 0 ? expect->later : expect->pages;
}

/* Outputs may share no byte with anything. */
static mla_status check_apart(const struct mla_expect *expect, const mla_tensors *t)
{
	const mla_batch *b = expect->batch;
	const int64_t q = expect->queries, n = b ? b->batch_size : 0;
	const int32_t size = sizeof(int32_t);
	const struct mla_region regions[] = {
		mla_region_of("out", &t->out, q),
		mla_region_of("lse", &t->lse, q),
		mla_region_flat("scratch", t->scratch, expect->scratch_bytes),
		mla_region_of("q_nope", &t->q_nope, q),
		mla_region_of("q_pe", &t->q_pe, q),
		mla_region_of("ckv", &t->ckv, t->ckv.extent[0]),
		mla_region_of("kpe", &t->kpe, t->kpe.extent[0]),
		mla_region_flat("kv_indices", t->kv_indices, entries_of(expect, t) * size),
		mla_region_flat("batch.qo_indptr", b ? b->qo_indptr : NULL, (n + 1) * size),
		mla_region_flat("batch.kv_indptr", b ? b->kv_indptr : NULL, (n + 1) * size),
		mla_region_flat("batch.kv_len", b ? b->kv_len : NULL, n * size),
		mla_region_flat("batch.q_pos0", b ? b->q_pos0 : NULL, n * size),
	};

	_Static_assert(COUNT(regions) <= MLA_MOST_REGIONS, "room for all");
	return mla_check_overlap(regions, 3, COUNT(regions));
}

mla_status mla_check_tensors(const struct mla_expect *expect, const mla_tensors *tensors)
{
	mla_status status = mla_struct_check(MLA_STRUCT_TENSORS, tensors);

	if (status)
		return status;

	const mla_config *c = expect->config;
	const mla_tensors *t = tensors;
	const int64_t q = expect->queries, h = c->num_heads, d = c->head_dim_ckv,
		      r = c->head_dim_kpe;
	const int64_t page = c->page_size, used = expect->reads;
	const int64_t entries = entries_of(expect, t);
	const struct tensor_rule rules[] = {
		{"q_nope", &t->q_nope, c->q_dtype, 3, {q, h, d}},
		{"ckv", &t->ckv, c->ckv_dtype, 3, {used, page, d}},
		{"out", &t->out, c->out_dtype, 3, {q, h, d}},
		{"q_pe", &t->q_pe, c->q_dtype, 3, {q, h, r}},
		{"kpe", &t->kpe, c->kpe_dtype, 3, {used, page, r}},
	};
	const size_t count = r > 0 ? COUNT(rules) : COUNT(rules) - 2;

	for (size_t i = 0; i < count && !status; i++)
		status = check_tensor(&rules[i], expect->align,
				      i == 1 || i == 4 ? "" : expect->reason);
	if (status)
		return status;
	if (r > 0 && t->kpe.extent[0] != t->ckv.extent[0])
		return mla_fail(MLA_INVALID, "kpe has %" PRId64 " pages, ckv has %" PRId64,
				t->kpe.extent[0], t->ckv.extent[0]);
	if (r == 0 && (t->q_pe.data || t->kpe.data))
		return mla_fail(MLA_INVALID,
				"head_dim_kpe is 0, so q_pe and kpe must have NULL data");
	if (t->ckv_scale.data || t->kpe_scale.data)
		return mla_fail(MLA_INVALID, "a scale tensor is given, but the cache is not fp8: "
					     "ckv_scale and kpe_scale must have NULL data");
	if (entries > 0 && !t->kv_indices)
		return mla_fail(MLA_INVALID, "kv_indices is NULL");
	if (t->num_kv_indices < entries)
		return mla_fail(MLA_INVALID,
				"kv_indices has %" PRId64 " entries, expected at least %" PRId64
				"%s",
				t->num_kv_indices, entries, expect->reason);

	const struct tensor_rule lse = {"lse", &t->lse, MLA_F32, 2, {q, h, 0}};
	const int64_t scratch = expect->scratch_bytes;

	if (t->lse.data)
		status = check_tensor(&lse, 0, expect->reason);
	if (status)
		return status;
	if ((scratch >= 0 && t->scratch_bytes < scratch) ||
	    (scratch > 0 && (!t->scratch || (uintptr_t)t->scratch % 256)))
		return mla_fail(MLA_INVALID,
				"scratch is %" PRId64 " bytes at %p, expected at least %" PRId64
				" bytes at a multiple of 256",
				t->scratch_bytes, t->scratch, scratch);
	return check_apart(expect, t);
}

mla_status mla_check_table(const mla_batch *batch, const mla_tensors *tensors)
{
	const mla_status status = mla_struct_check(MLA_STRUCT_TENSORS, tensors);
	const int64_t entries = batch->batch_size ? batch->kv_indptr[batch->batch_size] : 0;

	if (status)
		return status;
	if (tensors->num_kv_indices < entries || (entries > 0 && !tensors->kv_indices))
		return mla_fail(
			MLA_INVALID,
			"kv_indices has %" PRId64 " entries at %p, expected at least %" PRId64,
			tensors->num_kv_indices, (const void *)tensors->kv_indices, entries);
	return MLA_OK;
}

mla_status mla_check_merge_args(const mla_merge_args *args)
{
	mla_status status = mla_struct_check(MLA_STRUCT_MERGE_ARGS, args);

	if (status)
		return status;

	const mla_tensor *s = &args->states;

	if (args->lse_base != MLA_LSE_NATURAL && args->lse_base != MLA_LSE_BASE2)
		return mla_fail(MLA_INVALID, "lse_base is %d, expected 0 (natural) or 1 (base 2)",
				args->lse_base);
	if (s->ndim != 3 || s->extent[0] < 1 || s->extent[1] < 0 || s->extent[2] < 1 ||
	    s->extent[2] > MLA_MAX_KV_LEN)
		return mla_fail(MLA_INVALID,
				"states: expected 3 dimensions [num_states >= 1, rows, head_dim 1 "
				"to 2^30], "
				"found %d: [%" PRId64 ", %" PRId64 ", %" PRId64 "]",
				s->ndim, s->extent[0], s->extent[1], s->extent[2]);
	if (s->dtype < MLA_BF16 || s->dtype > MLA_F32 || args->out.dtype < MLA_BF16 ||
	    args->out.dtype > MLA_F32)
		return mla_fail(MLA_INVALID,
				"states are %s and out is %s, expected bf16, fp16 or f32",
				ref_dtype_name(s->dtype), ref_dtype_name(args->out.dtype));

	const int64_t n = s->extent[0], rows = s->extent[1], d = s->extent[2];
	const struct tensor_rule rules[] = {
		{"states", s, s->dtype, 3, {n, rows, d}},
		{"states_lse", &args->states_lse, MLA_F32, 2, {n, rows, 0}},
		{"out", &args->out, args->out.dtype, 2, {rows, d, 0}},
		{"lse", &args->lse, MLA_F32, 1, {rows, 0, 0}},
	};
	const size_t count = args->lse.data ? COUNT(rules) : COUNT(rules) - 1;

	for (size_t i = 0; i < count && !status; i++)
		status = check_tensor(&rules[i], 0, " (rows)");
	if (status)
		return status;

	const struct mla_region regions[] = {
		mla_region_of("out", &args->out, rows),
		mla_region_of("lse", &args->lse, rows),
		mla_region_of("states", s, n),
		mla_region_of("states_lse", &args->states_lse, n),
	};

	return mla_check_overlap(regions, 2, COUNT(regions));
}
