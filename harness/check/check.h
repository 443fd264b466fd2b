/* check.h - does an implementation give what the truth gives? Acceptance has power: NaN fails, an
 * element's bound scales with what was summed for it, and tests/wrong/ proves that planted defects
 * are found.
 *
 * A case is copied into a poisoned instance first: cache slots that no request sees are NaN, page
 * ids that no request uses are POISON_PAGE, outputs are filled with a NaN pattern and stand
 * between guard bands. After the run: guards intact, inputs unchanged, every output written.
 */
#ifndef MLA_CHECK_CHECK_H
#define MLA_CHECK_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/poison.h"
#include "case/case.h"
#include "reference/reference.h"

/* Frozen. Changed only with a derivation (tests/README.md), for all kernels at once.
 * Element: |err| <= FACTOR * eps(dtype) * sum_j p_j |v_j|, where a sum below FLOOR * the rms of its
 * row's sums counts as that. Row: rms(err) <= ROW_RMS * rms(want). lse: |err| <= ABS + SUM * keys +
 * REL * the largest |score|, which counts as CANCEL * sm_scale |q| |k| at least. */
#define CHECK_ELEMENT_FACTOR 2.0
#define CHECK_ELEMENT_FLOOR  (1.0 / 128)
#define CHECK_EPS_BF16       (1.0 / 256)  /* 2^-8 */
#define CHECK_EPS_F16        (1.0 / 2048) /* 2^-11 */
#define CHECK_ROW_RMS        0.005
#define CHECK_LSE_ABS        1e-5
#define CHECK_LSE_REL        (1.0 / (1 << 19))
#define CHECK_LSE_CANCEL     (1.0 / 8)
#define CHECK_LSE_SUM        (1.0 / (1 << 26))

/* What is checked: something that computes attention from tensors in host memory ... */
typedef mla_status (*check_host_run)(const mla_config *config, const mla_batch *batch,
				     const mla_tensors *tensors);

/* ... or a kernel of the ladder, by name, on the GPU. Exactly one of run and kernel is set. */
struct check_subject {
	const char *name;
	check_host_run run;
	const char *kernel;
	int32_t fixed_split; /* for kernels: config.fixed_split to plan with */
	bool graph;          /* for kernels: run by replaying a captured graph */
};

/* The truth for a case, computed once and shared by all subjects. rows NULL = every packed row. */
struct check_truth {
	int64_t n;     /* rows checked */
	int64_t *rows; /* [n] packed rows of the batch, or NULL for all */
	struct ref_truth values;
	double *lse_bound; /* [n] */
	/* [n] Sees no NaN itself, but a later query of its request sees one: mla.h lets its
	 * elements be NaN as well as right. */
	bool *may_be_nan;
	bool low_power; /* attention so flat that a wrong scale would not be noticed */
};
/* max_rows: 0 = all, else this many rows spread over the batch, first and last included. */
mla_status check_truth_make(const struct mla_case *c, int64_t max_rows, struct check_truth *truth);
void check_truth_free(struct check_truth *truth);

/* Multiply-adds that one CPU implementation may take for a case unless it is asked for by name: a
 * quarter of a minute on two cores. */
#define CHECK_CPU_BUDGET 2e10
/* Rows of truth for a case within the budget; 0 = all. */
int64_t check_truth_rows(const struct mla_case *c);

enum check_outcome { CHECK_PASS, CHECK_FAIL, CHECK_SKIP };
/* What a step that ended with this status says of the implementation: nothing (SKIP) if it was
 * refused or this machine lacks something. */
enum check_outcome check_outcome_of(mla_status status);

struct check_element {
	int64_t request, query, head, dim; /* query counted inside the request */
	double got, want, ratio;           /* ratio: |got - want| over the bound */
};

struct check_verdict {
	enum check_outcome outcome;
	char why[512];        /* SKIP: the refusal. FAIL: what, in a sentence. PASS: "" */
	double worst_element; /* largest error over its bound: <= 1 passes */
	double worst_rms;     /* largest relative row rms over CHECK_ROW_RMS */
	double worst_lse;     /* largest lse error over its bound */
	int64_t num_wrong;    /* elements (lse included) beyond their bound */
	struct check_element first, worst; /* valid if num_wrong > 0; dim -1: the lse */
	int64_t num_free, num_nan; /* rows that may be NaN, and those of them that are, in part */
	bool low_power;
	double microseconds; /* wall time of the run, not a benchmark */
};

/* Runs a subject on a poisoned instance of the case and judges it. */
void check_subject(const struct mla_case *c, const struct check_truth *truth,
		   const struct check_subject *subject, struct check_verdict *verdict);

/* Judges out and lse of `outputs` alone, in host memory: out [total_q, H, d] of out_dtype, lse
 * [total_q, H] f32 in the case's lse base, its data NULL if it was not wanted. Fills everything but
 * microseconds. */
void check_outputs(const struct mla_case *c, const struct check_truth *truth,
		   const mla_tensors *outputs, struct check_verdict *verdict);
/* The outputs of a case at these addresses, contiguous; the inputs are not set. lse may be NULL. */
mla_tensors check_packed(const struct mla_case *c, void *out, float *lse);

/* ---- the poisoned instance, for those who run things themselves (suites, benchmark) ---------- */

struct check_instance {
	mla_tensors host; /* poisoned host image; out and lse between guard bands */
	struct case_block *owned;
	/* private to instance.c: guards, and pristine copies to compare inputs with */
	void *state;
};
mla_status check_instance_make(const struct mla_case *c, struct check_instance *instance);
void check_instance_free(struct check_instance *instance);
/* Device memory that a copy of the instance takes, guards and a little room included. */
double check_instance_bytes(const struct check_instance *instance);
/* Outputs back to poison, so that a stale result cannot pass. */
void check_instance_repoison(struct check_instance *instance);
/* Guards intact and inputs unchanged? false and a sentence in why. */
bool check_instance_intact(const struct check_instance *instance, char *why, size_t size);

/* The same in device memory. */
struct check_device {
	mla_tensors device; /* mirrors instance->host; scratch NULL until given */
	const struct check_instance *instance;
	void *state;
};
mla_status check_device_make(const struct check_instance *instance, struct check_device *device);
void check_device_free(struct check_device *device);
mla_status check_device_repoison(struct check_device *device);
/* Brings outputs (guards included) and inputs back; false and a sentence if something changed that
 * is no row of a query. out and lse receive the outputs from their first element on, with the
 * strides and the size of the host image's. */
bool check_device_collect(struct check_device *device, void *out, float *lse, char *why,
			  size_t size);

#endif
