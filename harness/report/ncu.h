/* ncu.h - NVIDIA's kernel profiler: what to ask it about a rung, and how to read its answer.
 */
#ifndef MLA_REPORT_NCU_H
#define MLA_REPORT_NCU_H

#include <stdio.h>

#include "report/table.h"

/* The figures that say whether a rung's idea works: "a,b,c" for --metrics. kernel: "02_splitk", or
 * "auto" for those that all rungs share. The caller frees it. */
char *ncu_metrics(const char *kernel);

/* The figures in what ncu --csv wrote, one row each, with what they mean. Lines that are none are
 * passed over; without any the table has no rows. */
struct report_table *ncu_figures(FILE *log);

/* The rest of it: ncu's messages ("==ERROR== ..."). */
void ncu_messages(FILE *log, FILE *out);

#endif
