/* results.h - the result files of mla bench: JSON, "mla-results", data/results/README.md.
 */
#ifndef MLA_REPORT_RESULTS_H
#define MLA_REPORT_RESULTS_H

#include <jansson.h>

#include "report/timings.h"

/* ceilings: NULL if not known. nvml may be NULL. */
json_t *results_new(int argc, char *const *argv, const struct ceilings *ceilings,
		    const struct nvml *nvml);
void results_add(json_t *root, const struct timings_shown *shown);
/* A line about clock and power while the first and the last of them ran; none if nobody told. */
void results_show_clocks(const json_t *root, const struct nvml *nvml, FILE *out);

#endif
