/* ncu.h - NVIDIA's kernel profiler: what to ask it about a rung, and how to read its answer.
 */
#ifndef MLA_REPORT_NCU_H
#define MLA_REPORT_NCU_H

#include <stdio.h>

#include "report/table.h"

/* The figures that say whether ideas work: "a,b,c" for --metrics. ideas: a kernel's words with
 * blanks between, "tensor cpasync"; "" for the figures that all kernels share. The caller frees it.
 */
char *ncu_metrics(const char *ideas);

/* The figures in what ncu --csv wrote, one row each, with what they mean. Lines that are none are
 * passed over; without any the table has no rows. */
struct report_table *ncu_figures(FILE *log);

/* The rest of it: ncu's messages ("==ERROR== ..."). */
void ncu_messages(FILE *log, FILE *out);

#endif
