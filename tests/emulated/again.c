/* again.c - a rung three times in a row with no wait in between, as a server runs it: kernels that
 * start early meet those of the run before, whose partial states and outputs they write again.
 *
 *     again KERNEL
 *
 * Twice: on a batch that is split and merged, and on one whose requests are too short for that,
 * where the merge has nothing to do and must wait nevertheless. A line each, PASS or FAIL; exit
 * code 0 or 1, 2 for bad words.
 */
#include <stdio.h>

#include "case/generate.h"
#include "suite/trial.h"

enum { RUNS = 3, SPLIT = 128 };

/* c: the trial's case, or one with shorter requests. */
static int run(struct trial *t, const struct mla_case *c, const char *name)
{
	char why[512] = "";
	bool right = !trial_upload(t, &c->batch);

	for (int i = 0; i < RUNS && right; i++)
		right = !rig_run(&t->rig, &t->device.device);
	right = right && trial_right(t, c, why, sizeof(why));
	printf("%s %s, %d runs, %s%s%s\n", right ? "PASS" : "FAIL", t->kernel, RUNS, name,
	       right ? "" : ": ", right ? "" : trial_reason(why));
	return !right;
}

int main(int argc, char **argv)
{
	static const int32_t qo_len[] = {1, 1, 1}, kv_len[] = {20, SPLIT + 10, 0},
			     shorter[] = {20, SPLIT, 0};
	const struct generate_spec spec = {
		.seed = 1,
		.config = {.struct_size = sizeof(mla_config),
			   .num_heads = 16,
			   .head_dim_ckv = 512,
			   .head_dim_kpe = 64,
			   .page_size = 16,
			   .causal = 1,
			   .sm_scale = 0.1},
		.batch_size = 3,
		.qo_len = qo_len,
		.kv_len = kv_len,
		.values = GENERATE_PEAKED,
	};
	struct mla_case split = {0}, whole;
	struct trial t = {0};
	int wrong = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: again KERNEL\n");
		return 2;
	}
	if (generate_case(&spec, &split) || trial_make(&t, &split, argv[1], SPLIT)) {
		fprintf(stderr, "again: %s\n", mla_last_error());
		return 1;
	}
	whole = split;
	whole.batch.kv_len = shorter;
	wrong += run(&t, &split, "split and merged");
	wrong += run(&t, &whole, "nothing to merge");
	trial_free(&t);
	case_free(&split);
	return wrong != 0;
}
