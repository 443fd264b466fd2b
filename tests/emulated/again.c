/* again.c - a rung three times in a row with no wait in between, as a server runs it: kernels that
 * start early meet those of the run before, whose partial states and outputs they write again.
 *
 *     again KERNEL
 *
 * Twice: on requests that are split and merged, and on requests that are too short to be split,
 * where the merge has nothing to do and must wait nevertheless. A line each, PASS or FAIL; exit
 * code 0 or 1, 2 for bad words.
 */
#include <stdio.h>

#include "case/generate.h"
#include "suite/trial.h"

enum { RUNS = 3 };

static int runs(const char *kernel, const char *name, int32_t fixed_split)
{
	static const int32_t qo_len[] = {1, 2, 1}, kv_len[] = {40, 200, 0};
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
	struct mla_case c = {0};
	struct trial t = {0};
	char why[512] = "";
	bool right = !generate_case(&spec, &c) && !trial_make(&t, &c, kernel, fixed_split) &&
		     !trial_upload(&t, &c.batch);

	for (int run = 0; run < RUNS && right; run++)
		right = !rig_run(&t.rig, &t.device.device);
	right = right && trial_right(&t, &c, why, sizeof(why));
	printf("%s %s, %d runs, %s%s%s\n", right ? "PASS" : "FAIL", kernel, RUNS, name,
	       right ? "" : ": ", right ? "" : trial_reason(why));
	trial_free(&t);
	case_free(&c);
	return !right;
}

int main(int argc, char **argv)
{
	int wrong = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: again KERNEL\n");
		return 2;
	}
	wrong += runs(argv[1], "split and merged", 128);
	wrong += runs(argv[1], "nothing to merge", 1 << 20);
	return wrong != 0;
}
