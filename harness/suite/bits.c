/* bits.c - the same run gives the same bits, and in fixed-split mode a request gives the bits that
 * it gives alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "suite/internal.h"

enum { REPEATS = 1000 /* runs that must give the same bits */ };

static bool repeats(struct trial *t, char *why, size_t size)
{
	void *out = malloc(t->out_bytes + 1);
	float *lse = malloc(t->lse_bytes + 1);
	int same = 0;

	if (out && lse && !trial_upload(t, &t->c->batch) && !trial_run(t) &&
	    trial_collect(t, why, size)) {
		memcpy(out, t->out, t->out_bytes);
		memcpy(lse, t->lse, t->lse_bytes);
		while (same < REPEATS && !trial_run(t) && trial_collect(t, why, size) &&
		       !memcmp(out, t->out, t->out_bytes) && !memcmp(lse, t->lse, t->lse_bytes))
			same++;
		snprintf(why, size, "%d of %d runs gave the same bits", same, REPEATS);
	}
	free(out);
	free(lse);
	return same == REPEATS;
}

/* A request alone, as a case of its own that shares the tensors. */
static struct mla_case alone(const struct mla_case *c, int32_t request, int32_t *arrays)
{
	struct mla_case one = *c;
	const mla_batch *b = &c->batch;

	arrays[0] = arrays[2] = 0;
	arrays[1] = b->qo_indptr[request + 1] - b->qo_indptr[request];
	arrays[3] = b->kv_indptr[request + 1] - b->kv_indptr[request];
	arrays[4] = b->kv_len[request];
	one.batch = (mla_batch){
		.struct_size = sizeof(mla_batch),
		.batch_size = 1,
		.qo_indptr = arrays,
		.kv_indptr = arrays + 2,
		.kv_len = arrays + 4,
	};
	one.tensors.kv_indices += b->kv_indptr[request];
	one.tensors.num_kv_indices = arrays[3];
	one.tensors.q_nope.data = (char *)c->tensors.q_nope.data +
				  b->qo_indptr[request] * c->tensors.q_nope.stride[0];
	one.tensors.q_nope.extent[0] = arrays[1];
	one.tensors.q_pe.data =
		(char *)c->tensors.q_pe.data + b->qo_indptr[request] * c->tensors.q_pe.stride[0];
	one.tensors.q_pe.extent[0] = arrays[1];
	return one;
}

static bool same_alone(const struct trial *batch, int32_t request, char *why, size_t size)
{
	int32_t arrays[5];
	const struct mla_case one = alone(batch->c, request, arrays);
	const size_t rows =
		(size_t)batch->c->batch.qo_indptr[request] * (size_t)batch->c->config.num_heads;
	const size_t row_bytes = batch->lse_bytes ? batch->out_bytes / (batch->lse_bytes / 4) : 0;
	struct trial t;
	char detail[256] = "";
	const bool ran = !trial_make(&t, &one, batch->kernel, batch->fixed_split) &&
			 !trial_upload(&t, &one.batch) && !trial_run(&t) &&
			 trial_collect(&t, detail, sizeof(detail));
	const bool same = ran &&
			  !memcmp(t.out, (char *)batch->out + rows * row_bytes, t.out_bytes) &&
			  !memcmp(t.lse, batch->lse + rows, t.lse_bytes);

	if (!same)
		snprintf(why, size, "request %d alone: %.400s", request,
			 ran ? "other bits" : trial_reason(detail));
	trial_free(&t);
	return same;
}

/* In fixed-split mode the bits of a request do not depend on the rest of the batch. */
static bool batch_stable(struct trial *t, char *why, size_t size)
{
	bool same = !trial_upload(t, &t->c->batch) && !trial_run(t) && trial_collect(t, why, size);

	for (int32_t i = 0; i < t->c->batch.batch_size && same; i++)
		same = same_alone(t, i, why, size);
	if (same)
		snprintf(why, size, "every request alone gives the same bits as in the batch");
	return same;
}

void suite_bits(const struct suite_context *x)
{
	struct mla_case c = {0};

	if (!suite_make_base(x, "bits", &c))
		return;
	suite_each_kernel(x, &c, "repeat-stable", 0, repeats);
	/* more than eight parts for the longest */
	suite_each_kernel(x, &c, "batch-stable, fixed split", 128, batch_stable);
	case_free(&c);
}

/* The same of rows of more states than one warp merges: 47 and 6 parts. */
void suite_many_splits(const struct suite_context *x)
{
	static const int32_t qo_len[] = {1, 1, 2}, kv_len[] = {6000, 700, 5999};
	const struct generate_spec spec = {
		.seed = SUITE_SEED + 6,
		.config = suite_deepseek(16),
		.batch_size = 3,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_NORMAL,
	};
	struct mla_case c = {0};

	if (!suite_make_case(x, "many splits", &spec, &c))
		return;
	suite_each_kernel(x, &c, "repeat-stable, many splits", 128, repeats);
	suite_each_kernel(x, &c, "batch-stable, many splits", 128, batch_stable);
	case_free(&c);
}
