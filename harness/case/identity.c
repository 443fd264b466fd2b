/* identity.c - the sha256 of a case: same number, same problem, whatever file or seed it came
 * from. Cells are identified by their shapes, page table and seed, because the largest exist on a
 * GPU alone.
 */
#include "case/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/error.h"
#include "reference/reference.h"

static void add_text(struct sha256 *sha, const char *text)
{
	sha256_add(sha, text, strlen(text));
}

static void add_ints(struct sha256 *sha, const int32_t *values, int64_t n)
{
	sha256_add(sha, values, (size_t)n * sizeof(*values));
}

/* Row by row, so that neither strides nor what lies between rows count. */
static void add_tensor(struct sha256 *sha, const mla_tensor *t)
{
	const int64_t columns = t->ndim > 1 ? t->extent[1] : 1;
	const int64_t dims = t->ndim > 2 ? t->extent[2] : 1;

	for (int64_t i = 0; t->data && i < t->extent[0]; i++)
		for (int64_t j = 0; j < columns; j++)
			sha256_add(sha, (const char *)t->data + i * t->stride[0] + j * t->stride[1],
				   (size_t)(dims * ref_dtype_size(t->dtype)));
}

static void add_shape(struct sha256 *sha, const struct mla_case *c)
{
	const mla_config *config = &c->config;
	const mla_batch *batch = &c->batch;
	const int32_t n = batch->batch_size;
	char text[256];

	snprintf(text, sizeof(text), "mla-case 1 %d %d %d %d %d %d %d %d %d %d %.17g %d %d",
		 config->num_heads, config->head_dim_ckv, config->head_dim_kpe, config->page_size,
		 config->causal, config->lse_base, config->q_dtype, config->ckv_dtype,
		 config->kpe_dtype, config->out_dtype, config->sm_scale, n, batch->q_pos0 ? 1 : 0);
	add_text(sha, text);
	if (n == 0)
		return;
	add_ints(sha, batch->qo_indptr, n + 1);
	add_ints(sha, batch->kv_indptr, n + 1);
	add_ints(sha, batch->kv_len, n);
	if (batch->q_pos0)
		add_ints(sha, batch->q_pos0, n);
	add_ints(sha, c->tensors.kv_indices, batch->kv_indptr[n]);
}

mla_status identity_sha256(const struct mla_case *c, const uint64_t *seed, char hex[SHA256_TEXT])
{
	const mla_tensors *t = &c->tensors;
	struct sha256 *sha = sha256_begin();
	char text[64];

	hex[0] = '\0';
	if (!sha)
		return mla_fail(MLA_NO_MEMORY, "no memory for the sha256 of a case");
	add_shape(sha, c);
	if (seed) {
		snprintf(text, sizeof(text), "cell 1 seed %" PRIu64, *seed);
		add_text(sha, text);
	} else {
		add_tensor(sha, &t->q_nope);
		add_tensor(sha, &t->q_pe);
		add_tensor(sha, &t->ckv);
		add_tensor(sha, &t->kpe);
	}
	sha256_finish(sha, hex);
	return MLA_OK;
}
