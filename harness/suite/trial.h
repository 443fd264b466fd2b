/* trial.h - one kernel on one case, step by step: a rig, a poisoned instance with its copy on the
 * GPU, and the outputs on the host.
 */
#ifndef MLA_SUITE_TRIAL_H
#define MLA_SUITE_TRIAL_H

#include "check/check.h"
#include "device/rig.h"

/* Zeroed: none. */
struct trial {
	const struct mla_case *c;
	const char *kernel;
	int32_t fixed_split;
	struct rig rig;
	struct check_instance instance;
	struct check_device device;
	void *out;  /* host, contiguous, as the case's outputs */
	float *lse; /* host */
	size_t out_bytes, lse_bytes;
};

/* Everything up to, not including, mla_plan_build. trial_free is due in any case. */
mla_status trial_make(struct trial *t, const struct mla_case *c, const char *kernel,
		      int32_t fixed_split);
void trial_free(struct trial *t);

/* Builds and sends a batch of the case's tensors. */
mla_status trial_upload(struct trial *t, const mla_batch *batch);
/* On poisoned outputs; waits. */
mla_status trial_run(struct trial *t);
/* Outputs to the host, guards and inputs checked; false and a sentence. */
bool trial_collect(struct trial *t, char *why, size_t size);
/* Are the outputs that t->out and t->lse hold those of c, which has the tensors of the trial's case
 * and its batch or a smaller one? lse: it was wanted, too. */
bool trial_judge(const struct trial *t, const struct mla_case *c, bool lse, char *why, size_t size);
/* Collects: are these the outputs of c, which has the tensors of the trial's case and its batch or
 * a smaller one? */
bool trial_right(struct trial *t, const struct mla_case *c, char *why, size_t size);

/* why, or mla_last_error if it is empty. */
const char *trial_reason(const char *why);

#endif
