/* results.h - the result files of mla bench: JSON, "mla-results", data/results/README.md; and the
 * parts of them that other JSON has, too.
 */
#ifndef MLA_REPORT_RESULTS_H
#define MLA_REPORT_RESULTS_H

#include <jansson.h>

#include "report/timings.h"

#define RESULTS_SCHEMA "mla-results"

/* ceilings: NULL if not known. nvml may be NULL. */
json_t *results_new(int argc, char *const *argv, const struct ceilings *ceilings,
		    const struct nvml *nvml);
void results_add(json_t *root, const struct timings_shown *shown);

/* A case: its shape, work and bound. */
json_t *results_case(const struct timings_shown *shown);
/* Rates, and tensor_tflops, the one of them that bounds. null if ceilings is NULL. */
json_t *results_ceilings(const struct ceilings *ceilings);

/* Whether what stands under the keys that are read here is of the right kind, and not too much of
 * it; a sentence that names path and key if not. */
mla_status results_check(const char *path, const json_t *root);
/* Of a file that was read: its ceilings; false if it has none. */
bool results_read_ceilings(const json_t *root, struct ceilings *ceilings);
/* The case of a measurement, as the file has it but for the bound, which is by these ceilings
 * (NULL: not known). Strings of shown belong to the JSON. NULL if an earlier measurement has the
 * same case, or if it is none. */
json_t *results_read_case(const json_t *root, size_t measurement, const struct ceilings *ceilings,
			  struct timings_shown *shown);

#endif
